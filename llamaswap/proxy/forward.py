"""One client request on its way to an upstream, and the answer's way back; it ends exactly once."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Final, Protocol

from twisted.internet.interfaces import IPushProducer
from zope.interface import implementer

from llamaswap.core.values import RequestId
from llamaswap.errors import LlamaSwapError, TunnelClosedError
from llamaswap.proxy.call import HopCall
from llamaswap.proxy.connection import StreamedBody
from llamaswap.proxy.framing import LAST_CHUNK, ChunkedBody, chunk
from llamaswap.proxy.headers import SWITCHING_PROTOCOLS, Fields, ResponseHead, answer_head
from llamaswap.proxy.hop import HopPool
from llamaswap.proxy.tunnel import Tunnel

_CLOSING_SECONDS: Final = 5.0
"""What either side of a tunnel may take to come to the end of a frame, when it is to be closed."""

Convert = Callable[[bytes, bool], bytes]
"""Takes a piece of a body, and whether it is the last; gives it in another framing."""


class Client(Protocol):
    """What a :class:`Forwarding` needs of the client's side.

    Attributes:
        client_host: The client's address, without port.
        is_modern: Whether it speaks HTTP/1.1: chunks, and 1xx answers.
        keeps_alive: Whether its connection outlives this answer.
        upgrade: What it wants to speak instead of HTTP, such as ``websocket``; empty = nothing.
        relay: Sends bytes as they are.
        request_id: Names the request to the upstream; empty = not named.
    """

    client_host: bytes
    is_modern: bool
    keeps_alive: bool
    upgrade: bytes
    relay: Callable[[bytes], None]
    request_id: str

    def answer_fields(self, head: ResponseHead) -> Fields:
        """Give what an upstream's answer carries of ours."""

    def taken_over(self, taker: Forwarding) -> None:
        """Tell this one, from now on, to pause, to resume, and that the client has left."""

    def relay_head(self, status: int, data: bytes) -> None:
        """Send the head of the answer, with what there is of the body."""

    def tunnel(self) -> StreamedBody:
        """Give whatever the client sends from now on, HTTP or not; its connection ends with the answer."""

    def end(self, payload_bytes: int) -> None:
        """The answer is whole; it had a body of that size."""

    def cut(self, payload_bytes: int, error: LlamaSwapError, *, at_once: bool) -> None:
        """The answer breaks off: close, so that the client can tell; ``at_once`` even drops what is queued."""

    def refuse(self, error: LlamaSwapError) -> None:
        """Answer with an error; nothing was sent before."""

    def error_event(self, error: LlamaSwapError) -> bytes:
        """Word an error as one server-sent event."""


class Witness(Protocol):
    """Sees one request pass; told in the same turn, when the client has its bytes. Must not raise.

    ``sent?``, ``answered?``, ``passed*``, ``ended``: the last exactly once, whatever the end is.
    """

    def sent(self) -> None:
        """The request is on its way to the upstream."""

    def answered(self, head: ResponseHead) -> None:
        """The head of the answer went to the client."""

    def passed(self, data: bytes, /) -> None:
        """A piece of the answer's body, in the upstream's framing, went to the client."""

    def ended(self, error: LlamaSwapError | None, *, has_left: bool) -> None:
        """Nothing follows.

        Args:
            error: What the request was refused for, or its answer was cut by.
            has_left: Whether the client went before the end.
        """


