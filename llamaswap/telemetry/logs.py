"""Histories and live readers of all logs, and the ways between them."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar, Final, Protocol

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger, LogLevel

from llamaswap.config.schema import Config
from llamaswap.core.ring import ByteRing
from llamaswap.core.values import ModelId
from llamaswap.telemetry.lines import OwnLines

_GATHER_SECONDS: Final = 0.005
"""Readers get what is written within this time as one piece: a reader costs by pieces, not by lines."""
_GATHER_BYTES: Final = 64 * 1024
"""And at the latest when so much has come together."""
_KIB: Final = 1024


class LogReader(Protocol):
    """Somebody who follows a log live."""

    def write(self, data: bytes) -> None:
        """Take the next piece; it begins and ends anywhere. Must not block."""

    def end(self) -> None:
        """Take note that nothing more will come."""


class LogMonitor:
    """One log: its newest bytes, and its live readers.

    Writing costs by the bytes written, never blocks, and never fails because of a reader.

    Args:
        clock: Where the gathering timer runs.
        capacity_bytes: Size of the history.

    Attributes:
        feeds: Called with each piece as soon as it is written; they must not raise.
    """

    _log: ClassVar[Logger] = Logger()

    def __init__(self, clock: IReactorTime, capacity_bytes: int) -> None:
        self.feeds: tuple[Callable[[bytes], None], ...] = ()
        self._clock = clock
        self._ring = ByteRing(capacity_bytes)
        self._readers: list[LogReader] = []
        self._gathered: list[bytes] = []
        self._gathered_bytes = 0
        self._timer: IDelayedCall | None = None
        self._has_ended = False

    def write(self, data: bytes) -> None:
        """Append ``data``, which begins and ends anywhere."""
        if not data:
            return
        self._ring.write(data)
        for feed in self.feeds:
            feed(data)
        if not self._readers:
            return
        self._gathered.append(data)
        self._gathered_bytes += len(data)
        if self._gathered_bytes >= _GATHER_BYTES:
            self._hand_out()
        elif self._timer is None:
            self._timer = self._clock.callLater(_GATHER_SECONDS, self._gathering_ends)

    def history(self) -> bytes:
        """Give the newest bytes, from the start of a line on; readers have got as much."""
        self._hand_out()
        return self._ring.text()

    def add_reader(self, reader: LogReader, *, with_history: bool) -> None:
        """Let ``reader`` follow, from this moment on: what is in the history does not come again."""
        history = self.history()
        if with_history and history:
            reader.write(history)
        if self._has_ended:
            reader.end()
        else:
            self._readers.append(reader)

    def remove_reader(self, reader: LogReader) -> None:
        """Let ``reader`` follow no more; nothing happens if it does not follow."""
        if reader in self._readers:
            self._readers.remove(reader)

    def end_readers(self) -> None:
        """Give all readers their end, and from now on each new one at once. The history goes on."""
        self._hand_out()
        self._has_ended = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        readers, self._readers = self._readers, []
        for reader in readers:
            with self._log.failuresHandled("a log's reader failed at its end"):
                reader.end()

    def _gathering_ends(self) -> None:
        self._timer = None
        self._hand_out()

    def _hand_out(self) -> None:
        if not self._gathered:
            return
        # One object for all readers; swapped out first, since a failing reader is itself logged.
        data = b"".join(self._gathered)
        self._gathered, self._gathered_bytes = [], 0
        for reader in tuple(self._readers):
            with self._log.failuresHandled("a log's reader failed, it gets no more") as offer:
                reader.write(data)
            if offer.failed:
                self.remove_reader(reader)


class Logs:
    """All logs of the daemon.

    A model's log feeds ``upstream``; ``proxy`` has the daemon's own lines. Those of the two that
    ``logToStdout`` names feed ``combined``, which feeds standard output. Each keeps its own history
    in any case.

    Args:
        config: The settings that begin with ``log`` are read.
        clock: Where timers run.
        call_from_thread: ``reactor.callFromThread``, for events of other threads.
        stdout: Gets what goes to standard output; must not block.

    Attributes:
        proxy: Our own lines.
        upstream: Output of all models' processes.
        combined: What standard output and ``/logs`` show.
        own_lines: The observer to give to ``twisted.logger``.
    """

    def __init__(
        self,
        config: Config,
        clock: IReactorTime,
        call_from_thread: Callable[..., object],
        stdout: Callable[[bytes], None],
    ) -> None:
        self._clock = clock
        self._capacity_bytes = config.log_buffer_kib * _KIB
        self._models: dict[ModelId, LogMonitor] = {}
        self._has_ended = False
        self.proxy = self._make_monitor()
        self.upstream = self._make_monitor()
        self.combined = self._make_monitor()
        self.combined.feeds = (stdout,)
        self.own_lines = OwnLines(config, self.proxy.write, call_from_thread)
        self._route(config)

    def apply(self, config: Config) -> None:
        """Follow these settings from now on, except for the size of histories."""
        self.own_lines.apply(config)
        self._route(config)

    def model(self, model: ModelId) -> LogMonitor:
        """Give the log of one model; it is made when it is first asked for, and outlives the model's process.

        Args:
            model: An id, never an alias.
        """
        monitor = self._models.get(model)
        if monitor is None:
            monitor = self._models[model] = self._make_monitor()
            monitor.feeds = (self.upstream.write,)
        return monitor

    def forget(self, model: ModelId) -> None:
        """End the log of a model that is no more."""
        monitor = self._models.pop(model, None)
        if monitor is not None:
            monitor.end_readers()

    def line(self, level: LogLevel, text: str, **fields: object) -> None:
        """Write one line of our own at once; see :meth:`OwnLines.line`."""
        self.own_lines.line(level, text, **fields)

    def end_readers(self) -> None:
        """End every live reader; the logs themselves go on to the daemon's last word."""
        self._has_ended = True
        for monitor in (*self._models.values(), self.upstream, self.proxy, self.combined):
            monitor.end_readers()

    def _make_monitor(self) -> LogMonitor:
        monitor = LogMonitor(self._clock, self._capacity_bytes)
        if self._has_ended:
            monitor.end_readers()
        return monitor

    def _route(self, config: Config) -> None:
        onward = (self.combined.write,)
        self.proxy.feeds = onward if config.log_to_stdout in ("proxy", "both") else ()
        self.upstream.feeds = onward if config.log_to_stdout in ("upstream", "both") else ()
