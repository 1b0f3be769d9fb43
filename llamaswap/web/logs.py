"""``/logs`` and ``/logs/stream``: the logs as text, once or live."""

from __future__ import annotations

from typing import Final, Protocol
from urllib.parse import parse_qs

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IPushProducer
from twisted.web.server import Request
from zope.interface import implementer

from llamaswap.config.schema import Config
from llamaswap.core.backlog import Backlog
from llamaswap.errors import BadRequestError
from llamaswap.telemetry.logs import LogMonitor, Logs
from llamaswap.web.paths import cut_name, decoded

STREAM_PATH: Final = "/logs/stream"
"""The path of the live log, and what the paths of all others begin with."""
_BACKLOG_BYTES: Final = 256 * 1024
"""What may wait for a reader that is too slow."""
_NO_HISTORY: Final = "no-history"


class LogSource(Protocol):
    """What the routes need of the daemon."""

    @property
    def config(self) -> Config:
        """The active configuration."""

    @property
    def logs(self) -> Logs:
        """All logs."""


@implementer(IPushProducer)
class LogStream:
    """One HTTP response that follows a log.

    While its client is too slow, up to 256 KiB wait; then the oldest lines are dropped, with a mark.

    Args:
        request: Its headers are set; the caller finishes it.

    Attributes:
        ended: Fires with ``None`` when the log has ended and everything was written.
    """

    def __init__(self, request: Request) -> None:
        self.ended: Deferred[None] = Deferred()
        self._request = request
        self._backlog = Backlog(_BACKLOG_BYTES)
        self._is_paused = False

    def write(self, data: bytes) -> None:
        """See :meth:`~llamaswap.telemetry.logs.LogReader.write`."""
        if self._is_paused:
            self._backlog.put(data)
        else:
            self._request.write(data)

    def end(self) -> None:
        """See :meth:`~llamaswap.telemetry.logs.LogReader.end`."""
        self.resumeProducing()
        self.ended.callback(None)

    def pauseProducing(self) -> None:
        """Hold back from now on; called by the connection."""
        self._is_paused = True

    def resumeProducing(self) -> None:
        """Hand over what waits; called by the connection when it has room."""
        # First, because the write below may pause us again.
        self._is_paused = False
        if self._backlog:
            self._request.write(self._backlog.take())

    def stopProducing(self) -> None:
        """Do nothing: the end of the connection reaches the handler as a cancellation."""


class LogRoutes:
    """The handlers of ``/logs`` and ``/logs/stream[/{id}]``.

    Args:
        daemon: Where the configuration and the logs are.
    """

    def __init__(self, daemon: LogSource) -> None:
        self._daemon = daemon

    def history(self, request: Request) -> bytes:
        """Answer ``GET /logs`` with the history of the combined log; a browser is sent to the UI."""
        if "text/html" in (request.getHeader("accept") or ""):
            request.redirect(b"/ui/")
            return b""
        text = self._daemon.logs.combined.history()
        request.setHeader(b"content-type", b"text/plain")
        request.setHeader(b"content-length", b"%d" % len(text))
        return text

    def stream(self, request: Request) -> Deferred[None]:
        """Answer ``GET /logs/stream[/{id}]`` with history and live text.

        The id is taken from the raw path: empty, ``proxy``, ``upstream``, or a model's id or alias, slashes
        plain or escaped; of a longer path the longest part that names a model counts.

        Returns:
            Fires with ``None`` when the log has ended; the caller then finishes the request. Cancel it
            when the client leaves. Fails with :class:`~llamaswap.errors.BadRequestError` when there is no such log.
        """
        return Deferred.fromCoroutine(self._stream(request))

    async def _stream(self, request: Request) -> None:
        monitor = self._find(request.path.removeprefix(STREAM_PATH.encode()).removeprefix(b"/"))
        _, _, query = request.uri.partition(b"?")
        options = parse_qs(query.decode("latin-1"), keep_blank_values=True)
        request.setHeader(b"content-type", b"text/plain")
        request.setHeader(b"x-content-type-options", b"nosniff")
        request.setHeader(b"x-accel-buffering", b"no")
        # The head goes out now, so that following a silent log does not look like a hang.
        request.write(b"")
        if request.method == b"HEAD":
            return
        stream = LogStream(request)
        request.registerProducer(stream, streaming=True)
        monitor.add_reader(stream, with_history=_NO_HISTORY not in options)
        try:
            await stream.ended
        finally:
            monitor.remove_reader(stream)
        request.unregisterProducer()

    def _find(self, written: bytes) -> LogMonitor:
        logs, config = self._daemon.logs, self._daemon.config
        named = {"": logs.combined, "proxy": logs.proxy, "upstream": logs.upstream}.get(decoded(written))
        if named is not None:
            return named
        names = {*config.models, *config.aliases}
        found = cut_name(written, names, max((name.count("/") + 1 for name in names), default=1))
        model = config.resolve(found.name) if found is not None else None
        if model is not None:
            return logs.model(model.id)
        raise BadRequestError("invalid logger. Use 'proxy', 'upstream' or a model's ID")
