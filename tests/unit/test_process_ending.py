"""How a tree ends: with fake children and a fake process table, second by second."""

from __future__ import annotations

import signal
from typing import Any
from unittest import mock

import psutil
import pytest
from twisted.internet.defer import Deferred
from twisted.logger import LogLevel, capturedLogs

from llamaswap.core.values import ModelId
from llamaswap.errors import UpstreamStartError
from llamaswap.interfaces import ExitStatus, ILaunched, LaunchSpec
from llamaswap.process.command import start_error
from llamaswap.process.local import LocalLauncher
from llamaswap.process.table import INSTANCE_VARIABLE, Member, ProcessTable
from tests.deferreds import failure_of, no_result, success_of
from tests.fakes import FakeMember, FakeProcess, FakeProcessReactor, FakeTable

TERM, KILL = signal.SIGTERM, signal.SIGKILL


class World:
    """One launched leader, with pid 100, in a made-up machine."""

    def __init__(self, *stop_argv: str, keep_descendants: bool = False) -> None:
        self.reactor = FakeProcessReactor()
        self.table = FakeTable()
        self.output: list[bytes] = []
        self.launcher = LocalLauncher(self.reactor, table=self.table, spawn=self.reactor.spawn)
        self.spec = LaunchSpec(
            ModelId("m"),
            ("/bin/sh", "-c", "serve"),
            {"A": "1"},
            "/",
            "http://model.invalid:1",
            stop_argv,
            keep_descendants=keep_descendants,
        )
        self.launched: ILaunched = success_of(self.launcher.launch(self.spec, self.output.append))
        self.exits: list[ExitStatus] = []
        self.launched.exited.addCallback(self.exits.append)

    @property
    def leader(self) -> FakeProcess:
        return self.reactor.children[0]

    @property
    def marker(self) -> str:
        return str(self.leader.arguments["env"][INSTANCE_VARIABLE])

    def add(self, pid: int, **fields: Any) -> FakeMember:
        """Give the machine another process."""
        member = FakeMember(pid, **{"parent": 100, "group": 100, **fields})
        self.table.members.append(member)
        return member

    def wait(self, seconds: float) -> None:
        for _ in range(round(seconds * 100)):
            self.reactor.advance(0.01)

    def finish(self, stopped: Deferred[None]) -> None:
        """Check that a stop has ended and left nothing."""
        success_of(stopped)
        self.reactor.read()
        assert not self.reactor.getDelayedCalls()
        assert not self.reactor.readers


def test_leader_that_obeys() -> None:
    world = World()
    stopped = world.launched.stop(10)
    assert world.table.signals == [("group 100", TERM)]
    no_result(stopped)
    world.leader.end()
    assert world.exits == [ExitStatus(exit_code=0)]
    world.finish(stopped)
    assert world.table.searches == []


def test_exit_is_told_before_the_stop_is() -> None:
    world = World()
    told: list[str] = []
    world.launched.exited.addCallback(lambda _: told.append("exited"))
    world.launched.stop(10).addCallback(lambda _: told.append("stopped"))
    world.leader.end(None, 15)
    world.reactor.read()
    assert told == ["exited", "stopped"]
    assert world.exits == [ExitStatus(signal=15)]


def test_h15_grace_is_measured_by_one_timer() -> None:
    world = World()
    stopped = world.launched.stop(60)
    world.wait(59)
    assert world.table.signals == [("group 100", TERM)]
    world.leader.end()
    world.finish(stopped)


def test_h17_leader_that_ignores_term_is_killed_at_the_grace() -> None:
    world = World()
    stopped = world.launched.stop(2)
    world.wait(1.99)
    assert world.table.signals == [("group 100", TERM)]
    world.wait(0.02)
    assert world.table.signals == [("group 100", TERM), ("group 100", KILL)]
    no_result(stopped)
    world.leader.end(None, 9)
    world.finish(stopped)


def test_second_stop_joins_and_the_shorter_grace_wins() -> None:
    world = World()
    first, second, third = world.launched.stop(10), world.launched.stop(2), world.launched.stop(30)
    assert len({id(first), id(second), id(third)}) == 3
    world.wait(2.01)
    assert world.table.signals == [("group 100", TERM), ("group 100", KILL)]
    world.leader.end(None, 9)
    success_of(first)
    success_of(second)
    world.finish(third)
    success_of(world.launched.stop(1))


