"""Samples at intervals, and an hour of them."""

from __future__ import annotations

import json
from typing import Any

import pytest
from twisted.logger import LogLevel, capturedLogs

from llamaswap.config.schema import PerformanceConfig
from llamaswap.telemetry.gpu import GPUError, NoGPUError
from tests.unit.machine_fakes import EPOCH_NS, RTX, SECOND_NS, Sampling, gpu, system_sample


def elements(pieces: Any) -> list[Any]:
    found: list[Any] = json.loads(b"[%b]" % b",".join(pieces))
    return found


def test_the_first_sample_is_taken_at_once() -> None:
    sampling = Sampling()
    sampling.monitor.start()
    assert sampling.monitor.system == system_sample()


def test_an_hour_is_kept_of_each() -> None:
    sampling = Sampling()
    sampling.gpus.gpus = [gpu(index) for index in range(3)]
    sampling.monitor.start()
    sampling.tick(799)
    system, gpus = sampling.monitor.history(0)
    assert (len(system), len(gpus)) == (720, 720)
    assert [len(elements([piece])) for piece in gpus] == [3] * 720
    assert [each["id"] for each in elements(gpus[-1:])] == [0, 1, 2]
    assert len({each["timestamp"] for each in elements(gpus[-1:])}) == 1


def test_a_long_interval_keeps_one() -> None:
    sampling = Sampling(every_seconds=7200)
    sampling.monitor.start()
    sampling.clock.advance(7200)
    assert len(sampling.monitor.history(0)[0]) == 1


def test_what_is_younger_than_an_instant() -> None:
    sampling = Sampling()
    sampling.monitor.start()
    sampling.tick(2)
    ages = [len(sampling.monitor.history(EPOCH_NS + at * SECOND_NS + more)[0]) for at in (0, 5, 10) for more in (-1, 0)]
    assert ages == [3, 2, 2, 1, 1, 0]


def test_the_json_of_a_device_says_what_is_unknown() -> None:
    sampling = Sampling()
    sampling.gpus.gpus = [RTX, gpu(1, identity={"uuid": ""})]
    sampling.monitor.start()
    known, unknown = elements(sampling.monitor.history(0)[1])
    assert known == {
        "timestamp": "2026-11-20T09:12:53.900000000Z",
        "id": 0,
        "name": "RTX",
        "uuid": "GPU-0",
        "temp_c": 41,
        "vram_temp_c": 52,
        "gpu_util_pct": 97.0,
        "mem_util_pct": 62.5,
        "mem_used_mb": 15360,
        "mem_total_mb": 24576,
        "fan_speed_pct": 30,
        "power_draw_w": 285.4,
        "unknown": [],
    }
    figures = list(known)[4:-1]
    assert [unknown[name] for name in figures] == [0] * len(figures)
    assert unknown["unknown"] == figures


def test_the_json_of_the_system() -> None:
    sampling = Sampling()
    sampling.monitor.start()
    assert elements(sampling.monitor.history(0)[0]) == [
        {
            "timestamp": "2026-11-20T09:12:53.900000000Z",
            "cpu_util_per_core": [23.4, 100.0],
            "mem_total_mb": 24105,
            "mem_used_mb": 503,
            "mem_free_mb": 21739,
            "swap_total_mb": 1024,
            "swap_used_mb": 1,
            "load_avg_1": 1.41,
            "load_avg_5": 1.88,
            "load_avg_15": 1.33,
            "net_io": [{"name": "eth0", "bytes_recv": 967220328, "bytes_sent": 2222529}],
        }
    ]


def test_a_driver_that_hangs_skips_its_samples_and_no_others() -> None:
    sampling = Sampling()
    sampling.workers[1].is_held = True
    sampling.monitor.start()
    sampling.tick(3)
    assert sampling.monitor.skipped == {"system": 0, "gpu": 3}
    assert len(sampling.monitor.history(0)[0]) == 4
    sampling.gpus.gpus = [RTX]
    sampling.workers[1].let_go()
    sampling.tick()
    assert sampling.monitor.skipped["gpu"] == 3
    assert sampling.monitor.gpus is not None


