"""What the first process of a container reaps, and what it leaves to others."""

from __future__ import annotations

import os
import subprocess
import sys

import psutil
import pytest
from twisted.internet.task import Clock

from llamaswap.process.zombies import ZombieReaper, own_zombies, reap


class World:
    """A reaper, and the zombies it finds."""

    def __init__(self, pid: int = 1) -> None:
        self.clock = Clock()
        self.zombies: set[int] = set()
        self.known: set[int] = set()
        self.reaped: list[int] = []
        self.reaper = ZombieReaper(self.clock, lambda: set(self.zombies), lambda: self.known, self.reap)
        self.reaper.start(pid)

    def reap(self, pid: int) -> None:
        self.reaped.append(pid)
        self.zombies.discard(pid)


def test_h10_strange_zombie_is_reaped_when_seen_twice() -> None:
    world = World()
    world.zombies = {7, 8}
    world.clock.advance(5)
    assert world.reaped == []
    world.zombies.discard(8)  # somebody was about to wait for it
    world.clock.advance(5)
    assert world.reaped == [7]
    world.zombies = {7}  # the same number, another process
    world.clock.advance(5)
    assert world.reaped == [7]


def test_h10_own_children_are_left_to_the_reactor() -> None:
    world = World()
    world.zombies, world.known = {7}, {7}
    world.clock.pump([5, 5, 5])
    assert world.reaped == []


def test_h10_only_a_first_process_looks() -> None:
    world = World(pid=2)
    assert not world.clock.getDelayedCalls()
    world.reaper.stop()


def test_reaper_stops() -> None:
    world = World()
    world.reaper.stop()
    assert not world.clock.getDelayedCalls()


def test_h10_real_zombie_is_found_and_reaped() -> None:
    child = subprocess.Popen([sys.executable, "-S", "-c", ""], stdout=subprocess.PIPE)
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert child.pid in own_zombies()
    reap(child.pid)
    assert child.pid not in own_zombies()
    reap(child.pid)
    child.communicate()


def test_child_that_we_may_not_look_at_is_no_zombie(monkeypatch: pytest.MonkeyPatch) -> None:
    def forbid(_: psutil.Process) -> str:
        raise psutil.AccessDenied

    child = subprocess.Popen([sys.executable, "-S", "-c", "input()"], stdin=subprocess.PIPE)
    monkeypatch.setattr(psutil.Process, "status", forbid)
    assert own_zombies() == set()
    child.communicate(b"\n")
