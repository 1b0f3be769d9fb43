"""The group planner against the table of the specification."""

from __future__ import annotations

import itertools

import pytest
from zope.interface.verify import verifyObject

from llamaswap.core.values import Evict, ModelFacts, ModelId, ModelView, PlanView
from llamaswap.errors import PlannerConfigError
from llamaswap.interfaces import ISwapPlanner, ISwapPlannerFactory
from llamaswap.planners.group import factory
from tests.unit.scheduler_world import groups

T, R = ModelId("t"), ModelId("r")


def view(*running: ModelId) -> PlanView:
    """A moment in which these run."""
    return PlanView(serial=1, now=0.0, models={m: ModelView(m) for m in (T, R)}, running=tuple(sorted(running)))


def facts(*names: str) -> dict[ModelId, ModelFacts]:
    """Facts of these models."""
    return {ModelId(n): ModelFacts(ModelId(n)) for n in names}


def test_the_factory_and_the_planner_keep_their_interfaces() -> None:
    assert verifyObject(ISwapPlannerFactory, factory)
    assert verifyObject(ISwapPlanner, factory.build(groups(g=["t"]), facts("t")))


@pytest.mark.parametrize(("swap", "exclusive", "persistent"), list(itertools.product([True, False], repeat=3)))
def test_within_a_group_only_swap_counts(*, swap: bool, exclusive: bool, persistent: bool) -> None:
    group = {"members": ["t", "r"], "swap": swap, "exclusive": exclusive, "persistent": persistent}
    decision = factory.build(groups(g=group), facts("t", "r")).plan(view(R), T)
    assert isinstance(decision, Evict)
    assert decision.models == (frozenset({R}) if swap else frozenset())


@pytest.mark.parametrize(
    ("exclusive", "persistent", "other_exclusive"), list(itertools.product([True, False], repeat=3))
)
def test_across_groups_exclusive_evicts_what_is_not_persistent(
    *, exclusive: bool, persistent: bool, other_exclusive: bool
) -> None:
    layout = groups(
        g={"members": ["t"], "exclusive": exclusive},
        h={"members": ["r"], "persistent": persistent, "exclusive": other_exclusive},
    )
    decision = factory.build(layout, facts("t", "r")).plan(view(R), T)
    assert isinstance(decision, Evict)
    assert decision.models == (frozenset({R}) if exclusive and not persistent else frozenset())


def test_the_target_itself_is_never_a_victim() -> None:
    decision = factory.build(groups(g=["t", "r"]), facts("t", "r")).plan(view(T, R), T)
    assert isinstance(decision, Evict)
    assert decision.models == frozenset({R})


def test_a_model_without_a_group_is_refused() -> None:
    with pytest.raises(PlannerConfigError, match="every model in a group"):
        factory.build(groups(g=["t"]), facts("t", "r"))


def test_a_model_that_was_removed_and_still_runs_counts_as_one_without_a_group() -> None:
    planner = factory.build(groups(x=["a"], y={"members": ["b"], "exclusive": False}), {})
    view = PlanView(1, 0.0, {}, running=(ModelId("gone"),))
    assert planner.plan(view, ModelId("a")) == Evict(
        frozenset({ModelId("gone")}), cost=1, reason="group x: gone must go"
    )
    assert planner.plan(view, ModelId("b")) == Evict(frozenset())
