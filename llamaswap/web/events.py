"""``GET /api/events``: the event stream."""

from __future__ import annotations

from typing import Final

from klein import Klein
from twisted.internet.defer import Deferred

from llamaswap.web.access import client_address
from llamaswap.web.daemon import Daemon
from llamaswap.web.edge import EdgeRequest
from llamaswap.web.event_client import EventClient
from llamaswap.web.event_kinds import asked_kinds
from llamaswap.web.feed import Feed

_PATH: Final = "/api/events"
_HEADERS: Final = (
    (b"content-type", b"text/event-stream"),
    (b"cache-control", b"no-cache"),
    (b"x-content-type-options", b"nosniff"),
    (b"x-accel-buffering", b"no"),
)


class EventRoutes:
    """The handler.

    Args:
        daemon: What happens there is told.

    Attributes:
        feed: Tells it.
    """

    def __init__(self, daemon: Daemon) -> None:
        self.feed = Feed(daemon)
        self._clock = daemon.observers.reactor

    def register(self, app: Klein) -> None:
        """Add the route."""
        app.route(_PATH, methods=["GET"], endpoint=_PATH)(self.stream)

    def stream(self, request: EdgeRequest) -> Deferred[None]:
        """Answer ``GET /api/events[?topics=...]`` until the client leaves or the daemon stops.

        Returns:
            Fires with ``None`` when the stream has ended; the caller then finishes the request. Cancel it
            when the client leaves. Fails with :class:`~llamaswap.errors.BadRequestError` for an unknown topic.
        """
        return Deferred.fromCoroutine(self._stream(request))

    async def _stream(self, request: EdgeRequest) -> None:
        kinds = asked_kinds(request.uri.partition(b"?")[2])
        for name, value in _HEADERS:
            request.setHeader(name, value)
        if request.keeps_alive:
            request.setHeader(b"connection", b"keep-alive")
        # The head goes out now, whatever there is to tell.
        request.write(b"")
        if request.method == b"HEAD":
            return
        client = EventClient(request.write, kinds, self._clock, client_address(request), self.feed.dropped_bytes)
        request.registerProducer(client, streaming=True)
        try:
            self.feed.join(client)
            await client.ended
        finally:
            self.feed.leave(client)
        request.unregisterProducer()
