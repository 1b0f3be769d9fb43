"""The real process table."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from typing import Any

import psutil
import pytest
import pytest_twisted

from llamaswap.process.table import INSTANCE_VARIABLE, ProcessTable


@pytest.fixture
def table() -> ProcessTable:
    from twisted.internet import reactor

    return ProcessTable(reactor)


@pytest.fixture
def family() -> Iterator[subprocess.Popen[bytes]]:
    """Give a leader with a child and a grandchild, all of which carry the marker ``x``."""
    program = "sh -c 'sleep 600 & echo ready; wait' & wait"
    env = {**os.environ, INSTANCE_VARIABLE: "x"}
    with subprocess.Popen(
        ["/bin/sh", "-c", program], env=env, stdout=subprocess.PIPE, start_new_session=True
    ) as leader:
        assert leader.stdout is not None
        leader.stdout.readline()
        yield leader
        with contextlib.suppress(ProcessLookupError):
            os.killpg(leader.pid, signal.SIGKILL)


@pytest_twisted.ensureDeferred
async def test_descendants_are_found_in_both_ways(table: ProcessTable, family: subprocess.Popen[bytes]) -> None:
    quickly = await table.descendants(family.pid)
    table._has_children_files = False
    slowly = await table.descendants(family.pid)
    assert quickly == slowly
    assert len(quickly) == 2
    assert table.alive(quickly) == quickly
    assert {table.group_of(member) for member in quickly} == {family.pid}
    assert table.adopted() is None


@pytest_twisted.ensureDeferred
async def test_search_finds_by_marker_and_by_group(table: ProcessTable, family: subprocess.Popen[bytes]) -> None:
    tree = {family.pid, *(member.pid for member in await table.descendants(family.pid))}
    assert {member.pid for member in await table.search("x", None)} == tree
    assert {member.pid for member in await table.search("y", family.pid)} == tree
    assert await table.search("y", None) == set()


@pytest_twisted.ensureDeferred
async def test_the_dead_are_passed_over(table: ProcessTable, family: subprocess.Popen[bytes]) -> None:
    members = await table.descendants(family.pid)
    assert table.has_group(family.pid)
    table.signal_group(family.pid, signal.SIGKILL)
    family.wait()
    psutil.wait_procs([member for member in members if isinstance(member, psutil.Process)], timeout=5)
    assert table.alive(members) == set()
    table.signal(members, signal.SIGTERM)
    table.signal_group(family.pid, signal.SIGTERM)
    assert not table.has_group(family.pid)
    assert await table.descendants(family.pid) == set()
    assert await table.resident_bytes(family.pid) is None


def test_zombie_is_not_alive(table: ProcessTable) -> None:
    with subprocess.Popen(["sleep", "600"]) as child:
        process = psutil.Process(child.pid)
        child.kill()
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        assert table.alive({process}) == set()


@pytest_twisted.ensureDeferred
async def test_memory_of_a_tree(table: ProcessTable, family: subprocess.Popen[bytes]) -> None:
    whole = await table.resident_bytes(family.pid)
    assert whole is not None
    assert whole > psutil.Process(family.pid).memory_info().rss


@pytest_twisted.ensureDeferred
async def test_listeners_are_named(table: ProcessTable) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        found: dict[int, Any] = await table.listeners(listener.getsockname()[1])
    assert found == {os.getpid(): psutil.Process().name()}
