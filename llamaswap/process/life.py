"""One generation of a model's process, from its start until nothing of it is left."""

from __future__ import annotations

from dataclasses import dataclass

from twisted.internet.defer import Deferred

from llamaswap.core.snapshot import LoadErrorKind
from llamaswap.errors import UpstreamStartError, UpstreamStartTimeoutError
from llamaswap.interfaces import ExitStatus, ILaunched
from llamaswap.process.idle import IdleTimer


@dataclass(slots=True, eq=False)
class Life:
    """What there is only while a generation is.

    Attributes:
        started_at: UTC epoch seconds.
        started_mono: The same moment on the clock.
        starting: The start under way.
        launched: The process, once there is one.
        probing: The health check under way.
        exit_status: How the leader ended.
        ready_at: UTC epoch seconds.
        idle: Measures the time to live of a ready process.
    """

    started_at: float
    started_mono: float
    starting: Deferred[None] | None = None
    launched: ILaunched | None = None
    probing: Deferred[None] | None = None
    exit_status: ExitStatus | None = None
    ready_at: float | None = None
    idle: IdleTimer | None = None

    def kind_of(self, error: UpstreamStartError) -> LoadErrorKind:
        """Say what kind of failure ended the start."""
        if self.launched is None:
            return LoadErrorKind.SPAWN_ERROR
        return LoadErrorKind.TIMEOUT if isinstance(error, UpstreamStartTimeoutError) else LoadErrorKind.EXITED
