"""A machine that is not there: figures of a host, devices, a driver's library, and work without threads."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

from twisted.internet.task import Clock

from llamaswap.config.schema import PerformanceConfig
from llamaswap.telemetry.gpu import GPUReading
from llamaswap.telemetry.monitor import Monitor
from llamaswap.telemetry.samples import GPU, GPUIdentity, GPUSnapshot, Network, SystemSample
from tests.fakes import InlineWorker

EPOCH_NS = 1795165973_900000000
SECOND_NS = 1_000_000_000


def system_sample(at_ns: int = EPOCH_NS) -> SystemSample:
    return SystemSample(
        at_ns=at_ns,
        cpu_percent=(23.44, 100.0),
        memory_total_bytes=24105 << 20,
        memory_used_bytes=(503 << 20) + 1000,
        memory_free_bytes=21739 << 20,
        swap_total_bytes=1 << 30,
        swap_used_bytes=1 << 20,
        load=(1.41, 1.88, 1.33),
        network=(Network("eth0", 967220328, 2222529),),
    )


def gpu(index: int | None = 0, **figures: Any) -> GPU:
    """Give a device; what is not said is unknown."""
    known = {"name": "RTX", "uuid": f"GPU-{index}", **figures.pop("identity", {})}
    return GPU(GPUIdentity("nvml", index, **known), **figures)


RTX = gpu(
    temperature_celsius=41,
    memory_temperature_celsius=52,
    busy_percent=97.0,
    memory_used_bytes=15360 << 20,
    memory_total_bytes=24576 << 20,
    fan_percent=30,
    power_watts=285.4,
)


class FakeHost:
    """Gives samples, or raises."""

    def __init__(self, clock: Clock) -> None:
        self.error: Exception | None = None
        self._clock = clock

    def read(self) -> SystemSample:
        if self.error is not None:
            raise self.error
        return system_sample(EPOCH_NS + int(self._clock.seconds() * SECOND_NS))


class FakeGPUs:
    """Gives readings."""

    def __init__(self, clock: Clock) -> None:
        self.gpus: Sequence[GPU] = ()
        self.errors: dict[str, Exception] = {}
        self._clock = clock

    def read(self) -> GPUReading:
        at_ns = EPOCH_NS + int(self._clock.seconds() * SECOND_NS)
        answered = ["nvml"] if self.gpus else []
        return GPUReading(GPUSnapshot(at_ns, list(enumerate(self.gpus))), answered, self.errors)


class Sampling:
    """A monitor of the machine that is not there."""

    def __init__(self, *, every_seconds: float = 5, disabled: bool = False, clock: Clock | None = None) -> None:
        self.clock = Clock() if clock is None else clock
        self.host, self.gpus = FakeHost(self.clock), FakeGPUs(self.clock)
        self.workers = InlineWorker(), InlineWorker()
        config = PerformanceConfig(disabled=disabled, every_seconds=every_seconds)
        self.monitor = Monitor(self.clock, self.host, self.gpus, self.workers, config)

    def tick(self, times: int = 1) -> None:
        """Let intervals pass."""
        for _ in range(times):
            self.clock.advance(5)


class NVMLError(Exception):
    """As the library's module raises it."""

    def __init__(self, value: int) -> None:
        super().__init__(f"error {value}")
        self.value = value


NOT_SUPPORTED, NOT_FOUND, LIBRARY_NOT_FOUND, LOST, UNKNOWN = 3, 6, 12, 15, 999


class FakeCard:
    """A device; a figure that is a number of an error is raised."""

    def __init__(self, index: int, *, is_text: bool = False) -> None:
        self.bus = index + 1
        self.instances: list[FakeCard] = []
        self.raises: dict[str, int] = {}
        self.is_text = is_text
        self.index = index

    def text(self, value: str) -> str | bytes:
        return value if self.is_text else value.encode()


class FakeNVML:
    """The module ``pynvml``, as far as we use it."""

    NVMLError = NVMLError
    nvmlMemory_v2 = 0x2000028  # noqa: N815 - the module's name

    def __init__(self, *cards: FakeCard) -> None:
        self.cards = list(cards)
        self.init_error = 0
        self.inits = self.shutdowns = 0

    def nvmlInit(self) -> None:
        if self.init_error:
            raise NVMLError(self.init_error)
        self.inits += 1

    def nvmlShutdown(self) -> None:
        self.shutdowns += 1

    def nvmlSystemGetDriverVersion(self) -> bytes:
        return b"570.86.15"

    def nvmlDeviceGetCount(self) -> int:
        return len(self.cards)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> FakeCard:
        card = self.cards[index]
        self._check(card, "handle")
        return card

    def nvmlDeviceGetName(self, card: FakeCard) -> str | bytes:
        return card.text("NVIDIA H200")

    def nvmlDeviceGetUUID(self, card: FakeCard) -> str | bytes:
        return card.text(f"GPU-{card.index}")

    def nvmlDeviceGetPciInfo(self, card: FakeCard) -> Any:
        return SimpleNamespace(busId=card.text(f"0000000{card.bus}:0A:00.0"))

    def nvmlDeviceGetArchitecture(self, card: FakeCard) -> int:
        return 9

    def nvmlDeviceGetEnforcedPowerLimit(self, card: FakeCard) -> int:
        return 700_000

    def nvmlDeviceGetMigMode(self, card: FakeCard) -> list[int]:
        if not card.instances:
            raise NVMLError(NOT_SUPPORTED)
        return [1, 1]

    def nvmlDeviceGetMaxMigDeviceCount(self, card: FakeCard) -> int:
        return 7

    def nvmlDeviceGetMigDeviceHandleByIndex(self, card: FakeCard, index: int) -> FakeCard:
        if index >= len(card.instances):
            raise NVMLError(NOT_FOUND)
        return card.instances[index]

    def nvmlDeviceGetTemperatureV(self, card: FakeCard, sensor: int) -> int:
        self._check(card, "temperature_v")
        return 41

    def nvmlDeviceGetTemperature(self, card: FakeCard, sensor: int) -> int:
        self._check(card, "temperature")
        return 40

    def nvmlDeviceGetFieldValues(self, card: FakeCard, fields: list[int]) -> Any:
        self._check(card, "field")
        return [SimpleNamespace(nvmlReturn=0, value=SimpleNamespace(uiVal=52))]

    def nvmlDeviceGetUtilizationRates(self, card: FakeCard) -> Any:
        self._check(card, "busy")
        return SimpleNamespace(gpu=97, memory=3)

    def nvmlDeviceGetMemoryInfo(self, card: FakeCard, version: int | None = None) -> Any:
        self._check(card, "memory" if version is None else "memory_v2")
        return SimpleNamespace(total=8 << 30, used=(3 if version is None else 2) << 30, reserved=1 << 30)

    def nvmlDeviceGetFanSpeed(self, card: FakeCard) -> int:
        self._check(card, "fan")
        return 30

    def nvmlDeviceGetPowerUsage(self, card: FakeCard) -> int:
        self._check(card, "power")
        return 285_400

    @staticmethod
    def _check(card: FakeCard, figure: str) -> None:
        error = card.raises.get(figure) or card.raises.get("everything")
        if error:
            raise NVMLError(error)
