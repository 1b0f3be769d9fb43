"""What the scheduler is told, and what it answers: its events and its commands.

Both are frozen records of ids. Times are monotonic seconds, handed in with each event: the core has
no clock of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from llamaswap.core.backoff import NO_BACKOFF, BackoffRule
from llamaswap.core.patience import ENDLESS, Patience
from llamaswap.core.records import SwapRecord
from llamaswap.core.values import (
    Generation,
    ModelFacts,
    ModelId,
    RequestId,
    StopReason,
    SwapId,
    SwapReason,
    UnloadId,
)
from llamaswap.errors import LlamaSwapError
from llamaswap.interfaces import ISwapPlanner

# --------------------------------------------------------------------------- events


@dataclass(frozen=True, slots=True)
class Arrived:
    """Somebody wants to be served by a model.

    Attributes:
        request: A number never used before.
        model: A configured local model's id; aliases are resolved by then.
        at_mono: Now.
        reason: On whose behalf.
    """

    request: RequestId
    model: ModelId
    at_mono: float
    reason: SwapReason = SwapReason.REQUEST


@dataclass(frozen=True, slots=True)
class RequestGone:
    """A request ended, whatever its end was: answered, failed, or hung up. Idempotent."""

    request: RequestId
    at_mono: float


@dataclass(frozen=True, slots=True)
class SwapStarting:
    """All models that a swap evicts are gone; its target is being started."""

    swap: SwapId
    at_mono: float


@dataclass(frozen=True, slots=True)
class SwapFinished:
    """A swap ended; exactly one for each ``Swap`` command.

    Attributes:
        swap: Its id.
        at_mono: Now.
        generation: The process that is ready, when ``error`` is ``None``.
        error: Why there is none.
    """

    swap: SwapId
    at_mono: float
    generation: Generation = Generation(0)
    error: LlamaSwapError | None = None


@dataclass(frozen=True, slots=True)
class UnloadAsked:
    """Models shall stop at once, whoever uses them.

    Attributes:
        unload: A number never used before.
        models: Configured local models, running or not.
        at_mono: Now.
        reason: Why.
    """

    unload: UnloadId
    models: frozenset[ModelId]
    at_mono: float
    reason: StopReason = StopReason.USER


@dataclass(frozen=True, slots=True)
class IdleExpired:
    """A process was idle for its ``ttl``; the scheduler unloads it unless somebody wants it."""

    unload: UnloadId
    model: ModelId
    generation: Generation
    at_mono: float


@dataclass(frozen=True, slots=True)
class UnloadFinished:
    """The models of an ``Unload`` command are stopped; exactly one for each."""

    unload: UnloadId
    at_mono: float


@dataclass(frozen=True, slots=True)
class ProcessExited:
    """A ready process ended by itself."""

    model: ModelId
    generation: Generation
    at_mono: float


@dataclass(frozen=True, slots=True)
class Tick:
    """The time asked for by the newest ``WakeAt`` has come."""

    at_mono: float


@dataclass(frozen=True, slots=True)
class ShutdownBegan:
    """Nothing new is served from here on; what is in flight goes on."""

    at_mono: float


@dataclass(frozen=True, slots=True)
class Reconfigured:
    """Another configuration holds from now on.

    Attributes:
        facts: By id, every model that it has.
        planner: Decides from now on.
        planner_name: What it is called.
        restarted: Models whose processes are of no use any more.
        removed: Models that it has no more.
        drain_seconds: What requests in flight of those two get at most.
        at_mono: Now.
        enforces: Whether idle models that the new rules forbid together are unloaded at once.
        backoff: When models that fail to start are left alone.
        patience: How long a request may be overtaken.
    """

    facts: Mapping[ModelId, ModelFacts]
    planner: ISwapPlanner
    planner_name: str
    restarted: frozenset[ModelId]
    removed: frozenset[ModelId]
    drain_seconds: float
    at_mono: float
    enforces: bool = False
    backoff: BackoffRule = NO_BACKOFF
    patience: Patience = ENDLESS


Event = (
    Arrived
    | RequestGone
    | SwapStarting
    | SwapFinished
    | UnloadAsked
    | IdleExpired
    | UnloadFinished
    | ProcessExited
    | Tick
    | ShutdownBegan
    | Reconfigured
)

# --------------------------------------------------------------------------- commands


@dataclass(frozen=True, slots=True)
class Serve:
    """Hand the request to this process. In flight from here on, until its ``RequestGone``."""

    request: RequestId
    model: ModelId
    generation: Generation


@dataclass(frozen=True, slots=True)
class Refuse:
    """Answer the request with an error. It is over; a ``RequestGone`` after it finds nothing left."""

    request: RequestId
    error: LlamaSwapError


@dataclass(frozen=True, slots=True)
class Swap:
    """Stop ``evict`` together, then start ``model``; exactly one ``SwapFinished`` follows.

    Attributes:
        swap: Its id.
        model: The target, never in ``evict``.
        evict: Models to stop first.
        reason: On whose behalf.
        planner: Who decided.
        explanation: The planner's words.
        cost: The planner's figure.
    """

    swap: SwapId
    model: ModelId
    evict: frozenset[ModelId]
    reason: SwapReason
    planner: str
    explanation: str
    cost: float


@dataclass(frozen=True, slots=True)
class CancelSwap:
    """Do not start the swap's target any more, or abort its start; ``SwapFinished`` still follows."""

    swap: SwapId
    reason: StopReason = StopReason.USER


@dataclass(frozen=True, slots=True)
class Unload:
    """Stop these models; exactly one ``UnloadFinished`` follows."""

    unload: UnloadId
    models: frozenset[ModelId]
    reason: StopReason


@dataclass(frozen=True, slots=True)
class Position:
    """Tell a queued request its 1-based place; advisory, the latest value wins."""

    request: RequestId
    position: int


@dataclass(frozen=True, slots=True)
class WakeAt:
    """Send one ``Tick`` then; replaces an earlier one."""

    at_mono: float


@dataclass(frozen=True, slots=True)
class Dismiss:
    """Let go of a model's supervisor: the model was removed, and nothing of it is left."""

    model: ModelId


@dataclass(frozen=True, slots=True)
class Announce:
    """Tell those who look on about a swap: when it begins, when it ends, and before its waiters are sent away."""

    record: SwapRecord


@dataclass(frozen=True, slots=True)
class Complain:
    """Log that the planner broke a call; what was to be decided was decided without it.

    Attributes:
        call: The method.
        fault: What it raised.
    """

    call: str
    fault: Exception


@dataclass(frozen=True, slots=True)
class Fenced:
    """Tell that a fence was raised or lifted.

    Attributes:
        model: For whom it stands, or stood.
        seconds: How long its oldest request has waited; of one that was lifted, how long it stood.
        holds: The models that are to stop.
        is_raised: Which of the two.
    """

    model: ModelId
    seconds: float
    holds: frozenset[ModelId]
    is_raised: bool


@dataclass(frozen=True, slots=True)
class EndTunnel:
    """Close the request's tunnel, if it has become a websocket's; any other goes on. Its ``RequestGone`` follows."""

    request: RequestId


Command = (
    Serve | Refuse | Swap | CancelSwap | Unload | Position | WakeAt | Dismiss | Announce | Complain | Fenced | EndTunnel
)
