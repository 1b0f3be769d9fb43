"""Hazards that only the whole daemon can show, with real models."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from textwrap import dedent

import psutil
import pytest

from tests.integration.daemon import CLI, JSON, PATIENCE_SECONDS, PYTHON, Daemon, alive, chat_body, events

FAKE = f"{PYTHON} -S -E {shlex.quote(str(Path(__file__).with_name('fake_upstream.py')))} --port ${{PORT}}"


def models(*, together: bool = False, **options: str) -> str:
    """Write models by name: options of the fake server, ``;`` and more settings."""
    lines = []
    for name, text in options.items():
        words, _, settings = text.partition(";")
        lines.append(f"  {name}: {{cmd: {json.dumps(f'{FAKE} {words}')}, {settings or 'unloadTimeout: 5'}}}")
    groups = f"groups: {{all: {{swap: false, members: [{', '.join(options)}]}}}}\n" if together else ""
    return "models:\n" + "\n".join(lines) + "\n" + groups


def program(folder: Path, text: str) -> tuple[str, ...]:
    """Write a program that prepares something and then is the daemon; gives how to run it."""
    path = folder / "prepared.py"
    path.write_text(dedent(text) + "\nimport sys\nfrom llamaswap.cli import main\nsys.exit(main())\n")
    return (sys.executable, str(path))


def gone(daemon: Daemon, seconds: float) -> bool:
    """Say whether the daemon's process ends in that time."""
    try:
        daemon.process.wait(seconds)
    except subprocess.TimeoutExpired:
        return False
    return True


# --------------------------------------------------------------------------- process


def test_h03_a_shutdown_ends_a_start_that_would_never_succeed(tmp_path: Path) -> None:
    config = models(a="--load 600 --print-bytes 64") + "logToStdout: both\n"
    with Daemon(tmp_path, config) as daemon:
        waiting = daemon.connect()
        waiting.request("POST", "/v1/chat/completions", chat_body("a"), JSON)
        daemon.wait_line("x{63}")
        children = daemon.tree()
        began = time.monotonic()
        daemon.process.send_signal(signal.SIGTERM)
        assert daemon.process.wait(PATIENCE_SECONDS) == 0
        assert time.monotonic() - began < 3
        assert len(children) == 1
        assert alive(children) == []
        waiting.close()


def test_h18_h51_a_stop_command_that_hangs_holds_up_no_other_model(tmp_path: Path) -> None:
    config = models(together=True, a="; unloadTimeout: 1, cmdStop: sleep 600", b="")
    with Daemon(tmp_path, config) as daemon, ThreadPoolExecutor(1) as clients:
        assert (daemon.chat("a").status, daemon.chat("b").status) == (200, 200)
        began = time.monotonic()
        unloading = clients.submit(daemon.ask, "POST", "/api/models/unload/a")
        longest = 0.0
        while not unloading.done():
            before = time.monotonic()
            assert daemon.chat("b").status == 200
            longest = max(longest, time.monotonic() - before)
        assert unloading.result().status == 200
        assert 1 <= time.monotonic() - began < 3
        assert longest < 0.8
        assert daemon.running() == ["b"]


def test_h34_the_terminals_interrupt_reaches_the_daemon_alone(tmp_path: Path) -> None:
    with Daemon(tmp_path, models(a="--chunks 20 --pace 0.05")) as daemon:
        stream = daemon.stream("a", 1)
        payloads = events(stream.getresponse())
        next(payloads)
        os.killpg(os.getpgid(daemon.process.pid), signal.SIGINT)
        assert list(payloads)[-1] == "[DONE]"
        assert daemon.process.wait(PATIENCE_SECONDS) == 0
        stream.close()


# --------------------------------------------------------------------------- scheduling


