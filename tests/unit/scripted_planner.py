"""A planner that says what a test wants."""

from __future__ import annotations

from collections.abc import Mapping

from zope.interface import implementer

from llamaswap.core.values import Decision, Evict, ModelFacts, ModelId, PlanView, SwapOutcome, SwapView
from llamaswap.interfaces import ISwapPlanner


@implementer(ISwapPlanner)
class ScriptedPlanner:
    """Gives scripted decisions and records what it is asked and told."""

    def __init__(self, decisions: Mapping[str, Decision] | None = None) -> None:
        self.decisions = dict(decisions or {})
        self.asked: list[tuple[PlanView, ModelId]] = []
        self.told: list[tuple[str, SwapView, SwapOutcome | None]] = []

    def plan(self, view: PlanView, target: ModelId) -> Decision:
        """See the interface."""
        self.asked.append((view, target))
        return self.decisions.get(target, Evict(frozenset()))

    def swap_started(self, view: PlanView, swap: SwapView) -> None:
        """See the interface."""
        self.told.append(("started", swap, None))

    def swap_finished(self, view: PlanView, swap: SwapView, outcome: SwapOutcome) -> None:
        """See the interface."""
        self.told.append(("finished", swap, outcome))

    def models_changed(self, models: Mapping[ModelId, ModelFacts]) -> None:
        """See the interface."""

    def close(self) -> None:
        """See the interface."""
