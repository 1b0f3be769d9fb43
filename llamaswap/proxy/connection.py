"""One connection to an upstream: sends a request, and follows the answer to its end."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, Protocol

from twisted.internet import protocol
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IDelayedCall, IPullProducer
from twisted.python.failure import Failure
from zope.interface import implementer

from llamaswap.errors import FramingError, LlamaSwapError, UpstreamDisconnectedError, UpstreamUnreachableError
from llamaswap.proxy.headers import SWITCHING_PROTOCOLS, ResponseHead, response_head
from llamaswap.proxy.wire import eager_writer, is_idle, tune

_LONGEST_HEAD_BYTES: Final = 1024 * 1024
_SLICE_BYTES: Final = 256 * 1024
"""A held body that is longer goes out piece by piece, so that it is not copied as a whole."""
_CONTINUE: Final = 100

_LINGER_SECONDS: Final = 5.0
"""What the other side of a tunnel may take to read what was sent before its end."""


class ResponseTaker(Protocol):
    """Who gets the answer to a request: ``interim*``, then ``started``, ``went_on*``; or ``failed`` at any moment."""

    def interim(self, head: ResponseHead) -> None:
        """Take a 1xx answer; the real one follows."""

    def started(self, head: ResponseHead, data: bytes, *, is_whole: bool) -> None:
        """Take the head, with what came of the body, in its framing; nothing follows when it is whole."""

    def went_on(self, data: bytes, *, is_whole: bool) -> None:
        """Take more of the body, in its framing; nothing follows when it is whole."""

    def failed(self, error: LlamaSwapError) -> None:
        """Take note that nothing follows although the answer is not whole."""


class BodySink(Protocol):
    """Where a streamed request body goes."""

    def body_received(self, data: bytes) -> None:
        """Take a piece, in its framing."""

    def body_ended(self) -> None:
        """Take note that nothing follows."""

    def body_failed(self, error: LlamaSwapError) -> None:
        """Take note that nothing follows although the body is not whole."""


class StreamedBody(Protocol):
    """A request body that is not in memory, or still arriving; an ``IPushProducer``.

    Attributes:
        length: In bytes; ``None`` = in chunks, which are passed on as they are.
        can_repeat: Whether it can be attached a second time, and begins anew then.
    """

    length: int | None
    can_repeat: bool

    def attach(self, sink: BodySink) -> None:
        """Give the sink what has come already, then the rest as it comes."""

    def detach(self) -> None:
        """Give nobody anything any more: the answer came before the end."""

    def pauseProducing(self) -> None:
        """Stop reading from the client."""

    def resumeProducing(self) -> None:
        """Go on reading from the client."""

    def stopProducing(self) -> None:
        """Stop reading from the client for good."""


def is_repeatable(body: bytes | StreamedBody) -> bool:
    """Say whether a body can be sent a second time."""
    return isinstance(body, bytes) or body.can_repeat


class Call(Protocol):
    """One request, as far as a connection cares.

    Attributes:
        method: As received.
        head: The request's head, ready to go.
        body: The whole body, or one that is still arriving.
        taker: Gets the answer.
        may_switch: Whether both sides may speak something else than HTTP behind the answer.
    """

    method: bytes
    head: bytes
    body: bytes | StreamedBody
    taker: ResponseTaker
    may_switch: bool

    def sent(self) -> None:
        """Take note that the whole request is on its way."""

    def answered(self) -> None:
        """Take note that the answer's head is there."""

    def parted(self) -> None:
        """Take note that the connection has nothing to do with this request any more."""

    def unheard(self) -> None:
        """Take note that the connection, a used one, ended before a byte of the answer came."""


class Owner(Protocol):
    """Who keeps the connections."""

    def connection_free(self, connection: HopConnection) -> None:
        """Take back a connection that can be used again."""

    def connection_gone(self, connection: HopConnection) -> None:
        """Forget a connection."""

    def call_later(self, delay_seconds: float, function: Callable[[], None]) -> IDelayedCall:
        """Call something later."""


