"""Samples of host and GPUs, one after another, and an hour of them kept."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Sequence
from typing import ClassVar, Final, Generic, NamedTuple, Protocol, TypeVar

from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from llamaswap.config.schema import PerformanceConfig
from llamaswap.telemetry.gpu import GPUReading, NoGPUError
from llamaswap.telemetry.samples import GPUSnapshot, SystemSample, gpus_json, system_json
from llamaswap.telemetry.worker import Worker

_KEPT_SECONDS: Final = 3600
_STALE_INTERVALS: Final = 3

SYSTEM: Final = "system"
GPU: Final = "gpu"

SampleT = TypeVar("SampleT")
SampleT_co = TypeVar("SampleT_co", covariant=True)


class Reads(Protocol[SampleT_co]):
    """Whoever reads figures, in a thread."""

    def read(self) -> SampleT_co:
        """Read; may block, may raise."""


class Kept(NamedTuple):
    """A sample as clients get it.

    Attributes:
        at_ns: When it was taken, in UTC epoch nanoseconds.
        json: Elements of a JSON array.
    """

    at_ns: int
    json: bytes


class _Run(Generic[SampleT]):
    """The samples of one kind since sampling began."""

    def __init__(self, every_seconds: float) -> None:
        self.kept: deque[Kept] = deque(maxlen=max(1, int(_KEPT_SECONDS / every_seconds)))
        self.newest: SampleT | None = None
        self.newest_mono = 0.0


class Monitor:
    """Takes samples at intervals while the configuration wants them, the first one at once.

    Host and GPUs have a thread each: a driver that hangs holds up nothing else. What is not ready when the
    next one is due makes the next one be skipped, and counted.

    Args:
        clock: Where the timer runs.
        host: Reads the host.
        gpus: Reads the GPUs.
        workers: The threads for these two.
        config: What the configuration says.

    Attributes:
        is_on: Whether samples are taken.
        skipped: How many samples were not taken, by kind: ``system`` and ``gpu``.
        errors: How many readings failed, by source: ``system`` and the sources of GPU figures.
    """

    _log: ClassVar[Logger] = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        host: Reads[SystemSample],
        gpus: Reads[GPUReading],
        workers: tuple[Worker, Worker],
        config: PerformanceConfig,
    ) -> None:
        self.is_on = False
        self.skipped = Counter({SYSTEM: 0, GPU: 0})
        self.errors: Counter[str] = Counter({SYSTEM: 0})
        self._clock = clock
        self._host = host
        self._gpus = gpus
        self._system_worker, self._gpu_worker = workers
        self._config = config
        self._timer: LoopingCall | None = None
        self._system: _Run[SystemSample] = _Run(config.every_seconds)
        self._snapshots: _Run[GPUSnapshot] = _Run(config.every_seconds)
        self._answered_mono: dict[str, float] = {}
        self._complained: set[str] = set()
        self._busy: set[str] = set()

    def start(self) -> None:
        """Begin, if that is wanted."""
        if self._config.disabled:
            return
        self.is_on = True
        self._timer = LoopingCall(self._take)
        self._timer.clock = self._clock
        self._timer.start(self._config.every_seconds)

    def apply(self, config: PerformanceConfig) -> None:
        """Follow another configuration: unless it is the same, all samples go and sampling begins anew."""
        if config != self._config:
            self._config = config
            self._pause()
            self._system, self._snapshots = _Run(config.every_seconds), _Run(config.every_seconds)
            self._answered_mono.clear()
            self.start()

    def stop(self) -> None:
        """Take no more samples; nobody waits for one that is being taken."""
        self._pause()
        self._system_worker.end()
        self._gpu_worker.end()

    def _pause(self) -> None:
        self.is_on = False
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.stop()

    # ----------------------------------------------------------------- what is known

    @property
    def system(self) -> SystemSample | None:
        """The newest sample of the host, unless it is too old to be of use."""
        return self._fresh(self._system)

    @property
    def gpus(self) -> GPUSnapshot | None:
        """The newest picture of the GPUs, unless it is too old to be of use."""
        return self._fresh(self._snapshots)

    def _fresh(self, run: _Run[SampleT]) -> SampleT | None:
        age_seconds = self._clock.seconds() - run.newest_mono
        return run.newest if age_seconds <= _STALE_INTERVALS * self._config.every_seconds else None

    def ages_seconds(self) -> dict[str, float]:
        """Give the time since the last reading of each source that was ever read."""
        now = self._clock.seconds()
        return {source: now - at for source, at in self._answered_mono.items()}

    def history(self, after_ns: int) -> tuple[Sequence[bytes], Sequence[bytes]]:
        """Give what is kept of the host and of the GPUs, the oldest first.

        Args:
            after_ns: UTC epoch nanoseconds; what is not younger is left out.
        """
        return _younger(self._system.kept, after_ns), _younger(self._snapshots.kept, after_ns)

    # ----------------------------------------------------------------- taking samples

    def _take(self) -> None:
        system, snapshots = self._system, self._snapshots
        self._begin(SYSTEM, self._system_worker, self._read_system, lambda taken: self._took_system(system, taken))
        self._begin(GPU, self._gpu_worker, self._read_gpus, lambda taken: self._took_gpus(snapshots, taken))

    def _begin(
        self,
        kind: str,
        worker: Worker,
        read: Callable[[], SampleT],
        on_end: Callable[[SampleT | Failure], None],
    ) -> None:
        if kind in self._busy:
            self.skipped[kind] += 1
            return
        self._busy.add(kind)

        def end(result: SampleT | Failure) -> None:
            self._busy.discard(kind)
            on_end(result)

        worker.do(read).addBoth(end)

    def _read_system(self) -> tuple[SystemSample, Kept]:
        sample = self._host.read()
        return sample, Kept(sample.at_ns, system_json(sample))

    def _read_gpus(self) -> tuple[GPUReading, Kept]:
        reading = self._gpus.read()
        return reading, Kept(reading.snapshot.at_ns, gpus_json(reading.snapshot))

    def _took_system(self, run: _Run[SystemSample], taken: tuple[SystemSample, Kept] | Failure) -> None:
        if isinstance(taken, Failure):
            self._failed(SYSTEM, taken.value)
        elif run is self._system and self.is_on:
            self._keep(run, *taken)
            self._answered(SYSTEM)

    def _took_gpus(self, run: _Run[GPUSnapshot], taken: tuple[GPUReading, Kept] | Failure) -> None:
        if isinstance(taken, Failure):
            self._failed(GPU, taken.value)
        elif run is self._snapshots and self.is_on:
            reading, kept = taken
            if reading.snapshot.gpus:
                self._keep(run, reading.snapshot, kept)
            for source in reading.answered:
                self._answered(source)
            for source, error in reading.errors.items():
                self._failed(source, error)

    def _keep(self, run: _Run[SampleT], sample: SampleT, kept: Kept) -> None:
        run.kept.append(kept)
        run.newest, run.newest_mono = sample, self._clock.seconds()

    def _answered(self, source: str) -> None:
        self._answered_mono[source] = self._clock.seconds()
        self._complained.discard(source)

    def _failed(self, source: str, error: BaseException | None) -> None:
        """Count a failure, and say it once until the source works again."""
        if isinstance(error, NoGPUError):
            self._log.debug("no figures from {source}: {error}", source=source, error=error)
            return
        self.errors[source] += 1
        if source not in self._complained:
            self._complained.add(source)
            self._log.warn("could not read {source} figures: {error}", source=source, error=error)


def _younger(kept: Sequence[Kept], after_ns: int) -> list[bytes]:
    return [each.json for each in kept if each.at_ns > after_ns]
