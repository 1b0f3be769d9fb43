"""What each model did and when."""

from __future__ import annotations

from typing import Any

import pytest

from llamaswap.core.news import StateChanged, SwapNoted
from llamaswap.core.records import SwapRecord
from llamaswap.core.values import Generation, ModelId, OutcomeKind, ProcessState, RequestId, StopReason, SwapId
from llamaswap.core.values import SwapReason as By
from llamaswap.telemetry import timeline as module
from llamaswap.telemetry.bus import Bus
from llamaswap.telemetry.lane import Lane, Step
from llamaswap.telemetry.timeline import Timeline, Wait

A, B = ModelId("a"), ModelId("b")
STOPPED, STARTING, READY, STOPPING = (
    ProcessState.STOPPED,
    ProcessState.STARTING,
    ProcessState.READY,
    ProcessState.STOPPING,
)
EPOCH = 1_795_165_000.0


class Rig:
    """A timeline whose clock shows what the test says; epoch = monotonic + a constant."""

    def __init__(self) -> None:
        self.bus = Bus()
        self.now = 0.0
        self.timeline = Timeline(self.bus, lambda: self.now, lambda mono: EPOCH + mono)
        self.states: dict[ModelId, ProcessState] = {}

    def become(self, model: ModelId, new: ProcessState, reason: StopReason | None = None) -> None:
        """Let a process change."""
        old = self.states.get(model, STOPPED)
        self.states[model] = new
        self.bus.publish(StateChanged(model, Generation(1), old, new, reason, self.now))

    def swap(self, target: ModelId, *evicted: ModelId, outcome: OutcomeKind | None = None) -> None:
        """Let a swap begin or end."""
        record = SwapRecord(
            SwapId(17),
            target,
            "group",
            By.REQUEST,
            "",
            RequestId(1),
            (),
            tuple((m, 1.0) for m in evicted),
            (),
            0,
            outcome=outcome,
        )
        self.bus.publish(SwapNoted(record, self.now))

    def shown(self, name: str, **window: float) -> list[dict[str, Any]]:
        """Give one list of the document, with times as seconds."""
        found = self.timeline.excerpt((), **window).document()[name]
        return [{**each, "from": seconds(each["from"]), "to": seconds(each["to"])} for each in found]

    def spans(self, **window: float) -> list[tuple[Any, ...]]:
        return [(s["model"], s["state"], s["from"], s["to"], s["reason"]) for s in self.shown("spans", **window)]

    def steps(self) -> list[tuple[Any, ...]]:
        return [(s["model"], s["from"], s["to"], s["in_flight"]) for s in self.shown("busy")]


def seconds(text: str | None) -> float | None:
    from datetime import datetime

    return None if text is None else datetime.fromisoformat(text).timestamp() - EPOCH


def test_a_swap_as_it_is_seen_afterwards() -> None:
    rig = Rig()
    for model, before in ((A, ()), (B, (A,))):
        rig.swap(model, *before)
        for victim in before:
            rig.become(victim, STOPPING, StopReason.SWAP)
            rig.now += 0.5
            rig.become(victim, STOPPED, StopReason.SWAP)
        rig.become(model, STARTING)
        rig.now += 2
        rig.become(model, READY)
        rig.swap(model, *before, outcome=OutcomeKind.READY)
        rig.timeline.served(model, rig.now)
        rig.now += 1
        rig.timeline.released(model, rig.now)
    assert rig.spans() == [
        ("a", "starting", 0.0, 2.0, None),
        ("a", "ready", 2.0, 3.0, "swap"),
        ("a", "stopping", 3.0, 3.5, "swap"),
        ("b", "starting", 3.5, 5.5, None),
        ("b", "ready", 5.5, None, None),
    ]
    spans = rig.shown("spans")
    assert [(s["by"], s["swap_id"], s["requests"]) for s in spans] == [
        (None, 17, 0),
        ("b", 17, 1),
        ("b", 17, 0),
        (None, 17, 0),
        (None, None, 1),
    ]
    assert {s["generation"] for s in spans} == {1}
    assert rig.steps() == [("a", 2.0, 3.0, 1), ("b", 5.5, 6.5, 1)]


@pytest.mark.parametrize("reason", [StopReason.USER, StopReason.IDLE_TIMEOUT, StopReason.CRASH])
def test_other_ends_name_nobody_who_took_the_place(reason: StopReason) -> None:
    rig = Rig()
    rig.become(A, READY)
    rig.now = 1.0
    rig.become(A, STOPPED, reason)
    [span] = rig.shown("spans")
    assert (span["reason"], span["by"], span["swap_id"]) == (reason.value, None, None)


