"""Ids, states and frozen records that the core, the planners and everybody else share.

Everything here is immutable and free of I/O. Times that end in ``_mono`` are seconds on the
reactor's monotonic clock.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import Any, Final, NewType

ModelId = NewType("ModelId", str)
RequestId = NewType("RequestId", int)
SwapId = NewType("SwapId", int)
UnloadId = NewType("UnloadId", int)
Generation = NewType("Generation", int)

_EMPTY: Final[Mapping[Any, Any]] = MappingProxyType({})


def empty_mapping() -> Mapping[Any, Any]:
    """Give the one empty read-only mapping; a default factory, since dataclasses want hashable defaults."""
    return _EMPTY


PLANNER_API_VERSION: Final = (1, 0)
"""(major, minor) of the planner contract that this release speaks."""


class ProcessState(StrEnum):
    """State of one model's process; the words travel on the wire."""

    STOPPED = "stopped"
    STARTING = "starting"
    READY = "ready"
    STOPPING = "stopping"
    SHUTDOWN = "shutdown"

    @property
    def counts_as_running(self) -> bool:
        """Whether a process may exist, so that planning and ``/running`` must know of it."""
        return self in _RUNNING


_RUNNING: Final = frozenset({ProcessState.STARTING, ProcessState.READY, ProcessState.STOPPING})


class StopReason(StrEnum):
    """Why a process was asked to end, or ended; the words travel on the wire."""

    SWAP = "swap"
    IDLE_TIMEOUT = "idle_timeout"
    USER = "user"
    RELOAD = "reload"
    SHUTDOWN = "shutdown"
    CRASH = "crash"
    START_FAILED = "start_failed"


class SwapReason(StrEnum):
    """Who wanted a swap; the words travel on the wire."""

    REQUEST = "request"
    PRELOAD = "preload"
    USER = "user"


class SwapPhase(StrEnum):
    """How far a swap is."""

    EVICTING = "evicting"
    STARTING = "starting"


@dataclass(frozen=True, slots=True)
class LoadTimes:
    """Seconds from spawn to ready, as measured; ``None`` where never measured.

    Attributes:
        count: Successful starts so far.
        last: The newest one.
        ewma: Exponentially weighted mean.
        p50: Median.
        p95: 95th percentile.
    """

    count: int = 0
    last: float | None = None
    ewma: float | None = None
    p50: float | None = None
    p95: float | None = None


@dataclass(frozen=True, slots=True)
class Memory:
    """Resident bytes after ready; empty mappings and ``None`` where unknown.

    Attributes:
        last: Per device id, the newest measurement.
        max: Per device id, the largest.
        host: Host bytes of the process tree.
    """

    last: Mapping[str, int] = field(default_factory=empty_mapping)
    max: Mapping[str, int] = field(default_factory=empty_mapping)
    host: int | None = None


@dataclass(frozen=True, slots=True)
class Traffic:
    """How much a model is asked for.

    Attributes:
        rate_60: Arrivals per second, exponentially weighted over 60 seconds.
        rate_600: The same over 600 seconds.
        mean_service: Seconds from grant to end, mean; ``None`` before the first.
    """

    rate_60: float = 0.0
    rate_600: float = 0.0
    mean_service: float | None = None


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """What the configuration says about a model, as far as planners and the scheduler care.

    Attributes:
        id: The model's key in the configuration.
        limit: Requests that may be admitted at once, waiting ones included; at least 1.
        priority: Queue priority; higher goes first.
        ttl: Idle seconds until unload; 0 = never.
        grace: Seconds between asking the process to stop and killing it.
        group: Name of its group; empty when the groups engine is not in use.
        persistent: Whether other groups may not stop it.
        evict_cost: At least 1.
        metadata: As configured.
    """

    id: ModelId
    limit: int = 10
    priority: int = 0
    ttl: int = 0
    grace: float = 10.0
    group: str = ""
    persistent: bool = False
    evict_cost: int = 1
    metadata: Mapping[str, Any] = field(default_factory=empty_mapping)


