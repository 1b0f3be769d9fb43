"""The client's edge: the site that accepts connections, and what all of them share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from twisted.internet.defer import execute
from twisted.internet.interfaces import IAddress, IReactorTime
from twisted.web.server import Site

from llamaswap.config.schema import HTTPConfig
from llamaswap.web.access import AccessLog, LineLog
from llamaswap.web.channel import EdgeChannel
from llamaswap.web.crowd import Crowd, descriptor_limit
from llamaswap.web.deadlines import Deadlines
from llamaswap.web.edge import EdgeRequest
from llamaswap.web.head import RequestHead
from llamaswap.web.policy import Policy
from llamaswap.web.spool import InThread
from llamaswap.web.stamps import HTTPDate, RequestIds


class RootResource(Protocol):
    """What a site needs of its root resource, besides being one: see ``dispatch.DirectResource``."""

    def find(self, request: EdgeRequest, /) -> Callable[[EdgeRequest], None] | None:
        """Find a handler that takes such a request over."""

    def wants_body(self, request: EdgeRequest, /) -> bool:
        """Say whether a request's body may be of any use; otherwise its handler does not wait for it."""


class EdgeSite(Site):
    """Accepts clients.

    Args:
        resource: Answers; see ``dispatch.DirectResource``.
        reactor: Gives the time, and calls later.
        log: Gets the access log.
        limits: See :class:`~llamaswap.config.schema.HTTPConfig`.
        on_finished: Called once for each request, when its answer has ended or its client has left.
        descriptors: Gives the number of files that may be open at once.
        in_thread: Does blocking work; by default at once.

    Attributes:
        limits: As given.
        policy: What they say about clients.
        crowd: All connections.
        deadlines: What is due from clients.
        name_request: Gives a request its id.
        date: Gives the value of a ``Date``.
        in_thread: As given.
        is_closing: Whether connections end with the answers under way.
    """

    noisy = False

    def __init__(
        self,
        resource: RootResource,
        reactor: IReactorTime,
        log: LineLog,
        limits: HTTPConfig = HTTPConfig(),  # noqa: B008 - immutable
        *,
        on_finished: Callable[[EdgeRequest], None] | None = None,
        descriptors: Callable[[], int] = descriptor_limit,
        in_thread: InThread = execute,
    ) -> None:
        Site.__init__(self, resource, reactor=reactor)
        self.limits = limits
        self.policy = Policy(limits)
        self.crowd = Crowd(limits.max_connections, descriptors)
        self.name_request = RequestIds()
        self.date = HTTPDate()
        self.in_thread = in_thread
        self.is_closing = False
        self._access = AccessLog(log, reactor)
        self._on_finished = on_finished
        self.deadlines = Deadlines(reactor, limits.header_timeout_seconds, limits.body_timeout_seconds)

    def buildProtocol(self, addr: IAddress | None) -> Any:  # noqa: ARG002 - Twisted's signature
        """Make the channel of a connection."""
        return EdgeChannel(self)

    def make_request(self, channel: EdgeChannel, head: RequestHead) -> EdgeRequest:
        """Make the request of a head."""
        return EdgeRequest(channel, head, self.reactor.seconds())

    def log(self, request: Any) -> None:
        """Take note that a request has ended, or that its client has left; Twisted's name for it."""
        self._access(request)
        if request.spool is not None:
            request.spool.close()
        if self._on_finished is not None:
            self._on_finished(request)

    def log_refusal(self, client_host: bytes, head: bytes, status: int, sent_bytes: int) -> None:
        """Take note of an answer to what was no request."""
        self._access.refused(client_host, head, status, sent_bytes)

    def startFactory(self) -> None:
        """Do nothing: there is no log file to open."""

    def stopFactory(self) -> None:
        """Stop looking for overdue clients."""
        self.deadlines.stop()

    def change_limits(self, limits: HTTPConfig) -> None:
        """Have other limits from now on."""
        self.limits = limits
        self.policy = Policy(limits)
        self.crowd.change(limits.max_connections)
        self.deadlines.change(limits.header_timeout_seconds, limits.body_timeout_seconds)

    def close_idle(self) -> None:
        """Close connections on which no request is under way now, and the others after their answer."""
        self.is_closing = True
        for channel in self.crowd:
            channel.close_if_idle()

    def channel_gone(self, channel: EdgeChannel) -> None:
        """Forget a connection."""
        self.crowd.forget(channel)
        self.deadlines.forget(channel)
