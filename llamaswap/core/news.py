"""What happened, as those are told who only look on: see :class:`llamaswap.telemetry.bus.Bus`."""

from __future__ import annotations

from dataclasses import dataclass

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
