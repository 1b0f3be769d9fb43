"""One client connection: takes requests one after the other, and carries their answers."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from twisted.internet import protocol
from twisted.internet.error import ConnectionAborted
from twisted.internet.interfaces import ITCPTransport
from twisted.python.failure import Failure

from llamaswap.errors import FramingError, PayloadTooLargeError, SpoolError
from llamaswap.proxy.connection import StreamedBody
from llamaswap.proxy.wire import has_hung_up, is_broken, tune, unsent_bytes
from llamaswap.web.asked import Form, form_of, form_reader
from llamaswap.web.bodies import PassingBody, TunnelBody, WholeBody
from llamaswap.web.head import REASONS, RequestHead, read_head
from llamaswap.web.outlet import Outlet
from llamaswap.web.paths import is_streamed
from llamaswap.web.spool import Spool, SpooledBody, SpoolingBody
from llamaswap.web.stamps import REQUEST_ID

if TYPE_CHECKING:
    from llamaswap.web.edge import EdgeRequest
    from llamaswap.web.site import EdgeSite

_HEAD_END: Final = b"\r\n\r\n"
_EMPTY_LINES: Final = re.compile(rb"(?:\r\n)+")
_MOST_LINES: Final = 10_000
"""Of a head: a megabyte of tiny ones would hold up everybody for half a second."""

_BACKLOG_BYTES: Final = 16 * 1024
"""What a client may send ahead of the answer to its request before it is made to wait."""

_NOTHING: Final = b"-"
"""Stands in the log where there was no time for a request."""

_IN_MEMORY_BYTES: Final = 4 * 1024 * 1024
"""Longest body that is kept in memory although it need not be."""

_LINGER_SECONDS: Final = 2.0
"""How long a client that is still sending is listened to, so that it can read why we hang up."""

_LAST_SECONDS: Final = 60.0
"""How long a client may read nothing of what is left of its last answer, before the kernel's own buffer."""

_KEEPALIVE_SECONDS: Final = 15
"""Silence after which the kernel asks whether the client still exists."""


