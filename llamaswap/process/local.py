"""Upstreams that are child processes of the daemon."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import count
from typing import Any, ClassVar, Protocol
from uuid import uuid4

from twisted.internet.defer import Deferred, execute, succeed
from twisted.logger import Logger
from zope.interface import implementer

from llamaswap.core.values import ModelId
from llamaswap.interfaces import ExitStatus, ILaunched, ILiveStopCommand, IUpstreamLauncher, LaunchSpec
from llamaswap.process.command import find_executable, start_error, stop_words
from llamaswap.process.death_signal import can_be_run_by_another
from llamaswap.process.ending import Ending
from llamaswap.process.health import IAnswerOwner
from llamaswap.process.ports import is_port_taken, port_of
from llamaswap.process.protocol import Child, Spawn, start_child
from llamaswap.process.spawn import Program, spawn_in_session
from llamaswap.process.table import INSTANCE_VARIABLE, ProcessTable, Table
from llamaswap.process.tree import Tree


class Journal(Protocol):
    """Who takes note of what runs; see :class:`llamaswap.process.run_state.RunState`.

    Attributes:
        instance: Begins the markers.
    """

    instance: str

    def started(self, model: ModelId, pid: int, marker: str, *, is_whole: bool) -> None:
        """Take note of a leader; ``is_whole`` says whether what it starts is ended with it."""

    def ended(self, marker: str) -> None:
        """Take note that nothing is left of a tree; may be called again."""


@implementer(IUpstreamLauncher)
class LocalLauncher:
    """Runs upstreams as child processes, each in a session of its own.

    Args:
        reactor: Watches children and their output, keeps time, and offers threads.
        table: The processes of the machine; the real ones unless given.
        spawn: How children are made.
        death_signal: Words before the command of a leader; see :mod:`llamaswap.process.death_signal`.
        journal: Told of every tree.
    """

    def __init__(
        self,
        reactor: Any,
        *,
        table: Table | None = None,
        spawn: Spawn = spawn_in_session,
        death_signal: tuple[str, ...] = (),
        journal: Journal | None = None,
    ) -> None:
        self._reactor = reactor
        self._journal = journal
        self._death_signal = death_signal
        self._table = table or ProcessTable(reactor)
        self._spawn = spawn
        self._instance = journal.instance if journal is not None else uuid4().hex
        self._numbers = count(1)

    def launch(self, spec: LaunchSpec, on_output: Callable[[bytes], None]) -> Deferred[ILaunched]:
        """See :class:`~llamaswap.interfaces.IUpstreamLauncher`; fires before it returns."""
        return execute(self._launch, spec, on_output)

    def _launch(self, spec: LaunchSpec, on_output: Callable[[bytes], None]) -> ILaunched:
        # What is kept is not found by the instance alone: see RunRecord.
        instance = f"{self._instance}-kept" if spec.keep_descendants else self._instance
        marker = f"{instance}/{next(self._numbers)}/{spec.model}"
        was_port_taken = is_port_taken(spec.base_url)
        adopted_before = self._table.adopted()
        env = {**spec.env, INSTANCE_VARIABLE: marker}
        leader = self._start(spec, spec.argv, env, on_output, before=self._death_signal)
        if self._journal is not None:
            self._journal.started(spec.model, leader.pid, marker, is_whole=not spec.keep_descendants)
        tree = Tree(self._table, leader.pid, marker, adopted_before)

        def start_stop_command(argv: tuple[str, ...]) -> Child:
            # Without the marker: it is not of the tree that it ends. It finishes its work when we die.
            return self._start(spec, stop_words(argv, leader.pid), spec.env, on_output)

        ending = Ending(
            spec.model,
            self._reactor,
            self._table,
            tree,
            leader,
            start_stop_command,
            spec.stop_argv,
            keeps_descendants=spec.keep_descendants,
        )
        ending.over.addCallback(lambda _: self._ended(marker))
        return LocalLaunched(spec, self._table, tree, leader, ending, was_port_taken=was_port_taken)

    def _ended(self, marker: str) -> None:
        if self._journal is not None:
            self._journal.ended(marker)

    def _start(
        self,
        spec: LaunchSpec,
        argv: tuple[str, ...],
        env: Mapping[str, str],
        on_output: Callable[[bytes], None],
        before: tuple[str, ...] = (),
    ) -> Child:
        try:
            executable, words = find_executable(argv[0], env, spec.cwd), argv
            if before and can_be_run_by_another(executable):
                executable, words = before[0], (*before, *argv)
            return start_child(self._reactor, self._spawn, Program(executable, words, env, spec.cwd), on_output)
        except (OSError, ValueError) as error:
            raise start_error(argv, error) from error


@implementer(ILaunched, ILiveStopCommand, IAnswerOwner)
class LocalLaunched:
    """One running child process.

    Args:
        spec: What it was started from.
        table: The processes of the machine.
        tree: Its descendants.
        leader: The child itself.
        ending: Ends it.
        was_port_taken: Whether somebody listened at its address before it was started.
    """

    _log: ClassVar[Logger] = Logger()

    def __init__(
        self, spec: LaunchSpec, table: Table, tree: Tree, leader: Child, ending: Ending, *, was_port_taken: bool
    ) -> None:
        self.base_url = spec.base_url
        self.exited: Deferred[ExitStatus] = Deferred()
        self._model = spec.model
        self._table = table
        self._tree = tree
        self._leader = leader
        self._ending = ending
        self._is_port_doubtful = was_port_taken
        self._has_warned = False
        leader.exited.addCallback(self._leader_exited)

    @property
    def stop_argv(self) -> tuple[str, ...]:
        """See :class:`~llamaswap.interfaces.ILiveStopCommand`."""
        return self._ending.stop_argv

    @stop_argv.setter
    def stop_argv(self, argv: tuple[str, ...]) -> None:
        self._ending.stop_argv = argv

    def stop(self, grace_seconds: float) -> Deferred[None]:
        """See :class:`~llamaswap.interfaces.ILaunched`."""
        return self._ending.stop(grace_seconds)

    def resident_bytes(self) -> Deferred[int | None]:
        """See :class:`~llamaswap.interfaces.ILaunched`."""
        return succeed(None) if self._leader.exit_status else self._table.resident_bytes(self._leader.pid)

    def describe(self) -> Mapping[str, Any]:
        """See :class:`~llamaswap.interfaces.ILaunched`."""
        return {"pid": self._leader.pid}

    def is_own_answer(self) -> Deferred[bool]:
        """See :class:`~llamaswap.process.health.IAnswerOwner`.

        Doubts only where somebody listened before the start. A listener that came later is ours even
        when it is not in our tree: a container's port is held by a process of the container engine.
        """
        return Deferred.fromCoroutine(self._is_own_answer())

    async def _is_own_answer(self) -> bool:
        if self._is_port_doubtful:
            await self._tree.look()
            ours = {self._leader.pid, *(member.pid for member in self._tree.alive())}
            listeners = await self._table.listeners(port_of(self.base_url))
            self._is_port_doubtful = ours.isdisjoint(listeners)
            if self._is_port_doubtful and not self._has_warned:
                self._has_warned = True
                self._log.warn(
                    "{model}: its address {url} is answered by somebody else: {others}",
                    model=self._model,
                    url=self.base_url,
                    others=", ".join(f"{name} (pid {pid})" for pid, name in listeners.items()) or "unknown",
                )
        return not self._is_port_doubtful and self._leader.exit_status is None

    def _leader_exited(self, status: ExitStatus) -> None:
        self.exited.callback(status)
        self._ending.leader_exited()
