"""The daemon dies without a word: what becomes of its models, however they are started."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from llamaswap.process.table import INSTANCE_VARIABLE
from tests.integration.daemon import PATIENCE_SECONDS, Daemon
from tests.integration.process_rig import SERVER, is_alive

COMMANDS = {
    "plain": "{server}",
    "shell": "/bin/bash -c '{server} & wait'",
    "session": "/usr/bin/setsid --wait {server}",
    "double fork": "/bin/bash -c '(/usr/bin/setsid {server} &) ; exec /bin/sleep 600'",
}


@pytest.fixture
def pids(tmp_path: Path) -> Iterator[Callable[[], list[int]]]:
    """Give the pids of all servers so far; at the end none of them may be alive."""
    path = tmp_path / "pids"

    def read() -> list[int]:
        return [int(line) for line in path.read_text().splitlines()] if path.exists() else []

    yield read
    left = [pid for pid in read() if is_alive(pid)]
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    assert not left, "servers were left behind"


def config_of(folder: Path, kind: str, *options: str) -> str:
    words = [*SERVER, "--pids", str(folder / "pids"), *options]
    server = f"{shlex.join(words)} --port ${{PORT}}"
    return f"models: {{m: {{cmd: {json.dumps(COMMANDS[kind].format(server=server))}, unloadTimeout: 1}}}}\n"


def until(condition: Callable[[], object]) -> float:
    """Wait until something holds; gives the seconds that it took."""
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < PATIENCE_SECONDS, "waited in vain"
        time.sleep(0.01)
    return time.monotonic() - began


def processes_of(state: Path) -> list[int]:
    """Give what the run-state file names."""
    files = list(state.glob("run-*.json")) if state.exists() else []
    return [each["pid"] for path in files for each in json.loads(path.read_text())["processes"]]


def kill(daemon: Daemon) -> None:
    daemon.process.kill()
    daemon.process.wait()


@pytest.mark.parametrize("kind", COMMANDS)
def test_h12_h13_h14_unload_and_end_leave_nothing_of(tmp_path: Path, pids: Callable[[], list[int]], kind: str) -> None:
    with Daemon(tmp_path, config_of(tmp_path, kind)) as daemon:
        for _ in range(2):
            assert daemon.chat("m").status == 200
            whole = daemon.tree()
            assert daemon.ask("GET", "/unload").status == 200
            assert not any(map(is_alive, [*pids(), *(process.pid for process in whole)]))
        assert daemon.chat("m").status == 200
    assert len(pids()) == 3
    assert not any(map(is_alive, pids()))


@pytest.mark.parametrize("kind", COMMANDS)
def test_h05_crash_of_the_server_leaves_nothing_of(tmp_path: Path, pids: Callable[[], list[int]], kind: str) -> None:
    with Daemon(tmp_path, config_of(tmp_path, kind)) as daemon:
        assert daemon.chat("m").status == 200
        leader = psutil.Process(daemon.process.pid).children()[0]
        leader.kill()
        until(lambda: daemon.running() == [])
        assert daemon.chat("m").status == 200
        assert len(pids()) == 2
        assert not is_alive(pids()[0])


def test_h35_leader_of_a_killed_daemon_is_gone_in_two_seconds(tmp_path: Path, pids: Callable[[], list[int]]) -> None:
    with Daemon(tmp_path, config_of(tmp_path, "plain")) as daemon:
        assert daemon.chat("m").status == 200
        (server,) = pids()
        kill(daemon)
        assert until(lambda: not is_alive(server)) < 2


@pytest.mark.parametrize("kind", COMMANDS)
def test_h35_next_start_ends_what_is_left_and_spares_a_look_alike(
    tmp_path: Path, pids: Callable[[], list[int]], kind: str
) -> None:
    state = tmp_path / "state"
    config = f"stateDir: {state}\n{config_of(tmp_path, kind, '--ignore-term')}"
    without = {"PATH": str(tmp_path)}  # there is no setpriv
    with Daemon(tmp_path, config, env=without) as daemon:
        assert daemon.chat("m").status == 200
        (server,) = pids()
        until(lambda: server in processes_of(state))
        whole = processes_of(state)
        kill(daemon)
        assert is_alive(server)
        twin = psutil.Process(server)
        look_alike = subprocess.Popen(["/bin/sleep", "600"], env={**twin.environ()}, start_new_session=True)
        try:
            with Daemon(tmp_path, config, env=without, port=daemon.port) as successor:
                successor.wait_line(r"m: ended process \d+, left by a daemon that was killed")
                assert not any(map(is_alive, whole)), "before it listens to anybody"
                assert look_alike.poll() is None
                assert INSTANCE_VARIABLE in psutil.Process(look_alike.pid).environ()
                assert successor.chat("m").status == 200
                assert successor.ask("GET", "/unload").status == 200  # the end would wait for half a minute
        finally:
            look_alike.kill()
            look_alike.wait()
    assert not list(state.iterdir())


def test_h35_live_daemon_keeps_what_it_has(tmp_path: Path, pids: Callable[[], list[int]]) -> None:
    state = tmp_path / "state"
    config = f"stateDir: {state}\n{config_of(tmp_path, 'plain')}"
    with Daemon(tmp_path, config) as daemon:
        assert daemon.chat("m").status == 200
        until(lambda: processes_of(state) == pids())
        again = subprocess.run(daemon._words, cwd=tmp_path, capture_output=True, timeout=PATIENCE_SECONDS, check=False)
        assert again.returncode != 0
        assert is_alive(pids()[0])
        assert processes_of(state) == pids()
    assert not list(state.iterdir())
