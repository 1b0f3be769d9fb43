"""The newest samples as metrics, under the names that dashboards of llama-swap ask for."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from operator import attrgetter
from typing import Final

from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from llamaswap.telemetry.monitor import Monitor
from llamaswap.telemetry.samples import GPU, GPUSnapshot, SystemSample

_GPU_GAUGES: Final[tuple[tuple[str, str, Callable[[GPU], float | None]], ...]] = (
    ("gpu_temperature_celsius", "Temperature of the device.", attrgetter("temperature_celsius")),
    ("gpu_vram_temperature_celsius", "Temperature of its memory.", attrgetter("memory_temperature_celsius")),
    ("gpu_util_percent", "How busy it is, 0 to 100.", attrgetter("busy_percent")),
    ("gpu_memory_util_percent", "How much of its memory is used, 0 to 100.", attrgetter("memory_percent")),
    ("gpu_memory_used_bytes", "Its memory in use.", attrgetter("memory_used_bytes")),
    ("gpu_memory_total_bytes", "Its memory.", attrgetter("memory_total_bytes")),
    ("gpu_fan_speed_percent", "Speed of its fan, 0 to 100.", attrgetter("fan_percent")),
    ("gpu_power_draw_watts", "What it consumes.", attrgetter("power_watts")),
)
"""Name, meaning, and how to get the figure; devices of which it is unknown are left out."""


class MachineCollector(Collector):
    """Gives what the monitor has sampled last; nothing while there is nothing, or it is too old.

    Args:
        monitor: Takes the samples.
    """

    def __init__(self, monitor: Monitor) -> None:
        self._monitor = monitor

    def collect(self) -> Iterable[Metric]:
        """See the parent class."""
        monitor = self._monitor
        if not monitor.is_on:
            return
        system, snapshot = monitor.system, monitor.gpus
        if system is not None:
            yield from _system_families(system)
        if snapshot is not None:
            yield from _gpu_families(snapshot)
        age = GaugeMetricFamily("llamaswap_sample_age_seconds", "Time since the last reading.", labels=["source"])
        for source, seconds in monitor.ages_seconds().items():
            age.add_metric([source], seconds)
        yield age
        for name, meaning, counts in (
            ("samples_skipped", "Samples not taken since the one before took too long.", monitor.skipped),
            ("sample_errors", "Readings that failed.", monitor.errors),
        ):
            counter = CounterMetricFamily(f"llamaswap_{name}", meaning, labels=["source"])
            for source, count in counts.items():
                counter.add_metric([source], count)
            yield counter


def _system_families(sample: SystemSample) -> Iterable[Metric]:
    cores = GaugeMetricFamily("llamaswap_cpu_util_percent", "How busy each core is, 0 to 100.", labels=["core"])
    for core, percent in enumerate(sample.cpu_percent):
        cores.add_metric([str(core)], percent)
    yield cores
    gauges = [
        ("memory_total_bytes", "Memory installed.", sample.memory_total_bytes),
        ("memory_used_bytes", "Memory in use.", sample.memory_used_bytes),
        ("memory_free_bytes", "Memory of no use at all; what caches hold does not count.", sample.memory_free_bytes),
        ("swap_total_bytes", "Swap space.", sample.swap_total_bytes),
        ("swap_used_bytes", "Swap space in use.", sample.swap_used_bytes),
    ]
    if sample.memory_limit is not None:
        gauges += [
            ("cgroup_memory_limit_bytes", "Memory that our control group may use.", sample.memory_limit.limit_bytes),
            ("cgroup_memory_used_bytes", "Memory that our control group uses.", sample.memory_limit.used_bytes),
        ]
    for name, meaning, value in gauges:
        yield GaugeMetricFamily(f"llamaswap_{name}", meaning, value)
    load = GaugeMetricFamily("llamaswap_load_average", "Tasks that run or wait.", labels=["interval"])
    for interval, tasks in zip(("1m", "5m", "15m"), sample.load, strict=True):
        load.add_metric([interval], tasks)
    yield load
    network = CounterMetricFamily(
        "llamaswap_network_bytes", "What passed an interface since boot.", labels=["interface", "direction"]
    )
    for each in sample.network:
        network.add_metric([each.name, "recv"], each.received_bytes)
        network.add_metric([each.name, "sent"], each.sent_bytes)
    yield network


def _gpu_families(snapshot: GPUSnapshot) -> Iterable[Metric]:
    for name, meaning, figure in _GPU_GAUGES:
        family = GaugeMetricFamily(f"llamaswap_{name}", meaning)
        for number, gpu in snapshot.gpus:
            value = figure(gpu)
            if value is not None:
                labels = {"id": str(number), "name": gpu.identity.name}
                if gpu.identity.uuid:
                    labels["uuid"] = gpu.identity.uuid
                family.add_sample(family.name, labels, value)
        if family.samples:
            yield family
