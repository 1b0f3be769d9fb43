"""What the scheduler tells of its decisions: records of swaps, who waits for what, what would happen."""

from __future__ import annotations

from unittest import mock

from llamaswap.core import values
from llamaswap.core.backoff import Backoff, BackoffRule
from llamaswap.core.messages import (
    Announce,
    Arrived,
    Complain,
    Reconfigured,
    Refuse,
    Swap,
    SwapFinished,
    SwapStarting,
)
from llamaswap.core.records import Choice, Waiter, Waiting, WhatIf, Why
from llamaswap.core.scheduler import Scheduler
from llamaswap.core.swaps import SwapNumbers
from llamaswap.core.values import Evict, Generation, ModelFacts, ModelId, OutcomeKind, RequestId, SwapId, SwapReason
from llamaswap.errors import UpstreamStartError
from tests.unit.scheduler_world import World, groups
from tests.unit.scripted_planner import ScriptedPlanner

A, B, C = ModelId("a"), ModelId("b"), ModelId("c")


def exclusive() -> World:
    return World(["a", "b", "c"], groups(g=["a", "b", "c"]))


def waiting(world: World) -> list[Waiting]:
    return list(world.scheduler.queries.waiting(world.now))


def texts(world: World) -> list[tuple[ModelId, int | None, Why, list[str], str]]:
    return [(w.model, w.position, w.why, list(w.models), w.text) for w in waiting(world)]


def what_if(world: World, model: ModelId) -> WhatIf:
    return world.scheduler.queries.what_if(model, world.now)


# --------------------------------------------------------------------------- records of swaps


def test_a_swap_is_announced_before_its_order_and_before_its_waiters_are_served() -> None:
    world = exclusive()
    world.load("a")
    assert [type(c).__name__ for c in world.transcript] == ["Announce", "Swap", "Announce", "Serve"]


def test_a_swap_is_explained_from_its_decision_to_its_end() -> None:
    world = exclusive()
    world.leave(world.load("a"))
    first = world.arrive("b", SwapReason.PRELOAD)
    second = world.arrive("b")
    (swap,) = world.swaps
    record = world.records[swap]
    began = record.since_mono
    assert (record.target, record.planner, record.reason) == (B, "group", SwapReason.PRELOAD)
    assert record.explanation == "group g: a must go"
    assert (record.request, record.waiters) == (first, (Waiter(first, 0.0),))
    assert (record.evicted, record.candidates) == (((A, 1.0),), ())
    assert (record.stop_seconds, record.load_seconds, record.outcome, record.error) == (None, None, None, "")
    world.evicted(swap)
    world.finish(swap)
    record = world.records[swap]
    assert (record.since_mono, record.outcome, record.error) == (began, OutcomeKind.READY, "")
    assert (record.stop_seconds, record.load_seconds) == (2.0, 1.0)
    assert record.waiters == (Waiter(first, 3.0), Waiter(second, 2.0))


def test_numbers_of_swaps_follow_those_on_record() -> None:
    scheduler = Scheduler({A: ModelFacts(A)}, ScriptedPlanner(), "scripted", numbers=SwapNumbers(41))
    announced = scheduler.handle(Arrived(RequestId(1), A, 1.0))[0]
    assert isinstance(announced, Announce)
    assert announced.record.id == 42


def test_the_record_of_a_failed_swap_says_why() -> None:
    world = exclusive()
    request = world.arrive("a")
    (swap,) = world.swaps
    world.evicted(swap)
    world.finish(swap, "upstream command exited prematurely")
    record = world.records[swap]
    assert (record.outcome, record.error) == (OutcomeKind.FAILED, "upstream command exited prematurely")
    assert [waiter.request for waiter in record.waiters] == [request]


def test_the_record_of_a_swap_that_was_called_off_names_whom_it_disappointed() -> None:
    world = exclusive()
    world.leave(world.load("a"))
    request = world.arrive("b")
    (swap,) = world.swaps
    before = len(world.transcript)
    world.unload("b")
    assert isinstance(world.transcript[before], Announce), "before the waiter is refused"
    world.settle()
    record = world.records[swap]
    assert (record.outcome, [w.request for w in record.waiters]) == (OutcomeKind.CANCELLED, [request])
    assert (record.stop_seconds, record.load_seconds) == (None, None), "it was never started"


def test_a_record_names_twenty_waiters_and_as_many_candidates_at_most() -> None:
    candidates = tuple((frozenset({B}), float(cost)) for cost in range(30))
    planner = ScriptedPlanner({"a": Evict(frozenset(), candidates=candidates, reason="x" * 1000)})
    world = World(["a"], groups(g=["a"]), limit=50, planner=planner)
    for _ in range(30):
        world.arrive("a")
    world.settle()
    (record,) = world.records.values()
    assert [w.request for w in record.waiters] == list(range(1, 21))
    assert record.candidates == candidates[:20]
    assert len(record.explanation) == 500


# --------------------------------------------------------------------------- who waits for what


