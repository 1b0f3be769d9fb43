"""Measured load times."""

from __future__ import annotations

import pytest

from llamaswap.core.values import LoadTimes
from llamaswap.process.load_times import LoadHistory


def test_nothing_measured() -> None:
    assert LoadHistory().times() == LoadTimes()


def test_first_start() -> None:
    history = LoadHistory()
    history.add(4.0)
    assert history.times() == LoadTimes(count=1, last=4.0, ewma=4.0, p50=4.0, p95=4.0)


def test_median_percentile_and_weighted_mean() -> None:
    history = LoadHistory()
    for seconds in range(1, 21):
        history.add(float(seconds))
    times = history.times()
    assert (times.count, times.last, times.p50, times.p95) == (20, 20.0, 10.0, 19.0)
    assert times.ewma == pytest.approx(17.67, abs=0.01)


def test_only_the_newest_are_ranked() -> None:
    history = LoadHistory()
    for seconds in [1000.0] * 64 + [1.0] * 64:
        history.add(seconds)
    assert history.times().p95 == 1.0
    assert history.times().count == 128
