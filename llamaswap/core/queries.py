"""Answers to those who only ask: who waits for what, and what a request would cause."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from llamaswap.core import values
from llamaswap.core.book import Request, RequestBook
from llamaswap.core.fences import Fence, Fences
from llamaswap.core.judge import Judge, Verdict, Way
from llamaswap.core.records import Choice, Costs, Waiting, WhatIf, Why
from llamaswap.core.rules import Rules
from llamaswap.core.running import Running
from llamaswap.core.swaps import ActiveSwap
from llamaswap.core.values import ModelFacts, ModelId, ProcessState, SwapId

_UNDECIDED: Final = "about to be decided"
_FAILED: Final = "the planner failed"


def costs(models: Iterable[ModelId], facts: Mapping[ModelId, ModelFacts]) -> Costs:
    """Say what it costs to stop models, sorted by name."""
    return tuple((model, float(facts[model].evict_cost)) for model in sorted(models))


class Queries:
    """Answers at one moment; nothing changes by them.

    Args:
        rules: Those in force.
        swaps: The active ones.
        running: What is up.
        book: Who waits and who is served.
        judge: Says what is possible.
        fences: Whose turn it is.
    """

    def __init__(
        self,
        rules: Rules,
        swaps: Mapping[SwapId, ActiveSwap],
        running: Running,
        book: RequestBook,
        judge: Judge,
        fences: Fences,
    ) -> None:
        self._rules = rules
        self._swaps = swaps
        self._running = running
        self._book = book
        self._judge = judge
        self._fences = fences

    @property
    def planner_name(self) -> str:
        """What the planner in force is called."""
        return self._rules.planner_name

    def reserved(self, model: ModelId) -> tuple[int, int]:
        """Count the admitted requests of a configured model: those that wait, and those in flight."""
        in_flight = self._book.in_flight(model)
        return self._book.reserved(model) - in_flight, in_flight

    def state(self, model: ModelId) -> ProcessState:
        """Give the state of a configured model as planning sees it."""
        return self._running.state(model)

    def fences(self) -> list[Fence]:
        """Give the fences that stand, the oldest first."""
        return list(self._fences.standing.values())

    def waiting(self, now: float) -> Iterator[Waiting]:
        """Give the requests that wait: those of swaps under way, then the queue in order.

        The planner is asked once for each model in the queue.

        Args:
            now: Monotonic seconds.
        """
        for swap in self._swaps.values():
            why, models, text = _progress(swap)
            for request in swap.waiters.values():
                yield self._waiting(request, None, why, models, text)
        verdicts: dict[ModelId, Verdict] = {}
        sight = self._judge.sight(now)
        for position, request in enumerate(self._book.queue, 1):
            verdict = verdicts.get(request.model)
            if verdict is None:
                verdict = verdicts[request.model] = self._judge.look(request.model, sight)
            yield self._waiting(request, position, verdict.why, verdict.models, _obstacle(verdict, self._book))

    def _waiting(
        self, request: Request, position: int | None, why: Why, models: tuple[ModelId, ...], text: str
    ) -> Waiting:
        priority = self._rules.facts[request.model].priority
        return Waiting(request.id, request.model, position, priority, request.admitted_mono, why, models, text)

    def what_if(self, model: ModelId, now: float) -> WhatIf:
        """Say what a request for a model would cause.

        Args:
            model: A configured one.
            now: Monotonic seconds.
        """
        refusal = self._judge.refusal(model, now)
        if refusal is not None:
            return WhatIf(Choice.REFUSE, explanation=refusal.message, retry_after_seconds=refusal.retry_after_seconds)
        return _in_words(model, self._judge.look(model, self._judge.sight(now)), self._book, self._rules.facts)


def _progress(swap: ActiveSwap) -> tuple[Why, tuple[ModelId, ...], str]:
    if swap.is_evicting and swap.evict:
        models = tuple(sorted(swap.evict))
        return Why.UNLOADING, models, f"unloading {', '.join(models)}"
    return Why.LOADING, (swap.target,), f"loading {swap.target}"


def _obstacle(verdict: Verdict, book: RequestBook) -> str:
    names = ", ".join(verdict.models)
    match verdict.why:
        case Why.UNLOADING:
            return f"unloading {names}"
        case Why.SWAP:
            return f"the swap to {names} comes first"
        case Why.FENCE:
            return f"{names} has waited for too long, and comes first"
        case Why.BUSY:
            return ", ".join(f"{model} has {_requests(book.in_flight(model))}" for model in verdict.models)
        case _:
            words = verdict.decision.reason if isinstance(verdict.decision, values.Wait) else _UNDECIDED
            return words or "the planner waits"


def _requests(number: int) -> str:
    return "1 running request" if number == 1 else f"{number} running requests"


def _in_words(model: ModelId, verdict: Verdict, book: RequestBook, facts: Mapping[ModelId, ModelFacts]) -> WhatIf:
    blocked_by = tuple((other, book.in_flight(other)) for other in verdict.models)
    match verdict.decision:
        case values.Evict() as found:
            choice = Choice.EVICT if found.models else Choice.WAIT if blocked_by else Choice.SERVE
            evict = costs(found.models, facts)
            return WhatIf(choice, evict, found.candidates, found.reason, blocked_by=blocked_by)
        case values.Wait() as found:
            return WhatIf(Choice.WAIT, explanation=found.reason)
        case values.Refuse() as found:
            return WhatIf(Choice.REFUSE, explanation=found.reason, retry_after_seconds=found.retry_after)
        case None if verdict.way is Way.JOIN:
            return WhatIf(Choice.WAIT, explanation=f"{model} is being loaded")
        case None if verdict.way is Way.WAIT:
            return WhatIf(Choice.WAIT, explanation=_obstacle(verdict, book), blocked_by=blocked_by)
        case _:
            return WhatIf(Choice.REFUSE, explanation=_FAILED)
