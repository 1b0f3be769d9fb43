"""One child process: its output, its exit and its signals, and no decision about any of them."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, Final

from twisted.internet.defer import Deferred
from twisted.internet.error import ProcessTerminated
from twisted.internet.interfaces import IProcessProtocol, IProcessTransport
from twisted.internet.protocol import ProcessProtocol
from twisted.python.failure import Failure

from llamaswap.interfaces import ExitStatus
from llamaswap.process.output import OutputPipe
from llamaswap.process.spawn import Program

Spawn = Callable[[Any, IProcessProtocol, Program, dict[int, int]], IProcessTransport]
"""How children are made; see :func:`llamaswap.process.spawn.spawn_in_session`."""

_STDIN: Final = 0
_STDOUT: Final = 1
_STDERR: Final = 2


class Child(ProcessProtocol):
    """Carry output and exit of one child.

    Its end is ``processExited``: a grandchild may hold the pipe, and so ``processEnded``, for ever.

    Args:
        output: Where its stdout and stderr come out.

    Attributes:
        pid: Its own and its group's; may be another's once there is an ``exit_status``.
        exit_status: How it ended; ``None`` while it has not been reaped.
        exited: Fires once with the exit status; never fails.
        output: As given.
    """

    def __init__(self, output: OutputPipe) -> None:
        self.pid = 0
        self.exit_status: ExitStatus | None = None
        self.exited: Deferred[ExitStatus] = Deferred()
        self.output = output

    def makeConnection(self, process: IProcessTransport) -> None:
        """Take the pid while the transport knows it."""
        self.pid = process.pid

    def processExited(self, reason: Failure) -> None:
        """Tell of the exit, after what was printed before it."""
        ended = reason.value
        if isinstance(ended, ProcessTerminated):
            self.exit_status = ExitStatus(exit_code=ended.exitCode, signal=ended.signal)
        else:
            self.exit_status = ExitStatus(exit_code=0)
        self.output.drain()
        self.exited.callback(self.exit_status)


def start_child(reactor: Any, spawn: Spawn, program: Program, on_output: Callable[[bytes], None]) -> Child:
    """Start a child that reads nothing, and prints stdout and stderr into one pipe.

    Args:
        reactor: Reads the pipe and watches for the end.
        spawn: How to make it.
        program: What to run.
        on_output: Called with each piece of output.

    Raises:
        OSError: The program cannot be run.
        ValueError: A word or an environment entry holds a zero byte.
    """
    output = OutputPipe(reactor, on_output)
    child = Child(output)
    try:
        nothing = os.open(os.devnull, os.O_RDONLY)
        try:
            spawn(reactor, child, program, {_STDIN: nothing, _STDOUT: output.write_end, _STDERR: output.write_end})
        finally:
            os.close(nothing)
    except (OSError, ValueError):
        output.close()
        raise
    finally:
        output.close_write_end()
    return child
