"""The end of the daemon, in order, within a time limit, whatever hangs.

What waits is refused at once; what is served may go on until a share of the time is left that the
processes need to end in good order. A second signal cuts the waiting short, a third kills. The
watchdog is a thread: it works even when the reactor does not.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Awaitable, Callable
from typing import Any, ClassVar, Final, Protocol

from twisted.internet import defer
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

LIMIT_SECONDS: Final = 30.0
"""For everything: the answers under way, and the processes' own ends."""

RESERVE_SECONDS: Final = 10.0
"""Kept for the processes at most, of the limit."""

BACKSTOP_SECONDS: Final = 5.0
"""After the limit, the watchdog ends what is left, and the daemon."""

LINGER_SECONDS: Final = 2.0
"""What the reactor may take after our end: it joins its threads without limit, and one may hang in the system."""

HURRIED_GRACE_SECONDS: Final = 1.0
"""What processes get after a second signal."""


class Ending(Protocol):
    """What must be ended."""

    def refuse_new(self) -> None:
        """Refuse what waits and what comes, and end the endless streams."""

    def close_doors(self) -> Awaitable[object]:
        """Stop listening, and close idle connections."""

    def drained(self) -> Deferred[None]:
        """Give a cancellable Deferred that fires when nothing is served any more."""

    def stop_all(self, grace_seconds: float) -> Deferred[None]:
        """End every process; may be called again with a shorter grace."""

    def kill_all(self) -> None:
        """Kill every process of every model at once; on any thread, and whatever the reactor does."""

    def closed(self) -> None:
        """Flush and close what is left."""


class Shutdown:
    """Ends the daemon once, however often it is asked.

    Args:
        ending: What must be ended.
        clock: Measures the limit.
        reserve_seconds: The longest grace of any process; at most :data:`RESERVE_SECONDS` of it count.
    """

    _log: ClassVar[Logger] = Logger()

    def __init__(self, ending: Ending, clock: IReactorTime, reserve_seconds: float) -> None:
        self._ending = ending
        self._clock = clock
        self._reserve_seconds = min(RESERVE_SECONDS, reserve_seconds)
        self._draining: Deferred[None] | None = None
        self._is_stopping = False
        self._is_hurried = False
        self._is_begun = False
        self._waiters: list[Deferred[None]] = []
        self._is_done = False

    def begin(self) -> Deferred[None]:
        """Begin, or join.

        Returns:
            Fires with ``None`` when everything is over; never fails.
        """
        waiter: Deferred[None] = Deferred()
        if self._is_done:
            waiter.callback(None)
            return waiter
        self._waiters.append(waiter)
        if not self._is_begun:
            self._is_begun = True
            Deferred.fromCoroutine(self._run()).addBoth(self._finish).addErrback(self._broke)
        return waiter

    def reserve(self, seconds: float) -> None:
        """Keep so much for the processes from now on; at most :data:`RESERVE_SECONDS` of it."""
        self._reserve_seconds = min(RESERVE_SECONDS, seconds)

    def hurry(self) -> None:
        """Wait for answers no longer, and give the processes one second."""
        self._is_hurried = True
        if self._draining is not None:
            self._draining.cancel()
        elif self._is_stopping:
            self._ending.stop_all(HURRIED_GRACE_SECONDS)

    async def _run(self) -> None:
        self._log.info("shutting down")
        deadline_mono = self._clock.seconds() + LIMIT_SECONDS
        watchdog = threading.Timer(LIMIT_SECONDS + BACKSTOP_SECONDS, self._give_up)
        watchdog.daemon = True
        watchdog.start()
        try:
            self._ending.refuse_new()
            await self._ending.close_doors()
            await self._drain()
            self._is_stopping = True
            left_seconds = deadline_mono - self._clock.seconds()
            grace_seconds = max(self._reserve_seconds, left_seconds)
            await self._ending.stop_all(HURRIED_GRACE_SECONDS if self._is_hurried else grace_seconds)
        finally:
            watchdog.cancel()

    async def _drain(self) -> None:
        if self._is_hurried:
            return
        self._draining = self._ending.drained()
        self._draining.addTimeout(LIMIT_SECONDS - self._reserve_seconds, self._clock)
        try:
            await self._draining
        except (defer.TimeoutError, CancelledError):
            self._log.warn("answers under way are cut")
        finally:
            self._draining = None

    def _finish(self, result: Any) -> None:
        self._is_done = True
        try:
            if result is not None:
                self._log.failure("the shutdown broke", result)
                self._ending.kill_all()
            self._log.info("shutdown complete")
            self._ending.closed()
        finally:
            # Whatever broke: the reactor stops only when its waiter is told.
            waiters, self._waiters = self._waiters, []
            for waiter in waiters:
                waiter.callback(None)

    def _broke(self, failure: Failure) -> None:
        self._log.failure("the end of the shutdown broke", failure)

    def _give_up(self) -> None:
        """Called on the watchdog's thread."""
        try:
            self._ending.kill_all()
            os.write(2, b"[WARN] shutdown took too long, forced\n")
        finally:
            os._exit(1)


class Signals:
    """Turns the signals of a terminal and of service managers into an orderly end, or a quick one.

    Args:
        stop: Begins the end; called on the reactor's thread.
        hurry: Called for the second signal, likewise.
        kill: Kills every process of every model; called for the third.
        call_from_thread: ``reactor.callFromThread``.
        reload: Called for each hang-up, on the reactor's thread.
    """

    def __init__(
        self,
        stop: Callable[[], object],
        hurry: Callable[[], object],
        kill: Callable[[], object],
        call_from_thread: Callable[..., object],
        reload: Callable[[], object],
    ) -> None:
        self._reload = reload
        self._stop = stop
        self._hurry = hurry
        self._kill = kill
        self._call_from_thread = call_from_thread
        self._taken = 0
        self._before: dict[int, Any] = {}

    def install(self) -> None:
        """Take INT, TERM and HUP; on the main thread, after the reactor has installed its own handlers."""
        for number in (signal.SIGINT, signal.SIGTERM):
            self._before[number] = signal.signal(number, self._end)
        self._before[signal.SIGHUP] = signal.signal(signal.SIGHUP, self._hang_up)

    def restore(self) -> None:
        """Give the signals back."""
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before.clear()

    def _end(self, number: int, _frame: object) -> None:
        self._taken += 1
        if self._taken == 1:
            self._call_from_thread(self._stop)
        elif self._taken == 2:  # noqa: PLR2004 - first, second, third
            self._call_from_thread(self._hurry)
        else:
            self._kill()
            os._exit(128 + number)

    def _hang_up(self, _number: int, _frame: object) -> None:
        self._call_from_thread(self._reload)


def leave_soon() -> None:
    """See to it that the process ends even if the reactor waits for a thread for ever."""
    last = threading.Timer(LINGER_SECONDS, os._exit, (0,))
    last.daemon = True
    last.start()
