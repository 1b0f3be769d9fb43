"""The ``matrix`` planner: allowed sets of models, and the cheapest way into one of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from zope.interface import implementer

from llamaswap.core.sets import Matrix, solve
from llamaswap.core.values import Decision, Evict, ModelFacts, ModelId, PlanView, SwapOutcome, SwapView
from llamaswap.errors import PlannerConfigError
from llamaswap.interfaces import ISwapPlanner, ISwapPlannerFactory


@implementer(ISwapPlanner)
@dataclass(frozen=True, slots=True)
class MatrixPlanner:
    """Decides by the allowed sets.

    Attributes:
        matrix: Sets and costs.
    """

    matrix: Matrix

    def plan(self, view: PlanView, target: ModelId) -> Decision:
        """See :meth:`llamaswap.interfaces.ISwapPlanner.plan`."""
        found = solve(self.matrix, view.running, target)
        if not found.evict:
            return Evict(found.evict, cost=found.cost)
        where = f"set {found.set_name}" if found.set_name else "no set holds it"
        reason = f"{where}: {', '.join(sorted(found.evict))} must go, cost {found.cost}"
        return Evict(found.evict, cost=found.cost, reason=reason[:500], candidates=found.candidates)

    def swap_started(self, view: PlanView, swap: SwapView) -> None:
        """Nothing to note."""

    def swap_finished(self, view: PlanView, swap: SwapView, outcome: SwapOutcome) -> None:
        """Nothing to note."""

    def models_changed(self, models: Mapping[ModelId, ModelFacts]) -> None:
        """Nothing to note: this planner is built anew whenever the sets change."""

    def close(self) -> None:
        """Nothing to give up."""


@implementer(ISwapPlannerFactory)
@dataclass(frozen=True, slots=True)
class MatrixPlannerFactory:
    """Builds the ``matrix`` planner."""

    name: str = "matrix"
    api_version: tuple[int, int] = (1, 0)

    def settings_schema(self) -> Mapping[str, Any] | None:
        """Any mapping: the configuration layer has parsed and checked the sets."""
        return None

    def build(
        self,
        settings: Mapping[str, Any],
        models: Mapping[ModelId, ModelFacts],  # noqa: ARG002 - the interface has it
    ) -> MatrixPlanner:
        """Make the planner.

        Args:
            settings: ``matrix``: a :class:`~llamaswap.core.sets.Matrix`.
            models: Not needed.

        Raises:
            PlannerConfigError: There is no matrix.
        """
        matrix = settings.get("matrix")
        if not isinstance(matrix, Matrix):
            setting = "matrix"
            raise PlannerConfigError(setting, "allowed sets", matrix)
        return MatrixPlanner(matrix)


factory = MatrixPlannerFactory()