class EdgeChannel(Outlet):
    """One client connection, as requests and the reactor see it.

    Args:
        site: Whose connection it is.

    Attributes:
        client_host: The client's address, without port.
    """

    def __init__(self, site: EdgeSite) -> None:
        super().__init__()
        self.site = self.factory = site
        self._deadlines = site.deadlines
        self._crowd = site.crowd
        self.client_host = b""
        self._request: EdgeRequest | None = None  # received, not answered
        self._body: WholeBody | SpoolingBody | PassingBody | None = None  # being received
        self._ahead = b""  # received, not looked at
        self._searched = 0  # of that, bytes in which no head ends
        self._is_advancing = False
        self._is_held_up = False  # the client, by us
        self._is_closing = False
        self._last_bytes = 0  # of the last answer, still to be sent when that was looked at

    def connectionMade(self) -> None:
        """Wait for the first request."""
        super().connectionMade()
        tune(self.transport, _KEEPALIVE_SECONDS)
        self.client_host = getattr(self.transport.getPeer(), "host", "").encode("ascii", "replace")
        if self._crowd.admit(self):
            self._deadlines.expect_head(self)
        elif self._crowd.turn_away(self):
            self.refuse(503, "too many connections", _NOTHING, b"Retry-After: 1\r\n")
        else:
            self.abortConnection()

    # ----------------------------------------------------------------- requests in

    def dataReceived(self, data: bytes) -> None:
        """Take what the client sends."""
        if not self._is_closing:
            ahead, self._ahead = self._ahead, b""
            self._advance(ahead + data if ahead else data)

    def _advance(self, data: bytes) -> None:
        """Get as far as what was received reaches; requests are answered one after the other."""
        self._is_advancing = True
        try:
            while data:
                if self._body is not None:
                    data = self._take_body(self._body, data)
                elif self._request is not None or self.is_full or self._is_closing:
                    break
                elif (empty := _EMPTY_LINES.match(data)) is not None:
                    data = data[empty.end() :]  # RFC 9112, section 2.2: empty lines before a request are nothing
                else:
                    end = data.find(_HEAD_END, self._searched)
                    self._searched = max(len(data) - len(_HEAD_END) + 1, 0) if end < 0 else 0
                    if end < 0:
                        break
                    data = self._begin(data[:end], data[end + 4 :])
        except FramingError as error:
            self.refuse(400, error.message, data)
        except PayloadTooLargeError as error:
            if self._request is not None:
                self._request.break_off(error)
            data = b""
        finally:
            self._is_advancing = False
        if data and not self._is_closing:
            self._keep(data)

    def _keep(self, data: bytes) -> None:
        """Keep what cannot be looked at yet."""
        self._ahead = data
        if self._request is not None or self.is_full:
            if len(data) > _BACKLOG_BYTES:
                self.hold_up()
        elif len(data) > self.site.limits.max_header_bytes:
            self.refuse(431, "header block too long", data)
        else:
            self._crowd.busy(self)
            self._deadlines.expect_head(self)

    def _begin(self, head: bytes, data: bytes) -> bytes:
        """Begin a request; give what is left of the data behind the head."""
        if len(head) > self.site.limits.max_header_bytes or head.count(b"\n") > _MOST_LINES:
            self.refuse(431, "header block too long", head)
            return b""
        request_head = read_head(head)
        request = self._request = self.site.make_request(self, request_head)
        self._crowd.busy(self)
        length = request_head.length
        if length is not None and len(data) >= length <= self.site.policy.careless_bytes:
            self._deadlines.expect_nothing(self)
            request.body = data[:length]
            request.process()
            return data[length:]
        self._deadlines.expect_body(self)
        is_passing = is_streamed(request_head.path)
        most_bytes = self.site.policy.most_bytes(request_head.named, is_streamed=is_passing)
        is_wanted = request.refusal is None and self.site.resource.wants_body(request)
        if is_wanted and length is not None and length > most_bytes:
            request.refusal = PayloadTooLargeError()
            is_wanted = False
        if request_head.expects_continue and not data:
            if is_wanted:
                self.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            else:
                request.keeps_alive = False  # the body may come all the same, or not
        if is_passing or not is_wanted:
            self._body = request.body = PassingBody(length, self, most_bytes)
            request.process()
        else:
            self._body = self._gathering(request, request_head, most_bytes)
        return data

    def _gathering(self, request: EdgeRequest, head: RequestHead, most_bytes: int) -> WholeBody | SpoolingBody:
        """Choose how a body is gathered: what must be parsed as a whole in memory, other long ones in a file."""
        form = form_of(head.named.get(b"content-type", b""))
        is_short = head.length is not None and head.length <= _IN_MEMORY_BYTES
        if is_short or form is Form.JSON or form is Form.URLENCODED:
            return WholeBody(head.length, most_bytes)
        request.spool = Spool(self.site.in_thread)
        reader = form_reader(head.named[b"content-type"]) if form is Form.MULTIPART else None
        return SpoolingBody(head.length, most_bytes, request.spool, reader, self)

    def body_stored(self, body: bytes | SpooledBody) -> None:
        """See :class:`~llamaswap.web.spool.Source`."""
        if self._request is not None:
            self._request.body = body
            self._request.process()

    def body_not_stored(self, error: SpoolError) -> None:
        """See :class:`~llamaswap.web.spool.Source`."""
        if self._request is not None:
            self._request.break_off(error)

    def _take_body(self, body: WholeBody | SpoolingBody | PassingBody, data: bytes) -> bytes:
        """Take a piece of the body; give what is left of the data behind its end."""
        end = body.feed(data)
        if end < 0:
            if isinstance(body, SpoolingBody):
                body.store()
            if isinstance(body, PassingBody) and body.is_tiresome:
                self._linger()
            elif not self._is_held_up:
                self._expect_more()
            return b""
        self._body = None
        self._deadlines.expect_nothing(self)
        if isinstance(body, WholeBody):
            self.body_stored(body.content())
        elif isinstance(body, SpoolingBody):
            body.store()
        return data[end:]

    def _expect_more(self) -> None:
        """Expect the next piece of the body; in a tunnel nothing is ever due."""
        if not isinstance(self._body, TunnelBody):
            self._deadlines.expect_body(self)

    def open_tunnel(self) -> StreamedBody:
        """Give whatever the client has sent ahead, and sends from now on."""
        ahead, self._ahead = self._ahead, b""
        self._body = tunnel = TunnelBody(self)
        if ahead:
            tunnel.feed(ahead)
        return tunnel

    def hold_up(self) -> None:
        """Make the client wait; no deadline runs meanwhile."""
        if not self._is_held_up:
            self._is_held_up = True
            self.transport.pauseProducing()
            self._deadlines.hold_up(self)

    def read_on(self) -> None:
        """Let the client go on."""
        if self._is_held_up:
            self._is_held_up = False
            self.transport.resumeProducing()
            self._deadlines.let_go(self)
            if self._body is not None:
                self._expect_more()

    # ----------------------------------------------------------------- the end of a request, or of everything

    def requestDone(self, request: EdgeRequest) -> None:
        """Go on with the next request, or close."""
        self._request = self._producer = None
        if isinstance(self._body, PassingBody):
            self._body.detach()
        if not request.keeps_alive or self.site.is_closing:
            self._close()
        else:
            self._crowd.idle(self)
            self._go_on()

    def _close(self) -> None:
        """Close when all has been sent; a client that is still sending shall be able to read it."""
        if self._body is None or self.is_full:
            self.loseConnection()
        else:
            self._linger()

    def _go_on(self) -> None:
        """Look at what was sent ahead, unless that goes on already."""
        if not self._is_advancing:
            ahead, self._ahead = self._ahead, b""
            self.read_on()
            self._advance(ahead)

    def close_if_idle(self) -> None:
        """Close unless a request is under way that is to be waited for."""
        if self._request is None or self._request.may_be_cut:
            self._close()
        else:
            self._request.keeps_alive = False  # and its answer, if it has not begun, says so

    def make_way(self) -> None:
        """Close, being idle, for somebody who needs the place: who does not read the last answer has lost it."""
        self._close()
        self._last_bytes = 0
        self._deadlines.expect(self, _LINGER_SECONDS)

    def refuse(self, status: int, text: str, head: bytes = b"", more: bytes = b"") -> None:
        """Answer what is no request, and hang up; a request under way is given up.

        Args:
            status: Of the answer.
            text: Its body.
            head: What was received where a request should be, for the log.
            more: Further lines for the answer's head.
        """
        request, self._request = self._request, None
        body = f"{text}\n".encode()
        if request is not None:
            request_id = request.request_id
            has_begun = bool(request.startedWriting)
            request.give_up(Failure(ConnectionAborted()), status, len(body))
            if has_begun:
                self.abortConnection()
                return
        else:
            request_id = self.site.name_request({})
            if head:
                self.site.log_refusal(self.client_host, head, status, len(body))
        self.write(
            b"HTTP/1.1 %d %b\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: %d\r\nConnection: close\r\n"
            % (status, REASONS[status], len(body))
            + b"Date: %b\r\n%b: %b\r\n%b\r\n%b" % (self.site.date(), REQUEST_ID, request_id.encode(), more, body),
        )
        self._linger()

    def look_after(self) -> None:
        """Find out whether the client, whom we do not listen to, has left: its request must not go on.

        What it sent through a tunnel before is still to be read.
        """
        has_left = is_broken if isinstance(self._body, TunnelBody) else has_hung_up
        if has_left(self.transport):
            self.abortConnection()

    def overdue(self) -> None:
        """Hang up: what was due from the client did not come; but let it read on, however slow it is."""
        if not self._is_closing:
            self.refuse(408, "the request did not come in time", self._ahead)
            return
        before_bytes, self._last_bytes = self._last_bytes, unsent_bytes(self.transport)
        if 0 < self._last_bytes < before_bytes:
            self._deadlines.expect(self, _LAST_SECONDS)
        else:
            self.abortConnection()

    def _linger(self) -> None:
        """Close our side, and drop what still comes: a reset could take the answer away from the client."""
        self._stop_serving()
        self.read_on()
        self._deadlines.expect(self, _LINGER_SECONDS)
        if ITCPTransport.providedBy(self.transport) and not self.isSecure():
            self.transport.loseWriteConnection()
        else:  # TLS has a goodbye of its own, and listens until the client says it, too
            self.transport.loseConnection()

    def loseConnection(self) -> None:
        """Close when all has been sent; a client that never reads it is not waited for for ever."""
        self._stop_serving()
        self._last_bytes = unsent_bytes(self.transport)
        self._deadlines.expect(self, _LAST_SECONDS)
        self.transport.loseConnection()

    def abortConnection(self) -> None:
        """Close now."""
        self._stop_serving()
        self.transport.abortConnection()

    def _stop_serving(self) -> None:
        if not self._is_closing:
            self._is_closing = True
            self._body, self._ahead = None, b""
            self.transport.unregisterProducer()

    def connectionLost(self, reason: Failure = protocol.connectionDone) -> None:
        """Tell the request: nobody listens any more."""
        self._is_closing = True
        self.site.channel_gone(self)
        request, self._request, self._body, self._producer = self._request, None, None, None
        if request is not None:
            request.connectionLost(reason)

    def resumeProducing(self) -> None:
        """The client has caught up: its next request may be looked at."""
        super().resumeProducing()
        if self._request is None:
            self._go_on()
