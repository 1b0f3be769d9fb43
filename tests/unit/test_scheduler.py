"""The scheduler's rules, case by case."""

from __future__ import annotations

from typing import Any
from unittest import mock

import pytest

from llamaswap.core import values
from llamaswap.core.messages import (
    Arrived,
    CancelSwap,
    Complain,
    IdleExpired,
    Position,
    ProcessExited,
    Refuse,
    RequestGone,
    Serve,
    Swap,
    SwapFinished,
    SwapStarting,
    Tick,
    Unload,
    UnloadAsked,
    UnloadFinished,
    WakeAt,
)
from llamaswap.core.patience import Patience
from llamaswap.core.scheduler import Scheduler
from llamaswap.core.values import (
    Evict,
    Generation,
    ModelFacts,
    ModelId,
    ProcessState,
    RequestId,
    SwapId,
    SwapReason,
    UnloadId,
)
from llamaswap.errors import (
    ConcurrencyLimitError,
    LlamaSwapError,
    ModelNotFoundError,
    ModelUnloadedError,
    ShuttingDownError,
    SwapRefusedError,
    UpstreamStartError,
)
from tests.unit.scheduler_world import World, acts, groups
from tests.unit.scripted_planner import ScriptedPlanner

A, B, C = ModelId("a"), ModelId("b"), ModelId("c")


def exclusive(**more: object) -> World:
    """Three models of which one runs at a time."""
    return World(["a", "b", "c"], groups(g=["a", "b", "c"]), **more)  # type: ignore[arg-type]  # forwarded by name


def together() -> World:
    """Three models that may all run."""
    return World(["a", "b", "c"], groups(g={"members": ["a", "b", "c"], "swap": False, "exclusive": False}))


def swaps(world: World) -> list[tuple[str, list[str]]]:
    """Every swap ordered so far: target and victims."""
    return [(c.model, sorted(c.evict)) for c in world.transcript if isinstance(c, Swap)]


# ----------------------------------------------------------------------------- admission


def test_a_cold_model_is_started_and_its_waiter_served() -> None:
    world = exclusive()
    request = world.load("a")
    assert swaps(world) == [("a", [])]
    assert world.transcript[-1] == Serve(request, A, Generation(1))


def test_an_unknown_model_is_refused() -> None:
    commands = exclusive().scheduler.handle(Arrived(RequestId(1), ModelId("ghost"), 0.0))
    assert isinstance(commands[0], Refuse)
    assert isinstance(commands[0].error, ModelNotFoundError)


def test_h47_the_limit_counts_waiting_requests_too() -> None:
    world = exclusive(limit=2)
    first, second, third = world.arrive("a"), world.arrive("a"), world.arrive("a")
    assert isinstance(world.outcomes[third], ConcurrencyLimitError)
    assert set(world.waiting) == {first, second}


@pytest.mark.parametrize("ending", ["hang up", "answer", "failed start", "unload"])
def test_h45_no_ending_keeps_a_reservation(ending: str) -> None:
    world = exclusive(limit=1)
    for _ in range(100):
        request = world.arrive("a")
        assert request in world.waiting or world.outcomes[request] == "serve"
        if ending == "hang up":
            world.leave(request)
            world.settle()
        elif ending == "answer":
            world.settle()
            world.leave(request)
        elif ending == "failed start":
            (swap,) = world.swaps
            world.evicted(swap)
            world.finish(swap, "upstream command exited prematurely")
        else:
            world.unload("a")
            world.settle()
    assert world.outcomes.get(world.load("a")) == "serve"


# ----------------------------------------------------------------------------- joining and the fast path


def test_requests_join_the_swap_to_their_model_and_are_served_in_order() -> None:
    world = exclusive()
    requests = [world.arrive("a") for _ in range(5)]
    world.settle()
    assert swaps(world) == [("a", [])]
    assert [c.request for c in world.transcript if isinstance(c, Serve)] == requests


def test_a_ready_model_answers_in_the_same_turn_and_asks_the_planner_once() -> None:
    planner = ScriptedPlanner()
    world = World(["a", "b"], groups(g=["a", "b"]), planner=planner)
    world.load("a")
    first = world.arrive("a")
    asked = len(planner.asked)
    second = world.arrive("a")
    assert (world.outcomes[first], world.outcomes[second]) == ("serve", "serve")
    assert len(planner.asked) == asked


