"""A real daemon and those who look after it: Prometheus, and figures of the machine."""

from __future__ import annotations

import os
import time
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from tests.integration.daemon import DEMO, PATIENCE_SECONDS, Daemon

HANGING_DRIVER = """
import threading

class NVMLError(Exception):
    pass

def nvmlInit():
    threading.Event().wait()
"""

CALM_SECONDS = 0.25
"""Far below the time for which the driver hangs, and above what a loaded machine does to a test."""


def families(daemon: Daemon) -> set[str]:
    """Give the names of what Prometheus sees."""
    answer = daemon.ask("GET", "/metrics")
    return (
        {family.name for family in text_string_to_metric_families(answer.body.decode())}
        if answer.status == 200
        else set()
    )


def test_a_driver_that_hangs_holds_up_neither_answers_nor_samples_nor_the_end(tmp_path: Path) -> None:
    (tmp_path / "driver").mkdir()
    (tmp_path / "driver" / "pynvml.py").write_text(HANGING_DRIVER)
    path = os.pathsep.join([str(tmp_path / "driver"), *filter(None, [os.environ.get("PYTHONPATH")])])
    with Daemon(tmp_path, f"models: {{a: {{cmd: '{DEMO}'}}}}\n", env={"PYTHONPATH": path}) as daemon:
        waits: list[float] = []
        while len(waits) < 20 or "llamaswap_cpu_util_percent" not in families(daemon):
            began = time.monotonic()
            assert daemon.ask("GET", "/health").status == 200
            waits.append(time.monotonic() - began)
            assert len(waits) < 2000
        assert sorted(waits)[len(waits) // 2] < CALM_SECONDS
        assert daemon.ask("GET", "/api/hardware").status == 503, "the detection hangs, too"
        began = time.monotonic()
        daemon.process.terminate()
        assert daemon.process.wait(PATIENCE_SECONDS) == 0
        assert time.monotonic() - began < PATIENCE_SECONDS / 3


def test_each_reload_decides_at_once_what_is_sampled_and_shown(tmp_path: Path) -> None:
    models = f"models: {{a: {{cmd: '{DEMO}'}}}}\n"
    with Daemon(tmp_path, models + "performance: {disabled: true}\n") as daemon:
        assert daemon.ask("GET", "/api/performance").status == daemon.ask("GET", "/metrics").status == 503
        for every in ("5s", "1h"):
            assert daemon.reload(f"{models}performance: {{every: {every}}}\n")["status"] == "ok"
            end_mono = time.monotonic() + PATIENCE_SECONDS
            while "llamaswap_cpu_util_percent" not in families(daemon) and time.monotonic() < end_mono:
                pass
            shown = daemon.ask("GET", "/api/performance").json()
            assert shown["enabled"]
            assert len(shown["sys_stats"]) == 1
        daemon.reload(models + "performance: {disabled: true}\nmetrics: {enabled: true}\n")
        assert daemon.ask("GET", "/api/performance").status == 503
        assert "llamaswap_model_state" in families(daemon)
        assert "llamaswap_cpu_util_percent" not in families(daemon)


def test_scraping_a_model_neither_starts_nor_keeps_it(tmp_path: Path) -> None:
    with Daemon(tmp_path, f"models: {{a: {{cmd: '{DEMO}', ttl: 1}}}}\n") as daemon:
        assert daemon.ask("GET", "/api/models/a/metrics").status == 204
        assert daemon.running() == []
        assert daemon.chat("a").status == 200
        began = time.monotonic()
        first = daemon.ask("GET", "/api/models/a/metrics")
        assert b"llamacpp:requests_processing" in first.body
        assert daemon.ask("GET", "/api/prometheus/targets").json()[0]["labels"]["model"] == "a"
        while daemon.ask("GET", "/api/models/a/metrics").status == 200:
            assert time.monotonic() - began < PATIENCE_SECONDS, "its TTL begins anew with each scrape"
        assert time.monotonic() - began < 1 + PATIENCE_SECONDS / 6
        assert daemon.count('Request .* "GET /metrics') == 0
