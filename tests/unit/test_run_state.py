"""What is noted of running models, and what becomes of an earlier daemon's."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.task import Clock
from twisted.logger import capturedLogs

from llamaswap.core.values import ModelId
from llamaswap.process import run_state
from llamaswap.process.run_file import RunRecord, Trace, birth_of, own_record, read_run_file, write_run_file
from llamaswap.process.run_state import RunState

TRACE = Trace("m", 7, "123", "a/1/m", is_whole=True)
OWN = os.getpid()
M = ModelId("m")


class Pool:
    """A pool whose thread works when the test says so, or at once."""

    def __init__(self) -> None:
        self.is_slow = False
        self.jobs: list[Callable[[], None]] = []

    def callInThreadWithCallback(self, on_result: Any, function: Any, *args: Any, **kwargs: Any) -> None:
        def work() -> None:
            from twisted.python.failure import Failure

            try:
                result = function(*args, **kwargs)
            except Exception:  # noqa: BLE001 - as a pool does
                on_result(False, Failure())
            else:
                on_result(True, result)

        self.jobs.append(work)
        if not self.is_slow:
            self.work()

    def work(self) -> None:
        while self.jobs:
            self.jobs.pop(0)()


class World(Clock):
    """A run state and its file."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.pool = Pool()
        self.path = folder / "state" / "run.json"
        self.state = RunState(self.path, self)

    def getThreadPool(self) -> Pool:
        return self.pool

    def callFromThread(self, function: Callable[..., None], *args: Any) -> None:
        function(*args)

    def gather(self) -> None:
        """Let pass the time in which changes come together."""
        self.advance(0.1)

    def noted(self) -> list[tuple[str, int]]:
        record = read_run_file(self.path)
        return [(trace.model, trace.pid) for trace in record.processes] if record is not None else []


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.setattr(run_state, "carriers", lambda markers: [])
    return World(tmp_path)


def warnings_of(action: Callable[[], object]) -> list[str]:
    with capturedLogs() as events:
        action()
    return [event["log_format"] for event in events if event["log_level"].name == "warn"]


def test_h35_leader_is_noted_with_every_fact_while_it_runs(world: World) -> None:
    world.state.open()
    assert read_run_file(world.path) == own_record(world.state.instance)
    world.state.started(M, OWN, "a/1/m", is_whole=True)
    world.gather()
    record = own_record(world.state.instance)
    expected = replace(record, processes=(Trace("m", OWN, birth_of(OWN) or "", "a/1/m", is_whole=True),))
    assert read_run_file(world.path) == expected
    world.state.ended("a/1/m")
    world.state.ended("a/1/m")
    world.gather()
    assert read_run_file(world.path) == record
    world.state.close()
    assert not world.path.exists()
    assert not world.getDelayedCalls()


