"""Requests of clients, as the routes see them.

Twisted's own channel and request parse line by line, build half a dozen objects per header, keep
bodies in files, and queue what could be sent at once. Here a request is what was received; the
conveniences of :class:`twisted.web.server.Request`, which Klein and its handlers use, come into being
when they are asked for.
"""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO
from typing import TYPE_CHECKING, Any, AnyStr, Final, cast
from urllib.parse import unquote_to_bytes

from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.http import parse_qs
from twisted.web.server import Request

from llamaswap.errors import LlamaSwapError
from llamaswap.proxy.connection import StreamedBody
from llamaswap.proxy.forward import Forwarding
from llamaswap.proxy.headers import Fields, ResponseHead
from llamaswap.proxy.websocket import wanted_upgrade
from llamaswap.web.channel import EdgeChannel
from llamaswap.web.errors import error_event, render_error
from llamaswap.web.head import REASONS, RequestHead
from llamaswap.web.spool import Spool
from llamaswap.web.stamps import REQUEST_ID

_LATE: Final = frozenset(
    {
        "_adapterCache",
        "client",
        "cookies",
        "host",
        "notifications",
        "received_cookies",
        "requestHeaders",
        "responseHeaders",
        "transport",
    },
)
"""What the initializers of Twisted's request set, and its methods take for granted."""

_CLIENT_LEFT: Final = 499
"""Shown as the status of a request whose client left before its answer began."""


