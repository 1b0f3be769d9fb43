"""Nobody is overtaken for ever: fences around those who have waited for too long."""

from __future__ import annotations

from collections.abc import Sequence
from unittest import mock

import pytest

from llamaswap.core.messages import Swap, Tick
from llamaswap.core.patience import Patience
from llamaswap.core.records import Why
from llamaswap.core.values import Evict, ModelId, PlanView, RequestId, Wait
from tests.unit.scheduler_world import World, groups

A, B, C, D = (ModelId(m) for m in "abcd")
MAX_WAIT = 30.0


def world_of(models: str, **named: Sequence[str]) -> World:
    return World(models, groups(**(named or {"g": models})), patience=Patience(MAX_WAIT))


class Crowd:
    """Clients that ask for the same model again as soon as they have their answer.

    Attributes:
        served: How often each model has answered.
    """

    def __init__(self, world: World, *models: str) -> None:
        self.world = world
        self.requests = [world.arrive(model) for model in models]
        self.served = dict.fromkeys(models, 0)

    def work(self) -> None:
        """Let everybody who is served go and come again, one after the other, and time pass."""
        world = self.world
        for place, request in enumerate(self.requests):
            if world.outcomes.get(request) == "serve":
                model = world.model_of[request]
                self.served[model] += 1
                world.leave(request)
                self.requests[place] = world.arrive(model)
            world.settle()
            if world.wake <= world.now:
                world.wait()


def wait_until_overdue(world: World) -> None:
    """Let the time come at which the scheduler wants to look."""
    assert world.wake < float("inf")
    world.wait()


def is_served(world: World, request: RequestId) -> bool:
    return world.outcomes.get(request) == "serve"


def test_h53_a_busy_model_does_not_keep_its_rival_waiting_for_ever() -> None:
    world = world_of("ab")
    crowd = Crowd(world, *"aaaa")
    world.settle()
    rival, came = world.arrive("b"), world.now
    while not is_served(world, rival):
        crowd.work()
        assert world.now - came <= MAX_WAIT + 20, "the bound: the wait, and what is in flight"
    assert crowd.served["a"] > 4, "before its turn came, it was overtaken"


def test_without_a_limit_it_does() -> None:
    world = World("ab", groups(g="ab"))
    crowd = Crowd(world, *"aaaa")
    world.settle()
    rival = world.arrive("b")
    for _ in range(50):
        crowd.work()
    assert not is_served(world, rival)


def test_h54_small_models_in_rotation_do_not_starve_one_that_needs_the_place_of_all() -> None:
    small = "abc"
    world = World("abcd", groups(**{m: {"members": [m], "exclusive": False} for m in small}, big=["d"]))
    world.scheduler._fences.patience = world.patience = Patience(MAX_WAIT)
    crowd = Crowd(world, *(small * 2))
    world.settle()
    large, came = world.arrive("d"), world.now
    while not is_served(world, large):
        crowd.work()
        assert world.now - came <= MAX_WAIT + 40
    assert world.spawns.count(D) == 1


@pytest.mark.parametrize("rivals", ["ab", "abc"])
def test_rivals_that_are_all_busy_take_turns(rivals: str) -> None:
    world = world_of(rivals)
    crowd = Crowd(world, *(rivals * 2))
    while world.now < 40 * MAX_WAIT:
        crowd.work()
    assert min(crowd.served.values()) > 0
    assert len(world.spawns) <= 40 * len(rivals) + 3, "one swap for each wait, not for each request"


def test_f3_what_must_go_is_neither_granted_nor_joined() -> None:
    world = world_of("ab")
    first = world.load("a")
    late = world.arrive("b")
    wait_until_overdue(world)
    assert world.fences == {B}
    held = world.arrive("a")
    assert held in world.waiting, "F3: it is up, and not busy enough, yet it is not its turn"
    [_, shown] = world.scheduler.queries.waiting(world.now)
    assert (shown.why, shown.models, shown.request) == (Why.FENCE, (B,), held)
    [fence] = world.scheduler.queries.fences()
    assert (fence.model, fence.holds) == (B, frozenset({A}))
    world.leave(first)
    world.settle()
    assert is_served(world, late)
    assert not world.fences
    world.leave(late)
    world.settle()
    assert is_served(world, held)


