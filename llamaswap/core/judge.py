"""The one place that says what is possible for a request right now; it changes nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, auto
from math import inf
from typing import assert_never

from llamaswap.core import values
from llamaswap.core.book import RequestBook
from llamaswap.core.departures import Departures
from llamaswap.core.fences import Fences
from llamaswap.core.messages import Complain
from llamaswap.core.records import Why
from llamaswap.core.rules import Rules
from llamaswap.core.running import Running
from llamaswap.core.swaps import ActiveSwap
from llamaswap.core.values import Decision, ModelId, PlanView, SwapId
from llamaswap.core.views import Sight
from llamaswap.errors import (
    ConcurrencyLimitError,
    LlamaSwapError,
    ModelNotFoundError,
    ShuttingDownError,
    SwapRefusedError,
)


class Way(Enum):
    """What can be done with a request."""

    JOIN = auto()
    SERVE = auto()
    START = auto()
    WAIT = auto()
    REFUSE = auto()


@dataclass(frozen=True, slots=True)
class Verdict:
    """What can be done with a request for a model, and why.

    Attributes:
        way: What.
        why: To wait: for what.
        models: To wait: the models at which it lies.
        decision: The planner's, where it was asked and gave one.
        fault: What the planner raised instead.
    """

    way: Way
    why: Why = Why.PLANNER
    models: tuple[ModelId, ...] = ()
    decision: Decision | None = None
    fault: Exception | None = None

    @property
    def recheck_mono(self) -> float:
        """When the planner wants to be asked again, whatever happens; infinite = when something does."""
        recheck = self.decision.recheck if isinstance(self.decision, values.Wait) else None
        return inf if recheck is None else recheck

    def evict(self) -> values.Evict:
        """What has to stop."""
        return self.decision if isinstance(self.decision, values.Evict) else values.Evict(frozenset())

    def refusal(self) -> LlamaSwapError:
        """Make the error for a request that is refused."""
        decision = self.decision
        if not isinstance(decision, values.Refuse):
            return LlamaSwapError("internal error")
        error = SwapRefusedError(f"swap refused: {decision.reason}", decision.status)
        error.retry_after_seconds = decision.retry_after
        return error

    def complaints(self) -> list[Complain]:
        """What to log."""
        return [] if self.fault is None else [Complain("plan", self.fault)]


class Judge:
    """Looks at all that may stand in a request's way; see the module :mod:`llamaswap.core.scheduler`.

    Args:
        rules: Those in force.
        swaps: The active ones; only read, as everything here.
        departures: Who is on the way out.
        running: What is up.
        book: Who waits and who is served.
        fences: Whose turn it is.

    Attributes:
        is_shutting_down: Whether nothing new is served.
    """

    def __init__(
        self,
        rules: Rules,
        swaps: Mapping[SwapId, ActiveSwap],
        departures: Departures,
        running: Running,
        book: RequestBook,
        fences: Fences,
    ) -> None:
        self._rules = rules
        self._swaps = swaps
        self._departures = departures
        self._running = running
        self._book = book
        self._fences = fences
        self.is_shutting_down = False

    def refusal(self, model: ModelId, now: float) -> LlamaSwapError | None:
        """Say why a request is not even admitted; ``None`` = it is."""
        if model not in self._rules.facts or model in self._departures.removed:
            return ModelNotFoundError("no local server found for requested model")
        if self.is_shutting_down:
            return ShuttingDownError("llama-swap is shutting down")
        if self._book.is_full(model):
            return ConcurrencyLimitError()
        return self._rules.backoff.refusal(model, now)

    def view(self, now: float) -> PlanView:
        """Show everything to planners."""
        return self._running.view(now, self._rules.facts, self._book)

    def sight(self, now: float) -> Sight:
        """Give the same for several looks between which nothing changes."""
        return Sight(now, self.view)

    def swap_to(self, model: ModelId) -> ActiveSwap | None:
        """Find the active swap that starts a model."""
        return next((swap for swap in self._swaps.values() if swap.target == model), None)

    def look(self, model: ModelId, sight: Sight) -> Verdict:
        """Say what is possible for a request of a configured model."""
        verdict = self._known(model)
        if verdict is not None:
            return verdict
        try:
            decision = self._rules.decide(sight.view, model)
        except Exception as fault:  # noqa: BLE001 - a stranger's planner may raise anything; it is shown, not hidden
            return Verdict(Way.REFUSE, fault=fault)
        match decision:
            case values.Evict():
                return self._weigh(model, decision, sight.view)
            case values.Wait():
                return Verdict(Way.WAIT, decision=decision)
            case values.Refuse():
                return Verdict(Way.REFUSE, decision=decision)
            case _:
                assert_never(decision)

    def _known(self, model: ModelId) -> Verdict | None:
        """Say what is possible where no planner need be asked."""
        before = self._fences.holding(model)
        if before is not None:
            return Verdict(Way.WAIT, Why.FENCE, (before,))
        swap = self.swap_to(model)
        if swap is not None and not swap.is_cancelled:
            return Verdict(Way.JOIN)
        is_leaving = swap is not None or self._departures.holds(model)
        return Verdict(Way.WAIT, Why.UNLOADING, (model,)) if is_leaving else None

    def _weigh(self, model: ModelId, decision: values.Evict, view: PlanView) -> Verdict:
        evict = decision.models
        colliding = tuple(swap.target for swap in self._swaps.values() if swap.collides(model, evict))
        if colliding:
            return Verdict(Way.WAIT, Why.SWAP, colliding, decision)
        if not evict and model in self._running.up:
            return Verdict(Way.SERVE, decision=decision)
        before = self._fences.against(model, evict, view)
        if before is not None:
            return Verdict(Way.WAIT, Why.FENCE, (before,), decision)
        busy = tuple(sorted(victim for victim in evict if self._book.in_flight(victim)))
        if busy:
            return Verdict(Way.WAIT, Why.BUSY, busy, decision)
        return Verdict(Way.START, decision=decision)
