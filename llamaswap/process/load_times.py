"""How long a model took to load, over its newest starts."""

from __future__ import annotations

from collections import deque
from math import ceil
from typing import Final

from llamaswap.core.values import LoadTimes

_KEPT: Final = 64
"""Starts that the median and the 95th percentile look at."""

_WEIGHT: Final = 0.3
"""Share of the newest start in the weighted mean."""


class LoadHistory:
    """Collects the seconds from spawn to ready of each successful start."""

    def __init__(self) -> None:
        self._newest: deque[float] = deque(maxlen=_KEPT)
        self._times = LoadTimes()

    def add(self, seconds: float) -> None:
        """Take note of one more start."""
        self._newest.append(seconds)
        before = self._times.ewma
        ranked = sorted(self._newest)
        self._times = LoadTimes(
            count=self._times.count + 1,
            last=seconds,
            ewma=seconds if before is None else before + _WEIGHT * (seconds - before),
            p50=_rank(ranked, 0.5),
            p95=_rank(ranked, 0.95),
        )

    def times(self) -> LoadTimes:
        """Give the figures as of now."""
        return self._times


def _rank(ranked: list[float], share: float) -> float:
    """Give the smallest value that at least ``share`` of all do not exceed."""
    return ranked[ceil(share * len(ranked)) - 1]
