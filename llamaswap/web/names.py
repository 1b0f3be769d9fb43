"""From the name that a request carries to the model that it is for, at this moment."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from llamaswap.config.schema import Selector
from llamaswap.errors import LONGEST_NAME_SHOWN, ModelNotFoundError, NotFoundError
from llamaswap.web.plans import CurrentPlans, Plan
from llamaswap.web.profiles import Profiles
from llamaswap.web.selectors import Selectors


class Found(NamedTuple):
    """What a name stands for.

    Attributes:
        plan: What is done with the request.
        selector: What chose the model, or ``None``.
        target: What it chose.
    """

    plan: Plan
    selector: Selector | None = None
    target: str = ""


class Names:
    """Follows a name through the active profile, the selectors and the configured names.

    Args:
        plans: What each name means.
        profiles: Knows the pins.
        selectors: Choose.
    """

    def __init__(self, plans: CurrentPlans, profiles: Profiles, selectors: Selectors) -> None:
        self._plans = plans
        self._profiles = profiles
        self._selectors = selectors

    def find(self, requested: str) -> Found:
        """Find out what a requested name stands for.

        Raises:
            NotFoundError: It is empty, or stands for nothing.
            NoTargetError: It is a selector's, none of whose models can be used now.
        """
        plans = self._plans()
        table, name = plans.by_name, requested
        if self._profiles.pins:
            pinned = self._profiles.pinned(name)
            if pinned is not None:
                table, name = plans.by_target, pinned
        if not name:
            raise NotFoundError("no model id could be identified")
        selector = plans.config.selectors.get(name)
        if selector is not None:
            target = self._selectors.choose(selector, plans.by_target)
            return Found(plans.by_target[target], selector, target)
        plan = table.get(name)
        if plan is None:
            raise ModelNotFoundError(f"no router for requested model: {requested[:LONGEST_NAME_SHOWN]}")
        return Found(plan)

    def hold(self, found: Found) -> Callable[[], None] | None:
        """Count a request that goes on now, until it is over; see :meth:`Selectors.hold`."""
        return None if found.selector is None else self._selectors.hold(found.selector, found.target)
