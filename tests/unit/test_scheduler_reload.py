"""Another configuration while requests wait and are served."""

from __future__ import annotations

import pytest

from llamaswap.core.messages import (
    Arrived,
    Dismiss,
    ProcessExited,
    Reconfigured,
    Swap,
    Unload,
)
from llamaswap.core.scheduler import Scheduler
from llamaswap.core.values import Evict, Generation, ModelFacts, ModelId, PlanView, RequestId, StopReason, Wait
from llamaswap.errors import ConcurrencyLimitError, ModelNotFoundError
from tests.unit.scheduler_world import World, acts, groups

A, B, C = ModelId("a"), ModelId("b"), ModelId("c")


def exclusive() -> World:
    """Three models of which one runs at a time."""
    return World(["a", "b", "c"], groups(g=["a", "b", "c"]))


def together() -> World:
    """Three models that run side by side."""
    return World(["a", "b", "c"], groups(g={"members": ["a", "b", "c"], "swap": False}))


def unloaded(world: World) -> list[str]:
    """Which models were unloaded for a reload, in order."""
    unloads = [c for c in world.transcript if isinstance(c, Unload) and c.reason is StopReason.RELOAD]
    return [model for unload in unloads for model in sorted(unload.models)]


def test_h76_a_reload_that_changes_nothing_does_nothing() -> None:
    world = exclusive()
    world.load("a")
    waiting = world.arrive("b")
    assert world.reload("a", "b", "c") == []
    assert world.positions == {waiting: 1}
    assert world.outcomes[world.arrive("a")] == "serve"


def test_a_lower_limit_cuts_nobody_and_holds_for_the_next() -> None:
    world = exclusive()
    first, second = world.load("a"), world.arrive("a")
    world.reload("a", "b", "c", limit=1)
    assert {first, second} == world.in_flight[A]
    assert isinstance(world.outcomes[world.arrive("a")], ConcurrencyLimitError)
    world.leave(first)
    world.leave(second)
    assert world.outcomes[world.arrive("a")] == "serve"


def test_the_queue_is_put_into_the_order_of_the_new_priorities() -> None:
    world = exclusive()
    world.load("a")
    b, c, later_b = world.arrive("b"), world.arrive("c"), world.arrive("b")
    world.priority = {"c": 1}
    world.reload("a", "b", "c")
    assert world.positions == {c: 1, b: 2, later_b: 3}


def test_an_idle_changed_model_is_unloaded_at_once_and_starts_anew_when_it_is_gone() -> None:
    world = exclusive()
    world.leave(world.load("a"))
    world.reload("a", "b", "c", restarted=["a"])
    assert unloaded(world) == ["a"]
    request = world.arrive("a")
    assert world.positions == {request: 1}
    assert world.spawns == ["a"]
    world.settle()
    assert world.spawns == ["a", "a"]
    assert world.outcomes[request] == "serve"


def test_h75_a_busy_changed_model_serves_on_and_its_successor_waits_for_its_end() -> None:
    world = exclusive()
    old = world.load("a")
    world.reload("a", "b", "c", restarted=["a"])
    follower = world.arrive("a")
    assert unloaded(world) == []
    assert not world.swaps
    world.leave(old)
    assert unloaded(world) == ["a"]
    assert not world.swaps
    world.settle()
    assert world.outcomes[follower] == "serve"


def test_a_drain_that_takes_too_long_ends_at_its_time() -> None:
    world = together()
    world.load("a")
    world.load("b")
    world.reload("a", "b", "c", restarted=["a"], drain=30)
    first_wake = world.wake
    world.reload("a", "b", "c", restarted=["a", "b"], drain=40)
    assert world.wake == first_wake
    world.wait()
    assert unloaded(world) == ["a"]
    world.wait()
    assert unloaded(world) == ["a", "b"]
    world.settle()
    assert not any(world.in_flight.values())


def test_waiters_of_a_cancelled_swap_go_to_the_head_of_the_queue() -> None:
    world = exclusive()
    world.load("b")
    first = world.arrive("c")
    world.leave(next(iter(world.in_flight[B])))
    (swap,) = world.swaps
    queued = world.arrive("a")
    joined = world.arrive("c")
    world.reload("a", "b", "c", restarted=["c"])
    assert world.swaps[swap].is_cancelled
    assert world.positions == {first: 1, joined: 2, queued: 3}
    world.settle()
    assert world.outcomes[first] == world.outcomes[joined] == "serve"
    assert world.spawns.count(C) == 1


def test_the_start_of_a_changed_model_is_aborted_and_done_again() -> None:
    world = exclusive()
    request = world.arrive("a")
    (swap,) = world.swaps
    world.evicted(swap)
    world.reload("a", "b", "c", restarted=["a"])
    world.settle()
    assert world.outcomes[request] == "serve"
    assert world.spawns == ["a", "a"]


def test_those_who_wait_for_a_removed_model_are_refused() -> None:
    world = exclusive()
    world.load("a")
    queued = world.arrive("b")
    world.reload("a", "c")
    error = world.outcomes[queued]
    assert isinstance(error, ModelNotFoundError)
    assert error.message == "model removed by configuration reload"
    assert Dismiss(B) not in world.transcript
    world.settle()
    assert world.transcript[-1] == Dismiss(B)
    assert isinstance(world.outcomes[world.arrive("b")], ModelNotFoundError)


def test_those_who_joined_the_swap_to_a_removed_model_are_refused() -> None:
    world = exclusive()
    joined = world.arrive("a")
    world.reload("b", "c")
    assert isinstance(world.outcomes[joined], ModelNotFoundError)
    world.settle()
    assert world.alive == {}
    assert Dismiss(A) in world.transcript


