"""Figures of the host, by psutil; reads files, so not for the reactor's thread."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import psutil

from llamaswap.telemetry.cgroup import memory_limit
from llamaswap.telemetry.samples import MemoryLimit, Network, SystemSample

_FIRST_CPU_SECONDS: Final = 0.1
"""Time over which the first reading measures the cores; the others measure since the one before."""

_LOOPBACK: Final = ("lo", "lo0")


class Host:
    """Reads figures; always in the same thread.

    Args:
        now_ns: Gives UTC epoch nanoseconds.
        system: psutil, or what stands for it.
        limit: Gives the memory limit.
    """

    def __init__(
        self,
        now_ns: Callable[[], int],
        system: Any = psutil,
        limit: Callable[[], MemoryLimit | None] = memory_limit,
    ) -> None:
        self._now_ns = now_ns
        self._system = system
        self._limit = limit
        self._is_primed = False

    def read(self) -> SystemSample:
        """Take a sample; the first one takes a tenth of a second.

        Raises:
            Exception: Whatever psutil raises.
        """
        interval_seconds = None if self._is_primed else _FIRST_CPU_SECONDS
        cores = self._system.cpu_percent(interval=interval_seconds, percpu=True)
        self._is_primed = True
        memory, swap = self._system.virtual_memory(), self._system.swap_memory()
        interfaces = self._system.net_io_counters(pernic=True)
        return SystemSample(
            at_ns=self._now_ns(),
            cpu_percent=tuple(cores),
            memory_total_bytes=memory.total,
            memory_used_bytes=memory.used,
            memory_free_bytes=memory.free,
            swap_total_bytes=swap.total,
            swap_used_bytes=swap.used,
            load=self._system.getloadavg(),
            network=tuple(
                Network(name, passed.bytes_recv, passed.bytes_sent)
                for name, passed in sorted(interfaces.items())
                if name not in _LOOPBACK
            ),
            memory_limit=self._limit(),
        )