def test_who_waits_for_a_load() -> None:
    world = exclusive()
    world.arrive("a")
    assert texts(world) == [(A, None, Why.LOADING, ["a"], "loading a")]


def test_who_waits_for_a_swap_that_still_stops_others() -> None:
    world = exclusive()
    world.leave(world.load("a"))
    world.arrive("b")
    assert texts(world) == [(B, None, Why.UNLOADING, ["a"], "unloading a")]
    (swap,) = world.swaps
    world.evicted(swap)
    assert texts(world) == [(B, None, Why.LOADING, ["b"], "loading b")]


def test_who_waits_for_busy_models() -> None:
    world = World(["a", "b", "c"], groups(g={"members": ["a", "b"], "swap": False}, h=["c"]), priority={"c": 7})
    world.load("a")
    world.load("a")
    second = world.load("b")
    request = world.arrive("c")
    text = "a has 2 running requests, b has 1 running request"
    assert texts(world) == [(C, 1, Why.BUSY, ["a", "b"], text)]
    world.leave(second)
    assert texts(world) == [(C, 1, Why.BUSY, ["a"], "a has 2 running requests")]
    (entry,) = waiting(world)
    assert (entry.request, entry.priority, entry.since_mono) == (request, 7, world.now - 2)


def test_who_waits_for_another_swap_comes_after_those_who_have_joined_it() -> None:
    world = exclusive()
    world.arrive("a")
    world.arrive("b")
    world.arrive("a")
    world.arrive("c")
    assert texts(world) == [
        (A, None, Why.LOADING, ["a"], "loading a"),
        (A, None, Why.LOADING, ["a"], "loading a"),
        (B, 1, Why.SWAP, ["a"], "the swap to a comes first"),
        (C, 2, Why.SWAP, ["a"], "the swap to a comes first"),
    ]


def test_who_waits_for_an_unload() -> None:
    world = exclusive()
    world.load("a")
    world.unload("a")
    world.arrive("a")
    assert texts(world) == [(A, 1, Why.UNLOADING, ["a"], "unloading a")]


def test_who_waits_for_the_end_of_a_swap_that_was_called_off() -> None:
    world = exclusive()
    world.leave(world.arrive("a", SwapReason.USER))
    world.arrive("a")
    assert texts(world) == [(A, 1, Why.UNLOADING, ["a"], "unloading a")]


def test_who_waits_because_the_planner_says_so() -> None:
    planner = ScriptedPlanner({"a": values.Wait(recheck=9.0, reason="soon"), "b": values.Wait()})
    scheduler = Scheduler({m: ModelFacts(m) for m in (A, B)}, planner, "scripted")
    scheduler.handle(Arrived(RequestId(1), A, 1.0))
    scheduler.handle(Arrived(RequestId(2), B, 1.0))
    found = [(w.why, w.models, w.text) for w in scheduler.queries.waiting(2.0)]
    assert found == [(Why.PLANNER, (), "soon"), (Why.PLANNER, (), "the planner waits")]
    planner.decisions["a"] = Evict(frozenset())
    assert next(scheduler.queries.waiting(2.0)).text == "about to be decided"


# --------------------------------------------------------------------------- what would happen


def test_a_question_has_no_consequences() -> None:
    planner = ScriptedPlanner({"a": Evict(frozenset(), reason="free")})
    scheduler = Scheduler({A: ModelFacts(A)}, planner, "scripted")
    assert scheduler.queries.what_if(A, 1.0) == WhatIf(Choice.SERVE, explanation="free")
    assert scheduler.queries.planner_name == "scripted"
    assert scheduler.queries.reserved(A) == (0, 0)
    assert not planner.told
    assert [type(c) for c in scheduler.handle(Arrived(RequestId(1), A, 1.0))] == [Announce, Swap]


def test_a_ready_model_would_serve() -> None:
    world = exclusive()
    world.load("a")
    assert what_if(world, A).choice is Choice.SERVE


def test_a_rival_would_be_evicted_when_it_is_idle() -> None:
    world = exclusive()
    request = world.load("a")
    expected = WhatIf(Choice.EVICT, ((A, 1.0),), (), "group g: a must go", blocked_by=((A, 1),))
    assert what_if(world, B) == expected
    world.leave(request)
    assert what_if(world, B).blocked_by == ()


def test_a_swap_under_way_would_be_joined_or_waited_for() -> None:
    world = World(["a", "b", "c"], groups(g=["a", "b"], free={"members": ["c"], "exclusive": False}))
    world.arrive("a")
    assert what_if(world, A) == WhatIf(Choice.WAIT, explanation="a is being loaded")
    assert what_if(world, B) == WhatIf(Choice.EVICT, ((A, 1.0),), (), "group g: a must go", blocked_by=((A, 0),))
    assert what_if(world, C) == WhatIf(Choice.SERVE)


def test_a_model_that_a_swap_stops_would_have_to_wait() -> None:
    planner = ScriptedPlanner({"b": Evict(frozenset({A}))})
    world = World(["a", "b"], groups(g=["a", "b"]), planner=planner)
    world.leave(world.load("a"))
    world.arrive("b")
    assert what_if(world, A) == WhatIf(Choice.WAIT, blocked_by=((B, 0),))


