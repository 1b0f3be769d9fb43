"""Figures of the machine at one moment, and the JSON in which clients see them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from msgspec.json import encode

from llamaswap.telemetry.rfc3339 import format_ns

_MIB_SHIFT: Final = 20
"""Clients count memory in MB of 2**20 bytes, rounded down."""


@dataclass(frozen=True, slots=True)
class Network:
    """What has passed an interface since boot."""

    name: str
    received_bytes: int
    sent_bytes: int


@dataclass(frozen=True, slots=True)
class MemoryLimit:
    """What the control group of this process may use, and uses."""

    limit_bytes: int
    used_bytes: int


@dataclass(frozen=True, slots=True)
class SystemSample:
    """The host.

    Attributes:
        at_ns: When, in UTC epoch nanoseconds.
        cpu_percent: Of each core, 0 to 100.
        load: Mean number of tasks that ran or waited in the last 1, 5 and 15 minutes.
        network: Interfaces but the loopback.
        memory_limit: Of the control group, when there is one.
    """

    at_ns: int
    cpu_percent: Sequence[float]
    memory_total_bytes: int
    memory_used_bytes: int
    memory_free_bytes: int
    swap_total_bytes: int
    swap_used_bytes: int
    load: tuple[float, float, float]
    network: Sequence[Network]
    memory_limit: MemoryLimit | None = None


@dataclass(frozen=True, slots=True)
class GPUIdentity:
    """What stays the same about a device.

    Attributes:
        source: Name of the source that knows it.
        index: Its number there; ``None`` = it has none.
        name: Its maker's name for it.
        uuid: Empty = unknown.
        pci_address: Such as ``0000:01:00.0``; empty = unknown, or not its own.
        vendor: Such as ``NVIDIA``; empty = unknown.
        architecture: Likewise.
        driver_name: Likewise.
        driver_version: Likewise.
        power_limit_watts: ``None`` = unknown.
    """

    source: str
    index: int | None
    name: str
    uuid: str = ""
    pci_address: str = ""
    vendor: str = ""
    architecture: str = ""
    driver_name: str = ""
    driver_version: str = ""
    power_limit_watts: float | None = None


@dataclass(frozen=True, slots=True)
class GPU:
    """A device; ``None`` = unknown."""

    identity: GPUIdentity
    temperature_celsius: int | None = None
    memory_temperature_celsius: int | None = None
    busy_percent: float | None = None
    memory_used_bytes: int | None = None
    memory_total_bytes: int | None = None
    fan_percent: int | None = None
    power_watts: float | None = None

    @property
    def memory_percent(self) -> float | None:
        """How much of the memory is used; not how busy its controller is."""
        if self.memory_used_bytes is None or not self.memory_total_bytes:
            return None
        return 100 * self.memory_used_bytes / self.memory_total_bytes


@dataclass(frozen=True, slots=True)
class GPUSnapshot:
    """All devices at one moment.

    Attributes:
        at_ns: When, in UTC epoch nanoseconds.
        gpus: By the number under which clients know them, ascending.
    """

    at_ns: int
    gpus: Sequence[tuple[int, GPU]]


def system_json(sample: SystemSample) -> bytes:
    """Give the element of ``sys_stats``."""
    document: dict[str, Any] = {
        "timestamp": format_ns(sample.at_ns),
        "cpu_util_per_core": [round(each, 1) for each in sample.cpu_percent],
        "mem_total_mb": sample.memory_total_bytes >> _MIB_SHIFT,
        "mem_used_mb": sample.memory_used_bytes >> _MIB_SHIFT,
        "mem_free_mb": sample.memory_free_bytes >> _MIB_SHIFT,
        "swap_total_mb": sample.swap_total_bytes >> _MIB_SHIFT,
        "swap_used_mb": sample.swap_used_bytes >> _MIB_SHIFT,
        **{f"load_avg_{minutes}": load for minutes, load in zip((1, 5, 15), sample.load, strict=True)},
        "net_io": [
            {"name": each.name, "bytes_recv": each.received_bytes, "bytes_sent": each.sent_bytes}
            for each in sample.network
        ],
    }
    if sample.memory_limit is not None:
        document["cgroup_mem_limit_mb"] = sample.memory_limit.limit_bytes >> _MIB_SHIFT
        document["cgroup_mem_used_mb"] = sample.memory_limit.used_bytes >> _MIB_SHIFT
    return encode(document)


def gpus_json(snapshot: GPUSnapshot) -> bytes:
    """Give the elements of ``gpu_stats``, one per device, without brackets; empty when there is no device."""
    return encode([_gpu_document(snapshot.at_ns, number, gpu) for number, gpu in snapshot.gpus])[1:-1]


def _gpu_document(at_ns: int, number: int, gpu: GPU) -> dict[str, Any]:
    figures = {
        "temp_c": gpu.temperature_celsius,
        "vram_temp_c": gpu.memory_temperature_celsius,
        "gpu_util_pct": gpu.busy_percent,
        "mem_util_pct": None if gpu.memory_percent is None else round(gpu.memory_percent, 2),
        "mem_used_mb": None if gpu.memory_used_bytes is None else gpu.memory_used_bytes >> _MIB_SHIFT,
        "mem_total_mb": None if gpu.memory_total_bytes is None else gpu.memory_total_bytes >> _MIB_SHIFT,
        "fan_speed_pct": gpu.fan_percent,
        "power_draw_w": gpu.power_watts,
    }
    return {
        "timestamp": format_ns(at_ns),
        "id": number,
        "name": gpu.identity.name,
        "uuid": gpu.identity.uuid,
        # Old clients want numbers.
        **{name: 0 if value is None else value for name, value in figures.items()},
        "unknown": [name for name, value in figures.items() if value is None],
    }
