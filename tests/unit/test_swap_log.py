"""The record of swaps as it is kept and shown."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from llamaswap.core.news import SwapChanged, SwapNoted
from llamaswap.core.records import SwapRecord, Waiter
from llamaswap.core.values import ModelId, OutcomeKind, RequestId, SwapId, SwapReason
from llamaswap.telemetry import swaps as module
from llamaswap.telemetry.bus import Bus
from llamaswap.telemetry.swaps import SwapLog

A, B = ModelId("a"), ModelId("b")
EPOCH = 1_795_165_000.0

BEGUN = SwapRecord(
    id=SwapId(17),
    target=B,
    planner="group",
    reason=SwapReason.REQUEST,
    explanation="group big swaps: <b>a</b> must go",
    request=RequestId(31),
    waiters=(Waiter(RequestId(31), 0.0),),
    evicted=((A, 1.0),),
    candidates=((frozenset({A}), 1.5),),
    since_mono=10.0,
)
ENDED = replace(
    BEGUN,
    waiters=(Waiter(RequestId(31), 2.24), Waiter(RequestId(32), 1.0)),
    stop_seconds=0.14,
    load_seconds=2.1,
    outcome=OutcomeKind.READY,
)


class Rig:
    """A log, and what it tells."""

    def __init__(self) -> None:
        self.bus = Bus()
        self.names = {RequestId(31): "r-31"}
        self.log = SwapLog(self.bus, self.names.get, lambda mono: EPOCH + mono)
        self.told: list[Any] = []
        self.bus.subscribe(SwapChanged, lambda news: self.told.append(news.record))

    def note(self, record: SwapRecord, at_mono: float = 10.0001) -> None:
        """Let a swap begin or end."""
        self.bus.publish(SwapNoted(record, at_mono))

    def add(self, number: int, at_mono: float, model: ModelId = B) -> None:
        """Let a swap begin and end."""
        ended = replace(ENDED, id=SwapId(number), since_mono=at_mono, target=model)
        self.note(replace(ended, outcome=None), at_mono)
        self.note(ended, at_mono + 1)

    def ids(self, **query: Any) -> list[int]:
        return [row["swap_id"] for row in self.log.rows(**query)]


def test_a_swap_is_told_of_and_kept_as_it_begins_and_as_it_ends() -> None:
    rig = Rig()
    rig.note(BEGUN)
    row = {
        "swap_id": 17,
        "at": "2026-11-20T08:56:50.000Z",
        "model": "b",
        "planner": "group",
        "reason": "request",
        "explanation": "group big swaps: <b>a</b> must go",
        "request_id": "r-31",
        "waiters": [{"request_id": "r-31", "waited_ms": 0}],
        "evicted": [{"model": "a", "cost": 1}],
        "candidates": [{"evict": ["a"], "cost": 1.5}],
        "decision_ms": 0.1,
        "stop_ms": None,
        "load_ms": None,
        "outcome": None,
        "error": None,
    }
    assert rig.log.rows() == [row]
    rig.names.clear()  # the request is over; what it was called is known
    rig.note(ENDED, 13.0)
    waiters = [{"request_id": "r-31", "waited_ms": 2240}, {"request_id": None, "waited_ms": 1000}]
    ended = {**row, "waiters": waiters, "stop_ms": 140, "load_ms": 2100, "outcome": "ready"}
    assert rig.log.rows() == [ended]
    assert rig.told == [row, ended]
    assert not rig.log._names


def test_a_failure_is_told() -> None:
    rig = Rig()
    rig.note(replace(ENDED, outcome=OutcomeKind.FAILED, error="health check timed out"))
    [row] = rig.log.rows()
    assert (row["outcome"], row["error"]) == ("failed", "health check timed out")


def test_the_newest_are_given_first_and_can_be_chosen() -> None:
    rig = Rig()
    for number, model in ((1, A), (2, B), (3, A), (4, B)):
        rig.add(number, number * 100.0, model)
    assert rig.ids() == [4, 3, 2, 1]
    assert rig.ids(limit=2) == [4, 3]
    assert rig.ids(model="a") == [3, 1]
    assert rig.ids(after=EPOCH + 100, before=EPOCH + 400) == [3, 2]
    assert rig.ids(after=EPOCH + 400) == []


def test_a_day_is_kept_and_no_more_than_so_many(monkeypatch: pytest.MonkeyPatch) -> None:
    rig = Rig()
    rig.add(1, 0.0)
    rig.add(2, 86399.0)
    assert rig.ids() == [2, 1]
    rig.add(3, 86400.0)
    assert rig.ids() == [3, 2]
    monkeypatch.setattr(module, "KEPT_RECORDS", 2)
    rig.add(4, 86401.0)
    assert rig.ids() == [4, 3]