def test_cancelling_one_caller_ends_his_waiting_alone() -> None:
    world = World()
    first, second = world.launched.stop(10), world.launched.stop(10)
    first.cancel()
    failure_of(first)
    world.leader.end()
    world.finish(second)


def test_h11_pipe_held_by_a_stranger_does_not_hold_the_stop() -> None:
    world = World()
    stopped = world.launched.stop(10)
    world.leader.end(keeps_output_open=True)
    success_of(stopped)
    world.wait(0.9)
    world.leader.print(b"from the stranger")
    world.reactor.read()
    assert world.output == [b"from the stranger"]
    assert world.reactor.readers
    world.wait(0.2)
    assert not world.reactor.readers
    assert not world.reactor.getDelayedCalls()
    world.leader.close_output()


def test_last_words_come_before_the_news_of_the_exit() -> None:
    world = World()
    world.launched.exited.addCallback(lambda _: world.output.append(b"exited"))
    world.leader.print(b"out of memory")
    world.leader.end(1)
    assert world.output == [b"out of memory", b"exited"]
    world.finish(world.launched.stop(1))


def test_h12_rest_of_the_group_is_waited_for() -> None:
    world = World()
    server = world.add(101, heeds=frozenset({KILL}))
    stopped = world.launched.stop(10)
    world.leader.end()
    no_result(stopped)
    world.wait(0.5)
    server.is_alive = False
    world.wait(0.02)
    world.finish(stopped)
    # The whole group had its TERM: a second one means "at once" to many servers.
    assert world.table.signals == [("group 100", TERM)]


def test_h13_child_that_ignores_term_is_killed_after_two_seconds() -> None:
    world = World()
    server = world.add(101, heeds=frozenset({KILL}))
    stopped = world.launched.stop(10)
    world.leader.end()
    world.wait(1.98)
    assert server.is_running()
    world.wait(0.05)
    assert not server.is_running()
    world.finish(stopped)


def test_h13_no_longer_than_the_grace() -> None:
    world = World()
    server = world.add(101, heeds=frozenset({KILL}))
    stopped = world.launched.stop(1)
    world.leader.end()
    world.wait(1.02)
    assert not server.is_running()
    world.finish(stopped)


def test_h14_descendant_in_another_session_is_in_the_picture() -> None:
    world = World()
    server = world.add(101, group=101)
    stopped = world.launched.stop(10)
    server.parent = 1
    world.leader.end()
    world.wait(0.02)
    assert ("pid 101", TERM) in world.table.signals
    world.finish(stopped)


def test_h14_descendant_whose_parent_is_gone_is_found_by_its_marker() -> None:
    world = World()
    server = world.add(101, group=101, parent=1)
    server.marker = world.marker
    world.table.orphans = frozenset({101})
    stopped = world.launched.stop(10)
    assert server.is_running()
    world.leader.end()
    world.wait(0.02)
    assert not server.is_running()
    world.finish(stopped)


def test_foreign_orphans_are_left_alone() -> None:
    world = World()
    foreign = world.add(101, group=101, parent=1, marker="another daemon")
    world.table.orphans = frozenset({101})
    stopped = world.launched.stop(10)
    world.leader.end()
    world.finish(stopped)
    assert foreign.is_running()


def test_leader_that_ended_by_itself_leaves_nobody() -> None:
    world = World("stop", "${PID}")
    server = world.add(101)
    world.leader.end(0)
    stopped = world.launched.stop(10)
    no_result(stopped)
    world.wait(0.02)
    assert not server.is_running()
    world.finish(stopped)
    assert len(world.reactor.children) == 1, "nobody is left to ask, so the stop command is not run"


def test_h18_stop_command_is_run_instead_of_term() -> None:
    world = World("/bin/sh", "-c", "docker stop ${PID}")
    stopped = world.launched.stop(10)
    (_, command) = world.reactor.children
    assert command.arguments["args"] == ("/bin/sh", "-c", "docker stop 100")
    assert command.arguments["env"] == {"A": "1"}
    assert world.table.signals == []
    command.print(b"stopping")
    command.end(0)
    assert world.output == [b"stopping"]
    world.wait(5)
    no_result(stopped)
    world.leader.end()
    world.finish(stopped)


