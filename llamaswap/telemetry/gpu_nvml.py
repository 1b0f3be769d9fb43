"""NVIDIA's devices, by the driver's own library through the module ``pynvml``."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from importlib import import_module
from typing import Any, Final, NamedTuple

from llamaswap.telemetry.gpu import GPUError, NoGPUError
from llamaswap.telemetry.samples import GPU, GPUIdentity

# Numbers of nvml.h, which older and newer modules name differently or not at all.
_UNINITIALIZED: Final = 1
_NOT_THERE: Final = frozenset({9, 12})  # driver not loaded, library not found
_LOST: Final = frozenset({_UNINITIALIZED, 15, 16})  # GPU is lost, reset required
_TEMPERATURE_GPU: Final = 0
_FIELD_MEMORY_TEMPERATURE: Final = 82
_MIG_ENABLED: Final = 1

_MILLI: Final = 1000

_ARCHITECTURES: Final = {
    2: "Kepler",
    3: "Maxwell",
    4: "Pascal",
    5: "Volta",
    6: "Turing",
    7: "Ampere",
    8: "Ada Lovelace",
    9: "Hopper",
    10: "Blackwell",
    13: "Rubin",
}


class _LostError(Exception):
    """The device, or the connection to the driver, is gone."""


class _Device(NamedTuple):
    handle: Any
    identity: GPUIdentity


def load_pynvml() -> Any:
    """Import the module.

    Raises:
        ImportError: It is not installed.
    """
    return import_module("pynvml")


class NVML:
    """See :class:`~llamaswap.telemetry.gpu.GPUSource`. Each figure fails alone: many devices lack some.

    Args:
        load: Gives the module ``pynvml``, or raises :class:`ImportError`.
    """

    name = "nvml"

    def __init__(self, load: Callable[[], Any] = load_pynvml) -> None:
        self._load = load
        self._nvml: Any = None
        self._is_open = False
        self._devices: list[_Device] = []
        self._is_whole = True

    def open(self) -> None:
        """See the interface."""
        try:
            self._nvml = self._load()
        except ImportError as error:
            raise NoGPUError(str(error)) from error
        try:
            self._nvml.nvmlInit()
            self._is_open = True
            self._is_whole = True
            self._devices = list(self._find())
        except self._nvml.NVMLError as error:
            self.close()
            kind = NoGPUError if _code(error) in _NOT_THERE else GPUError
            raise kind(f"NVML: {error}") from error
        if not self._devices:
            self.close()
            raise (NoGPUError if self._is_whole else GPUError)("NVML: no device")

    def close(self) -> None:
        """See the interface."""
        self._devices = []
        if self._is_open:
            self._is_open = False
            self._ask_or_none("nvmlShutdown")

    def read(self) -> tuple[Sequence[GPU], bool]:
        """See the interface."""
        gpus: list[GPU] = []
        reason: Exception | None = None
        for device in self._devices:
            try:
                gpus.append(self._read(device))
            except _LostError as error:
                self._is_whole = False
                reason = error
        if not gpus:
            raise GPUError(f"NVML: {reason}") from reason
        return gpus, self._is_whole

    # ----------------------------------------------------------------- devices

    def _find(self) -> Iterator[_Device]:
        driver = _text(self._ask_or_none("nvmlSystemGetDriverVersion"))
        for index in range(self._nvml.nvmlDeviceGetCount()):
            try:
                handle = self._nvml.nvmlDeviceGetHandleByIndex(index)
            except self._nvml.NVMLError:
                self._is_whole = False  # lost already; the others work on
                continue
            parent = self._device(handle, index, driver)
            yield parent
            for instance in self._instances(handle):
                yield self._device(instance, None, driver, parent.identity)

    def _device(self, handle: Any, index: int | None, driver: str, parent: GPUIdentity | None = None) -> _Device:
        identity = GPUIdentity(
            source=self.name,
            index=index,
            name=_text(self._ask_or_none("nvmlDeviceGetName", handle)),
            uuid=_text(self._ask_or_none("nvmlDeviceGetUUID", handle)),
            # An instance has the address of the device that it is a part of.
            pci_address="" if parent is not None else self._address(handle),
            vendor="NVIDIA",
            architecture=_ARCHITECTURES.get(self._ask_or_none("nvmlDeviceGetArchitecture", handle), "")
            if parent is None
            else parent.architecture,
            driver_name="nvidia",
            driver_version=driver,
            power_limit_watts=_thousandth(self._ask_or_none("nvmlDeviceGetEnforcedPowerLimit", handle)),
        )
        return _Device(handle, identity)

    def _address(self, handle: Any) -> str:
        written = _text(getattr(self._ask_or_none("nvmlDeviceGetPciInfo", handle), "busId", None)).lower()
        domain, colon, rest = written.partition(":")
        # Eight digits here, four everywhere else.
        return f"{domain[-4:]}:{rest}" if colon else ""

    def _instances(self, handle: Any) -> Iterator[Any]:
        """Give the handles of the instances that a device is divided into (MIG)."""
        mode = self._ask_or_none("nvmlDeviceGetMigMode", handle)
        if mode is not None and mode[0] == _MIG_ENABLED:
            for index in range(self._ask_or_none("nvmlDeviceGetMaxMigDeviceCount", handle) or 0):
                instance = self._ask_or_none("nvmlDeviceGetMigDeviceHandleByIndex", handle, index)
                if instance is not None:
                    yield instance

    # ----------------------------------------------------------------- figures

    def _read(self, device: _Device) -> GPU:
        handle = device.handle
        memory = self._memory(handle)
        gpu = GPU(
            device.identity,
            temperature_celsius=self._temperature(handle),
            memory_temperature_celsius=self._memory_temperature(handle),
            busy_percent=_float(getattr(self._ask("nvmlDeviceGetUtilizationRates", handle), "gpu", None)),
            memory_used_bytes=None if memory is None else int(memory.used),
            memory_total_bytes=None if memory is None else int(memory.total),
            fan_percent=self._ask("nvmlDeviceGetFanSpeed", handle),
            power_watts=_thousandth(self._ask("nvmlDeviceGetPowerUsage", handle)),
        )
        if gpu == GPU(device.identity):
            raise _LostError(f"{device.identity.name} says nothing at all")
        return gpu

    def _temperature(self, handle: Any) -> int | None:
        found: int | None = self._ask("nvmlDeviceGetTemperatureV", handle, _TEMPERATURE_GPU)
        return self._ask("nvmlDeviceGetTemperature", handle, _TEMPERATURE_GPU) if found is None else found

    def _memory_temperature(self, handle: Any) -> int | None:
        values = self._ask("nvmlDeviceGetFieldValues", handle, [_FIELD_MEMORY_TEMPERATURE])
        if not values or values[0].nvmlReturn:
            return None
        return int(values[0].value.uiVal) or None

    def _memory(self, handle: Any) -> Any:
        """Give ``total`` and ``used``, without what the driver reserves where it can say so."""
        version = getattr(self._nvml, "nvmlMemory_v2", None)
        found = None if version is None else self._ask("nvmlDeviceGetMemoryInfo", handle, version)
        return self._ask("nvmlDeviceGetMemoryInfo", handle) if found is None else found

    def _ask(self, function: str, *args: Any) -> Any:
        """Call a function of the module; ``None`` when that is not supported.

        Raises:
            _LostError: The device is gone.
        """
        call = getattr(self._nvml, function, None)
        if call is None:
            return None
        try:
            return call(*args)
        except self._nvml.NVMLError as error:
            if _code(error) in _LOST:
                raise _LostError(str(error)) from error
            return None

    def _ask_or_none(self, function: str, *args: Any) -> Any:
        """Call a function whose result is no more than nice to have."""
        try:
            return self._ask(function, *args)
        except _LostError:
            return None


def _code(error: Exception) -> object:
    return getattr(error, "value", None)


def _text(value: bytes | str | None) -> str:
    """Give a text; older modules give bytes."""
    return value.decode(errors="replace") if isinstance(value, bytes) else value or ""


def _float(value: float | None) -> float | None:
    return None if value is None else float(value)


def _thousandth(value: int | None) -> float | None:
    return None if value is None else value / _MILLI
