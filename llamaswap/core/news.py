"""What happened, as those are told who only look on: see :class:`llamaswap.telemetry.bus.Bus`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from llamaswap.core.records import SwapRecord
from llamaswap.core.values import Generation, ModelId, ProcessState, StopReason


@dataclass(frozen=True, slots=True)
class StateChanged:
    """A model's process is in another state.

    Attributes:
        model: Whose.
        generation: Which process.
        old: The state before.
        new: The state now.
        reason: Why it ends, when it does.
        at_mono: When, on the reactor's clock.
    """

    model: ModelId
    generation: Generation
    old: ProcessState
    new: ProcessState
    reason: StopReason | None
    at_mono: float


@dataclass(frozen=True, slots=True)
class ConfigChanged:
    """Another configuration is in force."""


@dataclass(frozen=True, slots=True)
class ReloadChanged:
    """A reload has begun or ended; ``report`` as ``GET /api/reload`` shows it."""

    report: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class ProfileChanged:
    """Another profile is active, or none."""

    active: str | None


@dataclass(frozen=True, slots=True)
class RowAdded:
    """There are further rows about requests that have ended; ``id`` is the newest one's."""

    id: int


@dataclass(frozen=True, slots=True)
class SwapChanged:
    """A swap has begun or ended; ``record`` as ``GET /api/swaps`` shows it."""

    record: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class SwapNoted:
    """A swap began or ended, or is called off; for those who keep records.

    Attributes:
        record: What there is to say about it.
        at_mono: When, on the reactor's clock.
    """

    record: SwapRecord
    at_mono: float
