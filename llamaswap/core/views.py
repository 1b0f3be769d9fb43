"""What planners see of the scheduler at one moment, and one question that is asked about it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

from llamaswap.core.book import RequestBook
from llamaswap.core.swaps import ActiveSwap
from llamaswap.core.values import Evict, Generation, ModelFacts, ModelId, ModelView, PlanView, ProcessState
from llamaswap.interfaces import ISwapPlanner


@dataclass(frozen=True, slots=True)
class Up:
    """A process that is up: which, and since when."""

    generation: Generation
    since_mono: float


@dataclass(frozen=True, slots=True)
class Moment:
    """Everything that a view is made of; parameters of :func:`plan_view`."""

    serial: int
    now: float
    facts: Mapping[ModelId, ModelFacts]
    states: Mapping[ModelId, ProcessState]
    up: Mapping[ModelId, Up]
    generation: Mapping[ModelId, Generation]
    swaps: Iterable[ActiveSwap]


class Sight:
    """What planners are shown at one moment: made when somebody asks for it, and once.

    Args:
        now: Monotonic seconds.
        make: Makes it.

    Attributes:
        now: As given.
    """

    __slots__ = ("_make", "_view", "now")

    def __init__(self, now: float, make: Callable[[float], PlanView]) -> None:
        self.now = now
        self._make = make
        self._view: PlanView | None = None

    @property
    def view(self) -> PlanView:
        """Everything, as it was when this was first asked for; to be forgotten when anything changes."""
        if self._view is None:
            self._view = self._make(self.now)
        return self._view


def plan_view(moment: Moment, book: RequestBook) -> PlanView:
    """Make the view of a moment."""
    return PlanView(
        serial=moment.serial,
        seed=moment.serial,
        now=moment.now,
        models=MappingProxyType({m: _model_view(f, moment, book) for m, f in moment.facts.items()}),
        running=tuple(sorted(m for m, s in moment.states.items() if s.counts_as_running)),
        swaps=tuple(swap.view() for swap in moment.swaps),
        queue=book.queue_view(moment.now),
    )


def _model_view(facts: ModelFacts, moment: Moment, book: RequestBook) -> ModelView:
    up = moment.up.get(facts.id)
    return ModelView(
        id=facts.id,
        state=moment.states[facts.id],
        generation=moment.generation.get(facts.id, Generation(0)),
        in_flight=book.in_flight(facts.id),
        reserved=book.reserved(facts.id),
        limit=facts.limit,
        priority=facts.priority,
        ready_since=up.since_mono if up is not None else None,
        last_used=book.last_used_mono.get(facts.id),
        ttl=facts.ttl,
        grace=facts.grace,
        persistent=facts.persistent,
        group=facts.group,
        evict_cost=facts.evict_cost,
        metadata=facts.metadata,
    )


def forbidden_idle(planner: ISwapPlanner, view: PlanView) -> frozenset[ModelId]:
    """Find idle models that may not stay beside the others that are up.

    Busy ones stay in any case, then those that were used last. Two models that can come to run
    together in one order only may stay.
    """
    up = [m for m in view.models.values() if m.state is ProcessState.READY]
    up.sort(key=lambda m: (not m.reserved, -(m.last_used or 0.0), m.id))
    kept: list[ModelId] = []
    for model in up:
        together = replace(view, running=tuple(sorted([*kept, model.id])))
        if model.reserved or not _excludes(planner, together, model.id):
            kept.append(model.id)
    return frozenset(m.id for m in up).difference(kept)


def _excludes(planner: ISwapPlanner, view: PlanView, model: ModelId) -> bool:
    return any(_victims(planner, view, other) for other in _victims(planner, view, model))


def _victims(planner: ISwapPlanner, view: PlanView, target: ModelId) -> frozenset[ModelId]:
    decision = planner.plan(view, target)
    return decision.models if isinstance(decision, Evict) else frozenset()
