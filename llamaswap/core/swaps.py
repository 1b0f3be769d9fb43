"""An active swap: what it stops, what it starts, who waits for it, and what it collides with."""

from __future__ import annotations

from dataclasses import dataclass, field

from llamaswap.core.book import Request
from llamaswap.core.messages import CancelSwap
from llamaswap.core.values import (
    ModelId,
    OutcomeKind,
    Refuse,
    RequestId,
    StopReason,
    SwapId,
    SwapOutcome,
    SwapPhase,
    SwapReason,
    SwapView,
)
from llamaswap.errors import LlamaSwapError, SwapRefusedError


@dataclass(slots=True, eq=False)
class ActiveSwap:
    """A swap from its decision to its ``SwapFinished``.

    Attributes:
        id: Its number.
        target: The model to be started.
        evict: The models that are stopped first.
        reason: On whose behalf it was decided.
        since_mono: When it was decided.
        starting_mono: When the evicted were gone, ``None`` before.
        is_cancelled: Whether its target must not come up any more; nobody may join it then.
        waiters: Who is served when it is done, in order of arrival.
    """

    id: SwapId
    target: ModelId
    evict: frozenset[ModelId]
    reason: SwapReason
    since_mono: float
    starting_mono: float | None = None
    is_cancelled: bool = False
    waiters: dict[RequestId, Request] = field(default_factory=dict)

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


def refusal_of(decision: Refuse) -> SwapRefusedError:
    """Make the error for requests of a target that a planner refuses."""
    error = SwapRefusedError(f"swap refused: {decision.reason}", decision.status)
    error.retry_after_seconds = decision.retry_after
    return error