def test_h18_stop_command_that_hangs_is_killed_at_the_grace() -> None:
    world = World("/bin/sh")
    stopped = world.launched.stop(2)
    world.leader.end()
    world.wait(1.99)
    no_result(stopped)
    world.wait(0.02)
    assert world.table.signals == [("group 101", KILL)]
    world.reactor.children[1].end(None, 9)
    world.finish(stopped)


def test_h18_both_hang() -> None:
    world = World("/bin/sh")
    stopped = world.launched.stop(2)
    world.wait(2.01)
    assert world.table.signals == [("group 100", KILL), ("group 101", KILL)]
    for child in world.reactor.children:
        child.end(None, 9)
    world.finish(stopped)


@pytest.mark.parametrize("exit_code", [1, None])
def test_h20_stop_command_that_fails_is_followed_by_term_at_once(exit_code: int | None) -> None:
    world = World("/bin/sh")
    stopped = world.launched.stop(10)
    world.reactor.children[1].end(exit_code, None if exit_code else 6)
    assert world.table.signals == [("group 100", TERM)]
    world.leader.end()
    world.finish(stopped)


def test_h20_stop_command_that_does_not_exist_is_followed_by_term_at_once() -> None:
    world = World("no-such-command")
    stopped = world.launched.stop(10)
    assert world.table.signals == [("group 100", TERM)]
    world.leader.end()
    world.finish(stopped)


def test_h21_nothing_is_signalled_by_number_after_the_leader_was_reaped() -> None:
    world = World("/bin/sh")
    stopped = world.launched.stop(2)
    world.leader.end()
    stranger = world.add(100, parent=1, group=100)
    world.reactor.children[1].end(1)
    world.wait(3)
    world.finish(stopped)
    assert world.table.signals == []
    assert stranger.is_running()


def test_h22_stopped_only_after_the_stop_command() -> None:
    world = World("/bin/sh")
    stopped = world.launched.stop(10)
    world.leader.end()
    world.wait(2)
    no_result(stopped)
    world.reactor.children[1].end(0)
    world.finish(stopped)


def test_h23_exit_and_stop_in_one_turn() -> None:
    world = World()
    world.leader.end(None, 9)
    world.finish(world.launched.stop(10))
    assert world.table.signals == []


def test_what_cannot_be_killed_is_given_up_and_said() -> None:
    world = World()
    stopped = world.launched.stop(2)
    with capturedLogs() as events:
        world.wait(5.99)
        no_result(stopped)
        world.wait(0.02)
    success_of(stopped)
    assert [event["pids"] for event in events if event["log_level"] is LogLevel.critical] == [[100]]
    world.wait(2)
    world.leader.end(None, 9)
    world.finish(stopped)


def test_descendant_that_cannot_be_killed_is_given_up() -> None:
    world = World()
    world.add(101, heeds=frozenset())
    stopped = world.launched.stop(10)
    world.leader.end()
    world.wait(5.9)
    no_result(stopped)
    world.wait(0.2)
    world.finish(stopped)


def test_what_appears_after_the_grace_is_killed_at_once() -> None:
    world = World()
    world.add(101, heeds=frozenset({KILL}))
    stopped = world.launched.stop(1)
    world.wait(0.95)
    world.leader.end()
    late = world.add(102, parent=1, group=102, marker=world.marker, heeds=frozenset({KILL}))
    world.wait(0.1)
    assert not late.is_running()
    world.finish(stopped)


def test_h14_descendant_that_forks_on_while_it_is_searched_for() -> None:
    world = World()
    child = world.add(101)
    later: list[FakeMember] = []
    search = world.table.search

    async def search_of_old_news(marker: str, leader_pid: int | None) -> set[Member]:
        found = await search(marker, leader_pid)
        if child.is_alive:
            child.is_alive = False
            later.append(world.add(102, parent=1, group=102, marker=world.marker))
        return found

    world.leader.end(None, KILL)
    with mock.patch.object(world.table, "search", search_of_old_news):
        stopped = world.launched.stop(10)
        world.wait(0.1)
    assert [member.is_running() for member in later] == [False]
    world.finish(stopped)


