"""The time to live of a model that nobody uses."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from twisted.internet.interfaces import IDelayedCall, IReactorTime

RECHECK_SECONDS: Final = 1.0
"""Pause between reports once the time is up: the router may have good reasons to keep the model."""


class IdleTimer:
    """Says when a model has been idle for its time to live; belongs to one generation.

    There is at most one pending timer. A use only stamps the time; the timer looks at the stamp
    when it fires, so a busy model costs nothing per request.

    Args:
        clock: Monotonic time and timers.
        ttl_seconds: Idle time; 0 = never expires.
        on_expired: Called when the time is up, and once per :data:`RECHECK_SECONDS` from then on
            until :meth:`cancel` or :meth:`touch`.
    """

    def __init__(self, clock: IReactorTime, ttl_seconds: float, on_expired: Callable[[], None]) -> None:
        self._clock = clock
        self._ttl_seconds = ttl_seconds
        self._on_expired = on_expired
        self._used_mono = clock.seconds()
        self._timer: IDelayedCall | None = None
        if ttl_seconds > 0:
            self._arm(ttl_seconds)

    def touch(self) -> None:
        """Count from now."""
        self._used_mono = self._clock.seconds()

    def change(self, ttl_seconds: float) -> None:
        """Have another time to live, counted from the newest use as before."""
        if ttl_seconds == self._ttl_seconds:
            return
        self.cancel()
        self._ttl_seconds = ttl_seconds
        if ttl_seconds > 0:
            self._arm(max(0.0, self._used_mono + ttl_seconds - self._clock.seconds()))

    @property
    def left_seconds(self) -> float | None:
        """Time until it expires unless it is used, perhaps below 0; ``None`` = never."""
        if self._timer is None:
            return None
        return self._used_mono + self._ttl_seconds - self._clock.seconds()

    def cancel(self) -> None:
        """Stop for good."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _arm(self, seconds: float) -> None:
        self._timer = self._clock.callLater(seconds, self._look)

    def _look(self) -> None:
        left_seconds = self._used_mono + self._ttl_seconds - self._clock.seconds()
        if left_seconds > 0:
            self._arm(left_seconds)
            return
        # Armed before the report: what that causes may cancel it.
        self._arm(RECHECK_SECONDS)
        self._on_expired()
