"""Whose turn it is when somebody has waited for too long: nobody may overtake them any more.

Without this a busy model would keep its rivals waiting for as long as it is asked for, since what is
up answers at once, and several small models could take turns in the way of one that needs the place
of all of them. A model whose oldest waiting request is older than the limit is *overdue*. A *fence*
is raised for it unless it is in the way of one that stands: then the models that must stop for it
get no further requests, and no swap starts that it would have to undo. Requests in flight go on; only
tunnels of websockets, which may stay open for days, are closed after a time where one is configured.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import inf

from llamaswap.core.book import RequestBook
from llamaswap.core.messages import EndTunnel, Fenced
from llamaswap.core.patience import ENDLESS, Patience
from llamaswap.core.rules import Rules
from llamaswap.core.swaps import ActiveSwap
from llamaswap.core.values import Evict, ModelId, PlanView, ProcessState, RequestId, SwapId
from llamaswap.core.views import Sight


@dataclass(frozen=True, slots=True)
class Fence:
    """What stands for one model.

    Attributes:
        model: For whom.
        since_mono: When it was raised.
        holds: Models that must stop for it.
        told: Requests in flight of those whose tunnels are to end.
    """

    model: ModelId
    since_mono: float
    holds: frozenset[ModelId]
    told: frozenset[RequestId] = frozenset()


class Fences:
    """Keeps those that stand; who is overdue besides waits for one of them to fall.

    Args:
        rules: Those in force; only read, as everything here.
        swaps: The active ones.
        book: Who waits.

    Attributes:
        patience: How long is too long.
        standing: By model.
    """

    def __init__(self, rules: Rules, swaps: Mapping[SwapId, ActiveSwap], book: RequestBook) -> None:
        self.patience: Patience = ENDLESS
        self.standing: dict[ModelId, Fence] = {}
        self._rules = rules
        self._swaps = swaps
        self._book = book

    # ----------------------------------------------------------------- questions

    def holding(self, model: ModelId) -> ModelId | None:
        """Give the model for which this one is to stop; ``None`` = no fence is in its way."""
        return next((fence.model for fence in self.standing.values() if model in fence.holds), None)

    def against(self, target: ModelId, evict: frozenset[ModelId], view: PlanView) -> ModelId | None:
        """Give the model whose turn a swap would spoil: it would be stopped, or would have to undo the swap."""
        for model in self.standing:
            if model != target and (model in evict or self._undoes(model, target, view)):
                return model
        return None

    def next_mono(self, now: float) -> float:
        """When the next model will be overdue, or its patience with tunnels at its end; infinite = none."""
        moments = [*self._due().values(), *map(self._drained_mono, self.standing.values())]
        return min((moment for moment in moments if moment > now), default=inf)

    # ----------------------------------------------------------------- changes

    def lift(self, now: float, *, all_of_them: bool = False) -> list[Fenced]:
        """Lift those whose model has been served, or is not waited for any more; or all of them."""
        wanted = {request.model for request in self._book.queue}
        wanted.update(swap.target for swap in self._swaps.values() if swap.waiters)
        gone = [fence for fence in self.standing.values() if all_of_them or fence.model not in wanted]
        for fence in gone:
            del self.standing[fence.model]
        return [Fenced(fence.model, now - fence.since_mono, fence.holds, is_raised=False) for fence in gone]

    def update(self, sight: Sight) -> list[Fenced]:
        """Ask anew who has to stop for whom, and raise a fence for everybody whose turn it has become.

        What has to stop changes with what runs: of two that have come to be in each other's way the
        older one stays.
        """
        now = sight.now
        changes: list[Fenced] = []
        before, self.standing = self.standing, {}
        for fence in before.values():
            holds = self._room_for(fence.model, sight.view)
            if holds is None:
                changes.append(Fenced(fence.model, now - fence.since_mono, fence.holds, is_raised=False))
            else:
                self.standing[fence.model] = replace(fence, holds=holds)
        due = {model: due_mono for model, due_mono in self._due().items() if due_mono <= now}
        facts = self._rules.facts
        for model in sorted(due.keys() - self.standing, key=lambda m: (due[m], -facts[m].priority, m)):
            holds = self._room_for(model, sight.view)
            if holds is not None:
                self.standing[model] = Fence(model, now, holds)
                waited_seconds = now - due[model] + self.patience.seconds(model)
                changes.append(Fenced(model, waited_seconds, holds, is_raised=True))
        return changes

    def drain(self, now: float) -> list[EndTunnel]:
        """End the tunnels of models that have been held for so long, each once."""
        commands: list[EndTunnel] = []
        for fence in self.standing.values():
            if now >= self._drained_mono(fence):
                told = frozenset(request for model in fence.holds for request in self._book.served(model))
                commands += [EndTunnel(request) for request in sorted(told - fence.told)]
                self.standing[fence.model] = replace(fence, told=told)
        return commands

    def _drained_mono(self, fence: Fence) -> float:
        return fence.since_mono + (self.patience.drain_seconds or inf)

    def _room_for(self, model: ModelId, view: PlanView) -> frozenset[ModelId] | None:
        """Say who must stop for a model; ``None`` = it is in the way of a fence, or the planner has other plans."""
        holds = self._evicted(model, view)
        if holds is None:
            return None
        is_in_the_way = any(
            not (holds | {model}).isdisjoint(fence.holds | {fence.model})
            or self._undoes(model, fence.model, view)
            or self._undoes(fence.model, model, view)
            for fence in self.standing.values()
        )
        return None if is_in_the_way else holds

    def _due(self) -> dict[ModelId, float]:
        """Say when each model that is waited for is, or was, overdue."""
        oldest: dict[ModelId, float] = {}
        for request in self._book.queue:
            oldest[request.model] = min(request.admitted_mono, oldest.get(request.model, inf))
        return {model: mono + self.patience.seconds(model) for model, mono in oldest.items()}

    def _undoes(self, model: ModelId, other: ModelId, view: PlanView) -> bool:
        """Say whether a model would have to stop another one that ran."""
        running = tuple(sorted({*view.running, other}))
        return other in (self._evicted(model, replace(view, running=running)) or ())

    def _evicted(self, model: ModelId, view: PlanView) -> frozenset[ModelId] | None:
        # What of it is still on its way out is no process of it.
        if view.models[model].state is ProcessState.STOPPING:
            view = replace(view, running=tuple(m for m in view.running if m != model))
        try:
            decision = self._rules.decide(view, model)
        except Exception:  # noqa: BLE001 - it is asked again for the request itself, and shown then
            return None
        return decision.models if isinstance(decision, Evict) else None
