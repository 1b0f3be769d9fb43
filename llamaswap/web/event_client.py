"""One client of the event stream, and what waits for it while it is slow."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import ClassVar, Final

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IPushProducer, IReactorTime
from twisted.logger import Logger
from zope.interface import implementer

from llamaswap.core.backlog import Backlog
from llamaswap.web.event_kinds import Kind, Kinds, message

PING_SECONDS: Final = 15.0
"""Silence after which a comment shows that the stream is alive."""

_PING: Final = b": ping\n\n"
_LOG_BYTES: Final = 256 * 1024
"""Of each log, what may wait; then the oldest lines are dropped."""
_MOST_WAITING: Final = 128
"""Of each kind, the messages that may wait."""
_MOST_WAITING_BYTES: Final = 256 * 1024
_WARNING_SECONDS: Final = 10.0
"""Shortest time between two warnings about one client."""


@implementer(IPushProducer)
class EventClient:
    """Writes messages as they come, or keeps the newest of them until there is room.

    Of what tells a state only the newest waits, so nothing of it is lost. Of too many requests in
    flight none waits, and a list of all of them comes instead. Only lines of the logs are dropped,
    with a mark, and records of swaps, which can be asked for.

    Args:
        write: Takes a piece of the stream.
        kinds: What the client wants.
        clock: Where timers run.
        name: Names the client in warnings.
        dropped_bytes: Counts, by log, what is dropped.

    Attributes:
        kinds: As given.
        ended: Fires with ``None`` when everything was written; the caller then finishes the answer.
        make_snapshot: Makes the message that lists all requests in flight; set by the feed.
    """

    _log: ClassVar[Logger] = Logger()

    def __init__(
        self,
        write: Callable[[bytes], object],
        kinds: Kinds,
        clock: IReactorTime,
        name: str,
        dropped_bytes: Counter[str],
    ) -> None:
        self.kinds = kinds
        self.ended: Deferred[None] = Deferred()
        self.make_snapshot: Callable[[], bytes] = bytes
        self._write = write
        self._clock = clock
        self._name = name
        self._dropped_bytes = dropped_bytes
        self._is_paused = False
        self._waiting: dict[Kind, dict[int, bytes]] = {}
        self._logs: dict[str, Backlog] = {}
        self._needs_snapshot = False
        self._may_warn_mono = clock.seconds()
        self._ping = clock.callLater(PING_SECONDS, self._idle)

    # ----------------------------------------------------------------- messages

    def send(self, data: bytes) -> None:
        """Write a piece of the stream, whether there is room or not."""
        self._write(data)
        if self._ping.active():
            self._ping.reset(PING_SECONDS)

    def put(self, kind: Kind, data: bytes, number: int = 0) -> None:
        """Send a message, or let it wait in place of an older one of the same kind and number."""
        if not self._is_paused:
            self.send(data)
        elif not (self._needs_snapshot and kind is Kind.IN_FLIGHT):
            waiting = self._waiting.setdefault(kind, {})
            waiting[number] = data
            while len(waiting) > 1 and _is_too_much(waiting):
                if kind is Kind.IN_FLIGHT:
                    self._await_snapshot()
                else:
                    del waiting[next(iter(waiting))]

    def put_snapshot(self, data: bytes) -> None:
        """Send a list of all requests in flight, or have one made later in place of what waits about them."""
        if self._is_paused:
            self._await_snapshot()
        else:
            self.send(data)

    def _await_snapshot(self) -> None:
        self._waiting.pop(Kind.IN_FLIGHT, {}).clear()
        self._needs_snapshot = True

    def put_log(self, source: str, text: str, data: bytes) -> None:
        """Send text of a log, or let it wait.

        Args:
            source: Which log.
            text: The text.
            data: The message with it.
        """
        if not self._is_paused:
            self.send(data)
            return
        backlog = self._logs.setdefault(source, Backlog(_LOG_BYTES))
        before = backlog.dropped_bytes
        backlog.put(text.encode())
        dropped_bytes = backlog.dropped_bytes - before
        if dropped_bytes:
            self._dropped_bytes[source] += dropped_bytes
            if not before:
                self._warn()

    def _warn(self) -> None:
        """Say that lines are dropped, once until the client has caught up: this line is one for it, too."""
        now_mono = self._clock.seconds()
        if now_mono >= self._may_warn_mono:
            self._may_warn_mono = now_mono + _WARNING_SECONDS
            self._log.warn(
                "{client} is too slow for the event stream: lines of the logs are dropped", client=self._name
            )

    def _idle(self) -> None:
        self._ping = self._clock.callLater(PING_SECONDS, self._idle)
        if not self._is_paused:
            self._write(_PING)

    # ----------------------------------------------------------------- the connection

    def pauseProducing(self) -> None:
        """Hold back from now on; called by the connection."""
        self._is_paused = True

    def resumeProducing(self) -> None:
        """Hand over what waits; called by the connection when it has room."""
        # First, because the write below may pause us again.
        self._is_paused = False
        data = self._take()
        if data:
            self.send(data)

    def _take(self) -> bytes:
        logs, self._logs = self._logs, {}
        pieces = [
            message(Kind.LOG, {"data": backlog.take().decode(), "source": source}) for source, backlog in logs.items()
        ]
        waiting, self._waiting = self._waiting, {}
        pieces += (data for kind in Kind for data in waiting.get(kind, {}).values())
        if self._needs_snapshot:
            self._needs_snapshot = False
            pieces.append(self.make_snapshot())
        return b"".join(pieces)

    def stopProducing(self) -> None:
        """Do nothing: the end of the connection reaches the handler as a cancellation."""

    def end(self) -> None:
        """Write what waits, and end the stream."""
        self.resumeProducing()
        self.close()
        self.ended.callback(None)

    def close(self) -> None:
        """Stop the timer; nothing is written any more. Harmless when called again."""
        if self._ping.active():
            self._ping.cancel()


def _is_too_much(waiting: dict[int, bytes]) -> bool:
    return len(waiting) > _MOST_WAITING or sum(map(len, waiting.values())) > _MOST_WAITING_BYTES
