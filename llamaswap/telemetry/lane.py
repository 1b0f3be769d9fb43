"""How many requests a model served at which time, in steps that are not too small."""

from __future__ import annotations

from collections.abc import Iterator
from math import inf
from typing import Final, NamedTuple

SHORTEST_SECONDS: Final = 0.25
"""Changes that follow each other faster become one step, which shows the highest number."""


class Step(NamedTuple):
    """A time during which the number was the same, or changed too fast to be told apart.

    Attributes:
        in_flight: The number; at least 1.
        began_mono: From when.
        ended_mono: Until when, infinite = it goes on.
    """

    in_flight: int
    began_mono: float
    ended_mono: float


class Lane:
    """One model's number in flight; each change costs less than a microsecond.

    Args:
        now_mono: When it begins, with 0.

    Attributes:
        level: The number now.
        served: Requests since somebody set it to 0.
        steps: Those that have ended; to be taken away by the reader.
    """

    __slots__ = ("_changed_mono", "_peak", "_since_mono", "level", "served", "steps")

    def __init__(self, now_mono: float) -> None:
        self.level = self.served = 0
        self.steps: list[Step] = []
        self._peak = 0
        self._since_mono = self._changed_mono = now_mono

    def change(self, by: int, now_mono: float) -> None:
        """Count a request more, or one less."""
        level = self.level + by
        if now_mono - self._since_mono >= SHORTEST_SECONDS:
            self.steps += self._until(now_mono)
            self._since_mono, self._peak = now_mono, level
        elif level > self._peak:
            self._peak = level
        self.level, self._changed_mono = level, now_mono

    def end(self, now_mono: float) -> None:
        """Count nothing more."""
        self.steps += self._until(now_mono)

    def current(self) -> Iterator[Step]:
        """Give what has not become a step for good; the last one goes on unless nothing is in flight."""
        return self._until(inf)

    def _until(self, now_mono: float) -> Iterator[Step]:
        if self._peak > self.level:
            yield Step(self._peak, self._since_mono, self._changed_mono)
            if self.level:
                yield Step(self.level, self._changed_mono, now_mono)
        elif self._peak:
            yield Step(self._peak, self._since_mono, now_mono)