def test_the_remembered_answer_is_dropped_when_the_running_set_changes() -> None:
    planner = ScriptedPlanner()
    world = World(["a", "b"], groups(g={"members": ["a", "b"], "swap": False, "exclusive": False}), planner=planner)
    world.load("a")
    world.arrive("a")
    world.load("b")
    asked = len(planner.asked)
    world.arrive("a")
    assert len(planner.asked) == asked + 1


def test_every_change_of_the_running_set_drops_the_remembered_answer() -> None:
    planner = ScriptedPlanner()
    world = World(["a", "b"], groups(g={"members": ["a", "b"], "swap": False, "exclusive": False}), planner=planner)
    world.load("b")

    def asks() -> list[int]:
        counts = []
        for _ in range(2):
            before = len(planner.asked)
            world.leave(world.arrive("b"))
            counts.append(len(planner.asked) - before)
        return counts

    assert asks() == [1, 0], "after a swap was finished"
    request = world.arrive("a")
    assert asks() == [1, 0], "after one was started"
    [swap] = world.swaps
    world.evicted(swap)
    assert asks() == [1, 0], "after its eviction"
    world.finish(swap)
    assert asks() == [1, 0], "after its end"
    world.leave(request)
    unload = world.unload("a")
    assert asks() == [1, 0], "after an unload was asked for"
    world.unloaded(unload)
    assert asks() == [1, 0], "after it was done"
    world.leave(world.load("a"))
    assert asks() == [1, 0]
    world.crash("a")
    assert asks() == [1, 0], "after an exit"


def test_h38_a_grant_counts_in_its_own_turn() -> None:
    world = exclusive()
    world.load("a")
    world.arrive("a")  # granted by the fast path, not yet forwarded by anybody
    rival = world.arrive("b")
    assert rival in world.waiting
    assert swaps(world) == [("a", [])]


# ----------------------------------------------------------------------------- swapping and waiting


def test_h41_two_rivals_in_one_turn_start_one_after_the_other() -> None:
    world = exclusive()
    world.arrive("a")
    world.arrive("b")
    assert swaps(world) == [("a", [])]


def test_h43_a_starting_rival_is_evicted_only_after_its_waiters() -> None:
    world = exclusive()
    first = world.arrive("a")
    (swap,) = world.swaps
    world.evicted(swap)
    world.arrive("b")
    world.finish(swap)
    assert swaps(world) == [("a", [])]
    world.leave(first)
    assert swaps(world) == [("a", []), ("b", ["a"])]


def test_h42_two_swaps_never_stop_the_same_model() -> None:
    layout = groups(
        big=["x"],
        small={"members": ["a", "b"], "swap": False},
    )
    world = World(["a", "b", "x"], layout)
    world.leave(world.load("x"))
    world.arrive("a")
    world.arrive("b")
    assert swaps(world)[1:] == [("a", ["x"])]
    world.settle()
    assert swaps(world)[1:] == [("a", ["x"]), ("b", [])]


def test_swaps_that_do_not_collide_run_side_by_side() -> None:
    world = together()
    world.arrive("a")
    world.arrive("b")
    assert len(world.swaps) == 2


def test_abcabc_needs_three_loads_and_positions_follow() -> None:
    world = exclusive()
    a1, b1, c1, a2, b2, c2 = (world.arrive(m) for m in "abcabc")
    assert {r: world.positions.get(r) for r in (b1, c1, b2, c2)} == {b1: 1, c1: 2, b2: 3, c2: 4}
    world.settle()
    for request in (a1, a2):
        world.leave(request)
    assert (world.positions[c1], world.positions[c2]) == (1, 2)
    world.settle()
    for request in (b1, b2):
        world.leave(request)
    world.settle()
    for request in (c1, c2):
        world.leave(request)
    assert swaps(world) == [("a", []), ("b", ["a"]), ("c", ["b"])]
    assert set(world.outcomes.values()) == {"serve"}


