"""A model that fails to start again and again is left alone for a while."""

from __future__ import annotations

from typing import Any

import pytest

from llamaswap.core.backoff import Backoff, BackoffRule
from llamaswap.core.messages import Arrived, Refuse, Swap, SwapFinished, SwapStarting
from llamaswap.core.scheduler import Scheduler
from llamaswap.core.values import Generation, ModelFacts, ModelId, RequestId
from llamaswap.errors import ModelUnloadedError, StartBackoffError, UpstreamStartError, UpstreamStartTimeoutError
from llamaswap.planners.group import factory
from tests.unit.scheduler_world import acts

A = ModelId("a")
B = ModelId("b")
BROKEN = UpstreamStartError("no such file")


def test_pause_opens_after_failures_in_a_row_and_ends() -> None:
    backoff = Backoff(BackoffRule(2, 60, 30))
    backoff.swap_ended(A, BROKEN, 0)
    assert backoff.refusal(A, 1) is None
    backoff.swap_ended(A, UpstreamStartTimeoutError("too slow"), 10)
    refusal = backoff.refusal(A, 10.5)
    assert refusal is not None
    assert (refusal.status, refusal.wire_code, refusal.retry_after_seconds) == (503, "upstream_start_failed", 30)
    assert "too slow" in refusal.message
    assert backoff.refusal(B, 10.5) is None
    assert backoff.refusal(A, 40) is None
    backoff.swap_ended(A, BROKEN, 41)
    assert backoff.refusal(A, 41) is not None, "still in a row"


def test_success_begins_anew() -> None:
    backoff = Backoff(BackoffRule(2, 60, 30))
    backoff.swap_ended(A, BROKEN, 0)
    backoff.swap_ended(A, None, 1)
    backoff.swap_ended(A, BROKEN, 2)
    assert backoff.refusal(A, 3) is None


def test_failures_far_apart_do_not_count() -> None:
    backoff = Backoff(BackoffRule(2, 60, 30))
    backoff.swap_ended(A, BROKEN, 0)
    backoff.swap_ended(A, BROKEN, 61)
    assert backoff.refusal(A, 61) is None
    backoff.swap_ended(A, BROKEN, 62)
    assert backoff.refusal(A, 62) is not None


@pytest.mark.parametrize(("failures", "error"), [(0, BROKEN), (1, ModelUnloadedError("aborted"))])
def test_off_and_called_off(failures: int, error: Any) -> None:
    backoff = Backoff(BackoffRule(failures, 60, 30))
    for now in range(5):
        backoff.swap_ended(A, error, now)
        assert backoff.refusal(A, now) is None


class World:
    """A scheduler with two models that exclude each other."""

    def __init__(self) -> None:
        facts = {model: ModelFacts(model) for model in (A, B)}
        settings = {"g": {"swap": True, "exclusive": True, "persistent": False, "members": [A, B]}}
        self.scheduler = Scheduler(facts, factory.build(settings, facts), "group", Backoff(BackoffRule(1, 60, 30)))

    def ask(self, request: int, model: ModelId, now: float) -> list[Any]:
        return acts(self.scheduler.handle(Arrived(RequestId(request), model, now)))

    def fail(self, swap: Swap, now: float) -> list[Any]:
        self.scheduler.handle(SwapStarting(swap.swap, now))
        return acts(self.scheduler.handle(SwapFinished(swap.swap, now, error=UpstreamStartError("broken"))))


def test_paused_model_is_refused_at_once_and_evicts_nobody() -> None:
    world = World()
    (swap,) = world.ask(1, A, 0)
    assert [type(c) for c in world.fail(swap, 1)] == [Refuse]
    (swap,) = world.ask(2, B, 2)
    world.scheduler.handle(SwapStarting(swap.swap, 2))
    world.scheduler.handle(SwapFinished(swap.swap, 2, generation=Generation(1)))
    (refused,) = world.ask(3, A, 3)
    assert isinstance(refused.error, StartBackoffError)
    assert refused.error.retry_after_seconds == 28
    assert world.scheduler.queries.reserved(A) == (0, 0)
    assert world.scheduler.queries.reserved(B) == (0, 1)
    (again,) = world.ask(4, A, 31)
    assert not isinstance(again, Refuse), "the pause is over"
    assert world.scheduler.queries.reserved(A) == (1, 0)


def test_a_reload_forgets_the_failures_of_what_it_changed_and_follows_the_new_rule() -> None:
    backoff = Backoff(BackoffRule(1, 60, 30))
    for model in (A, B):
        backoff.swap_ended(model, UpstreamStartError("no such file"), 1.0)
    backoff.change(BackoffRule(2, 60, 30), [A])
    assert backoff.refusal(A, 2.0) is None
    assert backoff.refusal(B, 2.0) is not None
    backoff.swap_ended(A, UpstreamStartError("no such file"), 3.0)
    assert backoff.refusal(A, 3.0) is None
    backoff.swap_ended(A, UpstreamStartError("no such file"), 4.0)
    assert backoff.refusal(A, 4.0) is not None