def test_f4_waiters_of_a_swap_under_way_are_served() -> None:
    world = world_of("ab")
    joined = world.arrive("a")
    late = world.arrive("b")
    wait_until_overdue(world)
    after = world.arrive("a")
    assert after in [r.id for r in world.scheduler._book.queue], "F3: not joined, although its load is under way"
    world.settle()
    assert is_served(world, joined)
    world.leave(joined)
    world.settle()
    assert is_served(world, late)
    assert not is_served(world, after)


def test_f5_all_who_wait_for_the_model_are_served_by_one_swap() -> None:
    world = world_of("ab")
    busy = world.load("a")
    waiting = [world.arrive("b") for _ in range(3)]
    wait_until_overdue(world)
    world.leave(busy)
    world.settle()
    assert [is_served(world, request) for request in waiting] == [True] * 3
    assert world.spawns == [A, B]


def test_f6_fence_falls_when_its_only_client_leaves() -> None:
    world = world_of("ab")
    world.load("a")
    late = world.arrive("b")
    wait_until_overdue(world)
    held = world.arrive("a")
    world.leave(late)
    assert not world.fences
    assert is_served(world, held)


def test_f6_fence_falls_when_all_whom_its_swap_is_for_have_left() -> None:
    world = world_of("ab")
    busy = world.load("a")
    late = world.arrive("b")
    wait_until_overdue(world)
    world.leave(busy)
    assert world.swaps
    assert world.fences == {B}
    world.leave(late)
    assert world.swaps
    assert not world.fences


def test_f1_two_fences_that_do_not_meet_stand_together() -> None:
    world = World(
        "abcd",
        groups(
            one={"members": ["a", "b"], "exclusive": False},
            two={"members": ["c", "d"], "exclusive": False},
        ),
        patience=Patience(MAX_WAIT),
    )
    busy = [world.load("a"), world.load("c")]
    late = [world.arrive("b"), world.arrive("d")]
    wait_until_overdue(world)
    wait_until_overdue(world)
    assert world.fences == {B, D}
    for request in busy:
        world.leave(request)
    world.settle()
    assert all(is_served(world, request) for request in late)


def test_f2_who_was_overdue_first_comes_first_whatever_the_priority() -> None:
    world = World("abc", groups(g="abc"), priority={"c": 9}, patience=Patience(MAX_WAIT))
    busy = world.load("a")
    first, second = world.arrive("b"), world.arrive("c")
    world.now += 2 * MAX_WAIT
    world.wait()
    assert world.fences == {B}
    world.leave(busy)
    world.settle()
    assert is_served(world, first)
    assert not is_served(world, second)
    world.leave(first)
    world.settle()
    assert is_served(world, second)
    assert not world.fences


def test_a_model_with_a_limit_of_its_own() -> None:
    world = World("abc", groups(g="abc"), patience=Patience(MAX_WAIT, {B: 5, C: 0}))
    world.load("a")
    came = world.now
    for model in "cb":
        world.arrive(model)
    assert world.wake <= came + 6
    world.wait()
    assert world.fences == {B}


def test_fence_whose_models_are_unloaded() -> None:
    world = world_of("ab")
    world.load("a")
    late = world.arrive("b")
    wait_until_overdue(world)
    held = world.arrive("a")
    world.unload("a")
    assert held not in world.waiting, "refused, as at any unload"
    world.settle()
    assert is_served(world, late)
    assert not world.fences


def test_fence_whose_model_is_unloaded() -> None:
    world = world_of("ab")
    world.load("a")
    late = world.arrive("b")
    wait_until_overdue(world)
    held = world.arrive("a")
    world.unload("b")
    assert late not in world.waiting
    assert not world.fences
    world.settle()
    assert is_served(world, held)


