"""AMD's devices, as Linux shows them in files; needs neither tool nor library."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from llamaswap.telemetry.gpu import GPUError, NoGPUError
from llamaswap.telemetry.samples import GPU, GPUIdentity

_AMD: Final = "0x1002"
_CARD: Final = re.compile(r"card\d+")
_MILLI: Final = 1000
_MICRO: Final = 1_000_000
_PWM_MOST: Final = 255
_CORE_LABELS: Final = ("edge", "junction")
_MEMORY_LABEL: Final = "mem"


class AMDGPU:
    """See :class:`~llamaswap.telemetry.gpu.GPUSource`.

    Args:
        root: Where ``sys`` is.
    """

    name = "amdgpu"

    def __init__(self, root: Path = Path("/")) -> None:
        self._cards = root / "sys/class/drm"
        self._driver = root / "sys/module/amdgpu/version"
        self._devices: list[tuple[Path, GPUIdentity]] = []

    def open(self) -> None:
        """See the interface."""
        try:
            cards = sorted(card for card in self._cards.iterdir() if _CARD.fullmatch(card.name))
        except OSError as error:
            raise NoGPUError(f"amdgpu: {error}") from error
        folders = [card / "device" for card in cards]
        found = [f for f in folders if _text(f / "vendor") == _AMD and _number(f / "mem_info_vram_total")]
        self._devices = [(folder, self._identity(index, folder)) for index, folder in enumerate(found)]
        if not self._devices:
            raise NoGPUError("amdgpu: no device")

    def close(self) -> None:
        """See the interface."""
        self._devices = []

    def read(self) -> tuple[Sequence[GPU], bool]:
        """See the interface."""
        gpus = [_read(folder, identity) for folder, identity in self._devices if folder.is_dir()]
        if not gpus:
            raise GPUError("amdgpu: the devices are gone")
        return gpus, len(gpus) == len(self._devices)

    def _identity(self, index: int, folder: Path) -> GPUIdentity:
        sensors = _sensors(folder)
        limit = None if sensors is None else _number(sensors / "power1_cap")
        return GPUIdentity(
            source=self.name,
            index=index,
            name=_text(folder / "product_name") or f"AMD GPU {_text(folder / 'device')}",
            uuid=_text(folder / "unique_id"),
            pci_address=folder.resolve().name.lower(),
            vendor="AMD",
            driver_name="amdgpu",
            driver_version=_text(self._driver),
            power_limit_watts=None if limit is None else limit / _MICRO,
        )


def _read(folder: Path, identity: GPUIdentity) -> GPU:
    sensors = _sensors(folder)
    busy = _number(folder / "gpu_busy_percent")
    temperatures = {} if sensors is None else _temperatures(sensors)
    core = [temperatures[label] for label in _CORE_LABELS if label in temperatures]
    return GPU(
        identity,
        temperature_celsius=next(iter(core or temperatures.values()), None),
        memory_temperature_celsius=temperatures.get(_MEMORY_LABEL),
        busy_percent=None if busy is None else float(busy),
        memory_used_bytes=_number(folder / "mem_info_vram_used"),
        memory_total_bytes=_number(folder / "mem_info_vram_total"),
        fan_percent=None if sensors is None else _fan(sensors),
        power_watts=None if sensors is None else _power(sensors),
    )


def _sensors(folder: Path) -> Path | None:
    return next(iter(sorted(folder.glob("hwmon/hwmon*"))), None)


def _temperatures(sensors: Path) -> dict[str, int]:
    """Give degrees Celsius by label."""
    found = {}
    for path in sorted(sensors.glob("temp*_input")):
        value = _number(path)
        if value is not None:
            label = _text(path.with_name(path.name.replace("_input", "_label")))
            found[label or path.name] = value // _MILLI
    return found


def _fan(sensors: Path) -> int | None:
    speed, most = _number(sensors / "fan1_input"), _number(sensors / "fan1_max")
    if speed is None or not most:
        speed, most = _number(sensors / "pwm1"), _PWM_MOST
    return None if speed is None else round(100 * speed / most)


def _power(sensors: Path) -> float | None:
    for name in ("power1_average", "power1_input"):
        value = _number(sensors / name)
        if value is not None:
            return value / _MICRO
    return None


def _text(path: Path) -> str:
    """Read a file of one line; empty when it cannot be read."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""


def _number(path: Path) -> int | None:
    text = _text(path)
    return int(text) if text.isdigit() else None
