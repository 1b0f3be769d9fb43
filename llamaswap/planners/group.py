"""The ``group`` planner: models replace each other within and across named groups.

For target T of group G, a running model R of group H must stop if (G = H and G swaps) or (G != H,
G is exclusive and H is not persistent). A non-exclusive group leaves a running exclusive one alone,
although the exclusive one would have evicted it: kept for compatibility with llama-swap.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from zope.interface import implementer

from llamaswap.core.values import Decision, Evict, ModelFacts, ModelId, PlanView, SwapOutcome, SwapView
from llamaswap.errors import PlannerConfigError
from llamaswap.interfaces import ISwapPlanner, ISwapPlannerFactory


@dataclass(frozen=True, slots=True)
class _Group:
    name: str
    swap: bool
    exclusive: bool
    persistent: bool

    def evicts(self, other: _Group) -> bool:
        if self.name == other.name:
            return self.swap
        return self.exclusive and not other.persistent


_DEFAULT: Final = _Group("(default)", swap=True, exclusive=True, persistent=False)
"""The group of a model that a reload removed, and whose process is not gone yet."""


@implementer(ISwapPlanner)
@dataclass(frozen=True, slots=True)
class GroupPlanner:
    """Decides by the flags of the groups.

    Attributes:
        group_of: The group of every configured model.
    """

    group_of: Mapping[ModelId, _Group]

    def plan(self, view: PlanView, target: ModelId) -> Decision:
        """See :meth:`llamaswap.interfaces.ISwapPlanner.plan`."""
        mine = self.group_of[target]
        victims = frozenset(m for m in view.running if m != target and mine.evicts(self.group_of.get(m, _DEFAULT)))
        if not victims:
            return Evict(victims)
        return Evict(victims, cost=len(victims), reason=f"group {mine.name}: {', '.join(sorted(victims))} must go")

    def swap_started(self, view: PlanView, swap: SwapView) -> None:
        """Nothing to note."""

    def swap_finished(self, view: PlanView, swap: SwapView, outcome: SwapOutcome) -> None:
        """Nothing to note."""

    def models_changed(self, models: Mapping[ModelId, ModelFacts]) -> None:
        """Nothing to note: this planner is built anew whenever groups change."""

    def close(self) -> None:
        """Nothing to give up."""


@implementer(ISwapPlannerFactory)
@dataclass(frozen=True, slots=True)
class GroupPlannerFactory:
    """Builds the ``group`` planner."""

    name: str = "group"
    api_version: tuple[int, int] = (1, 0)

    def settings_schema(self) -> Mapping[str, Any] | None:
        """Describe the settings: group name to members and flags."""
        flags = {flag: {"type": "boolean"} for flag in ("swap", "exclusive", "persistent")}
        members = {"type": "array", "items": {"type": "string"}}
        return {
            "type": "object",
            "additionalProperties": {"type": "object", "properties": {"members": members, **flags}},
        }

    def build(self, settings: Mapping[str, Any], models: Mapping[ModelId, ModelFacts]) -> GroupPlanner:
        """Make the planner.

        Args:
            settings: By group name: ``members`` and the flags ``swap``, ``exclusive``, ``persistent``.
            models: Every configured model; each must be a member of exactly one group.

        Raises:
            PlannerConfigError: A model has no group.
        """
        group_of: dict[ModelId, _Group] = {}
        for name, settings_of_group in settings.items():
            group = _Group(
                name,
                settings_of_group["swap"],
                settings_of_group["exclusive"],
                settings_of_group["persistent"],
            )
            group_of.update(dict.fromkeys(settings_of_group["members"], group))
        homeless = sorted(models.keys() - group_of.keys())
        if homeless:
            setting = "groups"
            raise PlannerConfigError(setting, "every model in a group", homeless)
        return GroupPlanner(group_of)


factory = GroupPlannerFactory()