@dataclass(frozen=True, slots=True)
class ModelView:
    """One model in a :class:`PlanView`: facts of the configuration beside the moment's figures.

    Attributes:
        state: As the scheduler knows it.
        generation: Number of the newest process, 0 before the first.
        in_flight: Requests granted and not ended.
        reserved: Requests admitted and not ended: queued, waiting for a swap, or in flight.
        ready_since: Monotonic seconds, ``None`` when not ready.
        last_used: Monotonic seconds of the newest arrival or end of a request, ``None`` before.
        load: Measured load times.
        memory: Measured memory.
        traffic: Arrivals and service times.

    The other attributes are those of :class:`ModelFacts`.
    """

    id: ModelId
    state: ProcessState = ProcessState.STOPPED
    generation: int = 0
    in_flight: int = 0
    reserved: int = 0
    limit: int = 10
    priority: int = 0
    ready_since: float | None = None
    last_used: float | None = None
    ttl: int = 0
    grace: float = 10.0
    persistent: bool = False
    group: str = ""
    evict_cost: int = 1
    metadata: Mapping[str, Any] = field(default_factory=empty_mapping)
    load: LoadTimes = LoadTimes()
    memory: Memory = Memory()
    traffic: Traffic = Traffic()


@dataclass(frozen=True, slots=True)
class SwapView:
    """An active swap.

    Attributes:
        id: Its number.
        target: The model being started.
        evict: The models being stopped for it.
        phase: How far it is.
        since: Monotonic seconds of its start.
        waiters: Requests that will be served when it is done.
    """

    id: SwapId
    target: ModelId
    evict: frozenset[ModelId]
    phase: SwapPhase
    since: float
    waiters: int


@dataclass(frozen=True, slots=True)
class QueueView:
    """A request that waits in the queue; nothing of the client is in it.

    Attributes:
        id: The request's id.
        model: What it waits for.
        age: Seconds since its admission.
        position: 1-based place in the queue.
        overdue: Whether it has waited longer than ``maxWait``.
    """

    id: RequestId
    model: ModelId
    age: float
    position: int
    overdue: bool = False


@dataclass(frozen=True, slots=True)
class FenceView:
    """A fence: the models that ``target``, overdue, waits for."""

    target: ModelId
    evict: frozenset[ModelId]


@dataclass(frozen=True, slots=True)
class DeviceView:
    """An accelerator, in bytes; ``free`` is ``None`` where unknown."""

    id: str
    kind: str
    total: int
    free: int | None = None


@dataclass(frozen=True, slots=True)
class PlanView:
    """Everything a planner may look at; one per decision round, deeply immutable.

    Attributes:
        api_version: Version of this contract.
        serial: Strictly increasing number of the snapshot.
        now: Monotonic seconds; the only clock a planner may use.
        seed: Fixed per snapshot; the only source of chance.
        models: By id, every configured local model.
        running: Sorted ids that count as running, targets of active swaps included.
        swaps: Active swaps, oldest first.
        queue: Waiting requests in order.
        fences: Standing fences.
        devices: Known accelerators.
    """

    serial: int
    now: float
    models: Mapping[ModelId, ModelView]
    running: tuple[ModelId, ...]
    swaps: tuple[SwapView, ...] = ()
    queue: tuple[QueueView, ...] = ()
    fences: tuple[FenceView, ...] = ()
    devices: tuple[DeviceView, ...] = ()
    seed: int = 0
    api_version: tuple[int, int] = PLANNER_API_VERSION


@dataclass(frozen=True, slots=True)
class Evict:
    """Decision: these must stop before the target may serve.

    Attributes:
        models: Running models, never the target; empty = none.
        cost: What the planner thinks that it costs.
        reason: Why, in at most 500 characters.
        candidates: Up to 20 (models, cost) that were compared, for the record only.
    """

    models: frozenset[ModelId]
    cost: float = 0
    reason: str = ""
    candidates: tuple[tuple[frozenset[ModelId], float], ...] = ()


@dataclass(frozen=True, slots=True)
class Wait:
    """Decision: not now, although possible.

    Attributes:
        recheck: Monotonic seconds at which to ask again, besides every event; ``None`` = events only.
        reason: Why, in at most 500 characters.
    """

    recheck: float | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Refuse:
    """Decision: can never, or not soon, be served; the target's queued requests fail.

    Attributes:
        status: 503 or 507.
        retry_after: Seconds, or ``None``.
        reason: Why, in at most 500 characters.
    """

    status: int = 503
    retry_after: int | None = None
    reason: str = ""


Decision = Evict | Wait | Refuse


class OutcomeKind(StrEnum):
    """How a swap ended."""

    READY = "ready"
    FAILED = "failed"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class SwapOutcome:
    """How a swap ended, with the measured times.

    Attributes:
        kind: The end.
        failure: For ``failed``: one word (``spawn_error``, ``exited``, ``timeout``); else empty.
        stop_seconds: From the swap's start until the evicted were gone.
        load_seconds: From then until ready, or until the failure.
    """

    kind: OutcomeKind
    failure: str = ""
    stop_seconds: float = 0.0
    load_seconds: float = 0.0
