"""Selectors: names that choose one of several models for each request."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from itertools import count
from typing import Final

from llamaswap.config.schema import Selector
from llamaswap.core.news import ConfigChanged
from llamaswap.core.values import ModelId, ProcessState
from llamaswap.errors import NoTargetError
from llamaswap.web.daemon import Daemon
from llamaswap.web.plans import Plan

_UP: Final = frozenset({ProcessState.READY, ProcessState.STARTING})
_DOWN: Final = frozenset({ProcessState.STOPPING, ProcessState.SHUTDOWN})


class Selectors:
    """Chooses targets, and knows which requests it has sent where.

    Args:
        daemon: Knows the states of the models; tells of another configuration.
    """

    def __init__(self, daemon: Daemon) -> None:
        self._daemon = daemon
        self._held: dict[tuple[str, str], set[int]] = {}  # by selector and target, the requests under way
        self._holds = count(1)
        self._last: dict[str, str] = {}  # by selector, the target that a tie went to
        daemon.observers.bus.subscribe(ConfigChanged, self._follow)

    def _follow(self, _: ConfigChanged) -> None:
        selectors = self._daemon.config.selectors
        self._last = {name: target for name, target in self._last.items() if name in selectors}

    def choose(self, selector: Selector, plans: Mapping[str, Plan]) -> str:
        """Choose a target for a request that is about to go on.

        Args:
            selector: Whose targets.
            plans: What each target means.

        Returns:
            The target, as it is written in the configuration.

        Raises:
            NoTargetError: All of them are about to stop.
        """
        match selector.strategy:
            case "pin":
                return selector.targets[0]
            case "warm":
                return self._warmest(selector, plans)
            case "spillover":
                return self._spilt(selector, plans)

    def hold(self, selector: Selector, target: str) -> Callable[[], None] | None:
        """Count a request until it is over, where the selector's choice depends on that.

        Returns:
            To be called when it is over; harmless when called again.
        """
        if selector.strategy != "spillover":
            return None
        key, hold = (selector.name_id, target), next(self._holds)
        self._held.setdefault(key, set()).add(hold)
        return partial(self._release, key, hold)

    def _release(self, key: tuple[str, str], hold: int) -> None:
        held = self._held.get(key)
        if held is not None:
            held.discard(hold)
            if not held:
                del self._held[key]

    def _state(self, plan: Plan) -> ProcessState:
        """Give the state of a local model; a peer's has none and is as good as stopped."""
        return self._daemon.router.state(ModelId(plan.model)) if plan.peer is None else ProcessState.STOPPED

    def _warmest(self, selector: Selector, plans: Mapping[str, Plan]) -> str:
        states = {target: self._state(plans[target]) for target in selector.targets}
        for wanted in (ProcessState.READY, ProcessState.STARTING):
            found = next((target for target, state in states.items() if state is wanted), None)
            if found is not None:
                return found
        return selector.targets[0]

    def _spilt(self, selector: Selector, plans: Mapping[str, Plan]) -> str:
        """Use one model until it is busy, then the next one."""
        active: dict[str, int] = {}
        cold: list[str] = []
        for target in selector.targets:
            state = self._state(plans[target])
            held = len(self._held.get((selector.name_id, target), ()))
            if state in _DOWN:
                continue
            if held or state in _UP:
                active[target] = held
            else:
                cold.append(target)
        if not active and not cold:
            raise NoTargetError(selector.name_id)
        least = min(active.values(), default=selector.spillover)
        if cold and least >= selector.spillover:
            return cold[0]
        return self._next_in_turn(selector, [target for target, held in active.items() if held == least])

    def _next_in_turn(self, selector: Selector, equals: list[str]) -> str:
        """Choose the first behind the one that was chosen last, in the written order, round and round."""
        last = self._last.get(selector.name_id)
        start = selector.targets.index(last) + 1 if last in selector.targets else 0
        in_turn = (*selector.targets[start:], *selector.targets[:start])
        chosen = next(target for target in in_turn if target in equals)
        self._last[selector.name_id] = chosen
        return chosen