def test_priority_orders_the_queue_and_preempts_nobody() -> None:
    world = exclusive(priority={"b": 1, "c": 5})
    running = world.load("a")
    low, high = world.arrive("b"), world.arrive("c")
    assert (world.positions[high], world.positions[low]) == (1, 2)
    world.leave(running)
    assert swaps(world)[-1] == ("c", ["a"])


def test_a_blocked_entry_does_not_block_later_ones() -> None:
    layout = groups(pair=["a", "b"], free={"members": ["c"], "swap": False, "exclusive": False})
    world = World(["a", "b", "c"], layout)
    world.load("a")
    blocked = world.arrive("b")
    free = world.load("c")
    assert world.outcomes[free] == "serve"
    assert blocked in world.waiting


def test_h55_a_failing_target_answers_everybody_and_the_queue_goes_on() -> None:
    world = exclusive()
    world.leave(world.load("a"))
    broken = [world.arrive("b"), world.arrive("b")]
    again = world.arrive("a")
    (swap,) = world.swaps
    world.evicted(swap)
    world.finish(swap, "upstream command exited prematurely")
    assert all(isinstance(world.outcomes[r], UpstreamStartError) for r in broken)
    assert swaps(world)[-1] == ("a", [])
    world.settle()
    assert world.outcomes[again] == "serve"


# ----------------------------------------------------------------------------- leaving


def test_h44_a_client_that_leaves_the_queue_never_loads_its_model() -> None:
    world = exclusive()
    running = world.load("a")
    world.leave(world.arrive("b"))
    world.leave(running)
    assert swaps(world) == [("a", [])]


def test_h39_a_waiter_that_left_before_the_swap_was_done_blocks_nothing() -> None:
    world = exclusive()
    gone = world.arrive("a")
    world.leave(gone)
    world.settle()
    rival = world.load("b")
    assert world.outcomes == {gone: "left", rival: "serve"}


def test_h39_a_grant_whose_client_left_in_the_same_turn_ends_at_once() -> None:
    world = exclusive()
    request = world.load("a")
    world.leave(request)
    world.leave(request)
    assert world.outcomes[world.load("b")] == "serve"


def test_a_swap_whose_last_waiter_left_runs_to_its_end() -> None:
    world = exclusive()
    world.leave(world.arrive("a"))
    assert not any(isinstance(c, CancelSwap) for c in world.transcript)
    world.settle()
    assert world.scheduler.queries.state(A) is ProcessState.READY


def test_an_ordered_load_whose_last_waiter_left_is_cancelled() -> None:
    world = exclusive()
    request = world.arrive("a", SwapReason.USER)
    world.leave(request)
    assert world.transcript[-1] == CancelSwap(SwapId(1))
    world.settle()
    assert world.spawns == []


@pytest.mark.parametrize("is_starting", [False, True])
def test_a_load_that_ends_badly_leaves_its_target_up_only_where_it_never_came_to_it(is_starting: bool) -> None:  # noqa: FBT001
    world = World(["a", "b"], groups(g=["a"], free={"members": ["b"], "exclusive": False}))
    world.leave(world.load("a"))
    world.leave(world.load("b"))
    request = world.arrive("a", SwapReason.USER)
    [swap] = world.swaps
    if is_starting:
        world.tell(SwapStarting(swap, world.now))
    world.leave(request)
    world.tell(SwapFinished(swap, world.now, error=UpstreamStartError("aborted")))
    assert world.scheduler.queries.state(A) == ("stopped" if is_starting else "ready")


def test_a_request_does_not_join_a_cancelled_load_but_waits_for_the_next() -> None:
    world = exclusive()
    world.leave(world.arrive("a", SwapReason.USER))
    request = world.arrive("a")
    assert request in world.waiting
    world.settle()
    assert world.outcomes[request] == "serve"


def test_a_model_being_evicted_is_not_served_by_an_older_answer_of_the_planner() -> None:
    world = exclusive()
    world.leave(world.load("a"))
    world.leave(world.arrive("a"))
    world.arrive("b")
    assert world.arrive("a") in world.waiting


# ----------------------------------------------------------------------------- unload