def test_h35_descendants_are_noted_when_they_are_found(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[set[str]] = []

    def carriers(markers: set[str]) -> list[tuple[int, str, str]]:
        asked.append(markers)
        return [(8, "80", "a/1/m")]

    monkeypatch.setattr(run_state, "carriers", carriers)
    world.state.open()
    world.state.started(M, OWN, "a/1/m", is_whole=True)
    world.state.started(ModelId("kept"), OWN, "a/2/kept", is_whole=False)
    world.advance(1)
    world.gather()
    assert asked == [{"a/1/m"}]
    assert world.noted() == [("m", OWN), ("m", 8), ("kept", OWN)]
    record = read_run_file(world.path)
    assert record is not None
    assert [trace.is_whole for trace in record.processes] == [True, True, False]
    world.pump([2, 4, 8])
    assert len(asked) == 4, "less and less often"
    world.state.ended("a/1/m")
    world.advance(1000)
    assert len(asked) == 4, "there is nobody to look for"
    world.state.close()


def test_descendants_that_are_gone_are_noted_no_longer(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    found = [[(8, "80", "a/1/m")], [(9, "90", "a/1/m")], []]
    monkeypatch.setattr(run_state, "carriers", lambda _: found.pop(0))
    world.state.open()
    world.state.started(M, OWN, "a/1/m", is_whole=True)
    noted = []
    for pause in (1, 2, 4):
        world.advance(pause)
        world.gather()
        noted.append(world.noted())
    assert noted == [[("m", OWN), ("m", 8)], [("m", OWN), ("m", 9)], [("m", OWN)]]
    world.state.close()


def test_leader_that_we_may_not_look_at_is_not_noted(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def forbid(pid: int) -> str:
        raise PermissionError(pid)

    world.state.open()
    monkeypatch.setattr(run_state, "birth_of", forbid)
    world.state.started(M, OWN, "a/1/m", is_whole=True)
    assert not world.getDelayedCalls()


def test_what_is_found_after_its_tree_has_ended_is_not_noted(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_state, "carriers", lambda markers: [(8, "80", "a/1/m")])
    world.state.open()
    world.state.started(M, OWN, "a/1/m", is_whole=True)
    world.pool.is_slow = True
    world.advance(1)
    world.state.ended("a/1/m")
    world.pool.work()
    world.gather()
    world.pool.work()
    assert world.noted() == []


def test_one_write_at_a_time_and_the_last_state_wins(world: World) -> None:
    world.state.open()
    world.pool.is_slow = True
    for number in range(1, 5):
        world.state.ended(f"a/{number - 1}/m")
        world.state.started(M, OWN, f"a/{number}/m", is_whole=False)
        world.gather()
    assert len(world.pool.jobs) == 1
    world.pool.work()
    world.gather()
    world.pool.work()
    record = read_run_file(world.path)
    assert record is not None
    assert [trace.marker for trace in record.processes] == ["a/4/m"]
    assert not world.getDelayedCalls()


def test_models_that_take_turns_quickly_are_written_together(world: World) -> None:
    world.state.open()
    world.pool.is_slow = True
    for number in range(10):
        world.state.started(M, OWN, f"a/{number}/m", is_whole=False)
        world.advance(0.005)
        world.state.ended(f"a/{number}/m")
    assert not world.pool.jobs
    world.gather()
    assert len(world.pool.jobs) == 1


def test_late_thread_does_not_undo_the_last_word(world: World) -> None:
    world.state.open()
    world.pool.is_slow = True
    world.state.started(M, OWN, "a/1/m", is_whole=True)
    world.gather()
    world.state.ended("a/1/m")
    world.state.close()
    world.pool.work()
    assert not world.path.exists()
    world.state.close()
    world.state.started(M, OWN, "a/2/m", is_whole=True)
    assert not world.getDelayedCalls()


def test_h35_dead_daemons_processes_are_ended_before_anything_starts(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[Trace] = []

    def remove(traces: tuple[Trace, ...], instance: str) -> list[Trace]:
        given.extend(traces)
        assert instance == "a"
        return list(traces)

    monkeypatch.setattr(run_state, "remove_orphans", remove)
    world.path.parent.mkdir()
    write_run_file(world.path, replace(own_record("a"), daemon_born="1", processes=(TRACE,)))
    assert warnings_of(world.state.open) == ["{model}: ended process {pid}, left by a daemon that was killed"]
    assert given == [TRACE]
    assert world.noted() == []


@pytest.mark.parametrize(
    "record", [RunRecord("another boot", 1, "1", processes=(TRACE,)), None], ids=["boot", "damaged"]
)
def test_h35_file_that_means_nothing_ends_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch, record: RunRecord | None
) -> None:
    monkeypatch.setattr(run_state, "remove_orphans", lambda *_: pytest.fail("swept"))
    world.path.parent.mkdir()
    if record is None:
        world.path.write_text("{")
    else:
        write_run_file(world.path, record)
    assert warnings_of(world.state.open) == []
    assert world.noted() == []
    world.state.started(M, OWN, "a/1/m", is_whole=False)
    world.gather()
    assert world.noted() == [("m", OWN)]


def test_h35_file_of_a_living_daemon_is_left_alone(world: World) -> None:
    world.path.parent.mkdir()
    record = replace(own_record("a"), processes=(TRACE,))
    write_run_file(world.path, record)
    (warning,) = warnings_of(world.state.open)
    assert "belongs to a daemon that runs" in warning
    world.state.started(M, OWN, "a/1/m", is_whole=True)
    world.state.close()
    assert read_run_file(world.path) == record


def test_folder_that_cannot_be_made_is_one_warning(world: World) -> None:
    world.path.parent.write_text("in the way")
    assert len(warnings_of(world.state.open)) == 1
    world.state.started(M, OWN, "a/1/m", is_whole=True)
    world.state.close()
    assert not world.getDelayedCalls()


def test_folder_that_goes_away_is_one_warning(world: World) -> None:
    world.state.open()
    world.path.unlink()
    world.path.parent.rmdir()
    world.state.started(M, OWN, "a/1/m", is_whole=True)
    assert len(warnings_of(world.gather)) == 1
    world.state.started(M, OWN, "a/2/m", is_whole=True)
    assert warnings_of(world.gather) == []
    assert not world.getDelayedCalls()


def test_looks_go_on_while_models_take_turns(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[set[str]] = []

    def carriers(markers: set[str]) -> list[tuple[int, str, str]]:
        asked.append(markers)
        return []

    monkeypatch.setattr(run_state, "carriers", carriers)
    world.state.open()
    for number in range(20):
        world.state.started(M, OWN, f"a/{number}/m", is_whole=True)
        world.advance(0.2)
    assert len(asked) >= 3
    world.state.close()
    assert not world.getDelayedCalls()