def test_a_lost_device_is_out_of_date_after_three_intervals_and_comes_back() -> None:
    sampling = Sampling()
    sampling.gpus.gpus = [RTX]
    sampling.monitor.start()
    sampling.gpus.gpus = []
    sampling.gpus.errors = {"nvml": GPUError("lost")}
    sampling.tick(3)
    assert sampling.monitor.gpus is not None
    sampling.tick()
    shown = [sampling.monitor.gpus]
    assert sampling.monitor.ages_seconds() == {"system": 0, "nvml": 20}
    sampling.gpus.gpus = [RTX]
    sampling.tick()
    shown.append(sampling.monitor.gpus)
    assert [snapshot is None for snapshot in shown] == [True, False]


def test_a_failure_is_counted_each_time_and_said_once() -> None:
    sampling = Sampling()
    sampling.monitor.start()
    with capturedLogs() as events:
        sampling.host.error = OSError("no /proc")
        sampling.gpus.errors = {"nvml": GPUError("lost")}
        sampling.tick(3)
        sampling.host.error = None
        sampling.tick()
        sampling.host.error = OSError("again")
        sampling.tick()
    assert sampling.monitor.errors == {"system": 4, "nvml": 5}
    said = [event["source"] for event in events if event["log_level"] is LogLevel.warn]
    assert said == ["system", "nvml", "system"]
    assert len(sampling.monitor.history(0)[0]) == 2


def test_what_is_not_there_is_no_failure() -> None:
    sampling = Sampling()
    sampling.gpus.errors = {"nvml": NoGPUError("not installed")}
    with capturedLogs() as events:
        sampling.monitor.start()
    assert sampling.monitor.errors == {"system": 0}
    assert {event["log_level"] for event in events} == {LogLevel.debug}


def test_a_reload_in_both_directions_works_at_once() -> None:
    sampling = Sampling(disabled=True)
    monitor = sampling.monitor
    monitor.start()
    sampling.tick(2)
    assert (monitor.is_on, monitor.system, monitor.history(0)) == (False, None, ([], []))
    monitor.apply(PerformanceConfig())
    sampling.tick()
    assert (monitor.is_on, len(monitor.history(0)[0])) == (True, 2)
    monitor.apply(PerformanceConfig())
    assert len(monitor.history(0)[0]) == 2, "nothing has changed"
    monitor.apply(PerformanceConfig(every_seconds=10))
    assert len(monitor.history(0)[0]) == 1
    sampling.tick()
    assert len(monitor.history(0)[0]) == 1
    sampling.tick()
    assert len(monitor.history(0)[0]) == 2
    monitor.apply(PerformanceConfig(disabled=True))
    assert (monitor.is_on, monitor.system, monitor.history(0)) == (False, None, ([], []))
    assert sampling.clock.getDelayedCalls() == []


def test_a_sample_that_was_begun_before_a_reload_is_not_kept_after_it() -> None:
    sampling = Sampling()
    for worker in sampling.workers:
        worker.is_held = True
    sampling.gpus.gpus = [RTX]
    sampling.monitor.start()
    sampling.monitor.apply(PerformanceConfig(every_seconds=10))
    for worker in sampling.workers:
        worker.let_go()
    assert sampling.monitor.history(0) == ([], [])
    assert sampling.monitor.skipped == {"system": 1, "gpu": 1}


def test_the_end_waits_for_nobody() -> None:
    sampling = Sampling()
    for worker in sampling.workers:
        worker.is_held = True
    sampling.monitor.start()
    sampling.monitor.stop()
    sampling.monitor.stop()
    assert sampling.clock.getDelayedCalls() == []
    assert [worker.has_ended for worker in sampling.workers] == [True, True]
    sampling.workers[0].let_go()
    assert sampling.monitor.history(0) == ([], [])


def test_a_reader_that_breaks_altogether_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    sampling = Sampling()
    monkeypatch.setattr(sampling.gpus, "read", lambda: 1 / 0)
    sampling.monitor.start()
    assert sampling.monitor.errors["gpu"] == 1