def test_unload_refuses_waiters_and_stops_at_once() -> None:
    world = exclusive()
    joined = world.arrive("a")
    queued = world.arrive("b")
    world.unload("a", "b")
    for request in (joined, queued):
        error = world.outcomes[request]
        assert isinstance(error, ModelUnloadedError)
        assert "model unloaded" in error.message
    assert any(isinstance(c, Unload) for c in world.transcript)


def test_h48_unload_does_not_wait_for_what_is_in_flight() -> None:
    world = exclusive()
    world.load("a")
    unload = world.unload("a")
    assert unload in world.unloads


def test_h49_a_swap_to_an_unloaded_model_does_not_start_it_after_its_eviction() -> None:
    world = exclusive()
    world.leave(world.load("b"))
    world.arrive("a")
    (swap,) = world.swaps
    world.unload("a")
    assert world.swaps[swap].is_cancelled
    world.settle()
    assert world.spawns == ["b"]


def test_h50_the_result_of_an_old_swap_is_not_taken_for_that_of_a_new_one() -> None:
    world = exclusive()
    world.arrive("a")
    world.unload("a")
    world.settle()
    again = world.arrive("a")
    world.tell(SwapFinished(SwapId(1), world.now, error=ModelUnloadedError("aborted")))
    assert again in world.waiting
    world.settle()
    assert world.outcomes[again] == "serve"


def test_an_older_answer_of_the_planner_does_not_serve_a_model_being_unloaded() -> None:
    world = exclusive()
    world.leave(world.load("a"))
    world.leave(world.arrive("a"))
    world.unload("a")
    assert world.arrive("a") in world.waiting


def test_a_new_request_for_a_model_being_unloaded_waits_and_then_starts_it() -> None:
    world = exclusive()
    world.leave(world.load("a"))
    world.unload("a")
    request = world.arrive("a")
    assert request in world.waiting
    world.settle()
    assert world.outcomes[request] == "serve"
    assert world.spawns == ["a", "a"]


def test_h51_an_unload_under_way_does_not_hold_up_an_unrelated_ready_model() -> None:
    world = together()
    world.leave(world.load("a"))
    world.leave(world.load("b"))
    world.unload("b")
    assert world.outcomes[world.arrive("a")] == "serve"


def test_h27_an_idle_stop_is_vetoed_by_a_reservation_and_obeyed_otherwise() -> None:
    world = exclusive()
    request = world.load("a")
    world.expire("a")
    assert not world.unloads
    world.leave(request)
    world.expire("a")
    assert len(world.unloads) == 1


def test_h27_an_idle_stop_is_vetoed_by_a_swap_to_its_model_that_nobody_waits_for_any_more() -> None:
    world = World(["a", "b"], groups(g=["a"], free={"members": ["b"], "exclusive": False}))
    world.leave(world.load("a"))
    world.leave(world.load("b"))
    world.leave(world.arrive("a"))
    assert swaps(world)[-1] == ("a", ["b"]), "a is up, and b must go for it all the same"
    world.expire("a")
    assert not world.unloads
    late = world.arrive("a")
    world.settle()
    assert world.outcomes[late] == "serve"


def test_an_idle_stop_of_an_older_generation_is_ignored() -> None:
    world = exclusive()
    world.leave(world.load("a"))
    late = world.ready[A]
    world.crash("a")
    world.leave(world.load("a"))
    world.tell(IdleExpired(UnloadId(99), A, late, world.now))
    assert not world.unloads


# ----------------------------------------------------------------------------- exits and shutdown


def test_h05_after_a_crash_the_next_request_starts_the_model_again() -> None:
    world = exclusive()
    world.leave(world.load("a"))
    world.crash("a")
    assert world.outcomes[world.load("a")] == "serve"
    assert world.spawns == ["a", "a"]


def test_the_exit_of_an_older_generation_is_ignored() -> None:
    world = exclusive()
    world.leave(world.load("a"))
    world.crash("a")
    world.leave(world.load("a"))
    world.tell(ProcessExited(A, Generation(1), world.now))
    assert world.outcomes[world.arrive("a")] == "serve"


