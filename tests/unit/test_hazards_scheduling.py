"""Hazards of scheduling and planning that no other test names, on a made-up clock."""

from __future__ import annotations

import dataclasses

import pytest

from llamaswap.config.schema import ModelConfig, Peer, Profile
from llamaswap.core.messages import Arrived, Swap
from llamaswap.core.values import Evict, ModelId, ModelView, PlanView, ProcessState, RequestId, StopReason
from llamaswap.errors import ModelNotFoundError, UpstreamStartError, UpstreamStartTimeoutError
from llamaswap.registry import build_planner
from tests.deferreds import success_of
from tests.unit.configs import Loader
from tests.unit.scheduler_world import World, groups
from tests.unit.test_router import FakeWaiter, Rig
from tests.unit.upstream_world import World as OneModel
from tests.unit.web_stack import Stack, config_of, response_of

A, B, C = ModelId("a"), ModelId("b"), ModelId("c")

MODELS = """
models:
  a: {cmd: 's ${PORT}', aliases: [al]}
  b: {cmd: 's ${PORT}'}
  c: {cmd: 's ${PORT}'}
"""


def decision(loaded: Loader, rules: str, target: ModelId, *running: ModelId) -> frozenset[ModelId]:
    """Say whom the rules of a configuration stop for a target."""
    config = loaded(MODELS + rules)
    view = PlanView(serial=1, now=0.0, models={m: ModelView(m) for m in (A, B, C)}, running=running)
    found = build_planner(config).plan(view, target)
    assert isinstance(found, Evict)
    return found.models


# --------------------------------------------------------------------------- H36


def test_h36_a_listing_is_of_one_moment() -> None:
    world = OneModel()
    world.start()
    listed = world.upstream.snapshot()
    success_of(world.upstream.stop(1, StopReason.USER))
    assert (listed.state, listed.pid, listed.generation) == (ProcessState.READY, 4242, 1)
    with pytest.raises(dataclasses.FrozenInstanceError):
        listed.state = ProcessState.STOPPED  # type: ignore[misc]  # that it cannot be set is the point
    assert (world.upstream.snapshot().state, world.upstream.snapshot().pid) == (ProcessState.STOPPED, None)


def test_h36_running_is_listed_in_the_turn_of_its_request() -> None:
    stack = Stack(config_of(ModelConfig(A), ModelConfig(B)))
    stack.router.states.update(a=ProcessState.READY, b=ProcessState.STOPPED)
    client = stack.begin("GET", "/running")
    stack.router.states.update(a=ProcessState.STOPPED, b=ProcessState.READY)
    assert [entry["model"] for entry in response_of(client.take()).document["running"]] == ["a"]


# --------------------------------------------------------------------------- H56


def test_h56_fifty_failures_at_once_are_one_start_again_when_they_retry() -> None:
    world = World(["a"], groups(g=["a"]), limit=50)
    for _ in range(3):
        requests = [world.arrive("a") for _ in range(50)]
        one_more = world.outcomes[world.arrive("a")]
        (swap,) = world.swaps
        world.evicted(swap)
        world.finish(swap, "upstream command exited prematurely")
        errors = [world.outcomes[request] for request in requests]
        assert all(isinstance(error, UpstreamStartError) and error.retry_after_seconds for error in errors)
        assert getattr(one_more, "status", None) == 429
    assert world.spawns == ["a"] * 3
    assert not world.swaps, "nobody retries by himself"


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (UpstreamStartError("unspecific error: upstream command exited prematurely"), 502),
        (UpstreamStartTimeoutError("unspecific error: health check timed out after 15s"), 504),
    ],
)
def test_h56_a_client_hears_when_to_come_again(error: UpstreamStartError, status: int) -> None:
    stack = Stack(config_of(ModelConfig(A)))
    stack.router.error = error
    answer = response_of(stack.post_json("/v1/chat/completions", {"model": "a"}).take())
    assert (answer.status, answer.headers["retry-after"]) == (status, "1")


# --------------------------------------------------------------------------- H58