def test_what_overlaps_a_window_is_shown_the_oldest_first() -> None:
    rig = Rig()
    for began, model in ((0.0, A), (5.0, B)):
        rig.now = began
        rig.become(model, READY)
    rig.now = 20.0
    rig.become(B, STOPPED, StopReason.USER)
    rig.become(A, STOPPED, StopReason.USER)
    assert [s[0] for s in rig.spans()] == ["a", "b"], "although b ended first"
    assert [s[0] for s in rig.spans(before=EPOCH + 5.0)] == ["a"]
    assert rig.spans(after=EPOCH + 20.0) == []
    assert len(rig.spans(after=EPOCH + 19.0, before=EPOCH + 19.5)) == 2


def test_waits_that_are_over_and_that_go_on() -> None:
    rig = Rig()
    rig.timeline.waited(Wait(A, "r-1", 1.0, 2.5))
    found = rig.timeline.excerpt([Wait(B, None, 2.0)]).document()
    assert found["waits"] == [
        {"model": "a", "request_id": "r-1", "from": "2026-11-20T08:56:41.000Z", "to": "2026-11-20T08:56:42.500Z"},
        {"model": "b", "request_id": None, "from": "2026-11-20T08:56:42.000Z", "to": None},
    ]
    assert found["now"] == "2026-11-20T08:56:40.000Z"


def test_a_day_is_kept_and_no_more_than_so_many_entries(monkeypatch: pytest.MonkeyPatch) -> None:
    rig = Rig()
    rig.timeline.waited(Wait(A, "old", 0.0, 1.0))
    rig.timeline.waited(Wait(A, "new", 86400.0, 86401.5))
    assert [w["request_id"] for w in rig.shown("waits")] == ["new"]
    monkeypatch.setattr(module, "KEPT_ENTRIES", 3)
    small = Rig()
    for number in range(5):
        small.timeline.waited(Wait(A, str(number), float(number), number + 0.5))
    assert [w["request_id"] for w in small.shown("waits")] == ["2", "3", "4"]


def test_nothing_is_kept_of_a_model_that_is_gone() -> None:
    rig = Rig()
    rig.become(A, READY)
    rig.timeline.served(A, 0.0)
    rig.now = 1.0
    rig.become(A, STOPPED, StopReason.CRASH)
    rig.timeline.released(A, 1.0)
    rig.timeline.released(A, 1.0)
    rig.become(B, READY)
    rig.timeline.served(B, 1.0)
    rig.timeline.released(B, 2.0)
    rig.become(B, STOPPED, StopReason.USER)
    assert not rig.timeline._lanes
    assert not rig.timeline._current
    assert rig.steps() == [("a", 0.0, 1.0, 1), ("b", 1.0, 2.0, 1)]


# --------------------------------------------------------------------------- steps


def played(*changes: tuple[float, int]) -> tuple[list[Step], list[Step]]:
    """Give the steps that have ended, and those that have not."""
    lane = Lane(0.0)
    for at, by in changes:
        lane.change(by, at)
    return lane.steps, list(lane.current())


def test_each_number_that_lasts_is_a_step() -> None:
    ended, current = played((1.0, 1), (2.0, 1), (4.0, -1))
    assert ended == [Step(1, 1.0, 2.0), Step(2, 2.0, 4.0)]
    assert current == [Step(1, 4.0, float("inf"))]


def test_changes_that_follow_each_other_fast_are_one_step_with_the_highest_number() -> None:
    ended, current = played((1.0, 1), (1.01, 1), (1.02, -1), (1.03, 1), (1.04, 1), (1.05, -1), (1.06, -2), (9.0, 1))
    assert ended == [Step(3, 1.0, 1.06)]
    assert current == [Step(1, 9.0, float("inf"))]


def test_a_short_request_does_not_last_until_the_next_one() -> None:
    assert played((1.0, 1), (1.01, -1)) == ([], [Step(1, 1.0, 1.01)])
    ended, _ = played((1.0, 2), (1.01, -1), (5.0, 1))
    assert ended == [Step(2, 1.0, 1.01), Step(1, 1.01, 5.0)]


def test_a_lane_that_ends_has_only_steps() -> None:
    lane = Lane(0.0)
    lane.change(1, 1.0)
    lane.end(3.0)
    assert lane.steps == [Step(1, 1.0, 3.0)]


def test_an_excerpt_is_not_changed_by_what_follows() -> None:
    rig = Rig()
    rig.become(A, STARTING)
    rig.timeline.served("a", 0.0)
    excerpt = rig.timeline.excerpt([Wait(B, None, 0.0)])
    before = excerpt.document()
    rig.now = 5.0
    rig.timeline.released("a", 5.0)
    rig.become(A, READY)
    assert excerpt.document() == before, "it is shown on another thread"