def test_a_process_that_exited_before_its_swap_was_settled_is_not_believed_to_be_up() -> None:
    scheduler = exclusive().scheduler
    scheduler.handle(Arrived(RequestId(1), A, 0.0))
    scheduler.handle(ProcessExited(A, Generation(1), 1.0))
    commands = scheduler.handle(SwapFinished(SwapId(1), 1.0, generation=Generation(1)))
    assert [type(c) for c in acts(commands)] == [Refuse]
    assert scheduler.queries.state(A) is ProcessState.STOPPED


def test_a_start_that_succeeds_although_its_model_is_being_unloaded_serves_nobody() -> None:
    scheduler = exclusive().scheduler
    scheduler.handle(Arrived(RequestId(1), A, 0.0))
    scheduler.handle(SwapStarting(SwapId(1), 1.0))
    scheduler.handle(UnloadAsked(UnloadId(1), frozenset({A}), 2.0))
    assert acts(scheduler.handle(SwapFinished(SwapId(1), 2.0, generation=Generation(1)))) == []
    assert scheduler.queries.state(A) is ProcessState.STOPPING
    scheduler.handle(UnloadFinished(UnloadId(1), 3.0))
    assert scheduler.queries.state(A) is ProcessState.STOPPED


def test_shutdown_refuses_what_waits_and_lets_go_on_what_is_served() -> None:
    world = exclusive()
    served = world.load("a")
    queued = world.arrive("b")
    world.shut_down()
    late = world.arrive("a")
    assert isinstance(world.outcomes[queued], ShuttingDownError)
    assert isinstance(world.outcomes[late], ShuttingDownError)
    assert world.in_flight[A] == {served}


def test_shutdown_aborts_starts() -> None:
    world = exclusive()
    joined = world.arrive("a")
    world.shut_down()
    assert isinstance(world.outcomes[joined], ShuttingDownError)
    assert CancelSwap(SwapId(1)) in world.transcript


def test_late_news_is_no_news() -> None:
    scheduler = exclusive().scheduler
    for event in (
        RequestGone(RequestId(7), 0.0),
        SwapStarting(SwapId(7), 0.0),
        SwapFinished(SwapId(7), 0.0, generation=Generation(1)),
        UnloadFinished(UnloadId(7), 0.0),
        ProcessExited(A, Generation(7), 0.0),
        Tick(0.0),
    ):
        assert scheduler.handle(event) == []


# ----------------------------------------------------------------------------- planners


def test_a_planner_that_refuses_ends_the_request_with_its_words() -> None:
    planner = ScriptedPlanner({"a": values.Refuse(status=507, retry_after=9, reason="too big for this machine")})
    world = World(["a"], groups(g=["a"]), planner=planner)
    error = world.outcomes[world.arrive("a")]
    assert isinstance(error, SwapRefusedError)
    assert (error.status, error.retry_after_seconds) == (507, 9)
    assert error.message == "swap refused: too big for this machine"


def test_a_planner_that_breaks_refuses_its_request_and_leaves_nothing_of_it_behind() -> None:
    planner = ScriptedPlanner()
    scheduler = Scheduler({A: ModelFacts(A, limit=1)}, planner, "scripted")
    fault = ZeroDivisionError()
    with mock.patch.object(planner, "plan", side_effect=fault):
        complaint, refusal = scheduler.handle(Arrived(RequestId(1), A, 1.0))
    assert complaint == Complain("plan", fault)
    assert isinstance(refusal, Refuse)
    assert (refusal.error.status, refusal.error.message) == (500, "internal error")
    assert scheduler.handle(RequestGone(RequestId(1), 1.0)) == []
    assert scheduler.queries.reserved(A) == (0, 0)
    (swap,) = acts(scheduler.handle(Arrived(RequestId(2), A, 2.0)))
    assert isinstance(swap, Swap)