class HopConnection(protocol.Protocol):
    """One connection to an upstream, for one request after the other.

    Args:
        owner: Told when it is free, and when it is gone.
        on_made: Called when it is there.
        keepalive_seconds: Until the kernel asks whether the other side is alive; 0 = never.

    Attributes:
        idle_since_mono: When it became free.
    """

    transport: Any

    def __init__(self, owner: Owner, on_made: Callable[[HopConnection], None], keepalive_seconds: int) -> None:
        self._owner = owner
        self._on_made: Callable[[HopConnection], None] | None = on_made
        self._keepalive_seconds = keepalive_seconds
        self._call: Call | None = None
        self._taker: ResponseTaker | None = None
        self._head: ResponseHead | None = None  # of the answer under way
        self._held = b""  # of a head that is not whole
        self._is_used = self._is_heard = self._is_paused = False
        self._is_sent = True
        self._linger: IDelayedCall | None = None
        self.idle_since_mono = 0.0

    def connectionMade(self) -> None:
        """Begin to work."""
        tune(self.transport, self._keepalive_seconds)
        self._write = eager_writer(self.transport)
        on_made, self._on_made = self._on_made, None
        if on_made is not None:
            on_made(self)

    def is_usable(self) -> bool:
        """Tell whether an idle connection looks fit for another request."""
        return is_idle(self.transport)

    # ----------------------------------------------------------------- the request

    def begin(self, call: Call) -> None:
        """Send a request; its answer goes to the call's taker."""
        self._call = call
        self._taker = call.taker
        self._is_heard = False
        body = call.body
        if not isinstance(body, bytes):
            self._write(call.head)
            self.send_on(body)
        elif len(body) <= _SLICE_BYTES:
            self._write(call.head + body)
            call.sent()
        else:
            self._is_sent = False
            self._write(call.head)
            self.transport.registerProducer(_SlicedBody(body, self), streaming=False)

    def send_on(self, body: StreamedBody) -> None:
        """Send what is still arriving, as it comes."""
        self._is_sent = False
        self.transport.registerProducer(body, streaming=True)
        body.attach(self)

    def body_received(self, data: bytes) -> None:
        """See :class:`BodySink`."""
        self._write(data)

    def body_ended(self) -> None:
        """See :class:`BodySink`."""
        if not self._is_sent:
            self._is_sent = True
            self.transport.unregisterProducer()
            if self._call is not None:
                self._call.sent()

    def body_failed(self, error: LlamaSwapError) -> None:
        """See :class:`BodySink`."""
        self.give_up(error)

    # ----------------------------------------------------------------- the answer

    def dataReceived(self, data: bytes) -> None:
        """Pass on what came, as it came."""
        taker, head = self._taker, self._head
        if taker is None:
            # Nobody asked for that; nobody must be given this connection either.
            self._owner.connection_gone(self)
            self.transport.abortConnection()
            return
        try:
            if head is None:
                self._take_head(taker, data)
                return
            end = head.body.feed(data)
        except FramingError as error:
            kind = UpstreamUnreachableError if self._head is None else UpstreamDisconnectedError
            self.give_up(kind(f"the upstream's answer is malformed: {error}"))
            return
        if end < 0:
            taker.went_on(data, is_whole=False)
            return
        self._part(head, is_fit=end == len(data))
        taker.went_on(data[:end], is_whole=True)

    def _take_head(self, taker: ResponseTaker, data: bytes) -> None:
        call = self._call
        assert call is not None  # noqa: S101 - there is a taker
        self._is_heard = True
        data, self._held = self._held + data, b""
        while True:
            end = data.find(b"\r\n\r\n")
            if end < 0:
                if len(data) > _LONGEST_HEAD_BYTES:
                    raise FramingError("header block too long")
                self._held = data
                return
            head = response_head(data[:end], call.method)
            data = data[end + 4 :]
            if not head.is_interim:
                break
            if head.status != _CONTINUE:
                taker.interim(head)
        if head.status == SWITCHING_PROTOCOLS and not call.may_switch:
            raise FramingError("switch of protocols that nobody asked for")
        end = head.body.feed(data)
        call.answered()
        if end < 0:
            self._head = head
            taker.started(head, data, is_whole=False)
        else:
            self._part(head, is_fit=end == len(data))
            taker.started(head, data[:end], is_whole=True)

    def _part(self, head: ResponseHead, *, is_fit: bool) -> None:
        """End the exchange, before the last bytes are passed on: what they cause may need a connection."""
        was_sent = self._leave_call()
        if self._is_paused:
            self.resume()
        if not (is_fit and was_sent):
            self.transport.abortConnection()
        elif head.keeps_alive:
            self._is_used = True
            self._owner.connection_free(self)
        else:
            self.transport.loseConnection()

    def _leave_call(self) -> bool:
        """Forget the request; give whether all of it was sent."""
        call, was_sent = self._call, self._is_sent
        self._call = self._taker = self._head = None
        self._is_sent = True
        if call is None:
            return True
        if not was_sent:
            self.transport.unregisterProducer()
        if not isinstance(call.body, bytes):
            call.body.detach()
        call.parted()
        return was_sent

    # ----------------------------------------------------------------- control

    def pause(self) -> None:
        """Read no more for now: the answer's taker is slow."""
        self._is_paused = True
        self.transport.pauseProducing()

    def resume(self) -> None:
        """Read on."""
        self._is_paused = False
        self.transport.resumeProducing()

    def give_up(self, error: LlamaSwapError | None = None) -> None:
        """Close at once, a tunnel when all is sent; an exchange under way fails with the error, or silently."""
        taker, head = self._taker, self._head
        self._leave_call()
        if head is not None and head.status == SWITCHING_PROTOCOLS:
            self._linger = self._owner.call_later(_LINGER_SECONDS, self._linger_no_more)
            self.transport.loseConnection()
        else:
            self.transport.abortConnection()
        if error is not None and taker is not None:
            taker.failed(error)

    def _linger_no_more(self) -> None:
        self._linger = None
        self.transport.abortConnection()

    def connectionLost(self, reason: Failure = protocol.connectionDone) -> None:
        """Find out what the end of the connection means for the request."""
        self._owner.connection_gone(self)
        if self._linger is not None:
            self._linger.cancel()
            self._linger = None
        call, taker, head = self._call, self._taker, self._head
        if call is None or taker is None:
            return
        if self._is_used and not self._is_heard and is_repeatable(call.body):
            self._call = self._taker = None
            if not isinstance(call.body, bytes):
                call.body.detach()
            call.unheard()
            return
        self._leave_call()
        if head is None:
            taker.failed(UpstreamUnreachableError(f"the upstream closed the connection: {_cause(reason)}"))
        elif (head.is_open or head.status == SWITCHING_PROTOCOLS) and reason.check(ConnectionDone):
            taker.went_on(b"", is_whole=True)
        else:
            taker.failed(UpstreamDisconnectedError(f"the upstream went away in mid-answer: {_cause(reason)}"))


def _cause(reason: Failure) -> str:
    return reason.getErrorMessage().rstrip(".")


@implementer(IPullProducer)
class _SlicedBody:
    """Sends a long body a slice at a time, as the socket takes it."""

    def __init__(self, body: bytes, connection: HopConnection) -> None:
        self._body = body
        self._position = 0
        self._connection = connection

    def resumeProducing(self) -> None:
        """Write the next slice."""
        start, self._position = self._position, self._position + _SLICE_BYTES
        self._connection.transport.write(self._body[start : self._position])
        if self._position >= len(self._body):
            self._connection.body_ended()

    def stopProducing(self) -> None:
        """Forget the body: the connection is gone."""
        self._body = b""