def test_a_model_being_unloaded_would_have_to_wait() -> None:
    world = exclusive()
    world.load("a")
    world.unload("a")
    assert what_if(world, A) == WhatIf(Choice.WAIT, explanation="unloading a", blocked_by=((A, 1),))


def test_what_planners_say_is_passed_on() -> None:
    too_big = values.Refuse(status=507, retry_after=9, reason="too big")
    planner = ScriptedPlanner({"a": values.Wait(reason="soon"), "b": too_big})
    scheduler = Scheduler({m: ModelFacts(m) for m in (A, B)}, planner, "scripted")
    assert scheduler.queries.what_if(A, 1.0) == WhatIf(Choice.WAIT, explanation="soon")
    assert scheduler.queries.what_if(B, 1.0) == WhatIf(Choice.REFUSE, explanation="too big", retry_after_seconds=9)
    with mock.patch.object(planner, "plan", side_effect=ZeroDivisionError):
        assert scheduler.queries.what_if(A, 1.0) == WhatIf(Choice.REFUSE, explanation="the planner failed")


def test_a_full_or_failing_model_and_one_at_the_end_would_be_refused() -> None:
    facts = {m: ModelFacts(m, limit=1) for m in (A, B)}
    scheduler = Scheduler(facts, ScriptedPlanner(), "scripted", Backoff(BackoffRule(1, 60, 30)))
    scheduler.handle(Arrived(RequestId(1), A, 1.0))
    full = scheduler.queries.what_if(A, 1.0)
    assert (full.choice, full.explanation, full.retry_after_seconds) == (Choice.REFUSE, "Too many requests", 1)
    scheduler.handle(SwapStarting(SwapId(1), 1.0))
    scheduler.handle(SwapFinished(SwapId(1), 2.0, error=UpstreamStartError("broken")))
    assert scheduler.queries.what_if(A, 3.0).retry_after_seconds == 29
    assert scheduler.queries.what_if(B, 3.0).choice is Choice.SERVE


# --------------------------------------------------------------------------- planners that break


def test_a_planner_that_breaks_in_a_review_costs_its_requests_and_nobody_elses() -> None:
    planner = ScriptedPlanner({m: values.Wait(recheck=5.0) for m in "abc"})
    scheduler = Scheduler({m: ModelFacts(m) for m in (A, B, C)}, planner, "scripted")
    for number, model in enumerate((A, B, C), 1):
        scheduler.handle(Arrived(RequestId(number), model, 1.0))
    planner.decisions = {}
    plan, fault = planner.plan, ZeroDivisionError()

    def breaking(view: values.PlanView, target: ModelId) -> values.Decision:
        if target == B:
            raise fault
        return plan(view, target)

    with mock.patch.object(planner, "plan", breaking):
        commands = scheduler.handle(SwapFinished(SwapId(99), 2.0))
        assert commands == []
        commands = scheduler.handle(
            Reconfigured({m: ModelFacts(m) for m in (A, B, C)}, planner, "scripted", frozenset(), frozenset(), 30, 3.0)
        )
    assert [type(c) for c in commands] == [Announce, Swap, Complain, Refuse, Announce, Swap]
    assert commands[2] == Complain("plan", fault)
    assert scheduler.queries.reserved(B) == (0, 0)
    assert [w.model for w in scheduler.queries.waiting(4.0)] == [A, C]


def test_hooks_that_break_lose_nothing() -> None:
    planner = ScriptedPlanner()
    scheduler = Scheduler({A: ModelFacts(A)}, planner, "scripted")
    fault = ZeroDivisionError()
    with (
        mock.patch.object(planner, "swap_started", side_effect=fault),
        mock.patch.object(planner, "swap_finished", side_effect=fault),
    ):
        started = scheduler.handle(Arrived(RequestId(1), A, 1.0))
        assert started[-1] == Complain("swap_started", fault)
        assert any(isinstance(command, Swap) for command in started)
        scheduler.handle(SwapStarting(SwapId(1), 1.0))
        finished = scheduler.handle(SwapFinished(SwapId(1), 2.0, generation=Generation(1)))
        assert finished[-1] == Complain("swap_finished", fault)
    assert scheduler.queries.reserved(A) == (0, 1)


def test_a_planner_that_breaks_while_a_reload_enforces_its_rules_does_not_lose_the_reload() -> None:
    world = exclusive()
    world.leave(world.load("a"))
    scheduler, fault = world.scheduler, ZeroDivisionError()
    planner = ScriptedPlanner()
    facts = {A: ModelFacts(A)}
    with mock.patch.object(planner, "plan", side_effect=fault):
        commands = scheduler.handle(
            Reconfigured(facts, planner, "new", frozenset(), frozenset(), 30, world.now, enforces=True),
        )
    assert commands == [Complain("plan", fault)]
    assert scheduler.queries.planner_name == "new"
