"""What clients see of the machine."""

from __future__ import annotations

import pytest

from llamaswap.config.schema import ModelConfig, PerformanceConfig
from llamaswap.core.values import ModelId
from llamaswap.telemetry.hardware import hardware_document
from tests.unit.machine_fakes import EPOCH_NS, RTX, SECOND_NS, Sampling
from tests.unit.web_stack import Stack, config_of

PATH = "/api/performance"


@pytest.fixture
def stack() -> Stack:
    return Stack(config_of(ModelConfig(ModelId("a"))))


@pytest.fixture
def sampling(stack: Stack) -> Sampling:
    """Give a machine that has sampled for ten seconds."""
    sampling = Sampling(clock=stack.reactor)
    sampling.gpus.gpus = [RTX]
    stack.daemon.observers.monitor = sampling.monitor
    sampling.monitor.start()
    sampling.tick(2)
    return sampling


def test_samples(stack: Stack, sampling: Sampling) -> None:
    shown = stack.ask("GET", PATH).document
    assert shown.keys() == {"enabled", "sys_stats", "gpu_stats"}
    assert shown["enabled"] is True
    times = [f"2026-11-20T09:{at}.900000000Z" for at in ("12:53", "12:58", "13:03")]
    assert [each["timestamp"] for each in shown["sys_stats"]] == times
    assert [each["timestamp"] for each in shown["gpu_stats"]] == times
    assert shown["gpu_stats"][0]["name"] == "RTX"


@pytest.mark.parametrize(
    ("after", "count"),
    [
        ("", 3),
        ("2026-11-20T09:12:53.899999999Z", 3),
        ("2026-11-20T09:12:53.900000000Z", 2),
        ("2026-11-20T09:12:53.900000001Z", 2),
        ("2026-11-20T10:12:58.9%2B01:00", 1),
        ("2026-11-20T04:12:58.8-05:00", 2),
        ("2030-01-01T00:00:00Z", 0),
    ],
)
def test_d13_samples_after_an_instant(stack: Stack, sampling: Sampling, after: str, count: int) -> None:
    shown = stack.ask("GET", f"{PATH}?after={after}").document
    assert [len(shown[kind]) for kind in ("sys_stats", "gpu_stats")] == [count, count]


@pytest.mark.parametrize("after", ["x", "2026-11-20", "1795165973"])
def test_after_no_instant(stack: Stack, sampling: Sampling, after: str) -> None:
    answer = stack.ask("GET", f"{PATH}?after={after}")
    assert answer.status == 400
    assert answer.document["error"]["message"] == "invalid 'after' timestamp, use RFC3339 format"


def test_v08_head(stack: Stack, sampling: Sampling) -> None:
    answer = stack.ask("HEAD", PATH)
    assert (answer.status, answer.body) == (200, b"")


def test_nothing_is_sampled(stack: Stack, sampling: Sampling) -> None:
    sampling.monitor.apply(PerformanceConfig(disabled=True))
    answer = stack.ask("GET", f"{PATH}?after=x")
    assert (answer.status, answer.document) == (503, {"enabled": False})
    sampling.monitor.apply(PerformanceConfig())
    assert len(stack.ask("GET", PATH).document["sys_stats"]) == 1


def test_hardware(stack: Stack) -> None:
    answer = stack.ask("GET", "/api/hardware")
    assert answer.status == 503
    assert answer.document["error"]["message"] == "hardware detection unavailable"
    stack.daemon.observers.hardware = found = hardware_document(EPOCH_NS + SECOND_NS, [], {})
    assert stack.ask("GET", "/api/hardware").document == found


def test_ready_until_the_end(stack: Stack) -> None:
    answer = stack.ask("GET", "/api/ready")
    assert (answer.status, answer.document, answer.headers["cache-control"]) == (200, {"ready": True}, "no-store")
    stack.daemon.observers.end_readers()
    answer = stack.ask("GET", "/api/ready")
    assert (answer.status, answer.document) == (503, {"ready": False})


def test_only_readiness_needs_no_key() -> None:
    stack = Stack(config_of(api_keys=("k",)))
    assert stack.ask("GET", "/api/ready").status == 200
    for path in ("/api/ready/", "/api/%72eady", "/api/performance", "/api/hardware"):
        assert stack.ask("GET", path).status == 401, path
