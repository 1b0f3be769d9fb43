"""Reap what nobody else waits for, where we are the first process of a container.

There, every process whose parent has died becomes our child, and stays a zombie until we ask for its
end. Children that we have started are the reactor's to reap, and are left to it.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Collection
from typing import Final

import psutil
from twisted.internet import process
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall

_FIRST_PID: Final = 1
_LOOK_SECONDS: Final = 5.0


def own_zombies() -> set[int]:
    """Find children of ours that have ended and were not waited for."""
    found = set()
    for child in psutil.Process().children():
        with contextlib.suppress(psutil.Error):
            if child.status() == psutil.STATUS_ZOMBIE:
                found.add(child.pid)
    return found


def known_children() -> Collection[int]:
    """Give the children that the reactor waits for."""
    return process.reapProcessHandlers.keys()


def reap(pid: int) -> None:
    """Wait for a child that has ended; harmless when somebody else has done it."""
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)


class ZombieReaper:
    """Looks for strange zombies at intervals, if this is the first process.

    One is reaped when it is seen a second time: a library that runs a program of its own waits for it
    soon.

    Args:
        clock: Keeps time.
        zombies: Finds zombies.
        known: Gives those that are somebody else's to reap.
        reap: Reaps one.
    """

    def __init__(
        self,
        clock: IReactorTime,
        zombies: Callable[[], set[int]] = own_zombies,
        known: Callable[[], Collection[int]] = known_children,
        reap: Callable[[int], None] = reap,
    ) -> None:
        self._zombies = zombies
        self._known = known
        self._reap = reap
        self._seen: set[int] = set()
        self._loop = LoopingCall(self._look)
        self._loop.clock = clock

    def start(self, pid: int) -> None:
        """Begin, where ``pid``, our own, is that of a first process."""
        if pid == _FIRST_PID:
            self._loop.start(_LOOK_SECONDS, now=False)

    def stop(self) -> None:
        """Look no more; harmless when it never began."""
        if self._loop.running:
            self._loop.stop()

    def _look(self) -> None:
        strange = self._zombies().difference(self._known())
        for pid in strange & self._seen:
            self._reap(pid)
        self._seen = strange - self._seen
