"""The processes of the machine: found, told apart by creation time, and signalled.

A process is held as a ``psutil.Process``, which is a pid *and* a creation time: it neither counts
nor signals another process that got the same pid later.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final, Protocol, TypeVar

import psutil
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThreadPool

INSTANCE_VARIABLE: Final = "LLAMASWAP_INSTANCE"
"""In the environment of every process of a model: names the daemon, the start, and the model."""

_INIT_PID: Final = 1

T = TypeVar("T")


class Member(Protocol):
    """One process, by pid and creation time."""

    @property
    def pid(self) -> int:
        """Its pid; may be another's by now."""

    def is_running(self) -> bool:
        """Say whether it is there, perhaps as a zombie."""

    def status(self) -> str:
        """Give its state in the system's words."""

    def send_signal(self, sig: int, /) -> None:
        """Signal it, and nobody who has its pid now."""


class Table(Protocol):
    """What the end of a process tree needs to know of the machine, and to do to it."""

    def signal_group(self, leader_pid: int, signum: int) -> None:
        """Signal the group of a leader that is not reaped yet; harmless when it is dead or not ours to signal."""

    def signal_leader(self, leader_pid: int, signum: int) -> None:
        """Signal a leader alone that is not reaped yet; harmless when it is dead."""

    def signal(self, members: Iterable[Member], signum: int) -> None:
        """Signal these; those that are gone are passed over."""

    def group_of(self, member: Member) -> int | None:
        """Give the number of a process's group; ``None`` when it is gone."""

    def alive(self, members: Iterable[Member]) -> set[Member]:
        """Give those that are there still; a zombie is not."""

    async def descendants(self, pid: int) -> set[Member]:
        """Find children, their children, and so on."""

    def has_group(self, leader_pid: int) -> bool:
        """Say whether a group has members, zombies among them; right after the end of its leader."""

    def adopted(self) -> frozenset[int] | None:
        """Give the children of those processes that inherit our orphans; ``None`` = cannot tell."""

    async def search(self, marker: str, leader_pid: int | None) -> set[Member]:
        """Find all that carry a marker, or are in the group or session of a leader; slow.

        A leader's number is given only right after its end: with all of its group gone it may become
        somebody else's.
        """

    def resident_bytes(self, pid: int) -> Deferred[int | None]:
        """Measure the memory of a process and its descendants; fires with ``None`` when it is gone."""

    def listeners(self, port: int) -> Deferred[dict[int, str]]:
        """Find who listens on a TCP port; fires with name by pid, less those that we may not look into."""


class ProcessTable:
    """The real machine; provides :class:`Table`.

    Args:
        reactor: Offers a pool of threads, where everything runs that may be slow.
    """

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self._has_children_files = Path(f"/proc/self/task/{os.getpid()}/children").exists()
        self._heirs = {_INIT_PID}
        with contextlib.suppress(psutil.Error):
            # One that dies leaves its place to another one of these.
            self._heirs.update(parent.pid for parent in psutil.Process().parents())

    def signal_group(self, leader_pid: int, signum: int) -> None:
        """See :class:`Table`."""
        # A leader like sudo belongs to another user: it cannot be signalled, only waited for.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            try:
                os.killpg(leader_pid, signum)
            except ProcessLookupError:
                os.kill(leader_pid, signum)  # started just now, and not yet in a group of its own

    def signal_leader(self, leader_pid: int, signum: int) -> None:
        """See :class:`Table`."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(leader_pid, signum)

    def signal(self, members: Iterable[Member], signum: int) -> None:
        """See :class:`Table`."""
        for member in members:
            with contextlib.suppress(psutil.Error):
                member.send_signal(signum)

    def group_of(self, member: Member) -> int | None:
        """See :class:`Table`."""
        try:
            return os.getpgid(member.pid)
        except ProcessLookupError:
            return None

    def alive(self, members: Iterable[Member]) -> set[Member]:
        """See :class:`Table`."""
        return {member for member in members if is_alive(member)}

    async def descendants(self, pid: int) -> set[Member]:
        """See :class:`Table`."""
        if self._has_children_files:
            return _walk(pid)
        return await self._in_thread(_descendants, pid)

    def has_group(self, leader_pid: int) -> bool:
        """See :class:`Table`."""
        try:
            os.killpg(leader_pid, 0)
        except ProcessLookupError:
            return False
        except PermissionError:  # somebody is there, as another user
            return True
        return True

    def adopted(self) -> frozenset[int] | None:
        """See :class:`Table`."""
        if not self._has_children_files:
            return None
        return frozenset(child for heir in self._heirs for child in _children(heir))

    async def search(self, marker: str, leader_pid: int | None) -> set[Member]:
        """See :class:`Table`."""
        return await self._in_thread(_search, marker, leader_pid)

    def resident_bytes(self, pid: int) -> Deferred[int | None]:
        """See :class:`Table`."""
        return self._in_thread(_resident_bytes, pid)

    def listeners(self, port: int) -> Deferred[dict[int, str]]:
        """See :class:`Table`."""
        return self._in_thread(_listeners, port)

    def _in_thread(self, function: Callable[..., T], *args: object) -> Deferred[T]:
        return deferToThreadPool(self._reactor, self._reactor.getThreadPool(), function, *args)


def is_alive(member: Member) -> bool:
    """Say whether a process is there still; a zombie is not."""
    try:
        return member.is_running() and member.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
    except psutil.AccessDenied:  # another user's, on a system that hides those
        return True


def _children(pid: int) -> list[int]:
    """Read the children of all threads of a process from the files that Linux has for that."""
    found: list[int] = []
    with contextlib.suppress(OSError), os.scandir(f"/proc/{pid}/task") as threads:
        for thread in threads:
            with contextlib.suppress(OSError), Path(thread.path, "children").open("rb", 0) as file:
                found.extend(map(int, file.read().split()))
    return found


def _walk(pid: int) -> set[Member]:
    found: set[Member] = set()
    waiting = [pid]
    while waiting:
        for child in _children(waiting.pop()):
            with contextlib.suppress(psutil.NoSuchProcess):
                found.add(psutil.Process(child))
                waiting.append(child)
    return found


# From here on: in a thread.


def _descendants(pid: int) -> set[Member]:
    try:
        return set(psutil.Process(pid).children(recursive=True))
    except psutil.NoSuchProcess:
        return set()


def _search(marker: str, leader_pid: int | None) -> set[Member]:
    found: set[Member] = set()
    for pid in psutil.pids():
        with contextlib.suppress(psutil.Error, OSError):
            process = psutil.Process(pid)
            belongs = leader_pid is not None and leader_pid in {os.getpgid(pid), os.getsid(pid)}
            if belongs or process.environ().get(INSTANCE_VARIABLE) == marker:
                found.add(process)
    return found


def _resident_bytes(pid: int) -> int | None:
    try:
        leader = psutil.Process(pid)
        tree = [leader, *leader.children(recursive=True)]
    except psutil.Error:
        return None
    total = 0
    for process in tree:
        with contextlib.suppress(psutil.Error):
            total += process.memory_info().rss
    return total or None


def _listeners(port: int) -> dict[int, str]:
    found: dict[int, str] = {}
    with contextlib.suppress(psutil.Error):
        for connection in psutil.net_connections("tcp"):
            is_listener = connection.status == psutil.CONN_LISTEN
            if is_listener and connection.pid and connection.laddr and connection.laddr.port == port:
                with contextlib.suppress(psutil.NoSuchProcess):
                    found[connection.pid] = psutil.Process(connection.pid).name()
    return found
