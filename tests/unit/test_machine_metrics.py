"""The newest samples as Prometheus sees them."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from prometheus_client.exposition import generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text
from prometheus_client.registry import CollectorRegistry

from llamaswap.config.schema import PerformanceConfig
from llamaswap.telemetry.daemon_metrics import register_daemon
from llamaswap.telemetry.gpu import GPUError
from llamaswap.telemetry.machine_metrics import MachineCollector
from llamaswap.telemetry.samples import MemoryLimit
from tests.unit.machine_fakes import RTX, Sampling, gpu, system_sample

REFERENCE = r"""
# TYPE llamaswap_cpu_util_percent gauge
llamaswap_cpu_util_percent{core="0"} 23.44
llamaswap_cpu_util_percent{core="1"} 100
# TYPE llamaswap_memory_total_bytes gauge
llamaswap_memory_total_bytes 25275924480
# TYPE llamaswap_memory_used_bytes gauge
llamaswap_memory_used_bytes 527434728
# TYPE llamaswap_memory_free_bytes gauge
llamaswap_memory_free_bytes 22794993664
# TYPE llamaswap_swap_total_bytes gauge
llamaswap_swap_total_bytes 1073741824
# TYPE llamaswap_swap_used_bytes gauge
llamaswap_swap_used_bytes 1048576
# TYPE llamaswap_load_average gauge
llamaswap_load_average{interval="1m"} 1.41
llamaswap_load_average{interval="5m"} 1.88
llamaswap_load_average{interval="15m"} 1.33
# TYPE llamaswap_network_bytes_total counter
llamaswap_network_bytes_total{interface="eth0",direction="recv"} 967220328
llamaswap_network_bytes_total{interface="eth0",direction="sent"} 2222529
# TYPE llamaswap_gpu_temperature_celsius gauge
llamaswap_gpu_temperature_celsius{id="0",name="RTX",uuid="GPU-0"} 41
# TYPE llamaswap_gpu_vram_temperature_celsius gauge
llamaswap_gpu_vram_temperature_celsius{id="0",name="RTX",uuid="GPU-0"} 52
# TYPE llamaswap_gpu_util_percent gauge
llamaswap_gpu_util_percent{id="0",name="RTX",uuid="GPU-0"} 97
llamaswap_gpu_util_percent{id="1",name="odd \"\\\n name"} 0
# TYPE llamaswap_gpu_memory_util_percent gauge
llamaswap_gpu_memory_util_percent{id="0",name="RTX",uuid="GPU-0"} 62.5
# TYPE llamaswap_gpu_memory_used_bytes gauge
llamaswap_gpu_memory_used_bytes{id="0",name="RTX",uuid="GPU-0"} 16106127360
# TYPE llamaswap_gpu_memory_total_bytes gauge
llamaswap_gpu_memory_total_bytes{id="0",name="RTX",uuid="GPU-0"} 25769803776
# TYPE llamaswap_gpu_fan_speed_percent gauge
llamaswap_gpu_fan_speed_percent{id="0",name="RTX",uuid="GPU-0"} 30
# TYPE llamaswap_gpu_power_draw_watts gauge
llamaswap_gpu_power_draw_watts{id="0",name="RTX",uuid="GPU-0"} 285.4
"""
"""What llama-swap would say of the fakes' figures, but for the devices' unknown ones, which it takes for 0."""

OWN = {"llamaswap_sample_age_seconds", "llamaswap_samples_skipped", "llamaswap_sample_errors"}


@pytest.fixture
def sampling() -> Sampling:
    sampling = Sampling()
    sampling.gpus.gpus = [RTX, gpu(1, identity={"name": 'odd "\\\n name', "uuid": ""}, busy_percent=0.0)]
    return sampling


def registry_of(sampling: Sampling) -> CollectorRegistry:
    registry = CollectorRegistry()
    registry.register(MachineCollector(sampling.monitor))
    return registry


def families(text: str, parse: Any = parse_text) -> dict[str, Any]:
    return {
        family.name: (family.type, [(s.name, tuple(sorted(s.labels.items())), s.value) for s in family.samples])
        for family in parse(text)
    }


def shown(sampling: Sampling) -> dict[str, Any]:
    return families(generate_latest(registry_of(sampling)).decode())


def test_names_types_labels_and_values_are_those_of_the_reference(sampling: Sampling) -> None:
    sampling.monitor.start()
    found = shown(sampling)
    assert {name: family for name, family in found.items() if name not in OWN} == families(REFERENCE)
    assert found.keys() >= OWN


def test_openmetrics_says_the_same(sampling: Sampling) -> None:
    sampling.monitor.start()
    text = generate_openmetrics(registry_of(sampling)).decode()
    assert families(text, parse_openmetrics) == shown(sampling)


def test_a_figure_that_no_device_has_has_no_family(sampling: Sampling) -> None:
    sampling.gpus.gpus = [gpu(0, temperature_celsius=40)]
    sampling.monitor.start()
    assert [name for name in shown(sampling) if "_gpu_" in name] == ["llamaswap_gpu_temperature_celsius"]


def test_devices_come_in_the_order_of_their_numbers(sampling: Sampling) -> None:
    sampling.gpus.gpus = [gpu(index, busy_percent=1.0) for index in range(11)]
    sampling.monitor.start()
    _, samples = shown(sampling)["llamaswap_gpu_util_percent"]
    assert [dict(labels)["id"] for _, labels, _ in samples] == [str(index) for index in range(11)]


def test_the_limit_of_a_container_is_told_beside_the_memory_of_its_host(
    sampling: Sampling, monkeypatch: pytest.MonkeyPatch
) -> None:
    limited = replace(system_sample(), memory_limit=MemoryLimit(8 << 30, (1 << 30) + 1))
    monkeypatch.setattr(sampling.host, "read", lambda: limited)
    sampling.monitor.start()
    found = shown(sampling)
    values = {name: samples[0][2] for name, (_, samples) in found.items() if name.startswith("llamaswap_cgroup")}
    assert values == {
        "llamaswap_cgroup_memory_limit_bytes": 8 << 30,
        "llamaswap_cgroup_memory_used_bytes": (1 << 30) + 1,
    }
    document = json.loads(sampling.monitor.history(0)[0][0])
    assert (document["cgroup_mem_limit_mb"], document["cgroup_mem_used_mb"]) == (8192, 1024)


def test_what_is_out_of_date_is_left_out_and_its_age_is_told(sampling: Sampling) -> None:
    sampling.monitor.start()
    sampling.gpus.gpus, sampling.gpus.errors = [], {"nvml": GPUError("lost")}
    sampling.host.error = OSError("lost, too")
    sampling.tick(3)
    assert len(shown(sampling)) > len(OWN)
    sampling.tick()
    found = shown(sampling)
    assert found.keys() == OWN
    assert found["llamaswap_sample_age_seconds"][1] == [
        ("llamaswap_sample_age_seconds", (("source", "system"),), 20),
        ("llamaswap_sample_age_seconds", (("source", "nvml"),), 20),
    ]
    assert found["llamaswap_sample_errors"][1] == [
        ("llamaswap_sample_errors_total", (("source", "system"),), 4),
        ("llamaswap_sample_errors_total", (("source", "nvml"),), 4),
    ]


def test_nothing_is_said_while_nothing_is_sampled(sampling: Sampling) -> None:
    assert shown(sampling) == {}
    sampling.monitor.start()
    sampling.monitor.apply(PerformanceConfig(disabled=True))
    assert shown(sampling) == {}


def test_the_daemon_itself() -> None:
    registry = CollectorRegistry()
    register_daemon(registry)
    found = families(generate_latest(registry).decode())
    kind, [(_, labels, value)] = found["llamaswap_build_info"]
    assert (kind, [name for name, _ in labels], value) == ("gauge", ["python", "revision", "twisted", "version"], 1)
    assert "python_gc_collections" in found
    register_daemon(CollectorRegistry())
