"""Runs of a reload, one after the other, and what is said of them."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from llamaswap.background import in_thread
from llamaswap.config.diff import Difference, compare
from llamaswap.config.expansion import NO_PORTS, HeldPorts
from llamaswap.config.schema import Config, ModelConfig
from llamaswap.core.values import ModelId
from llamaswap.errors import ConfigError, ConfigProblem
from llamaswap.reload import Prepared, Reload, Source, Trigger
from tests.deferreds import failure_of, success_of
from tests.unit.configs import Loader

NOW: Final = 1795165973.9


def config_of(*models: str, **fields: Any) -> Config:
    return Config(models={ModelId(m): ModelConfig(id=ModelId(m), **fields) for m in models}, sources=("c.yaml",))


class FakeDaemon:
    """Takes what it is given."""

    def __init__(self) -> None:
        self.config = config_of("a")
        self.commits: list[Difference] = []
        self.prepared: list[Deferred[Prepared]] = []
        self.clock = Clock()
        self.news: list[Any] = []
        self.reload = Reload(self, self.prepare, self.clock, lambda: NOW, publish=self.news.append)

    def held_ports(self) -> HeldPorts:
        return NO_PORTS

    def prepare(self, held: HeldPorts) -> Deferred[Prepared]:
        assert held is NO_PORTS
        self.prepared.append(Deferred())
        return self.prepared[-1]

    def commit(self, prepared: Prepared, difference: Difference) -> None:
        self.config = prepared.config
        self.commits.append(difference)

    def ready(self, config: Config) -> None:
        """Let the newest preparation succeed."""
        self.prepared[-1].callback(Prepared(config, config.facts(), Any))  # type: ignore[arg-type]  # not looked at


def test_the_start_counts_as_a_run() -> None:
    document = FakeDaemon().reload.report.document()
    assert document["serial"] == 1
    assert document["at"] == "2026-11-20T09:12:53.900Z"
    assert document["trigger"] == "start"
    assert document["status"] == "ok"
    assert document["sources"] == ("c.yaml",)
    assert document["added"] == ("a",)


def test_a_run_commits_and_reports() -> None:
    daemon = FakeDaemon()
    daemon.reload.trigger(Trigger.SIGNAL)
    assert daemon.reload.report.document()["status"] == "running"
    daemon.clock.advance(0.25)
    daemon.ready(config_of("a", "b"))
    document = daemon.reload.report.document()
    assert (document["serial"], document["status"], document["duration_ms"]) == (2, "ok", 250)
    assert (document["kept"], document["added"]) == (("a",), ("b",))
    assert daemon.commits == [Difference(kept=(ModelId("a"),), added=(ModelId("b"),))]
    assert [news.report["status"] for news in daemon.news] == ["running", "ok"]


def test_h77_triggers_during_a_run_cause_one_more() -> None:
    daemon = FakeDaemon()
    for trigger in (Trigger.SIGNAL, Trigger.WATCH, Trigger.WATCH):
        daemon.reload.trigger(trigger)
    assert len(daemon.prepared) == 1
    daemon.ready(config_of("b"))
    assert len(daemon.prepared) == 2
    assert daemon.reload.report.trigger is Trigger.WATCH
    daemon.ready(config_of("c"))
    assert len(daemon.prepared) == 2
    assert list(daemon.config.models) == ["c"]


def test_h78_a_bad_configuration_commits_nothing_and_says_why() -> None:
    daemon = FakeDaemon()
    daemon.reload.trigger(Trigger.SIGNAL)
    problem = ConfigProblem("expected seconds", "c.yaml", 3, "models.a.ttl")
    daemon.prepared[0].errback(ConfigError("c.yaml:3: models.a.ttl: expected seconds", [problem]))
    assert daemon.commits == []
    document = daemon.reload.report.document()
    assert document["status"] == "failed"
    assert document["errors"] == [
        {"file": "c.yaml", "line": 3, "path": "models.a.ttl", "message": "expected seconds"},
    ]
    daemon.reload.trigger(Trigger.SIGNAL)
    daemon.ready(config_of("b"))
    assert daemon.reload.report.document()["errors"] == []


def test_a_bug_in_the_preparation_is_logged_and_the_next_run_works(logged_failures: Any) -> None:
    daemon = FakeDaemon()
    daemon.reload.trigger(Trigger.SIGNAL)
    daemon.prepared[0].errback(ZeroDivisionError("oops"))
    assert daemon.reload.report.status == "failed"
    assert daemon.reload.report.errors == (ConfigProblem("oops"),)
    assert len(logged_failures.flush(ZeroDivisionError)) == 1
    daemon.reload.trigger(Trigger.SIGNAL)
    daemon.ready(config_of("b"))
    assert daemon.reload.report.status == "ok"


def test_h81_nothing_is_committed_once_the_end_began() -> None:
    daemon = FakeDaemon()
    daemon.reload.trigger(Trigger.SIGNAL)
    daemon.reload.trigger(Trigger.SIGNAL)
    daemon.reload.refuse()
    daemon.ready(config_of("b"))
    assert daemon.commits == []
    assert daemon.reload.report.status == "failed"
    assert len(daemon.prepared) == 1
    daemon.reload.trigger(Trigger.SIGNAL)
    assert len(daemon.prepared) == 1


@pytest.mark.parametrize(
    ("fields", "is_kept"),
    [
        ({"argv": ("other",)}, False),
        ({"env": ("A=1",)}, False),
        ({"proxy": "http://127.0.0.1:1"}, False),
        ({"check_endpoint": "none"}, False),
        ({"launcher": "other"}, False),
        ({"launcher_settings": {"a": 1}}, False),
        ({"cmd": "# the same words, written otherwise"}, True),
        ({"stop_argv": ("stop",)}, True),
        ({"ttl_seconds": 5, "concurrency_limit": 1, "aliases": ("x",), "unload_timeout_seconds": 1}, True),
    ],
)
def test_identity_is_what_a_process_is_started_from(fields: dict[str, Any], *, is_kept: bool) -> None:
    difference = compare(config_of("a"), config_of("a", **fields))
    assert (difference.kept, difference.restarted) == ((("a",), ()) if is_kept else ((), ("a",)))


def test_of_an_environment_the_last_value_of_a_name_counts() -> None:
    before, after = config_of("a", env=("A=0", "B=2", "A=1")), config_of("a", env=("A=1", "B=2"))
    assert compare(before, after).kept == ("a",)


def test_h94_known_models_keep_their_ports_and_new_ones_get_what_is_free(loaded: Loader) -> None:
    text = "startPort: 5800\nmodels:\n" + "".join(f"  {m}: {{cmd: 'x ${{PORT}}'}}\n" for m in ("aaa", "b", "c", "d"))
    (loaded.folder / "config.yaml").write_text(text)
    held = HeldPorts({"b": 5800, "gone": 5801, "d": 5804}, [5802])
    config = Source(str(loaded.folder / "config.yaml"), None, {}).prepare(held).config
    assert {m.id: m.port for m in config.models.values()} == {"aaa": 5803, "b": 5800, "c": 5805, "d": 5804}


def test_a_port_below_the_start_is_given_up(loaded: Loader) -> None:
    (loaded.folder / "config.yaml").write_text("startPort: 6000\nmodels: {b: {cmd: 'x ${PORT}'}}\n")
    config = Source(str(loaded.folder / "config.yaml"), None, {}).prepare(HeldPorts({"b": 5800})).config
    assert config.models[ModelId("b")].port == 6000


def test_problems_know_their_places(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("models:\n  a: {cmd: 'x ${PORT}', ttl: soon}\n")
    with pytest.raises(ConfigError) as caught:
        Source(str(path), None, {}).prepare(NO_PORTS)
    (problem,) = caught.value.details
    assert (problem.file, problem.line, problem.path) == (str(path), 2, "models.a.ttl")
    assert problem.message.startswith("expected")


def test_places_of_problems_hide_what_the_environment_holds(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("peers:\n  '${env.TOKEN}': {proxy: ''}\n")
    with pytest.raises(ConfigError) as caught:
        Source(str(path), None, {"TOKEN": "hush-hush"}).prepare(NO_PORTS)
    assert {(p.path, p.message) for p in caught.value.details} == {
        ("peers.${env.TOKEN}", "proxy is required"),
        ("peers.${env.TOKEN}", "peer models can not be empty"),
    }


class ThreadReactor:
    """Remembers what a thread wants to be called."""

    def __init__(self) -> None:
        self.calls: list[Callable[[], object]] = []
        self.called = threading.Event()

    def callFromThread(self, function: Callable[..., object], *args: object) -> None:
        self.calls.append(lambda: function(*args))
        self.called.set()


def test_work_in_a_thread_comes_back_through_the_reactor() -> None:
    reactor = ThreadReactor()
    done = in_thread(reactor, lambda: threading.current_thread().daemon)
    assert reactor.called.wait(10)
    reactor.calls.pop()()
    assert success_of(done) is True


@pytest.mark.parametrize(("work", "error"), [(lambda: 1 // 0, ZeroDivisionError), (sys.exit, SystemExit)])
def test_what_work_in_a_thread_raises_comes_back_too(work: Callable[[], object], error: type[Exception]) -> None:
    reactor = ThreadReactor()
    done = in_thread(reactor, work)
    assert reactor.called.wait(10)
    reactor.calls.pop()()
    failure_of(done, error)


def test_a_thread_that_cannot_be_had_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: threading.Thread) -> None:
        raise RuntimeError

    monkeypatch.setattr(threading.Thread, "start", refuse)
    failure_of(in_thread(ThreadReactor(), dict), RuntimeError)


def test_h78_a_file_that_is_empty_just_now_does_not_take_all_models_away(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.touch()
    with pytest.raises(ConfigError, match="empty, the running configuration stays"):
        Source(str(path), None, {}).prepare(NO_PORTS)
    path.write_text("# no models on purpose\n")
    assert Source(str(path), None, {}).prepare(NO_PORTS).config.models == {}
