"""An active swap: what it stops, what it starts, who waits for it, and what it collides with."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from llamaswap.core.book import Request
from llamaswap.core.messages import CancelSwap, Swap
from llamaswap.core.records import Costs, SwapRecord, Waiter
from llamaswap.core.values import (
    Evict,
    ModelId,
    OutcomeKind,
    RequestId,
    StopReason,
    SwapId,
    SwapOutcome,
    SwapPhase,
    SwapReason,
    SwapView,
)
from llamaswap.errors import LlamaSwapError

_WAITERS: Final = 20
"""So many waiting requests are named in a record."""

_CANDIDATES: Final = 20
_EXPLANATION_CHARACTERS: Final = 500


class SwapNumbers:
    """Numbers swaps, so that none has the number of one on record.

    Args:
        last: Number of the last swap on record, 0 = there is none.

    Attributes:
        last: The last number that was given, or is on record.
    """

    def __init__(self, last: int = 0) -> None:
        self.last = last

    def take(self) -> SwapId:
        """Give the next number."""
        self.last += 1
        return SwapId(self.last)

    def follow(self, last: int) -> None:
        """Go on behind a number that is on another record."""
        self.last = max(self.last, last)


@dataclass(slots=True, eq=False)
class ActiveSwap:
    """A swap from its decision to its ``SwapFinished``.

    Attributes:
        id: Its number.
        target: The model to be started.
        decision: What the planner said.
        planner: Who that was.
        evicted: The models that are stopped first, with what each costs.
        cause: The request that it was decided for.
        since_mono: When it was decided.
        starting_mono: When the evicted were gone, ``None`` before.
        is_cancelled: Whether its target must not come up any more; nobody may join it then.
        waiters: Who is served when it is done, in order of arrival.
    """

    id: SwapId
    target: ModelId
    decision: Evict
    planner: str
    evicted: Costs
    cause: Request
    since_mono: float
    starting_mono: float | None = None
    is_cancelled: bool = False
    waiters: dict[RequestId, Request] = field(default_factory=dict)
    _refused: list[Waiter] = field(default_factory=list)

    @property
    def evict(self) -> frozenset[ModelId]:
        """The models that are stopped first."""
        return self.decision.models

    @property
    def reason(self) -> SwapReason:
        """On whose behalf it was decided."""
        return self.cause.reason

    @property
    def is_evicting(self) -> bool:
        """Whether the evicted may still exist."""
        return self.starting_mono is None

    def collides(self, model: ModelId, evict: frozenset[ModelId]) -> bool:
        """Whether a swap to ``model`` that stops ``evict`` must not run beside this one."""
        return self.target in evict or model in self.evict or not evict.isdisjoint(self.evict)

    def take_waiters(self) -> list[Request]:
        """Take all waiters out, in order of arrival."""
        waiters = list(self.waiters.values())
        self.waiters.clear()
        return waiters

    def give_up_waiters(self, now: float) -> list[Request]:
        """Take all waiters out, who get no for an answer; the record goes on to name them."""
        self._refused += self._named(now)
        return self.take_waiters()

    def _named(self, now: float) -> list[Waiter]:
        return [Waiter(r.id, now - r.admitted_mono) for r in list(self.waiters.values())[:_WAITERS]]

    def command(self) -> Swap:
        """Give the order to run it."""
        found = self.decision
        return Swap(self.id, self.target, found.models, self.reason, self.planner, found.reason, found.cost)

    def record(self, now: float, outcome: SwapOutcome | None = None, error: LlamaSwapError | None = None) -> SwapRecord:
        """Say what there is to say about it.

        Args:
            now: Monotonic seconds.
            outcome: How it ended, when it has.
            error: Why there is no process.
        """
        starting_mono = self.starting_mono
        return SwapRecord(
            id=self.id,
            target=self.target,
            planner=self.planner,
            reason=self.reason,
            explanation=self.decision.reason[:_EXPLANATION_CHARACTERS],
            request=self.cause.id,
            waiters=tuple([*self._refused, *self._named(now)][:_WAITERS]),
            evicted=self.evicted,
            candidates=self.decision.candidates[:_CANDIDATES],
            since_mono=self.since_mono,
            stop_seconds=None if starting_mono is None else starting_mono - self.since_mono,
            load_seconds=None if starting_mono is None or outcome is None else outcome.load_seconds,
            outcome=None if outcome is None else outcome.kind,
            error="" if error is None else error.message,
        )

    def cancel(self, reason: StopReason = StopReason.USER) -> list[CancelSwap]:
        """Keep its target from coming up; gives the command for that, none when it was given before."""
        if self.is_cancelled:
            return []
        self.is_cancelled = True
        return [CancelSwap(self.id, reason)]

    def view(self) -> SwapView:
        """Show it to planners."""
        phase = SwapPhase.EVICTING if self.is_evicting else SwapPhase.STARTING
        return SwapView(self.id, self.target, self.evict, phase, self.since_mono, len(self.waiters))

    def outcome(self, at_mono: float, error: LlamaSwapError | None) -> SwapOutcome:
        """Say how it ended, with the times it took."""
        starting_mono = at_mono if self.starting_mono is None else self.starting_mono
        if error is None:
            kind = OutcomeKind.READY
        else:
            kind = OutcomeKind.CANCELLED if self.is_cancelled else OutcomeKind.FAILED
        return SwapOutcome(
            kind,
            failure=error.wire_code if error is not None and kind is OutcomeKind.FAILED else "",
            stop_seconds=starting_mono - self.since_mono,
            load_seconds=at_mono - starting_mono,
        )