class EdgeRequest(Request):
    """One request and its answer; the client that a forwarding serves.

    Args:
        channel: Its connection.
        head: What was received.
        started_mono: When that was whole.

    Attributes:
        fields: Header fields as received.
        body: All of it, without chunks; on streamed paths one that is still arriving, or empty.
            Given up when the answer begins.
        client_host: The client's address, without port.
        is_modern: Whether it is HTTP/1.1.
        keeps_alive: Whether the connection outlives the answer.
        upgrade: What it wants to speak instead of HTTP: the ``Upgrade`` of a websocket, or empty.
        started_mono: As given.
        error: What it was refused for, or cut by.
        may_be_cut: Whether the end of the daemon does not wait for it.
        spool: Keeps a long body; closed at the end.
        refusal: Why it may not come in, or ``None``.
        relay: Sends bytes as they are.
        request_id: Names it, in its answer and to its upstream.
    """

    _log = Logger()
    channel: Any
    site: Any

    if TYPE_CHECKING:  # Twisted does not annotate these

        def setHeader(self, name: bytes, value: bytes) -> None:
            """Set a header of an answer of ours."""

        def finish(self) -> None:
            """End an answer of ours."""

        def render(self, resrc: object) -> None:
            """Let a resource answer."""

        def registerProducer(self, producer: object, streaming: bool) -> None:  # noqa: FBT001
            """Tell somebody when the client is slow."""

        def unregisterProducer(self) -> None:
            """Tell nobody any more."""

    defaultContentType = b"text/plain; charset=utf-8"

    def __init__(self, channel: EdgeChannel, head: RequestHead, started_mono: float) -> None:
        # Not Twisted's: what that makes is made when it is asked for, see __getattr__.
        self.channel = channel
        self.site = channel.site
        self.method, self.uri, self.path, self.clientproto, self.fields, self._named = head[:6]
        self.request_id = self.site.name_request(head.named)
        self.is_modern = head.is_modern
        self.keeps_alive = head.keeps_alive
        self.client_host = channel.client_host
        self.relay: Callable[[bytes], None] = channel.write
        self.started_mono = started_mono
        self.body: bytes | StreamedBody = b""
        self.spool: Spool | None = None
        self.upgrade = wanted_upgrade(self.method, head.named) if b"upgrade" in head.named and self.is_modern else b""
        self.error: LlamaSwapError | None = None
        self.may_be_cut = False
        self.refusal = self.site.policy.refusal(self.method, self.path, self._named)
        self._taker: Forwarding | None = None

    def process(self) -> None:
        """Find who answers; the body is there, or on its way."""
        if self.refusal is not None:
            self.refuse(self.refusal)
            return
        resource = self.site.resource
        try:
            handler = resource.find(self)
            if handler is not None:
                handler(self)
                return
            self._complete()
            self.prepath = []
            self.postpath = [unquote_to_bytes(part) for part in self.path[1:].split(b"/")]
            self._say_close()
            self.render(resource)
        except LlamaSwapError as error:
            self.refuse(error)
        except BaseException:  # noqa: BLE001 - logged, and answered
            self.processingFailed(Failure())

    def processingFailed(self, reason: Failure) -> None:
        """Log a bug, and tell the client that there is one."""
        self._log.failure("could not answer {method} {path}", reason, method=self.method, path=self.path)
        if self.finished or self._disconnected:
            return
        error = LlamaSwapError("internal error")
        if self._taker is not None and not self._taker.is_ended:
            self._taker.cancel(error)  # else it would answer as well, perhaps somebody else's request
        elif self.startedWriting:
            self.cut(self.sentLength, error, at_once=True)
        else:
            self.refuse(error)

    def setResponseCode(self, code: int, message: bytes | None = None) -> None:
        """Set the status of an answer of ours."""
        super().setResponseCode(code, message or REASONS.get(code))

    def write(self, data: bytes) -> None:
        """Send a piece of an answer of ours."""
        if not self.startedWriting:
            headers = self.responseHeaders
            headers.setRawHeaders(REQUEST_ID, [self.request_id])
            headers.setRawHeaders(b"date", [self.site.date()])
            if not headers.hasHeader(b"access-control-allow-origin"):
                for name, value in self.site.policy.answer_fields(self._named.get(b"origin")):
                    headers.addRawHeader(name, value)
        Request.write(self, data)

    def _say_close(self) -> None:
        if self.is_modern and not self.keeps_alive:
            self.setHeader(b"connection", b"close")

    # ----------------------------------------------------------------- for a forwarding: see proxy.forward.Client

    def taken_over(self, taker: Forwarding) -> None:
        """See :class:`~llamaswap.proxy.forward.Client`."""
        self._taker = taker
        self.channel.registerProducer(taker, streaming=True)

    def answer_fields(self, head: ResponseHead) -> Fields:
        """See :class:`~llamaswap.proxy.forward.Client`."""
        fields = [(REQUEST_ID, self.request_id.encode("ascii"))]
        if not head.has_date:
            fields.append((b"Date", self.site.date()))
        if not head.allows_origin:
            fields += self.site.policy.answer_fields(self._named.get(b"origin"))
        return fields

    def relay_head(self, status: int, data: bytes) -> None:
        """See :class:`~llamaswap.proxy.forward.Client`."""
        self.code = status
        self.startedWriting = 1
        self.body = b""
        self.relay(data)

    def tunnel(self) -> StreamedBody:
        """See :class:`~llamaswap.proxy.forward.Client`."""
        self.keeps_alive = False
        return cast("EdgeChannel", self.channel).open_tunnel()

    def end(self, payload_bytes: int) -> None:
        """See :class:`~llamaswap.proxy.forward.Client`."""
        self.sentLength = payload_bytes
        self._settle()

    def cut(self, payload_bytes: int, error: LlamaSwapError, *, at_once: bool) -> None:
        """See :class:`~llamaswap.proxy.forward.Client`."""
        self.sentLength = payload_bytes
        self.error = error
        self.keeps_alive = False
        if at_once:
            self.channel.abortConnection()
        self._settle()

    def _settle(self) -> None:
        self.finished = 1
        self._taker = None
        self.site.log(self)
        self.channel.requestDone(self)

    def refuse(self, error: LlamaSwapError) -> None:
        """See :class:`~llamaswap.proxy.forward.Client`."""
        if self._disconnected:
            return
        self.error = error
        self._taker = None
        self._say_close()
        self.write(render_error(self, error))
        self.finish()

    def break_off(self, error: LlamaSwapError) -> None:
        """End in the midst of the request: the client gets the error, or a cut answer if that has begun."""
        self.keeps_alive = False
        if self._taker is not None:
            self._taker.cancel(error)
        else:
            self.refuse(error)

    def error_event(self, error: LlamaSwapError) -> bytes:
        """See :class:`~llamaswap.proxy.forward.Client`."""
        return error_event(error, self.path)

    def connectionLost(self, reason: Failure) -> None:
        """Tell whoever works for this request that nobody waits for it any more."""
        self.give_up(reason, _CLIENT_LEFT, 0)

    def give_up(self, reason: Failure, status: int, sent_bytes: int) -> None:
        """Tell whoever works for this request that it is over, whatever they do.

        Args:
            reason: Why.
            status: For the log, where no answer has begun.
            sent_bytes: As well.
        """
        self._disconnected = True
        taker, self._taker = self._taker, None
        if not self.startedWriting:
            self.code, self.sentLength = status, sent_bytes
        if taker is not None:
            self.sentLength = max(sent_bytes, taker.payload_bytes)
            taker.client_left()
        self.site.log(self)
        waiting = self.__dict__.pop("notifications", ())
        self.channel = None
        for waiter in waiting:
            waiter.errback(reason)

    # ----------------------------------------------------------------- what Twisted's request has from the start

    def getRequestHostname(self) -> bytes:  # noqa: N802 - Twisted's name
        """Give a name on which nothing depends: Klein asks for it, and fails on many that clients may send."""
        return b"localhost"

    def getHeader(self, key: AnyStr) -> AnyStr | None:
        """Give the value of a request header; of several, joined with commas."""
        if isinstance(key, bytes):
            return self._named.get(key.lower())
        value = self._named.get(key.lower().encode("latin-1"))
        return None if value is None else value.decode("latin-1")

    def __getattr__(self, name: str) -> Any:
        """Make what Twisted's request has from the start, when something of it is asked for."""
        if name not in _LATE:
            raise AttributeError(name)
        self._complete()
        return self.__dict__[name]

    @property
    def args(self) -> dict[bytes, list[bytes]]:
        """The query, taken apart: only when somebody asks, since a long one takes its time."""
        found: dict[bytes, list[bytes]] = parse_qs(self.uri.partition(b"?")[2], keep_blank_values=True)
        return found

    @args.setter
    def args(self, _: object) -> None:
        """Take what Twisted sets at the beginning for nothing."""

    def _complete(self) -> None:
        Request.__init__(self, self.channel)
        for name, value in self.fields:
            self.requestHeaders.addRawHeader(name, value)
        self.content = BytesIO(self.body if isinstance(self.body, bytes) else b"")
