"""What the scheduler tells of its decisions: about a swap, a waiting request, and a question without consequences."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from llamaswap.core.values import ModelId, OutcomeKind, RequestId, SwapId, SwapReason

Costs = tuple[tuple[ModelId, float], ...]
"""Models that stop, with what that costs."""

Candidates = tuple[tuple[frozenset[ModelId], float], ...]
"""What a planner compared; see :class:`~llamaswap.core.values.Evict`."""


@dataclass(frozen=True, slots=True)
class Waiter:
    """A request that a swap serves, or was to serve.

    Attributes:
        request: Which.
        waited_seconds: From its admission until its answer, or until now.
    """

    request: RequestId
    waited_seconds: float


@dataclass(frozen=True, slots=True)
class SwapRecord:
    """A swap: why it was decided, for whom, and how it ended.

    Attributes:
        id: Its number.
        target: The model that is started.
        planner: Who decided.
        reason: On whose behalf.
        explanation: The planner's words, not to be taken for anything but text.
        request: The request that it was decided for.
        waiters: Up to 20 requests that wait for it, or that it served or disappointed.
        evicted: The models that stop for it.
        candidates: What the planner compared.
        since_mono: When it was decided.
        stop_seconds: Until the evicted were gone; ``None`` before.
        load_seconds: From then until ready, or until the failure; ``None`` before.
        outcome: How it ended; ``None`` while it runs.
        error: Why there is no process, else empty.
    """

    id: SwapId
    target: ModelId
    planner: str
    reason: SwapReason
    explanation: str
    request: RequestId
    waiters: tuple[Waiter, ...]
    evicted: Costs
    candidates: Candidates
    since_mono: float
    stop_seconds: float | None = None
    load_seconds: float | None = None
    outcome: OutcomeKind | None = None
    error: str = ""


class Why(StrEnum):
    """What a request waits for; the words travel on the wire."""

    LOADING = "loading"
    BUSY = "busy"
    UNLOADING = "unloading"
    SWAP = "swap"
    FENCE = "fence"
    PLANNER = "planner"


@dataclass(frozen=True, slots=True)
class Waiting:
    """A request that waits, at one moment.

    Attributes:
        request: Which.
        model: What it wants.
        position: 1-based place in the queue; ``None`` when it has joined a swap under way.
        priority: Its model's.
        since_mono: When it was admitted.
        why: What it waits for.
        models: The models at which that lies; may be empty.
        text: The same in words.
    """

    request: RequestId
    model: ModelId
    position: int | None
    priority: int
    since_mono: float
    why: Why
    models: tuple[ModelId, ...]
    text: str


class Choice(StrEnum):
    """What would be decided about a request; the words travel on the wire."""

    SERVE = "serve"
    EVICT = "evict"
    WAIT = "wait"
    REFUSE = "refuse"


@dataclass(frozen=True, slots=True)
class WhatIf:
    """What a request for a model would cause at one moment.

    Attributes:
        choice: ``serve`` = nothing has to stop for it; ``evict`` = these have to.
        evict: The models that would stop.
        candidates: What the planner compared.
        explanation: In words, the planner's where it was asked.
        retry_after_seconds: When to ask again, ``None`` = unknown.
        blocked_by: Models that this would have to wait for, with their requests in flight.
    """

    choice: Choice
    evict: Costs = ()
    candidates: Candidates = ()
    explanation: str = ""
    retry_after_seconds: int | None = None
    blocked_by: tuple[tuple[ModelId, int], ...] = ()
