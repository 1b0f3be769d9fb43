"""How a leader, every descendant, and the stop command come to an end, within a time that is kept."""

from __future__ import annotations

import signal
from collections.abc import Callable
from typing import ClassVar, Final

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from llamaswap.core.values import ModelId
from llamaswap.errors import UpstreamStartError
from llamaswap.interfaces import ExitStatus
from llamaswap.process.protocol import Child
from llamaswap.process.table import Member, Table
from llamaswap.process.tree import Tree
from llamaswap.process.waiters import Waiters

_SURVIVOR_SECONDS: Final = 2.0
"""What descendants that outlive the leader have between TERM and KILL, where the grace is not shorter."""

_UNKILLABLE_SECONDS: Final = 4.0
"""How long something may take to vanish after KILL before it is given up."""

_LOOK_SECONDS: Final = 0.01
"""Pause between looks at processes whose end nobody tells us."""

_OUTPUT_SECONDS: Final = 1.0
"""How long output is awaited when the tree is gone: a stranger may hold the pipe."""


class Ending:
    """The end of one tree.

    The leader is asked by the stop command, or by TERM to its group. One timer measures the grace:
    when it fires, all that is left gets KILL. Descendants that outlive the leader are ended, too.
    After the leader was reaped nothing is signalled but processes verified by their creation time.

    Args:
        model: For the log.
        clock: Monotonic time and timers.
        table: The processes of the machine.
        tree: The leader's descendants.
        leader: The leader.
        start_stop_command: Starts it, given its words. May raise
            :class:`~llamaswap.errors.UpstreamStartError`.
        stop_argv: Words of the stop command; empty = there is none.
        keeps_descendants: Whether only the leader is ended, and what it has started lives on.

    Attributes:
        stop_argv: As given, until it is changed.
        over: Fires once with ``None`` when nothing is left to end; never fails.
    """

    _log: ClassVar[Logger] = Logger()

    def __init__(
        self,
        model: ModelId,
        clock: IReactorTime,
        table: Table,
        tree: Tree,
        leader: Child,
        start_stop_command: Callable[[tuple[str, ...]], Child],
        stop_argv: tuple[str, ...] = (),
        *,
        keeps_descendants: bool = False,
    ) -> None:
        self.over: Deferred[None] = Deferred()
        self._keeps_descendants = keeps_descendants
        self._model = model
        self._clock = clock
        self._table = table
        self._tree = tree
        self._leader = leader
        self._start_stop_command = start_stop_command
        self.stop_argv = stop_argv
        self._stop_command: Child | None = None
        self._deadline_mono: float | None = None
        self._timer: IDelayedCall | None = None
        self._was_group_asked = False
        self._is_forced = False
        self._is_over = False
        self._callers: Waiters[None] = Waiters()
        self._exits: Waiters[None] = Waiters()

    def stop(self, grace_seconds: float) -> Deferred[None]:
        """See :meth:`llamaswap.interfaces.ILaunched.stop`."""
        if self._is_over:
            return succeed(None)
        called = self._callers.add()
        deadline = self._clock.seconds() + grace_seconds
        if self._deadline_mono is None:
            self._deadline_mono = deadline
            self._timer = self._clock.callLater(grace_seconds, self._grace_over)
            Deferred.fromCoroutine(self._end()).addErrback(self._broke)
        elif deadline < self._deadline_mono:
            self._deadline_mono = deadline
            if self._timer is not None:
                self._timer.reset(grace_seconds)
        return called

    def leader_exited(self) -> None:
        """Take note that the leader was reaped."""
        self._exits.fire(None)

    async def _end(self) -> None:
        if not self._keeps_descendants:
            await self._tree.look()
        if self._leader.exit_status is None:
            self._ask()
        await self._end_of(self._leader)
        if not self._keeps_descendants:
            await self._remove_survivors()
        if self._stop_command is not None:
            await self._end_of(self._stop_command)
        self._finish()

    async def _end_of(self, child: Child) -> None:
        while child.exit_status is None:
            await self._exits.add()

    def _ask(self) -> None:
        if not self.stop_argv:
            self._ask_group()
            return
        try:
            self._stop_command = self._start_stop_command(self.stop_argv)
        except UpstreamStartError as error:
            self._log.warn("{model}: stop command: {reason}", model=self._model, reason=error.message)
            self._ask_group()
        else:
            self._stop_command.exited.addCallback(self._stop_command_exited)

    def _ask_group(self) -> None:
        self._was_group_asked = True
        self._signal_child(self._leader, signal.SIGTERM)

    def _signal_child(self, child: Child, signum: int) -> None:
        if child is self._leader and self._keeps_descendants:
            self._table.signal_leader(child.pid, signum)
        else:
            self._table.signal_group(child.pid, signum)

    def _stop_command_exited(self, status: ExitStatus) -> None:
        if status.exit_code != 0 and self._leader.exit_status is None and not self._is_forced:
            self._log.warn("{model}: stop command failed: {status}", model=self._model, status=status)
            self._ask_group()
        self._exits.fire(None)

    async def _remove_survivors(self) -> None:
        left = await self._tree.left_by_leader()
        limit = self._clock.seconds() + _SURVIVOR_SECONDS
        self._table.signal((member for member in left if not self._was_asked(member)), signal.SIGTERM)
        while left:
            late_seconds = self._clock.seconds() - limit
            if late_seconds >= _UNKILLABLE_SECONDS:
                self._say_unkillable([member.pid for member in left])
                return
            if late_seconds >= 0 or self._is_forced:
                self._table.signal(left, signal.SIGKILL)
            await deferLater(self._clock, _LOOK_SECONDS)
            left = await self._tree.still_left()

    def _was_asked(self, member: Member) -> bool:
        return self._was_group_asked and self._table.group_of(member) == self._leader.pid

    def _grace_over(self) -> None:
        self._is_forced = True
        # First of all: whatever breaks from here on, the stop has an end.
        self._timer = self._clock.callLater(_UNKILLABLE_SECONDS, self._give_up)
        self._log.debug("{model}: still there after the grace, killing it", model=self._model)
        for child in self._children_left():
            self._signal_child(child, signal.SIGKILL)
        self._table.signal(self._descendants_left(), signal.SIGKILL)

    def _give_up(self) -> None:
        """Hold nobody up any longer; what still happens to end is taken note of."""
        self._timer = None
        self._say_unkillable([c.pid for c in self._children_left()] + [m.pid for m in self._descendants_left()])
        self._finish()

    def _children_left(self) -> list[Child]:
        return [c for c in (self._leader, self._stop_command) if c is not None and c.exit_status is None]

    def _descendants_left(self) -> set[Member]:
        return set() if self._keeps_descendants else self._tree.alive()

    def _say_unkillable(self, pids: list[int]) -> None:
        self._log.critical("{model}: cannot be killed, left behind: {pids}", model=self._model, pids=pids)

    def _broke(self, failure: Failure) -> None:
        self._log.failure("{model}: stop broke", failure, model=self._model)
        self._finish()

    def _finish(self) -> None:
        self._is_over = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if not self._keeps_descendants:  # one that writes to a closed pipe dies of it
            self._leader.output.close_within(_OUTPUT_SECONDS)
        if self._stop_command is not None:
            self._stop_command.output.close_within(_OUTPUT_SECONDS)
        if not self.over.called:
            self.over.callback(None)
        self._callers.fire(None)
