"""One model's process as it is shown: its state, its figures, and why it last failed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from llamaswap.core.values import LoadTimes, ModelId, ProcessState, empty_mapping


class LoadErrorKind(StrEnum):
    """What went wrong with a process; the words travel on the wire."""

    SPAWN_ERROR = "spawn_error"
    EXITED = "exited"
    TIMEOUT = "timeout"
    CRASH = "crash"


@dataclass(frozen=True, slots=True)
class LoadError:
    """Why a model is not up, although it was wanted.

    Attributes:
        at: UTC epoch seconds.
        kind: What went wrong.
        message: The same in words.
        exit_code: Exit status of the leader, ``None`` where it has none.
        signal: Number of the signal that ended it, or ``None``.
        log_tail: Last lines of the model's log at that moment.
    """

    at: float
    kind: LoadErrorKind
    message: str
    exit_code: int | None = None
    signal: int | None = None
    log_tail: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class UpstreamSnapshot:
    """One model's process at one moment, for display.

    Attributes:
        model: The model's id.
        state: Its state.
        generation: Number of the newest process, 0 before the first.
        pid: Of the leader, or ``None``.
        started_at: UTC epoch seconds of the newest spawn, or ``None``.
        ready_at: UTC epoch seconds of becoming ready, ``None`` when not ready.
        starts: Spawns so far.
        crashes: Exits nobody asked for.
        load: Measured load times.
        last_error: Why the newest start failed, or the process ended by itself; ``None`` after a
            successful start.
        launched: What the launcher says of the process; empty when there is none.
        expires_at: UTC epoch seconds at which it is unloaded unless it is used; ``None`` = never.
        cwd: Working folder of the process.
    """

    model: ModelId
    state: ProcessState = ProcessState.STOPPED
    generation: int = 0
    pid: int | None = None
    started_at: float | None = None
    ready_at: float | None = None
    starts: int = 0
    crashes: int = 0
    load: LoadTimes = field(default_factory=LoadTimes)
    last_error: LoadError | None = None
    launched: Mapping[str, Any] = field(default_factory=empty_mapping)
    expires_at: float | None = None
    cwd: str = ""