@implementer(IPushProducer)
class Forwarding:
    """One client request on its way; what the router calls a waiter.

    Args:
        client: Who asked.
        method: As received.
        target: Path and query for the upstream.
        headers: As received, less what must not go on.
        body: The whole body, or one that is still arriving.
        on_end: Called once, whatever the end is, after the last byte and before the client's next
            request; perhaps before the router's ``enter`` has returned.
        is_metered: Whether the answer must be readable for us, so that the client's wish for
            encodings is reduced to those that are.
        witness: Looks on.

    Attributes:
        request_id: Set by the router.
        is_ended: Whether ``on_end`` has been called.
    """

    __slots__ = (
        "_body",
        "_call",
        "_client",
        "_convert",
        "_head",
        "_headers",
        "_is_metered",
        "_is_paused",
        "_is_unwelcome",
        "_method",
        "_on_end",
        "_target",
        "_tunnel",
        "_witness",
        "is_ended",
        "request_id",
    )

    def __init__(
        self,
        client: Client,
        *,
        method: bytes,
        target: bytes,
        headers: Fields,
        body: bytes | StreamedBody,
        on_end: Callable[[Forwarding], None],
        is_metered: bool = False,
        witness: Witness | None = None,
    ) -> None:
        self._client = client
        self._witness = witness
        self._method = method
        self._target = target
        self._headers = headers
        self._body = body
        self._on_end = on_end
        self._is_metered = is_metered
        self._call: HopCall | None = None
        self._head: ResponseHead | None = None  # of the answer, once it has begun
        self._convert: Convert | None = None
        self._tunnel: Tunnel | None = None
        self._is_paused = self._is_unwelcome = False
        self.is_ended = False
        self.request_id = RequestId(0)
        client.taken_over(self)

    @property
    def payload_bytes(self) -> int:
        """Bytes of the answer's body so far, framing not counted."""
        return self._head.body.payload_bytes if self._head is not None else 0

    @property
    def is_waiting(self) -> bool:
        """Whether the router has neither granted nor refused it."""
        return self._call is None and not self.is_ended

    # ----------------------------------------------------------------- for the router

    def granted(self, pool: HopPool) -> None:
        """Go to the upstream, in this turn."""
        if self.is_ended:
            return
        client = self._client
        head = pool.request_head(
            self._method,
            self._target,
            self._headers,
            client_host=client.client_host,
            body_length=len(self._body) if isinstance(self._body, bytes) else self._body.length,
            is_metered=self._is_metered,
            more=_more_fields(client),
        )
        body, self._body, self._headers = self._body, b"", []
        call = HopCall(pool, self, self._method, head, body, may_switch=bool(client.upgrade))
        self._call = call
        if self._is_paused:
            call.pause()
        if self._witness is not None:
            self._witness.sent()
        call.start()

    def refused(self, error: LlamaSwapError) -> None:
        """Tell the client no, also where a bug broke the grant."""
        self.cancel(error)

    def moved(self, position: int) -> None:
        """Nothing is shown of the place in the queue."""

    def end_tunnel(self) -> None:
        """Close a tunnel in order; one that is being asked for, when it is there."""
        self._is_unwelcome = True
        if self._tunnel is not None and self._call is not None:
            self._call.fail_later(_CLOSING_SECONDS, TunnelClosedError())
            self._client.relay(self._tunnel.close())

    def cancel(self, error: LlamaSwapError) -> None:
        """Break off on purpose; the client gets the error, or a cut answer if that has begun."""
        if self._call is not None:
            self._call.cancel()
        self._fail(error)

    # ----------------------------------------------------------------- for the client's side

    def client_left(self) -> None:
        """The client is gone: so is everything done for it, in this turn."""
        call = self._call
        if not self._end():
            return
        if call is not None:
            call.cancel()
        if self._witness is not None:
            self._witness.ended(None, has_left=True)

    def pauseProducing(self) -> None:
        """The client is slow: read no more."""
        self._is_paused = True
        if self._call is not None:
            self._call.pause()

    def resumeProducing(self) -> None:
        """The client has caught up."""
        self._is_paused = False
        if self._call is not None:
            self._call.resume()

    def stopProducing(self) -> None:
        """The client's connection is lost; :meth:`client_left` follows."""

    # ----------------------------------------------------------------- for the upstream's side

    def interim(self, head: ResponseHead) -> None:
        """See :class:`~llamaswap.proxy.connection.ResponseTaker`."""
        if self._client.is_modern:
            self._client.relay(answer_head(head, is_chunked=False, closes=False))

    def started(self, head: ResponseHead, data: bytes, *, is_whole: bool) -> None:
        """See :class:`~llamaswap.proxy.connection.ResponseTaker`."""
        self._head = head
        self._open(head, data, is_whole=is_whole)
        if self._witness is not None:
            self._witness.answered(head)
            if data:
                self._witness.passed(data)
        if is_whole:
            self._finish()
        elif self._tunnel is not None and self._call is not None:
            self._call.send_on(self._tunnel)
            if self._is_unwelcome:
                self.end_tunnel()

    def _open(self, head: ResponseHead, data: bytes, *, is_whole: bool) -> None:
        """Begin the client's answer, in a framing that it understands."""
        client = self._client
        if head.status == SWITCHING_PROTOCOLS and self._call is not None:
            # From now on the client's part is a body that is still arriving.
            closed = partial(self._call.fail_later, 0, TunnelClosedError())
            self._tunnel = Tunnel(client.tunnel(), closed)
            self._convert = self._tunnel.to_client
        elif client.is_modern:
            if head.is_open:
                self._convert = chunking
        elif head.is_chunked:
            self._convert = Unchunking()
        is_chunked = client.is_modern and (head.is_chunked or head.is_open)
        converted = data if self._convert is None else self._convert(data, is_whole)
        closes = not client.keeps_alive and head.status != SWITCHING_PROTOCOLS
        start = answer_head(head, is_chunked=is_chunked, closes=closes, more=client.answer_fields(head))
        client.relay_head(head.status, start + converted)

    def went_on(self, data: bytes, *, is_whole: bool) -> None:
        """See :class:`~llamaswap.proxy.connection.ResponseTaker`."""
        self._client.relay(data if self._convert is None else self._convert(data, is_whole))
        if self._witness is not None and data:
            self._witness.passed(data)
        if is_whole:
            self._finish()

    def failed(self, error: LlamaSwapError) -> None:
        """See :class:`~llamaswap.proxy.connection.ResponseTaker`."""
        self._fail(error)

    # ----------------------------------------------------------------- the end

    def _finish(self) -> None:
        if not self._end():
            return
        if self._witness is not None:
            self._witness.ended(None, has_left=False)
        self._client.end(self.payload_bytes)

    def _fail(self, error: LlamaSwapError) -> None:
        if not self._end():
            return
        if self._witness is not None:
            self._witness.ended(error, has_left=False)
        self._break_off(error)

    def _break_off(self, error: LlamaSwapError) -> None:
        """Tell the client, as far as its answer has not begun or has room for it."""
        head, client = self._head, self._client
        if head is None:
            client.refuse(error)
            return
        if head.is_event_stream and (head.is_chunked or head.is_open):
            client.relay(self._last_event(head, client.error_event(error)))
        client.cut(self.payload_bytes, error, at_once=not client.is_modern)

    def _last_event(self, head: ResponseHead, event: bytes) -> bytes:
        """Frame an event so that it goes on where the answer broke off; empty where that cannot be done."""
        if self._convert is None and isinstance(head.body, ChunkedBody):
            return head.body.continuation(event)
        return chunk(event) if self._client.is_modern else event

    def _end(self) -> bool:
        """Spend the one token; False if it was spent."""
        if self.is_ended:
            return False
        self.is_ended = True
        self._call = None
        self._on_end(self)
        return True


def _more_fields(client: Client) -> Fields:
    """Give what a request carries of ours."""
    fields = [(b"X-Request-ID", client.request_id.encode("ascii"))] if client.request_id else []
    if client.upgrade:
        fields += [(b"Connection", b"Upgrade"), (b"Upgrade", client.upgrade)]
    return fields


def chunking(data: bytes, is_whole: bool) -> bytes:  # noqa: FBT001 - called through a variable
    """Put a body that would end with its connection into chunks: then the client knows its end."""
    framed = chunk(data) if data else b""
    return framed + LAST_CHUNK if is_whole else framed


class Unchunking:
    """Takes the chunks away, for a client that does not know them."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self._walker = ChunkedBody(self._pieces)

    def __call__(self, data: bytes, is_whole: bool) -> bytes:  # noqa: ARG002, FBT001 - as chunking
        """See :data:`Convert`."""
        self._walker.feed(data)
        payload = b"".join(self._pieces)
        self._pieces.clear()
        return payload