def test_search_that_hangs_holds_nobody_up() -> None:
    world = World()
    world.table.is_hanging = True
    world.add(101, heeds=frozenset())
    stopped = world.launched.stop(1)
    world.leader.end()
    world.wait(4.98)
    no_result(stopped)
    world.wait(0.04)
    world.finish(stopped)


def test_start_error_of_the_system_names_the_command() -> None:
    world = World()
    world.reactor.spawn_error = OSError(8, "Exec format error")
    error = failure_of(world.launcher.launch(world.spec, world.output.append), UpstreamStartError).value
    assert str(error) == "failed to start command '/bin/sh -c serve': exec format error"
    assert len(world.reactor.readers) == 1, "the pipe of the failed start is closed"
    world.leader.end()
    world.finish(world.launched.stop(1))


def test_child_gets_environment_folder_and_one_pipe_for_both_outputs() -> None:
    world = World()
    arguments = world.leader.arguments
    assert arguments["executable"] == "/bin/sh"
    assert arguments["args"] == ("/bin/sh", "-c", "serve")
    assert arguments["path"] == "/"
    assert arguments["env"] == {"A": "1", INSTANCE_VARIABLE: world.marker}
    assert world.marker.endswith("/1/m")
    assert arguments["childFDs"].keys() == {0, 1, 2}
    assert arguments["childFDs"][1] == arguments["childFDs"][2]
    assert world.launched.describe() == {"pid": 100}
    world.leader.end()
    world.finish(world.launched.stop(1))
    assert success_of(world.launched.resident_bytes()) is None


def test_start_without_a_descriptor_left_keeps_none(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()
    with monkeypatch.context() as patch:
        patch.setattr("llamaswap.process.protocol.os.open", mock.Mock(side_effect=OSError(24, "Too many open files")))
        error = failure_of(world.launcher.launch(world.spec, world.output.append), UpstreamStartError).value
    assert "too many open files" in str(error)
    assert len(world.reactor.readers) == 1, "the pipe of the failed start is closed"
    world.leader.end()
    world.finish(world.launched.stop(1))


def test_group_of_another_user_is_not_signalled_and_breaks_nothing() -> None:
    table = ProcessTable(None)
    with mock.patch("llamaswap.process.table.os.killpg", side_effect=PermissionError) as asked:
        table.signal_group(100, TERM)
    asked.assert_called_once_with(100, TERM)


def test_process_that_may_not_be_looked_at_counts_as_alive() -> None:
    hidden = mock.Mock(**{"is_running.return_value": True, "status.side_effect": psutil.AccessDenied})
    assert ProcessTable(None).alive([hidden]) == {hidden}


def test_signal_that_breaks_at_the_grace_does_not_keep_the_stop_from_its_end() -> None:
    world = World()
    stopped = world.launched.stop(2)
    with (
        mock.patch.object(world.table, "signal_group", side_effect=ZeroDivisionError),
        pytest.raises(ZeroDivisionError),
    ):
        world.wait(2.01)
    world.wait(4.1)
    success_of(stopped)
    world.leader.end(None, 9)
    world.finish(stopped)


def test_kept_descendants_live_on_and_can_print() -> None:
    world = World(keep_descendants=True)
    child = world.add(101)
    stopped = world.launched.stop(10)
    assert world.table.signals == [("leader 100", TERM)]
    world.leader.end(keeps_output_open=True)
    success_of(stopped)
    world.wait(5)
    assert child.is_alive
    world.leader.print(b"still here")
    world.reactor.read()
    assert world.output == [b"still here"]
    world.leader.close_output()
    world.finish(stopped)


def test_kept_descendants_survive_the_end_of_the_grace() -> None:
    world = World(keep_descendants=True)
    child = world.add(101)
    success_of(world.launched.is_own_answer())  # type: ignore[attr-defined]  # may look at the tree
    stopped = world.launched.stop(1)
    world.wait(1.1)
    assert world.table.signals == [("leader 100", TERM), ("leader 100", KILL)]
    world.leader.end(None, 9)
    world.finish(stopped)
    assert child.is_alive


def test_start_error_tells_no_secrets() -> None:
    error = start_error(("server", "--api-key", "s3cret", "--port", "1"), FileNotFoundError(2, "No such file"))
    assert str(error) == "failed to start command 'server --api-key [REDACTED] --port 1': no such file"
