"""Which words make the system end a leader with the daemon, and which commands they are put before."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from llamaswap.core.values import ModelId
from llamaswap.interfaces import LaunchSpec
from llamaswap.process.death_signal import can_be_run_by_another, death_signal_words
from llamaswap.process.local import LocalLauncher
from tests.deferreds import success_of
from tests.fakes import FakeProcessReactor, FakeTable


def write(path: Path, content: str) -> Path:
    path.write_text(content)
    path.chmod(0o755)
    return path


@pytest.mark.parametrize(("status", "is_found"), [(0, True), (1, False)])
def test_h35_only_a_setpriv_that_knows_how_is_taken(tmp_path: Path, status: int, is_found: bool) -> None:  # noqa: FBT001
    program = write(tmp_path / "setpriv", f'#!/bin/sh\ntest "$1 $2 $3" = "--pdeathsig TERM --" && exit {status}\n')
    words = death_signal_words({"PATH": str(tmp_path)})
    assert words == ((str(program), "--pdeathsig", "TERM", "--") if is_found else ())


def test_h35_without_setpriv_nothing_is_put_before(tmp_path: Path) -> None:
    assert death_signal_words({"PATH": str(tmp_path)}) == ()


def test_setpriv_that_cannot_be_run_is_not_taken(tmp_path: Path) -> None:
    write(tmp_path / "setpriv", "#!/no/such/interpreter\n")
    assert death_signal_words({"PATH": str(tmp_path)}) == ()


def test_other_systems_have_no_such_signal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    assert death_signal_words({}) == ()


@pytest.mark.parametrize(
    ("content", "is_fine"),
    [
        ("#!/bin/sh\nexit 0\n", True),
        ("#! /usr/bin/env -S sh\n", True),
        ("#!/no/such/interpreter\n", False),
        ("#!\n", False),
        ("#!/bin\n", False),
        ("echo no first line\n", False),
        ("", False),
    ],
)
def test_h32_what_the_system_may_refuse_is_run_without_a_program_before(
    tmp_path: Path,
    content: str,
    is_fine: bool,  # noqa: FBT001
) -> None:
    assert can_be_run_by_another(str(write(tmp_path / "script", content))) is is_fine


def test_programs_and_files_that_cannot_be_read() -> None:
    assert can_be_run_by_another(sys.executable)
    assert not can_be_run_by_another("/no/such/file")


def test_h35_leader_gets_the_words_and_the_stop_command_does_not() -> None:
    reactor = FakeProcessReactor()
    launcher = LocalLauncher(reactor, table=FakeTable(), spawn=reactor.spawn, death_signal=("/bin/env", "--"))
    spec = LaunchSpec(ModelId("m"), ("sh", "-c", "serve"), {}, "/", "http://model.invalid:1", ("sh", "-c", "end"))
    launched = success_of(launcher.launch(spec, lambda _: None))
    stopped = launched.stop(1)
    leader, stop_command = reactor.children
    assert leader.arguments["executable"] == "/bin/env"
    assert leader.arguments["args"] == ("/bin/env", "--", "sh", "-c", "serve")
    assert stop_command.arguments["args"] == ("sh", "-c", "end")
    stop_command.end()
    leader.end()
    success_of(stopped)
    reactor.read()