def test_a_removed_model_that_is_busy_ends_first_and_keeps_its_place_until_then() -> None:
    world = exclusive()
    request = world.load("a")
    world.reload("b", "c", settings=groups(g=["b", "c"]))
    assert isinstance(world.outcomes[world.arrive("a")], ModelNotFoundError)
    follower = world.arrive("b")
    assert not world.swaps, "two models at once where one has room"
    world.leave(request)
    world.settle()
    assert world.outcomes[follower] == "serve"
    assert Dismiss(A) in world.transcript


def test_a_model_that_comes_back_while_it_drains_starts_anew_afterwards() -> None:
    world = exclusive()
    old = world.load("a")
    world.reload("b", "c", settings=groups(g=["b", "c"]))
    world.reload("a", "b", "c", settings=groups(g=["a", "b", "c"]))
    follower = world.arrive("a")
    assert follower in world.positions
    world.leave(old)
    world.settle()
    assert world.outcomes[follower] == "serve"
    assert Dismiss(A) not in world.transcript


def test_a_model_that_comes_back_later_is_a_new_one() -> None:
    world = exclusive()
    world.load("a")
    world.crash("a")
    world.reload("b", "c", settings=groups(g=["b", "c"]))
    world.settle()
    world.generations.clear()  # its supervisor is a new one
    world.reload("a", "b", "c", settings=groups(g=["a", "b", "c"]))
    assert world.outcomes[world.load("a")] == "serve"


def test_a_crash_of_a_draining_model_ends_its_drain() -> None:
    world = exclusive()
    world.load("a")
    world.reload("a", "b", "c", restarted=["a"])
    follower = world.arrive("a")
    world.crash("a")
    world.settle()
    assert world.outcomes[follower] == "serve"


def test_late_news_of_a_model_that_is_gone_is_no_news() -> None:
    world = exclusive()
    world.reload("b", "c", settings=groups(g=["b", "c"]))
    world.settle()
    assert world.tell(ProcessExited(A, Generation(1), world.now)) == []


def test_new_rules_stop_nobody_by_themselves() -> None:
    world = together()
    for model in ("a", "b"):
        world.leave(world.load(model))
    world.reload("a", "b", "c", settings=groups(g=["a", "b", "c"]))
    assert set(world.alive) == {A, B}
    world.arrive("c")
    (swap,) = world.swaps.values()
    assert swap.command.evict == {A, B}


@pytest.mark.parametrize(("busy", "stay"), [([], {B}), (["a"], {A}), (["a", "b"], {A, B})])
def test_enforced_rules_stop_idle_models_the_newest_used_stays(busy: list[str], stay: set[str]) -> None:
    world = together()
    requests = {model: world.load(model) for model in ("a", "b")}
    for model, request in requests.items():
        if model not in busy:
            world.leave(request)
    world.reload("a", "b", "c", settings=groups(g=["a", "b", "c"]), enforces=True)
    world.settle()
    assert set(world.alive) == stay
    for model in busy:
        world.leave(requests[model])
    world.settle()
    assert set(world.alive) == stay, "who was busy does not retire either"


def test_enforced_rules_leave_alone_what_may_run_together_in_one_order() -> None:
    world = together()
    for model in ("a", "b"):
        world.leave(world.load(model))
    settings = groups(x=["a", "c"], y={"members": ["b"], "exclusive": False})
    world.reload("a", "b", "c", settings=settings, enforces=True)
    assert unloaded(world) == []


def test_h81_a_reload_after_the_end_began_does_nothing() -> None:
    world = exclusive()
    world.load("a")
    world.shut_down()
    assert world.scheduler.handle(Reconfigured({}, world.rules, "group", frozenset(), frozenset([A]), 0, 1.0)) == []


class Waiting:
    """Says to wait, until a given time."""

    def __init__(self, recheck: float) -> None:
        self.recheck = recheck

    def plan(self, view: PlanView, target: ModelId) -> Wait | Evict:
        """Let only ``b`` wait."""
        return Wait(recheck=self.recheck) if target == B else Evict(frozenset())

    def swap_started(self, *_: object) -> None:
        """Nothing."""

    swap_finished = models_changed = swap_started

    def close(self) -> None:
        """Nothing."""


@pytest.mark.parametrize(("recheck", "wake"), [(20.0, 20.0), (90.0, 33.0)])
def test_the_earliest_of_all_deadlines_wakes(recheck: float, wake: float) -> None:
    world = World(["a", "b"], groups(g=["a", "b"]), planner=Waiting(recheck))  # type: ignore[arg-type]
    world.load("a")
    world.now = 3.0
    world.reload("a", "b", restarted=["a"], drain=30)
    world.arrive("b")
    assert world.wake == wake
    world.wait()
    assert (unloaded(world) == ["a"]) is (wake == 33.0)


def test_a_new_planner_decides_at_once_for_those_who_wait() -> None:
    facts = {m: ModelFacts(m) for m in (A, B)}
    world = World(["a", "b"], groups(g=["a", "b"]), planner=Waiting(1000.0))  # type: ignore[arg-type]
    scheduler = Scheduler(facts, world.planner, "waiting")  # type: ignore[arg-type]
    scheduler.handle(Arrived(RequestId(1), B, 1.0))
    commands = scheduler.handle(Reconfigured(facts, world.rules, "group", frozenset(), frozenset(), 30, 2.0))
    assert [type(command) for command in acts(commands)] == [Swap]
