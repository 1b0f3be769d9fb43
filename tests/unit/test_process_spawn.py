"""How children are made: what of Twisted is used that is private, and what happens without it."""

from __future__ import annotations

import inspect
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.process import Process
from twisted.internet.protocol import ProcessProtocol

from llamaswap.process import spawn
from llamaswap.process.spawn import Program, spawn_in_session
from tests.fakes import FakeProcess, FakeProcessReactor


@pytest.fixture
def descriptors() -> Iterator[dict[int, int]]:
    number = os.open(os.devnull, os.O_RDWR)
    yield dict.fromkeys((0, 1, 2), number)
    os.close(number)


def program(cwd: str = "") -> Program:
    return Program("/bin/true", ("true", "-x"), {"A": "1"}, cwd or str(Path.cwd()))


def check_shim(reactor: FakeProcessReactor, made: object, cwd: str) -> None:
    (child,) = reactor.children
    assert made is child
    arguments = child.arguments
    assert arguments["executable"] == sys.executable
    assert arguments["args"][:5] == [sys.executable, "-I", "-S", "-c", spawn._SHIM]
    assert arguments["args"][5:] == [cwd, "/bin/true", "true", "-x"]
    assert arguments["env"] == {"A": "1"}
    assert arguments["path"] is None, "with a folder Twisted would fork"
    child.close_output()


def test_private_names_of_twisted_are_still_there() -> None:
    parameters = inspect.signature(Process._trySpawnInsteadOfFork).parameters
    assert list(parameters) == ["self", "path", "uid", "gid", "executable", "args", "environment", "kwargs"]
    forking = inspect.getsource(Process._fork)
    assert "if self._trySpawnInsteadOfFork(" in forking
    assert "fdmap=fdmap" in inspect.getsource(Process.__init__)
    assert spawn._HAS_PRIVATE_STEP


def test_child_of_ours_is_made_by_posix_spawn(monkeypatch: pytest.MonkeyPatch, descriptors: dict[int, int]) -> None:
    calls: list[tuple[Any, ...]] = []

    def posix_spawn(*args: Any, **kwargs: Any) -> int:
        calls.append((args, kwargs))
        raise PermissionError(13, "for the test")

    monkeypatch.setattr(os, "posix_spawn", posix_spawn)
    reactor = FakeProcessReactor()
    with pytest.raises(PermissionError):
        spawn_in_session(reactor, ProcessProtocol(), program(), descriptors)
    ((args, kwargs),) = calls
    assert args == ("/bin/true", ("true", "-x"), {"A": "1"})
    assert kwargs["setsid"] is True
    assert kwargs["setsigmask"] == ()
    assert {1, 2, 3, 13, 15} <= set(kwargs["setsigdef"])
    assert kwargs["file_actions"][:3] == [(os.POSIX_SPAWN_DUP2, descriptors[n], n) for n in (0, 1, 2)]
    assert reactor.children == []


def test_inheritable_descriptors_are_closed_in_the_child() -> None:
    with Path(os.devnull).open("rb") as kept, Path(os.devnull).open("rb") as passed_on:
        os.set_inheritable(passed_on.fileno(), True)
        found = spawn._inheritable_descriptors()
        assert passed_on.fileno() in found
        assert kept.fileno() not in found
        assert not {0, 1, 2} & set(found)


def test_other_folder_goes_through_the_shim(descriptors: dict[int, int]) -> None:
    reactor = FakeProcessReactor()
    check_shim(reactor, spawn_in_session(reactor, ProcessProtocol(), program("/"), descriptors), "/")


def test_platform_without_sessions_goes_through_the_shim(
    monkeypatch: pytest.MonkeyPatch, descriptors: dict[int, int]
) -> None:
    def posix_spawn(*_: Any, **__: Any) -> int:
        raise NotImplementedError

    monkeypatch.setattr(os, "posix_spawn", posix_spawn)
    reactor = FakeProcessReactor()
    made = spawn_in_session(reactor, ProcessProtocol(), program(), descriptors)
    check_shim(reactor, made, str(Path.cwd()))


def test_twisted_without_the_private_step_goes_through_the_shim(
    monkeypatch: pytest.MonkeyPatch, descriptors: dict[int, int]
) -> None:
    monkeypatch.setattr(spawn, "_HAS_PRIVATE_STEP", False)
    reactor = FakeProcessReactor()
    made = spawn_in_session(reactor, ProcessProtocol(), program(), descriptors)
    assert isinstance(made, FakeProcess)
    check_shim(reactor, made, str(Path.cwd()))
