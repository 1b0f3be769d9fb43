"""Several sources of GPU figures taken together: each is tried again after it fails, no device is counted twice."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from math import inf
from typing import Final, Protocol

from llamaswap.telemetry.samples import GPU, GPUIdentity, GPUSnapshot

_FIRST_PAUSE_SECONDS: Final = 5.0
_LONGEST_PAUSE_SECONDS: Final = 300.0


class GPUError(Exception):
    """A source cannot be read now."""


class NoGPUError(GPUError):
    """There is nothing to be read: no driver, no tool, no device. No reason to complain."""


class GPUSource(Protocol):
    """One way to figures of some devices. Calls may block; all come from one thread.

    Attributes:
        name: Short and constant; a label of metrics.
    """

    name: str

    def open(self) -> None:
        """Prepare for reading.

        Raises:
            NoGPUError: It is not there.
            GPUError: It does not work.
        """

    def read(self) -> tuple[Sequence[GPU], bool]:
        """Read all devices.

        Returns:
            The devices that can be read, and whether that is all of them; if not, the source is opened anew.

        Raises:
            GPUError: None can be read.
        """

    def close(self) -> None:
        """Let go; never raises."""


@dataclass(slots=True)
class _Tended:
    """A source, and how it fares."""

    source: GPUSource
    is_open: bool = False
    retry_mono: float = -inf
    pause_seconds: float = _FIRST_PAUSE_SECONDS

    def read(self, now_mono: float) -> Sequence[GPU] | None:
        """Read the source; ``None`` while it is left alone."""
        if not self.is_open:
            if now_mono < self.retry_mono:
                return None
            self.source.open()
            self.is_open = True
        gpus, is_whole = self.source.read()
        if is_whole:
            self.pause_seconds = _FIRST_PAUSE_SECONDS
        elif now_mono >= self.retry_mono + self.pause_seconds:
            # Opened anew for the sake of the device that is missing; the others have no pause.
            self.give_up(now_mono)
            self.retry_mono = now_mono
        return gpus

    def give_up(self, now_mono: float) -> None:
        """Leave the source alone for a while, longer each time."""
        self.source.close()
        self.is_open = False
        self.retry_mono = now_mono + self.pause_seconds
        self.pause_seconds = min(2 * self.pause_seconds, _LONGEST_PAUSE_SECONDS)


@dataclass(frozen=True, slots=True)
class GPUReading:
    """What a look at all sources gave.

    Attributes:
        snapshot: The devices, maybe none.
        answered: Names of the sources that gave devices.
        errors: Why the others did not, by name; those that are left alone for a while are in neither.
    """

    snapshot: GPUSnapshot
    answered: Sequence[str] = ()
    errors: Mapping[str, Exception] = field(default_factory=dict)


class GPUs:
    """All sources. Earlier ones have precedence: what a later one says about the same device is not heard.

    Args:
        sources: In order.
        now_ns: Gives UTC epoch nanoseconds.
        now_mono: Gives the time by which pauses are measured.
    """

    def __init__(self, sources: Sequence[GPUSource], now_ns: Callable[[], int], now_mono: Callable[[], float]) -> None:
        self._tended = [_Tended(source) for source in sources]
        self._now_ns = now_ns
        self._now_mono = now_mono
        self._numbers: dict[str, int] = {}

    def read(self) -> GPUReading:
        """Read all sources, one after another; never raises."""
        answered: list[str] = []
        errors: dict[str, Exception] = {}
        gpus: list[GPU] = []
        for tended in self._tended:
            try:
                found = tended.read(self._now_mono())
            except Exception as error:  # noqa: BLE001 - of foreign libraries and drivers, which must not stop the others
                tended.give_up(self._now_mono())
                errors[tended.source.name] = error
                continue
            if found is not None:
                answered.append(tended.source.name)
                known = {gpu.identity.pci_address for gpu in gpus} - {""}
                gpus += [gpu for gpu in found if gpu.identity.pci_address not in known]
        return GPUReading(GPUSnapshot(self._now_ns(), self._numbered(gpus)), answered, errors)

    def close(self) -> None:
        """Let go of all sources."""
        for tended in self._tended:
            if tended.is_open:
                tended.source.close()
                tended.is_open = False

    def _numbered(self, gpus: Sequence[GPU]) -> list[tuple[int, GPU]]:
        """Number the devices: as their sources do where that is free, and the same at every reading."""
        for gpu in sorted(gpus, key=lambda gpu: gpu.identity.index is None):
            key = _key(gpu.identity)
            if key not in self._numbers:
                taken = set(self._numbers.values())
                number = gpu.identity.index
                if number is None or number in taken:
                    number = next(n for n in range(len(taken) + 1) if n not in taken)
                self._numbers[key] = number
        return sorted(((self._numbers[_key(gpu.identity)], gpu) for gpu in gpus), key=lambda pair: pair[0])


def _key(identity: GPUIdentity) -> str:
    return identity.uuid or identity.pci_address or f"{identity.source} {identity.index}"
