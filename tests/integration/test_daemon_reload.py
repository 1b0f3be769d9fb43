"""The whole daemon: another configuration while it serves."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from tests.integration.daemon import DEMO, PATIENCE_SECONDS, PYTHON, Daemon, alive, events

STAND_IN = Path(__file__).with_name("standin.py")
MACRO = f"macros: {{demo: {json.dumps(DEMO)}}}\n"
GROUP = "groups: {free: {swap: false, exclusive: false, members: [a, b]}}\n"
A = '  a: {cmd: "${demo} --load 0.1 --rate 20", unloadTimeout: 2}\n'
B = '  b: {cmd: "${demo} --load 0.1 --rate 20", unloadTimeout: 2}\n'
TWO = f"{MACRO}{GROUP}models:\n{A}{B}"
A_CHANGED = TWO.replace('a: {cmd: "${demo} --load 0.1', 'a: {cmd: "${demo} --load 0.2')


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    """Two models side by side, both up."""
    with Daemon(tmp_path, TWO) as daemon:
        assert daemon.chat("a").status == 200
        assert daemon.chat("b").status == 200
        yield daemon


def test_h76_a_stream_of_an_unchanged_model_is_whole_and_its_process_the_same(daemon: Daemon) -> None:
    before = daemon.pids()
    stream = daemon.stream("a", 200)
    payloads = events(stream.getresponse())
    received = [next(payloads)]
    report = daemon.reload(TWO.replace("unloadTimeout: 2", "unloadTimeout: 3, concurrencyLimit: 1"))
    assert (report["status"], report["trigger"], report["kept"]) == ("ok", "signal", ["a", "b"])
    assert report["restarted"] == report["added"] == report["removed"] == report["errors"] == []
    assert daemon.chat("a").status == 429  # the new limit
    received += payloads
    stream.close()
    assert received[-1] == "[DONE]"
    assert '"finish_reason":"' in "".join(received).replace(" ", "")
    assert daemon.pids() == before


def test_a_changed_model_ends_its_stream_and_serves_anew_afterwards(daemon: Daemon) -> None:
    before = daemon.pids()
    stream = daemon.stream("a", 100)
    payloads = events(stream.getresponse())
    received = [next(payloads)]
    assert daemon.reload(A_CHANGED)["restarted"] == ["a"]
    with ThreadPoolExecutor(1) as clients:
        follower = clients.submit(daemon.chat, "a")
        received += payloads
        assert received[-1] == "[DONE]"
        assert follower.result(PATIENCE_SECONDS).status == 200
    stream.close()
    after = daemon.pids()
    assert after["b"] == before["b"]
    assert after["a"] != before["a"]
    assert not psutil.pid_exists(before["a"])


def test_a_drain_that_takes_too_long_is_cut(daemon: Daemon) -> None:
    stream = daemon.stream("a", 100_000)
    payloads = events(stream.getresponse())
    next(payloads)
    daemon.reload("reloadDrain: 0\n" + A_CHANGED)
    assert daemon.chat("a").status == 200
    assert '"error"' in list(payloads)[-1]
    stream.close()


def test_a_removed_model_ends_its_stream_and_is_gone(daemon: Daemon) -> None:
    before = daemon.pids()
    stream = daemon.stream("a", 100)
    payloads = events(stream.getresponse())
    received = [next(payloads)]
    assert daemon.reload(f"{MACRO}models:\n{B}")["removed"] == ["a"]
    assert daemon.chat("a").status == 404
    received += payloads
    stream.close()
    assert received[-1] == "[DONE]"
    daemon.wait_line(r"unloading a \(reload\)")
    psutil.wait_procs([p for p in daemon.tree() if p.pid == before["a"]], PATIENCE_SECONDS)
    assert daemon.pids() == {"b": before["b"]}
    assert daemon.reload(TWO)["added"] == ["a"]
    assert daemon.chat("a").status == 200


def test_h75_a_model_that_ignores_term_is_gone_before_its_successor_comes(tmp_path: Path) -> None:
    command = f"sh -c 'trap \"\" TERM; exec {PYTHON} {STAND_IN} --port ${{PORT}} --load 0.1'"
    config = f"models:\n  a: {{cmd: {json.dumps(command)}, unloadTimeout: 1}}\n"
    with Daemon(tmp_path, config) as daemon:
        assert daemon.chat("a").status == 200
        old = daemon.tree()
        daemon.reload(config.replace("--load 0.1", "--load 0.2"))
        assert daemon.chat("a").status == 200
        assert alive(old) == []
        assert daemon.count("did not start|ended by itself") == 0
        daemon.ask("POST", "/api/models/unload/a")  # or the end would wait for it


def test_h94_a_model_that_sorts_first_moves_no_port(daemon: Daemon) -> None:
    before = daemon.pids()
    more = TWO.replace("[a, b]", "[a, aaa, b]") + '  aaa: {cmd: "${demo}"}\n'
    report = daemon.reload(more)
    assert (report["kept"], report["added"]) == (["a", "b"], ["aaa"])
    assert daemon.chat("aaa").status == 200
    assert daemon.chat("b").status == 200
    assert before.items() <= daemon.pids().items()
    assert daemon.reload()["kept"] == ["a", "aaa", "b"]
    assert daemon.count("unloading [ab] .reload") == 0


def test_a_bad_file_changes_nothing_and_is_reported(daemon: Daemon) -> None:
    before = daemon.pids()
    report = daemon.reload(TWO.replace("unloadTimeout: 2", "ttl: soon"))
    assert report["status"] == "failed"
    assert [(e["line"], e["path"]) for e in report["errors"]] == [(5, "models.a.ttl"), (6, "models.b.ttl")]
    assert report["errors"][0]["file"] == str(daemon.path)
    assert "soon" in report["errors"][0]["message"]
    daemon.wait_line(r"\[WARN\] configuration not reloaded: .*models.a.ttl")
    daemon.wait_line(r"\[WARN\] configuration not reloaded: .*models.b.ttl")
    assert daemon.chat("a").status == 200
    assert daemon.pids() == before


def test_the_report_of_the_start_needs_a_key(tmp_path: Path) -> None:
    with Daemon(tmp_path, f"apiKeys: [secret-key]\n{TWO}") as daemon:
        assert daemon.ask("GET", "/api/reload").status == 401
        report = daemon.ask("GET", "/api/reload", headers={"x-api-key": "secret-key"}).json()
        assert (report["serial"], report["trigger"], report["status"]) == (1, "start", "ok")
        assert report["added"] == ["a", "b"]
        assert report["sources"] == [str(daemon.path)]


def test_only_added_and_restarted_models_are_preloaded(daemon: Daemon) -> None:
    before = daemon.pids()
    daemon.ask("POST", "/api/models/unload/b")
    hook = "hooks: {on_startup: {preload: [b, c, a]}}\n"
    daemon.reload(A_CHANGED.replace("[a, b]", "[a, b, c]") + B.replace("b:", "c:") + hook)
    daemon.wait_line("preloaded c")
    daemon.wait_line("preloaded a")
    assert daemon.running() == ["a", "c"]
    assert daemon.pids()["a"] != before["a"]


@pytest.mark.parametrize("signals", [(signal.SIGHUP, signal.SIGTERM), (signal.SIGTERM, signal.SIGHUP)])
def test_h81_nothing_starts_after_the_end_began(tmp_path: Path, signals: tuple[signal.Signals, ...]) -> None:
    with Daemon(tmp_path, TWO) as daemon:
        daemon.write(TWO + B.replace("b:", "c:") + "hooks: {on_startup: {preload: [c]}}\n")
        assert daemon.ask("GET", "/health").status == 200  # by then the signals are taken
        for number in signals:
            os.kill(daemon.process.pid, number)
        assert daemon.process.wait(PATIENCE_SECONDS) == 0
        daemon.wait_line("shutdown complete")
        assert daemon.count("loading c|broke") == 0


def test_h77_of_two_quick_writes_the_last_one_holds(tmp_path: Path) -> None:
    with Daemon(tmp_path, TWO, flags=["-watch-config"]) as daemon:
        daemon.write(TWO + B.replace("b:", "c:"))
        daemon.wait_reload(2)
        daemon.write(TWO + B.replace("b:", "d:"))
        daemon.process.send_signal(signal.SIGHUP)
        daemon.write(TWO + B.replace("b:", "e:"))
        daemon.process.send_signal(signal.SIGHUP)
        end_mono = time.monotonic() + PATIENCE_SECONDS
        while daemon.chat("e").status != 200:
            assert time.monotonic() < end_mono
        assert daemon.chat("c").status == 404
        assert daemon.chat("d").status == 404


def test_h78_a_half_written_file_never_takes_the_service_down(tmp_path: Path) -> None:
    with Daemon(tmp_path, TWO) as daemon:
        assert daemon.chat("a").status == 200
        before = daemon.pids()
        whole = daemon.path.read_text()
        outcomes = set()
        for length in range(100, len(whole), 100):
            daemon.path.write_text(whole[:length])
            serial = daemon.ask("GET", "/api/reload").json()["serial"]
            daemon.process.send_signal(signal.SIGHUP)
            outcomes.add(daemon.wait_reload(serial + 1)["status"])
            assert daemon.ask("GET", "/v1/models").status == 200
        daemon.path.write_text(whole)
        assert daemon.reload()["status"] == "ok"
        assert outcomes == {"failed"}
        assert daemon.chat("a").status == 200
        assert daemon.pids() == before


def test_h80_a_watched_file_that_goes_and_comes_back(tmp_path: Path) -> None:
    with Daemon(tmp_path, TWO, flags=["-watch-config"]) as daemon:
        kept = daemon.path.rename(tmp_path / "elsewhere")
        assert daemon.reload()["status"] == "failed"  # a signal is always honoured
        kept.rename(daemon.path)
        report = daemon.wait_reload(3)
        assert (report["status"], report["trigger"]) == ("ok", "watch")