def test_h58_a_model_that_the_scheduler_does_not_know_is_refused() -> None:
    world = World(["a"], groups(g=["a"]))
    (refused,) = world.scheduler.handle(Arrived(RequestId(1), ModelId("ghost"), 0.0))
    assert isinstance(getattr(refused, "error", None), ModelNotFoundError)
    assert world.outcomes[world.load("a")] == "serve"


def test_h58_a_router_without_that_process_refuses_and_goes_on() -> None:
    rig = Rig(A)
    lost: FakeWaiter = rig.ask(ModelId("ghost"))
    (error,) = lost.heard
    assert isinstance(error, ModelNotFoundError)
    assert rig.up(A).heard != []
    assert rig.transcript == ["start a"]


def without_a_process() -> Stack:
    return Stack(
        config_of(
            ModelConfig(A, aliases=("al",)),
            peers={"p": Peer("p", "http://127.0.0.1:1", ("remote",))},
            profiles={"day": Profile("day")},
        )
    )


@pytest.mark.parametrize("name", ["p", "day", "ghost", "", "a/b", "al/x"])
def test_h58_known_names_without_a_process_are_not_found(name: str) -> None:
    stack = without_a_process()
    answer = response_of(stack.post_json("/v1/chat/completions", {"model": name}).take())
    assert answer.status in {400, 404}
    assert not stack.router.entered
    assert stack.ask("GET", "/health").status == 200


@pytest.mark.parametrize("name", ["p/remote", "remote"])
def test_h58_a_model_of_a_peer_is_no_business_of_the_router(name: str) -> None:
    stack = without_a_process()
    stack.post_json("/v1/chat/completions", {"model": name})
    assert not stack.router.entered
    assert stack.accept().take().startswith(b"POST /v1/chat/completions HTTP/1.1")


# --------------------------------------------------------------------------- H59 and H93


def test_h59_an_alias_in_a_group_is_its_model(loaded: Loader) -> None:
    rules = "groups: {g: {members: [al, b]}}"
    assert decision(loaded, rules, B, A) == {A}
    assert decision(loaded, rules, A, B) == {B}


@pytest.mark.parametrize(
    "rules",
    [
        "groups: {g: {members: [a, ghost]}}",
        "matrix: {sets: {one: a & ghost}}",
        "matrix: {sets: {one: a & al}}",
        "matrix: {vars: {x: al}, sets: {one: x}}",
    ],
)
def test_h59_a_name_in_the_rules_that_is_no_model_is_refused(loaded: Loader, rules: str) -> None:
    assert loaded.errors(MODELS + rules)


@pytest.mark.parametrize(("sets", "stopped"), [("{zz: a & c, aa: a & b}", B), ("{aa: a & b, zz: a & c}", C)])
@pytest.mark.parametrize(
    "place",
    ["matrix: {sets: %s}", "routing: {router: {use: matrix, settings: {matrix: {sets: %s}}}}"],
)
def test_h93_of_two_equal_sets_the_one_written_first_wins(
    loaded: Loader, place: str, sets: str, stopped: ModelId
) -> None:
    assert decision(loaded, place % sets, A, B, C) == {stopped}


# --------------------------------------------------------------------------- H52


def test_h52_a_victim_has_its_own_grace_whatever_its_start_may_take() -> None:
    rig = Rig(A, B)
    config = rig.upstreams[A].config
    rig.upstreams[A].config = dataclasses.replace(config, health_check_timeout_seconds=120, unload_timeout_seconds=2)
    rig.up(A).leave()
    rig.ask(B)
    assert rig.transcript == ["start a", "stop a 2 swap"]


# --------------------------------------------------------------------------- H43, as the reference failed it


def test_h43_what_is_being_stopped_counts_as_running() -> None:
    world = World(["a", "b"], groups(g=["a", "b"]))
    world.leave(world.load("a"))
    unload = world.unload("a")
    world.arrive("b")
    assert [c for c in world.transcript if isinstance(c, Swap) and c.model == B and A not in c.evict] == []
    world.unloaded(unload)
    world.settle()
    assert world.spawns == ["a", "b"]