@pytest.mark.parametrize(
    "junk",
    [
        None,
        "b",
        values.Evict(frozenset({ModelId("unheard of")})),
        values.Evict(["a"]),  # type: ignore[arg-type] # that is the point
        values.Evict(frozenset(), reason=None),  # type: ignore[arg-type]
        values.Wait(recheck="soon"),  # type: ignore[arg-type]
        values.Refuse(status="507", reason="too big"),  # type: ignore[arg-type]
    ],
    ids=str,
)
def test_a_decision_that_cannot_be_followed_ends_its_request_and_loses_no_others(junk: Any) -> None:
    planner = ScriptedPlanner({"b": values.Evict(frozenset({A}))})
    world = World(["a", "b"], groups(g=["a", "b"]), planner=planner, patience=Patience(1.0))
    first = world.arrive("a")
    second = world.arrive("b")
    assert second not in world.outcomes, "it waits for the end of the swap"
    world.now += 2  # it is overdue, too
    planner.decisions["b"] = junk
    world.settle()
    assert world.outcomes[first] == "serve"
    error = world.outcomes[second]
    assert isinstance(error, LlamaSwapError)
    assert (error.status, error.message) == (500, "internal error")
    assert [complaint.call for complaint in world.complaints] == ["plan"]
    world.leave(first)
    planner.decisions["b"] = values.Evict(frozenset({A}))
    world.arrive("b")
    assert swaps(world)[-1] == ("b", ["a"])


def test_a_planner_that_waits_is_asked_again_at_its_time() -> None:
    planner = ScriptedPlanner({"a": values.Wait(recheck=50.0, reason="soon")})
    scheduler = Scheduler({A: ModelFacts(A)}, planner, "scripted")
    assert scheduler.handle(Arrived(RequestId(1), A, 1.0)) == [WakeAt(50.0), Position(RequestId(1), 1)]
    planner.decisions.clear()
    (swap,) = acts(scheduler.handle(Tick(50.0)))
    assert isinstance(swap, Swap)


def test_the_earliest_of_the_times_that_a_planner_names_counts() -> None:
    planner = ScriptedPlanner({"a": values.Wait(recheck=20.0), "b": values.Wait(recheck=50.0)})
    scheduler = Scheduler({m: ModelFacts(m) for m in (A, B)}, planner, "scripted")
    assert scheduler.handle(Arrived(RequestId(1), A, 1.0)) == [WakeAt(20.0), Position(RequestId(1), 1)]
    assert scheduler.handle(Arrived(RequestId(2), B, 2.0)) == [Position(RequestId(2), 2)]
    planner.decisions["a"] = values.Wait()
    assert scheduler.handle(Tick(20.0)) == [WakeAt(50.0)]


def test_a_planner_that_waits_without_a_time_is_asked_again_at_events_only() -> None:
    planner = ScriptedPlanner({"a": values.Wait(reason="not now")})
    scheduler = Scheduler({A: ModelFacts(A)}, planner, "scripted")
    assert scheduler.handle(Arrived(RequestId(1), A, 1.0)) == [Position(RequestId(1), 1)]
    assert scheduler.handle(RequestGone(RequestId(1), 2.0)) == []


def test_hooks_hear_of_every_real_swap_once_with_its_times() -> None:
    planner = ScriptedPlanner({"b": Evict(frozenset({A}))})
    world = World(["a", "b"], groups(g=["a", "b"]), planner=planner)
    world.leave(world.load("a"))
    world.load("b")
    assert [(kind, swap.target, outcome and outcome.kind.value) for kind, swap, outcome in planner.told] == [
        ("started", "a", None),
        ("finished", "a", "ready"),
        ("started", "b", None),
        ("finished", "b", "ready"),
    ]
    outcome = planner.told[-1][2]
    assert outcome is not None
    assert outcome.stop_seconds > 0
    assert outcome.load_seconds > 0


def test_the_view_shows_states_queue_and_swaps() -> None:
    planner = ScriptedPlanner({"b": Evict(frozenset({A}))})
    world = World(["a", "b", "c"], groups(g=["a", "b", "c"]), planner=planner)
    world.load("a")
    world.arrive("b")
    world.arrive("c")
    view, target = planner.asked[-1]
    assert target == C
    assert view.running == (A,)
    assert view.models[A].state is ProcessState.READY
    assert (view.models[A].in_flight, view.models[B].reserved) == (1, 1)
    assert [(entry.model, entry.position) for entry in view.queue] == [(B, 1)]
    serials = [asked.serial for asked, _ in planner.asked]
    assert serials == sorted(set(serials))
