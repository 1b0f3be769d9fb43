"""Which processes of a dead daemon are ended, and which are spared."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import psutil
import pytest

from llamaswap.process import orphans
from llamaswap.process.orphans import carriers, kill_at_once, remove_orphans
from llamaswap.process.run_file import Trace, birth_of
from llamaswap.process.table import INSTANCE_VARIABLE, is_alive

MARKER = "orphan/1/m"
WAIT = "read _"

Start = Callable[..., "subprocess.Popen[bytes]"]


@pytest.fixture
def start() -> Iterator[Start]:
    """Start a shell with a marker, in a session of its own; at the end nothing is left of it."""
    children: list[subprocess.Popen[bytes]] = []
    everybody: list[psutil.Process] = []

    def begin(script: str = WAIT, marker: str = MARKER, before: str = ":") -> subprocess.Popen[bytes]:
        words = ["/bin/sh", "-c", f"{before}; echo; {script}"]
        child = subprocess.Popen(
            words,
            env={INSTANCE_VARIABLE: marker},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        children.append(child)
        assert child.stdout is not None
        child.stdout.readline()
        process = psutil.Process(child.pid)
        everybody.extend([process, *process.children()])
        return child

    yield begin
    for process in everybody:
        if process.is_running():
            process.kill()
    for child in children:
        child.communicate()


def trace_of(pid: int, **changes: Any) -> Trace:
    return replace(Trace("m", pid, birth_of(pid) or "", MARKER, is_whole=True), **changes)


def test_h35_process_with_every_fact_is_ended(start: Start) -> None:
    child = start()
    trace = trace_of(child.pid)
    assert remove_orphans([trace]) == [trace]
    assert child.wait(5) == -15


def test_h35_one_that_ignores_term_is_killed(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(orphans, "_TERM_SECONDS", 0.1)
    child = start("while :; do /bin/sleep 0.05; done", before="trap '' TERM")
    remove_orphans([trace_of(child.pid)])
    assert child.wait(5) == -9


@pytest.mark.parametrize("changes", [{"born": "1"}, {"marker": "orphan/2/m"}, {"marker": ""}], ids=str)
def test_h35_process_of_which_one_fact_does_not_hold_is_spared(start: Start, changes: dict[str, Any]) -> None:
    child = start()
    assert remove_orphans([trace_of(child.pid, **changes)]) == []
    assert child.poll() is None


def test_h35_same_marker_under_another_pid_is_spared(start: Start) -> None:
    child, twin = start(), start()
    remove_orphans([trace_of(child.pid)])
    assert child.wait(5) == -15
    assert twin.poll() is None


@pytest.mark.parametrize(
    ("marker", "is_ended"), [("orphan/2/m/x", True), ("orphan-kept/2/m", False), ("orphans/2/m", False)]
)
def test_h35_one_that_was_not_noted_is_ended_when_its_parent_is_gone(
    start: Start, monkeypatch: pytest.MonkeyPatch, marker: str, *, is_ended: bool
) -> None:
    late = start(marker=marker)
    assert remove_orphans([], "orphan") == []  # its parent is there
    monkeypatch.setattr(orphans, "_FIRST_PID", os.getpid())  # whoever it fell to
    assert [(each.model, each.pid) for each in remove_orphans([], "orphan")] == [("m/x", late.pid)] * is_ended
    assert (late.poll() is None) is not is_ended


def test_h35_pid_of_nobody_is_passed_over() -> None:
    assert remove_orphans([trace_of(2**22 + 1, born="1")]) == []


@pytest.mark.parametrize("is_whole", [True, False])
def test_h35_descendants_are_ended_unless_they_are_kept(start: Start, is_whole: bool) -> None:  # noqa: FBT001
    child = start("wait", before="/usr/bin/env -i /bin/sleep 600 & :")
    (descendant,) = psutil.Process(child.pid).children()
    remove_orphans([trace_of(child.pid, is_whole=is_whole)])
    child.wait(5)
    assert is_alive(descendant) is not is_whole


def test_h35_we_and_those_who_started_us_are_spared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(orphans, "_marker_of", lambda _pid: MARKER)
    monkeypatch.setattr(orphans, "_end", lambda members, *_: pytest.fail("ended") if set(members) else None)
    monkeypatch.setattr(orphans, "_carriers", lambda _: [(os.getpid(), birth_of(os.getpid()), MARKER)])
    monkeypatch.setattr(orphans, "_FIRST_PID", os.getppid())
    assert remove_orphans([trace_of(os.getpid()), trace_of(os.getppid())], "orphan") == []
    assert remove_orphans([], "orphan") == []


def test_carriers_have_the_marker_in_their_environment(start: Start) -> None:
    child = start()
    start(marker="orphan/2/m")
    assert carriers({MARKER}) == [(child.pid, birth_of(child.pid), MARKER)]
    assert carriers(set()) == []


def test_h85_all_that_is_marked_can_be_killed_at_once(start: Start) -> None:
    leader, elsewhere, other = start(), start(marker="orphan/2/n"), start(marker="orphans/1/m")
    kill_at_once([leader.pid, 2**22 + 1], "orphan")
    assert (leader.wait(5), elsewhere.wait(5)) == (-9, -9)
    assert other.poll() is None