def test_h38_fifty_clients_of_two_rivals_see_nothing_of_the_swaps(tmp_path: Path) -> None:
    config = models(a="; concurrencyLimit: 100", b="; concurrencyLimit: 100")
    with Daemon(tmp_path, config) as daemon, ThreadPoolExecutor(50) as clients:
        asked = ["ab"[(number // 3 + number) % 2] for number in range(300)]
        answers = list(clients.map(daemon.chat, asked))
        assert {answer.status for answer in answers} == {200}
        pids = {(model, answer.json()["pid"]) for model, answer in zip(asked, answers, strict=True)}
        assert {model for model, _ in pids} == {"a", "b"}
        assert len({pid for _, pid in pids}) == len(pids), "an answer came from the rival's process"
        assert len(pids) == daemon.count(": loading ")


def test_h52_a_rival_that_ignores_term_delays_the_swap_by_its_own_grace(tmp_path: Path) -> None:
    config = models(a="--ignore-term; unloadTimeout: 1", b="") + "healthCheckTimeout: 120\n"
    with Daemon(tmp_path, config) as daemon:
        assert daemon.chat("a").status == 200
        began = time.monotonic()
        assert daemon.chat("b").status == 200
        assert 1 <= time.monotonic() - began < 3


def test_h72_a_new_process_on_the_same_port_gets_new_connections(tmp_path: Path) -> None:
    with Daemon(tmp_path, models(a="")) as daemon:
        pids = set()
        for _ in range(20):
            answer = daemon.chat("a")
            assert answer.status == 200
            pids.add(answer.json()["pid"])
            assert daemon.ask("GET", "/unload").status == 200
        assert len(pids) == 20


# --------------------------------------------------------------------------- daemon


@pytest.mark.parametrize("signals", [1, 2])
def test_h86_the_daemon_ends_after_the_last_of_its_processes(tmp_path: Path, signals: int) -> None:
    pids, marks = tmp_path / "pids", tmp_path / "marks"
    config = models(
        together=True,
        slow=f"--term-delay 0.6 --marks {marks}",
        parent=f"--child null --child-ignores-term --pids {pids}",
        stubborn="--ignore-term" if signals > 1 else "",
    )
    with Daemon(tmp_path, config) as daemon:
        assert {daemon.chat(model).status for model in ("slow", "parent", "stubborn")} == {200}
        children = daemon.tree()
        assert len(children) == 4
        for _ in range(signals):
            daemon.process.send_signal(signal.SIGTERM)
            daemon.wait_line("shutting down")
        assert daemon.process.wait(PATIENCE_SECONDS) == 0
        assert alive(children) == []
        assert [line.split()[0] for line in marks.read_text().splitlines()] == ["start", "term", "end"]


def test_h88_h96_preloads_that_evict_each_other_are_nobodys_requests(tmp_path: Path) -> None:
    config = models(a="", b="") + "hooks: {on_startup: {preload: [a, b]}}\n"
    with Daemon(tmp_path, config) as daemon:
        daemon.wait_line("preloaded b")
        assert daemon.count("preloaded a") == 1
        assert daemon.count("Request ") == 0, "a preload or a probe is in the access log"
        assert daemon.running() == ["b"]
        daemon.wait_line('Request .*"GET /running')


def test_h89_models_of_a_daemon_in_the_background_have_the_invokers_umask(tmp_path: Path) -> None:
    marks = tmp_path / "marks"
    asked = Daemon(tmp_path, models(a=f"--marks {marks}"))
    with subprocess.Popen(["true"]) as nobody:
        pass
    (tmp_path / "twistd.pid").write_text(str(nobody.pid))
    flags = ["llamaswap", "-c", "config.yaml", "-listen", f"127.0.0.1:{asked.port}"]
    code = "import sys; from twisted.scripts.twistd import run; sys.exit(run())"
    subprocess.run(
        [sys.executable, "-c", code, *flags], cwd=tmp_path, check=True, timeout=PATIENCE_SECONDS, umask=0o027
    )
    daemon = psutil.Process(int((tmp_path / "twistd.pid").read_text()))
    try:
        assert asked.chat("a").status == 200
        assert marks.stat().st_mode & 0o777 == 0o640
    finally:
        daemon.terminate()
        _, left = psutil.wait_procs([daemon], PATIENCE_SECONDS)
        for process in left:
            process.kill()
    assert not left
    assert not (tmp_path / "twistd.pid").exists()


def test_h90_a_slow_look_at_the_processes_of_the_machine_stops_no_stream(tmp_path: Path) -> None:
    slow_search = """
        import time
        from llamaswap.process import table
        search = table._search
        def slow(*args):
            print("searching", flush=True)
            time.sleep(1.3)
            return search(*args)
        table._search = slow
    """
    child = "--child null --child-ignores-term; unloadTimeout: 1"
    config = models(together=True, a=child, b="--chunks 200 --pace 0.01")
    with Daemon(tmp_path, config, command=program(tmp_path, slow_search)) as daemon, ThreadPoolExecutor(1) as clients:
        assert daemon.chat("a").status == 200
        stream = daemon.stream("b", 1)
        payloads = events(stream.getresponse())
        next(payloads)
        unloading = clients.submit(daemon.ask, "POST", "/api/models/unload/a")
        daemon.wait_line("searching")
        longest, before = 0.0, time.monotonic()
        for _ in payloads:
            now = time.monotonic()
            longest, before = max(longest, now - before), now
        assert unloading.result().status == 200
        assert longest < 0.8
        stream.close()


def test_h97_a_hung_worker_thread_does_not_hold_the_end(tmp_path: Path) -> None:
    hung_thread = """
        import time
        from twisted.internet import reactor
        reactor.callWhenRunning(lambda: reactor.getThreadPool().callInThread(time.sleep, 600))
    """
    with Daemon(tmp_path, models(a=""), command=program(tmp_path, hung_thread)) as daemon:
        assert daemon.chat("a").status == 200
        daemon.process.send_signal(signal.SIGTERM)
        daemon.wait_line("shutdown complete")
        is_gone = gone(daemon, 5)
        if not is_gone:
            daemon.process.kill()
        assert is_gone, "it hangs after its last word"


# --------------------------------------------------------------------------- descriptors


@contextlib.contextmanager
def many_connections(port: int, count: int) -> Iterator[list[socket.socket]]:
    """Open connections that say nothing."""
    with contextlib.ExitStack() as stack:
        yield [
            stack.enter_context(socket.create_connection(("127.0.0.1", port), PATIENCE_SECONDS)) for _ in range(count)
        ]


def test_h98_more_clients_than_descriptors_are_survived(tmp_path: Path) -> None:
    few = ("/bin/sh", "-c", 'ulimit -n 64; exec "$@"', "sh", *CLI)
    # Without the cap of the edge, which keeps room for our own descriptors.
    config = models(a="", b="") + "http: {maxConnections: 1000}\n"
    with Daemon(tmp_path, config, command=few) as daemon:
        assert daemon.chat("a").status == 200
        kept = daemon.connect()
        kept.request("GET", "/health")
        kept.getresponse().read()
        with many_connections(daemon.port, 100) as connections:
            with contextlib.suppress(ConnectionResetError):
                assert connections[-1].recv(1) == b"", "what there is no room for is closed"
            kept.request("POST", "/v1/chat/completions", chat_body("b"), JSON)
            refused = kept.getresponse()
            assert refused.status == 502
            assert b"too many open files" in refused.read()
        for model in ("b", "a"):
            assert daemon.chat(model).status == 200
        kept.close()
