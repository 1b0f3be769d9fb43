"""A long answer of ours, written no faster than its client reads."""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IPushProducer
from twisted.web.server import Request
from zope.interface import implementer


@implementer(IPushProducer)
class Outflow:
    """Makes whoever writes wait for the client.

    Args:
        request: Its headers are set; the caller finishes it.
    """

    def __init__(self, request: Request) -> None:
        self._request = request
        self._is_paused = False
        self._waiting: Deferred[None] | None = None
        request.registerProducer(self, streaming=True)

    def write(self, data: bytes) -> Deferred[None]:
        """Send a piece.

        Returns:
            Fires with ``None`` when the next one may follow. Cancel it when the client leaves.
        """
        self._request.write(data)
        ready = self._waiting = Deferred()
        if not self._is_paused:
            self.resumeProducing()
        return ready

    def end(self) -> None:
        """Write no more; harmless when the client has left."""
        if self._request.channel is not None:
            self._request.unregisterProducer()

    def pauseProducing(self) -> None:
        """Let the writer wait from now on; called by the connection."""
        self._is_paused = True

    def resumeProducing(self) -> None:
        """Let the writer go on; called by the connection when it has room."""
        self._is_paused = False
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            waiting.callback(None)

    def stopProducing(self) -> None:
        """Do nothing: the end of the connection reaches the handler as a cancellation."""
