"""The whole daemon: how it starts, and how it ends."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import psutil
import pytest

from tests.integration.daemon import DEMO, JSON, PATIENCE_SECONDS, Daemon, alive, chat_body, events, free_ports

ONE = f"""
models:
  a: {{cmd: {json.dumps(DEMO + " --load 0.1 --rate 50")}, unloadTimeout: 2}}
  slow: {{cmd: {json.dumps(DEMO + " --load 20")}, unloadTimeout: 2}}
"""


def entry(name: str) -> list[str]:
    """The installed script of this name, beside the interpreter or in the path."""
    found = shutil.which(name, path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}")
    if found is None:
        pytest.skip(f"{name} is not installed")
    return [found]


@pytest.mark.parametrize(
    "command",
    [
        pytest.param(("llamaswap",), id="llamaswap"),
        pytest.param(("llama-swap",), id="llama-swap"),
        pytest.param(("twistd", "-n", "--pidfile=", "llamaswap"), id="twistd"),
        pytest.param(("twist", "llamaswap"), id="twist"),
    ],
)
def test_every_entry_serves_and_leaves_nothing_behind(tmp_path: Path, command: Sequence[str]) -> None:
    with Daemon(tmp_path, ONE, command=[*entry(command[0]), *command[1:]]) as daemon:
        assert daemon.chat("a").status == 200
        children = daemon.tree()
        assert len(children) == 1
        daemon.process.send_signal(signal.SIGTERM)
        assert daemon.process.wait(PATIENCE_SECONDS) == 0
        assert alive(children) == []
        daemon.wait_line("shutdown complete")


def test_h89_twistd_in_the_background_serves_and_ignores_hang_up(tmp_path: Path) -> None:
    port = free_ports(4)
    (tmp_path / "config.yaml").write_text(f"startPort: {port + 1}\n{ONE}")
    flags = ["llamaswap", "-c", "config.yaml", "-listen", f"127.0.0.1:{port}"]
    subprocess.run([*entry("twistd"), *flags], cwd=tmp_path, check=True, timeout=PATIENCE_SECONDS)
    daemon = psutil.Process(int((tmp_path / "twistd.pid").read_text()))
    try:
        asked = Daemon(tmp_path, ONE, port=port)  # writes the same configuration: HUP reads it again
        assert asked.chat("a").status == 200
        daemon.send_signal(signal.SIGHUP)
        assert asked.chat("a").status == 200
        (child,) = daemon.children(recursive=True)
        assert child.cwd() == str(tmp_path)
        daemon.send_signal(signal.SIGTERM)
        daemon.wait(PATIENCE_SECONDS)
        assert alive([child]) == []
        assert not (tmp_path / "twistd.pid").exists()
    finally:
        for process in [daemon, *(daemon.children(recursive=True) if daemon.is_running() else [])]:
            if process.is_running():
                process.kill()


def test_h95_an_address_in_use_ends_with_status_1(tmp_path: Path) -> None:
    with Daemon(tmp_path, ONE) as daemon:
        words = ["-config", str(tmp_path / "config.yaml"), "-listen", f"127.0.0.1:{daemon.port}"]
        second = subprocess.run(
            [sys.executable, "-m", "llamaswap.cli", *words],
            capture_output=True,
            text=True,
            timeout=PATIENCE_SECONDS,
            check=False,
        )
        assert second.returncode == 1
        assert str(daemon.port) in second.stderr
        assert daemon.tree() == []


def test_h83_a_load_in_progress_does_not_hold_the_shutdown(tmp_path: Path) -> None:
    with Daemon(tmp_path, ONE) as daemon:
        waiting = daemon.connect()
        waiting.request("POST", "/v1/chat/completions", chat_body("slow"), JSON)
        daemon.wait_line("loading slow")
        began = time.monotonic()
        daemon.process.send_signal(signal.SIGTERM)
        response = waiting.getresponse()
        assert response.status == 503
        assert b"shutting down" in response.read()
        assert daemon.process.wait(PATIENCE_SECONDS) == 0
        assert time.monotonic() - began < 6
        waiting.close()


def test_a_stream_under_way_is_finished_before_the_end(tmp_path: Path) -> None:
    with Daemon(tmp_path, ONE) as daemon:
        stream = daemon.stream("a", 50)
        payloads = events(stream.getresponse())
        next(payloads)
        daemon.process.send_signal(signal.SIGTERM)
        assert list(payloads)[-1] == "[DONE]"
        assert daemon.process.wait(PATIENCE_SECONDS) == 0
        stream.close()


def test_h85_a_second_signal_ends_a_long_stream(tmp_path: Path) -> None:
    with Daemon(tmp_path, ONE) as daemon:
        stream = daemon.stream("a", 100_000)
        next(events(stream.getresponse()))
        children = daemon.tree()
        daemon.process.send_signal(signal.SIGINT)
        daemon.wait_line("shutting down")
        began = time.monotonic()
        daemon.process.send_signal(signal.SIGINT)
        assert daemon.process.wait(PATIENCE_SECONDS) == 0
        assert time.monotonic() - began < 3
        assert alive(children) == []
        stream.close()


def test_h82_log_followers_get_a_clean_end(tmp_path: Path) -> None:
    with Daemon(tmp_path, ONE) as daemon:
        follower = daemon.connect()
        follower.request("GET", "/logs/stream")
        response = follower.getresponse()
        began = time.monotonic()
        daemon.process.send_signal(signal.SIGTERM)
        response.read()  # raises if the chunked body is not ended
        assert daemon.process.wait(PATIENCE_SECONDS) == 0
        assert time.monotonic() - began < 5
        follower.close()


def test_preload_starts_the_named_models(tmp_path: Path) -> None:
    with Daemon(tmp_path, ONE + "hooks: {on_startup: {preload: [a]}}\n") as daemon:
        daemon.wait_line("preloaded a")
        assert daemon.running() == ["a"]
