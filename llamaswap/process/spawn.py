"""Start a child in a session of its own: quickly where the platform allows, and right everywhere.

Twisted starts children without a session of their own, and by forking when told a folder, which is
slow for a large process and not safe beside threads. :class:`_SessionProcess` keeps all of Twisted's
process handling and replaces the one step that makes the child by ``posix_spawn``, which does in C,
in the child, all that is asked for. The private names that this takes are used here alone, and a
test pins them.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from twisted.internet.interfaces import IProcessProtocol, IProcessTransport, IReactorProcess
from twisted.internet.process import Process

_FIRST_FREE_DESCRIPTOR: Final = 3

_SIGNALS_TO_RESET: Final = sorted(signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP})
"""All that may have another action than the default; the system refuses to hear about the two."""

_SHIM: Final = """
import os, signal, sys
for each in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
    signal.signal(each, signal.SIG_DFL)
signal.pthread_sigmask(signal.SIG_SETMASK, [])
os.setsid()
os.chdir(sys.argv[1])
os.execv(sys.argv[2], sys.argv[3:])
"""
"""The same in Python, run by the child: some 20 ms, for what ``posix_spawn`` cannot do."""


_HAS_PRIVATE_STEP: Final = hasattr(Process, "_trySpawnInsteadOfFork") and hasattr(os, "posix_spawn")


@dataclass(frozen=True, slots=True)
class Program:
    """What to run.

    Attributes:
        executable: Path of the file.
        argv: Its words, the name of the program first.
        env: The whole environment.
        cwd: Working folder.
    """

    executable: str
    argv: tuple[str, ...]
    env: Mapping[str, str]
    cwd: str


def spawn_in_session(
    reactor: IReactorProcess, protocol: IProcessProtocol, program: Program, descriptors: Mapping[int, int]
) -> IProcessTransport:
    """Start a child that leads its own session and process group.

    Its signals have their default actions, its signal mask is empty, and it inherits no other
    descriptors than those named.

    Args:
        reactor: Watches for the child's end.
        protocol: Told of the end.
        program: What to run.
        descriptors: By number in the child, the number here; the caller closes them.

    Returns:
        The transport of the child, which runs the program by now; ``pid`` is its leader.

    Raises:
        OSError: The program could not be run.
        ValueError: A word or an environment entry holds a zero byte.
    """
    if _HAS_PRIVATE_STEP and Path(program.cwd).samefile(Path()):
        try:
            return _SessionProcess(reactor, protocol, program, descriptors)
        except NotImplementedError:  # this platform's posix_spawn cannot start a session
            pass
    return spawn_through_shim(reactor, protocol, program, descriptors)


def spawn_through_shim(
    reactor: IReactorProcess, protocol: IProcessProtocol, program: Program, descriptors: Mapping[int, int]
) -> IProcessTransport:
    """Do what :func:`spawn_in_session` does with public means alone; a failure to run shows in the child's output."""
    argv = [sys.executable, "-I", "-S", "-c", _SHIM, program.cwd, program.executable, *program.argv]
    return reactor.spawnProcess(protocol, sys.executable, argv, program.env, childFDs=dict(descriptors))


class _SessionProcess(Process):
    """Twisted's process, made by ``posix_spawn`` with a session of its own."""

    def __init__(
        self,
        reactor: IReactorProcess,
        protocol: IProcessProtocol,
        program: Program,
        descriptors: Mapping[int, int],
    ) -> None:
        super().__init__(  # type: ignore[no-untyped-call]  # Twisted's has no annotations
            reactor, program.executable, program.argv, program.env, None, protocol, childFDs=descriptors
        )

    def _trySpawnInsteadOfFork(  # noqa: N802
        self,
        path: Any,
        uid: Any,
        gid: Any,
        executable: str,
        args: list[str],
        environment: Mapping[str, str],
        kwargs: Mapping[str, Any],
    ) -> bool:
        """Make the child; see the method of the parent class, which this one never calls."""
        del path, uid, gid
        descriptors: Mapping[int, int] = kwargs["fdmap"]
        actions: list[tuple[int, ...]] = [(os.POSIX_SPAWN_DUP2, here, there) for there, here in descriptors.items()]
        actions += [(os.POSIX_SPAWN_CLOSE, each) for each in _inheritable_descriptors()]
        self.pid = os.posix_spawn(
            executable,
            args,
            environment,
            file_actions=actions,
            setsid=True,
            setsigdef=_SIGNALS_TO_RESET,
            setsigmask=(),
        )
        self.status = -1
        return True


def _inheritable_descriptors() -> list[int]:
    """Find descriptors that a child would get; Python opens none, but libraries do."""
    with os.scandir("/dev/fd") as found:
        return [number for each in found if _is_inheritable(number := int(each.name))]


def _is_inheritable(number: int) -> bool:
    if number < _FIRST_FREE_DESCRIPTOR:
        return False
    try:
        return os.get_inheritable(number)
    except OSError:  # the one that listed the folder, closed by now
        return False
