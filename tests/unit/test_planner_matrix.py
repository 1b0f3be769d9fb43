"""The matrix planner: what the solver finds, as a decision."""

from __future__ import annotations

import pytest
from zope.interface.verify import verifyObject

from llamaswap.core.setparser import build_matrix
from llamaswap.core.values import Evict, ModelFacts, ModelId, ModelView, PlanView
from llamaswap.errors import PlannerConfigError
from llamaswap.interfaces import ISwapPlanner, ISwapPlannerFactory
from llamaswap.planners.matrix import MatrixPlanner, factory

A, B, C = ModelId("a"), ModelId("b"), ModelId("c")
FACTS = {m: ModelFacts(m) for m in (A, B, C)}


def view(*running: ModelId) -> PlanView:
    """A moment in which these run."""
    return PlanView(serial=1, now=0.0, models={m: ModelView(m) for m in FACTS}, running=tuple(sorted(running)))


@pytest.fixture
def planner() -> MatrixPlanner:
    """Allows a with b, and c alone."""
    matrix = build_matrix({}, {"a": 7}, {"duo": "a & b"}, FACTS)
    return factory.build({"matrix": matrix}, FACTS)


def test_the_factory_and_the_planner_keep_their_interfaces(planner: MatrixPlanner) -> None:
    assert verifyObject(ISwapPlannerFactory, factory)
    assert verifyObject(ISwapPlanner, planner)
    assert factory.settings_schema() is None


def test_what_may_run_together_stays(planner: MatrixPlanner) -> None:
    assert planner.plan(view(A), B) == Evict(frozenset(), cost=0)


def test_what_is_in_no_set_runs_alone_and_the_decision_says_so(planner: MatrixPlanner) -> None:
    decision = planner.plan(view(A, B), C)
    assert isinstance(decision, Evict)
    assert (decision.models, decision.cost) == (frozenset({A, B}), 8)
    assert decision.reason == "no set holds it: a, b must go, cost 8"


def test_the_winning_set_is_named(planner: MatrixPlanner) -> None:
    decision = planner.plan(view(B, C), A)
    assert isinstance(decision, Evict)
    assert decision.models == frozenset({C})
    assert decision.reason == "set duo: c must go, cost 1"


def test_without_a_matrix_nothing_is_built() -> None:
    with pytest.raises(PlannerConfigError, match="allowed sets"):
        factory.build({}, FACTS)
