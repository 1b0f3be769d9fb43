"""What a configuration says about deciding, until the next one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from llamaswap.core.backoff import Backoff
from llamaswap.core.messages import Complain
from llamaswap.core.values import Decision, Evict, ModelFacts, ModelId, PlanView, Refuse, Wait
from llamaswap.interfaces import ISwapPlanner


@dataclass(slots=True)
class Rules:
    """The models, and who decides about them.

    Attributes:
        facts: By id, every model.
        planner: Who decides.
        planner_name: What it is called in records and logs.
        backoff: Knows which models are not tried for a while.
    """

    facts: Mapping[ModelId, ModelFacts]
    planner: ISwapPlanner
    planner_name: str
    backoff: Backoff

    def decide(self, view: PlanView, model: ModelId) -> Decision:
        """Ask the planner what has to happen for a model.

        Raises:
            TypeError: What it gave cannot be followed; commands would be lost on the way.
            Exception: Whatever it raises.
        """
        decision: object = self.planner.plan(view, model)
        match decision:
            case Evict(models=frozenset(), cost=int() | float(), reason=str(), candidates=tuple()):
                if decision.models <= view.models.keys():
                    return decision
            case Wait(recheck=None | int() | float()):
                return decision
            case Refuse(status=int(), retry_after=None | int() | float(), reason=str()):
                return decision
        raise TypeError(f"no decision that can be followed: {decision!r:.500}")

    def tell(self, name: str, call: Callable[[ISwapPlanner], object]) -> list[Complain]:
        """Call a method of the planner; what it does with that is no reason to lose a command."""
        try:
            call(self.planner)
        except Exception as fault:  # noqa: BLE001 - a stranger's planner may raise anything; it is shown, not hidden
            return [Complain(name, fault)]
        return []
