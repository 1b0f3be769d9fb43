"""Twisted's ``IAgent`` over hop connections: for probes, calls of our own, and tests.

``treq.client.HTTPClient(HopAgent(reactor))`` works as with Twisted's own agent. Each request has a
connection of its own: a probe must not find the process of yesterday on one that was kept.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionAborted
from twisted.internet.interfaces import IProtocol, IPushProducer
from twisted.python.failure import Failure
from twisted.web.client import ResponseDone, ResponseFailed
from twisted.web.http import PotentialDataLoss
from twisted.web.http_headers import Headers
from twisted.web.iweb import UNKNOWN_LENGTH, IAgent, IBodyProducer, IClientRequest, IResponse
from zope.interface import implementer

from llamaswap.config.schema import Timeouts
from llamaswap.errors import LlamaSwapError
from llamaswap.proxy.call import HopCall
from llamaswap.proxy.framing import ChunkedBody
from llamaswap.proxy.headers import ResponseHead
from llamaswap.proxy.hop import HopPool, HopReactor

CONNECT_SECONDS: Final = 0.5
"""Servers on this machine accept at once, or not at all."""

_MADE_ANEW: Final = frozenset({b"host", b"connection", b"content-length", b"transfer-encoding"})


@implementer(IAgent)
class HopAgent:
    """Makes requests; follows no redirect, keeps no cookie, decodes nothing.

    Args:
        reactor: Opens connections and calls later.
        connect_seconds: Longest wait for a connection.
    """

    def __init__(self, reactor: HopReactor, connect_seconds: float = CONNECT_SECONDS) -> None:
        self._reactor = reactor
        self._timeouts = Timeouts(connect_seconds=connect_seconds)

    def request(
        self,
        method: bytes,
        uri: bytes,
        headers: Headers | None = None,
        bodyProducer: IBodyProducer | None = None,
    ) -> Deferred[IResponse]:
        """Make one request.

        Args:
            method: Such as ``GET``.
            uri: With scheme and host.
            headers: To be sent; ``Host`` defaults to that of the URI.
            bodyProducer: Gives the body, which is gathered before it is sent.

        Returns:
            Fires with the response when its head is there; its body waits for ``deliverBody``. Fails
            with :class:`~llamaswap.errors.UpstreamUnreachableError`, or as the body's producer did.
            Cancelling breaks off.
        """
        asked = _Asked(method, uri, headers or Headers())
        return Deferred.fromCoroutine(self._request(asked, bodyProducer))

    async def _request(self, asked: _Asked, producer: IBodyProducer | None) -> IResponse:
        body = _Gathered()
        if producer is not None:
            await producer.startProducing(body)
        parts = urlsplit(asked.absoluteURI.decode("ascii"))
        pool = HopPool(self._reactor, f"{parts.scheme}://{parts.netloc}", self._timeouts)
        exchange = _Exchange(asked, pool, body.content)
        exchange.call.start()
        return await exchange.answered


@implementer(IClientRequest)
@dataclass(slots=True)
class _Asked:
    """See :class:`twisted.web.iweb.IClientRequest`."""

    method: bytes
    absoluteURI: bytes  # noqa: N815 - Twisted's name
    headers: Headers

    def head(self, pool: HopPool, body_length: int) -> bytes:
        """Make the head, with its empty line."""
        parts = urlsplit(self.absoluteURI)
        target = (parts.path or b"/") + (b"?" + parts.query if parts.query else b"")
        host = (self.headers.getRawHeaders(b"host") or [pool.host])[0]
        lines = [b"%b %b HTTP/1.1" % (self.method, target), b"Host: %b" % host, b"Connection: close"]
        for name, values in self.headers.getAllRawHeaders():
            if name.lower() not in _MADE_ANEW:
                lines += [b"%b: %b" % (name, value) for value in values]
        if body_length:
            lines.append(b"Content-Length: %d" % body_length)
        return b"\r\n".join([*lines, b"\r\n"])


class _Gathered:
    """Consumer of a request body."""

    def __init__(self) -> None:
        self.content = b""

    def write(self, data: bytes) -> None:
        """Take a piece."""
        self.content += data


class _Exchange:
    """Turns what the hop tells into a response; see :class:`~llamaswap.proxy.connection.ResponseTaker`.

    Attributes:
        answered: Fires with the response.
        call: What goes on, once it is started.
    """

    def __init__(self, asked: _Asked, pool: HopPool, body: bytes) -> None:
        self.call = HopCall(pool, self, asked.method, asked.head(pool, len(body)), body)
        self.answered: Deferred[IResponse] = Deferred(lambda _: self.call.cancel())
        self._asked = asked
        self._pool = pool
        self._response: HopResponse | None = None

    def interim(self, head: ResponseHead) -> None:
        """Only the real answer counts."""

    def started(self, head: ResponseHead, data: bytes, *, is_whole: bool) -> None:
        """Make the response; its body waits."""
        response = self._response = HopResponse(head, self._asked, self.call)
        response.body_received(data)
        if is_whole:
            self._end(response)
        else:
            self.call.pause()
        self.answered.callback(response)

    def went_on(self, data: bytes, *, is_whole: bool) -> None:
        """Pass on a piece of the body."""
        response = self._response
        if response is not None:
            response.body_received(data)
            if is_whole:
                self._end(response)

    def _end(self, response: HopResponse) -> None:
        self._pool.close()  # the server may have kept the connection open all the same
        response.body_ended(Failure(PotentialDataLoss() if response.head.is_open else ResponseDone()))

    def failed(self, error: LlamaSwapError) -> None:
        """Fail the response, or what is left of it."""
        if self._response is None:
            self.answered.errback(error)
        else:
            self._response.body_ended(Failure(ResponseFailed([Failure(error)])))


@implementer(IResponse)
class HopResponse:
    """A response whose body is delivered once; see :class:`twisted.web.iweb.IResponse`.

    Args:
        head: What was received.
        request: What was asked.
        call: The exchange.

    Attributes:
        head: As given.
    """

    version = (b"HTTP", 1, 1)

    def __init__(self, head: ResponseHead, request: IClientRequest, call: HopCall) -> None:
        self.head = head
        self.code = head.status
        self.phrase = head.reason
        self.headers = Headers()
        for name, value in head.fields:
            self.headers.addRawHeader(name, value)
        lengths = self.headers.getRawHeaders(b"content-length")
        self.length: Any = UNKNOWN_LENGTH if head.is_open or head.is_chunked else int(lengths[0]) if lengths else 0
        self.request = request
        self.previousResponse: IResponse | None = None
        self._call = call
        self._pieces: list[bytes] = []
        self._walker = ChunkedBody(self._pieces) if head.is_chunked else None
        self._reason: Failure | None = None
        self._reader: IProtocol | None = None

    def body_received(self, data: bytes) -> None:
        """Take a piece of the body, in its framing."""
        if self._walker is None:
            self._pieces.append(data)
        else:
            self._walker.feed(data)
        self._deliver()

    def body_ended(self, reason: Failure) -> None:
        """Take note of the end."""
        self._reason = reason
        self._deliver()

    def _deliver(self) -> None:
        reader = self._reader
        if reader is None:
            return
        pieces = self._pieces[:]
        self._pieces.clear()
        for piece in pieces:
            if piece:
                reader.dataReceived(piece)
        if self._reason is not None:
            self._reader = None
            reader.connectionLost(self._reason)

    def deliverBody(self, protocol: IProtocol) -> None:
        """Give the body to a protocol, from its first byte on."""
        self._reader = protocol
        transport: Any = _BodyTransport(self._call, self.break_off)
        protocol.makeConnection(transport)
        self._deliver()
        if self._reason is None:
            self._call.resume()

    def break_off(self) -> None:
        """Read no more of the body; its reader is told at once."""
        self._call.cancel()
        if self._reason is None:
            self.body_ended(Failure(ResponseFailed([Failure(ConnectionAborted())])))

    def setPreviousResponse(self, response: IResponse) -> None:  # noqa: N802 - Twisted's name
        """Remember what led here."""
        self.previousResponse = response


@implementer(IPushProducer)
class _BodyTransport:
    """What the reader of a body can do: pause, resume, break off."""

    disconnecting = False

    def __init__(self, call: HopCall, break_off: Callable[[], None]) -> None:
        self._call = call
        self._break_off = break_off

    def pauseProducing(self) -> None:
        """Wait."""
        self._call.pause()

    def resumeProducing(self) -> None:
        """Go on."""
        self._call.resume()

    def stopProducing(self) -> None:
        """Break off."""
        self._break_off()

    loseConnection = abortConnection = stopProducing
