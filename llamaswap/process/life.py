"""One generation of a model's process, from its start until nothing of it is left."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Final

from twisted.internet.defer import CancelledError, Deferred, maybeDeferred, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from llamaswap.core.snapshot import LoadErrorKind
from llamaswap.errors import UpstreamStartError, UpstreamStartTimeoutError
from llamaswap.interfaces import ExitStatus, ILaunched
from llamaswap.process.idle import IdleTimer

_MEASURING_SECONDS: Final = 2.0
"""What a launcher has to measure a server's memory; then it is unknown."""


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

    _log: ClassVar[Logger] = Logger()

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

    def resident_bytes(self, clock: IReactorTime) -> Deferred[int | None]:
        """Measure the host memory of the whole server.

        Args:
            clock: Limits the time for it.

        Returns:
            Fires with bytes, or with ``None`` when there is no server yet or it cannot be measured; never fails,
            but by being cancelled.
        """
        if self.launched is None:
            return succeed(None)
        measured = maybeDeferred(self.launched.resident_bytes)
        return measured.addTimeout(_MEASURING_SECONDS, clock).addErrback(self._not_measured)

    def _not_measured(self, failure: Failure) -> None:
        if failure.check(CancelledError):
            failure.raiseException()
        self._log.warn("memory of a server cannot be measured: {error!r}", error=failure.value)