def test_fence_whose_model_fails_to_start() -> None:
    world = world_of("ab")
    busy = world.load("a")
    late = world.arrive("b")
    wait_until_overdue(world)
    held = world.arrive("a")
    world.leave(busy)
    (swap,) = world.swaps
    world.evicted(swap)
    world.finish(swap, "broken")
    assert late not in world.waiting
    assert not world.fences
    world.settle()
    assert is_served(world, held)


def test_a_reload_lets_fences_fall_and_looks_anew() -> None:
    world = world_of("abc")
    world.load("a")
    world.arrive("b")
    wait_until_overdue(world)
    assert world.fences == {B}
    world.reload("a", "b", "c", settings=groups(g={"members": "abc", "exclusive": False, "swap": False}))
    [fence] = world.scheduler.queries.fences()
    assert not fence.holds, "the new rules let it in"
    world.settle()
    assert not world.fences


def test_the_end_lets_fences_fall() -> None:
    world = world_of("ab")
    world.load("a")
    world.arrive("b")
    wait_until_overdue(world)
    world.shut_down()
    assert not world.fences


def test_a_planner_that_would_rather_wait_gets_no_fence() -> None:
    class Moody:
        """Waits with everything but the first."""

        def plan(self, view: object, target: ModelId) -> Evict | Wait:
            return Evict(frozenset()) if target == A else Wait(reason="not now")

        def __getattr__(self, name: str) -> object:
            return lambda *_: None

    world = World("ab", groups(g="ab"), planner=Moody(), patience=Patience(MAX_WAIT))  # type: ignore[arg-type]
    world.load("a")
    world.arrive("b")
    wait_until_overdue(world)
    assert not world.fences
    assert is_served(world, world.arrive("a"))


def test_fence_of_a_model_that_is_up_falls_when_it_is_served_without_a_swap() -> None:
    world = World("ad", groups(big=["d"], a={"members": ["a"], "exclusive": False}), patience=Patience(MAX_WAIT))
    world.leave(world.load("d"))
    world.load("a")
    late = world.arrive("d")
    wait_until_overdue(world)
    assert world.fences == {D}
    world.crash("a")
    assert not world.swaps
    assert is_served(world, late)
    assert not world.fences


def test_a_model_that_waits_for_the_end_of_its_own_process_keeps_nobody_away() -> None:
    world = world_of("ab")
    world.leave(world.load("a"))
    world.unload("a")
    late = world.arrive("a")
    wait_until_overdue(world)
    [fence] = world.scheduler.queries.fences()
    assert (fence.model, fence.holds) == (A, frozenset())
    world.settle()
    assert is_served(world, late)
    assert not world.fences


class Fickle:
    """Lets the first model be stopped for the second, until it breaks.

    Attributes:
        error: What it raises from now on.
    """

    error: Exception | None = None

    def plan(self, view: PlanView, target: ModelId) -> Evict:
        """See the interface."""
        if self.error is not None:
            raise self.error
        return Evict(frozenset({A} & set(view.running)) if target == B else frozenset())

    def __getattr__(self, name: str) -> object:
        return lambda *_: None


def test_fence_falls_when_the_planner_breaks() -> None:
    planner = Fickle()
    world = World("ab", groups(g="ab"), planner=planner, patience=Patience(MAX_WAIT))  # type: ignore[arg-type]
    world.load("a")
    late = world.arrive("b")
    wait_until_overdue(world)
    assert world.fences == {B}
    planner.error = ZeroDivisionError()
    world.leave(world.arrive("a"))
    assert not world.fences
    assert late not in world.waiting, "refused, as whoever is first to be decided about"


