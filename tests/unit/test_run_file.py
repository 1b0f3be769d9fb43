"""The file that tells the next daemon what this one has left."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from llamaswap.process import run_file
from llamaswap.process.run_file import (
    RunRecord,
    Trace,
    birth_of,
    own_record,
    read_run_file,
    run_file_path,
    write_run_file,
)

TRACE = Trace("m", 7, "123", "a/1/m", is_whole=True)
UNFIT = [
    msgspec.json.encode(RunRecord("b", 1, "1", processes=(replace(TRACE, **each),)))
    for each in ({"pid": 0}, {"pid": -1}, {"marker": ""})
]


@pytest.mark.parametrize(
    ("state_dir", "environ", "folder"),
    [
        ("/x", {"STATE_DIRECTORY": "/s", "XDG_STATE_HOME": "/d", "HOME": "/h"}, "/x"),
        ("", {"STATE_DIRECTORY": "/s:/t", "XDG_STATE_HOME": "/d", "HOME": "/h"}, "/s"),
        ("", {"XDG_STATE_HOME": "/d", "HOME": "/h"}, "/d/llamaswap"),
        ("", {"HOME": "/h"}, "/h/.local/state/llamaswap"),
    ],
)
def test_folder(state_dir: str, environ: dict[str, str], folder: str) -> None:
    assert str(run_file_path(state_dir, environ, "c").parent) == folder


def test_each_configuration_and_address_has_a_file_of_its_own() -> None:
    paths = [run_file_path("/x", {}, *what) for what in [("c", "", "1"), ("c", "", "2"), ("d", "", "1"), ("c", "1")]]
    assert len(set(paths)) == 4
    assert paths[0] == run_file_path("/x", {}, "c", "", "1")


def test_what_was_written_is_read(tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    record = replace(own_record("a"), processes=(TRACE,))
    write_run_file(path, record)
    assert read_run_file(path) == record
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"boot": 1}', b"\xff", *UNFIT])
def test_damaged_file_is_none(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "run.json"
    path.write_bytes(content)
    assert read_run_file(path) is None


def test_missing_file_is_none(tmp_path: Path) -> None:
    assert read_run_file(tmp_path / "run.json") is None


def test_h35_daemon_is_alive_only_as_the_same_process_in_the_same_boot() -> None:
    record = own_record("a")
    assert record.is_daemon_alive
    assert not replace(record, daemon_born="1").is_daemon_alive
    assert not replace(record, boot="another").is_daemon_alive
    assert not replace(record, daemon_pid=2**22 + 1).is_daemon_alive
    assert not RunRecord("", 0, "").is_of_this_boot


def test_h35_killed_daemon_that_nobody_has_waited_for_is_not_alive() -> None:
    child = subprocess.Popen([sys.executable, "-S", "-c", "input()"], stdin=subprocess.PIPE)
    record = replace(own_record("a"), daemon_pid=child.pid, daemon_born=birth_of(child.pid) or "")
    assert record.is_daemon_alive
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert not replace(record).is_daemon_alive
    child.communicate()


def test_user_without_a_home(monkeypatch: pytest.MonkeyPatch) -> None:
    def home() -> Path:
        raise RuntimeError

    monkeypatch.setattr(Path, "home", home)
    assert str(run_file_path("", {}, "c").parent) == "/.local/state/llamaswap"
    assert str(run_file_path("/x", {}, "c").parent) == "/x"


def test_birth_is_of_the_process_and_not_of_the_pid() -> None:
    child = subprocess.Popen([sys.executable, "-S", "-c", "input()"], stdin=subprocess.PIPE)
    born = birth_of(child.pid)
    assert born is not None
    assert birth_of(child.pid) == born
    assert born != birth_of(os.getpid())
    child.communicate(b"\n")
    assert birth_of(child.pid) is None


def test_boot_without_a_name_is_known_by_its_time(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(run_file, "_BOOT_ID", tmp_path / "none")
    assert int(run_file.boot_id()) > 0