def test_swaps_that_its_model_would_have_to_undo_do_not_start() -> None:
    """While it waits for one model to end, another that it excludes must not come up, though nobody is in its way."""
    world = World(
        "abcd",
        groups(
            big=["d"],
            a={"members": ["a"], "exclusive": False},
            b={"members": ["b"], "exclusive": False},
            c={"members": ["c"], "exclusive": False},
        ),
        patience=Patience(MAX_WAIT),
    )
    busy = world.load("a")
    world.arrive("d")
    wait_until_overdue(world)
    world.arrive("b")
    assert not world.swaps
    world.leave(busy)
    assert [run.command.model for run in world.swaps.values()] == [D]
    assert isinstance(next(iter(world.swaps.values())).command, Swap)


@pytest.mark.parametrize("look", ["review", "queue"])
def test_many_who_are_overdue_are_looked_at_in_one_view(look: str) -> None:
    """A view costs as much as the queue is long: one for each model would hold up everybody for a second."""
    names = "abcdefghijklmnop"
    world = world_of(names)
    world.load("a")
    for name in names[1:]:
        world.arrive(name)
        world.arrive(name)
    world.now += 2 * MAX_WAIT
    running = world.scheduler._running
    with mock.patch.object(running, "view", wraps=running.view) as view:
        if look == "review":
            world.scheduler.handle(Tick(world.now))
        else:
            list(world.scheduler.queries.waiting(world.now))
    assert 1 <= view.call_count <= 2


def test_many_who_were_kept_from_a_model_that_is_up_are_served_with_one_question() -> None:
    """A thousand clients of a busy model would hold up everybody for a second when the fence falls."""
    world = World("ab", groups(g="ab"), limit=100, patience=Patience(MAX_WAIT))
    world.load("a")
    rival = world.arrive("b")
    wait_until_overdue(world)
    late = [world.arrive("a") for _ in range(50)]
    assert not any(is_served(world, request) for request in late)
    running = world.scheduler._running
    with mock.patch.object(running, "view", wraps=running.view) as view:
        world.leave(rival)
    assert all(is_served(world, request) for request in late)
    assert view.call_count <= 3


# --------------------------------------------------------------------------- tunnels in the way


def test_h66_tunnels_on_what_must_go_are_ended_when_the_patience_with_them_is_over() -> None:
    other = {"members": ["c"], "exclusive": False, "persistent": True}
    world = World("abc", groups(g="ab", other=other))
    world.patience = world.scheduler._fences.patience = Patience(MAX_WAIT, drain_seconds=10)
    tunnels = [world.load("a"), world.arrive("a")]
    world.load("c")
    late = world.arrive("b")
    wait_until_overdue(world)
    raised_mono = world.now
    world.arrive("a")
    assert not world.told
    world.wait()
    assert world.told == tunnels, "those of the model that is to stop, in flight, and no others"
    assert 10 <= world.now - raised_mono <= 12, "one deadline"
    for request in tunnels:
        world.leave(request)
    world.settle()
    assert is_served(world, late)


def test_nobody_is_told_twice_and_never_by_default() -> None:
    for drain_seconds in (0, 10):
        world = world_of("ab")
        world.patience = world.scheduler._fences.patience = Patience(MAX_WAIT, drain_seconds=drain_seconds)
        stubborn, other = world.load("a"), world.arrive("a")
        world.arrive("b")
        wait_until_overdue(world)
        world.now += 1000
        world.tell(Tick(world.now))
        world.leave(other)
        world.tell(Tick(world.now))
        assert world.told.count(stubborn) == (1 if drain_seconds else 0)


def test_a_tunnel_that_came_with_a_load_under_way_is_told_as_soon_as_it_is_served() -> None:
    world = world_of("ab")
    world.patience = world.scheduler._fences.patience = Patience(MAX_WAIT, drain_seconds=10)
    joined = world.arrive("a")
    late = world.arrive("b")
    wait_until_overdue(world)
    world.wait()
    assert not world.told, "F4: it waits for a swap under way, and nothing is served"
    world.settle()
    assert world.told == [joined]
    world.leave(joined)
    world.settle()
    assert is_served(world, late)
