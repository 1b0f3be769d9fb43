# ruff: noqa: N803, N815, PLR0917 -- names and parameters are those of Twisted's interfaces
"""Stand-ins for the world below a supervisor: launchers, agents, children, the process table.

None of them does anything by itself: a test says when a server answers, a process exits or is gone.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Any

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.error import ConnectionRefusedError as Refused
from twisted.internet.error import ProcessDone, ProcessExitedAlready, ProcessTerminated
from twisted.internet.interfaces import IAddress, IProcessProtocol, IProcessTransport, IProtocol, IReactorProcess
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.python.failure import Failure
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAgent, IBodyProducer, IResponse
from zope.interface import implementer

from llamaswap.core.values import Generation, ModelId, ProcessState, StopReason
from llamaswap.interfaces import ExitStatus, ILaunched, IUpstreamLauncher, LaunchSpec
from llamaswap.process.spawn import Program
from llamaswap.process.table import Member, Table
from llamaswap.process.waiters import Waiters

# --------------------------------------------------------------------------- launcher


@implementer(ILaunched)
class FakeLaunched:
    """A server that is gone when the test says :meth:`go`, or at once where ``obeys``."""

    def __init__(self, base_url: str, *, obeys: bool = True) -> None:
        self.base_url = base_url
        self.exited: Deferred[ExitStatus] = Deferred()
        self.graces: list[float] = []
        self.obeys = obeys
        self.memory: Deferred[int | None] = succeed(None)
        self._is_gone = False
        self._callers: Waiters[None] = Waiters()

    def stop(self, grace_seconds: float) -> Deferred[None]:
        self.graces.append(grace_seconds)
        if self._is_gone:
            return succeed(None)
        called = self._callers.add()
        if self.obeys:
            self.go()
        return called

    def resident_bytes(self) -> Deferred[int | None]:
        return self.memory

    def describe(self) -> Mapping[str, Any]:
        return {"pid": 4242}

    def exit(self, exit_code: int = 0) -> None:
        """Let the leader end."""
        self.exited.callback(ExitStatus(exit_code=exit_code))

    def go(self) -> None:
        """Let the whole tree be gone."""
        self._is_gone = True
        if not self.exited.called:
            self.exited.callback(ExitStatus(signal=15))
        self._callers.fire(None)


@implementer(IUpstreamLauncher)
class FakeLauncher:
    """Launches at once, unless ``error`` is set or ``is_slow``: then ``pending`` waits for the test."""

    def __init__(self) -> None:
        self.specs: list[LaunchSpec] = []
        self.launched: list[FakeLaunched] = []
        self.error: Exception | None = None
        self.is_slow = False
        self.obeys = True
        self.pending: Deferred[ILaunched] | None = None
        self.cancelled = 0

    def launch(self, spec: LaunchSpec, on_output: Callable[[bytes], None]) -> Deferred[ILaunched]:
        self.specs.append(spec)
        if self.error is not None:
            return fail(self.error)
        if self.is_slow:
            self.pending = Deferred(self._cancel)
            return self.pending
        return succeed(self.make())

    def make(self) -> FakeLaunched:
        """Make a server for the newest launch."""
        self.launched.append(FakeLaunched(self.specs[-1].base_url, obeys=self.obeys))
        return self.launched[-1]

    def _cancel(self, _: Deferred[ILaunched]) -> None:
        self.cancelled += 1


class Events:
    """Takes note of what a supervisor tells; ``then`` is called after each with the words of it."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.then: Callable[[str], None] = lambda _: None

    def state_changed(
        self, model: ModelId, generation: Generation, old: ProcessState, new: ProcessState, reason: StopReason | None
    ) -> None:
        self._tell(f"{generation}: {old} -> {new}" + (f" ({reason})" if reason else ""))

    def process_exited(self, model: ModelId, generation: Generation) -> None:
        self._tell(f"{generation}: exited")

    def idle_expired(self, model: ModelId, generation: Generation) -> None:
        self._tell(f"{generation}: idle")

    def _tell(self, words: str) -> None:
        self.told.append(words)
        self.then(words)


# --------------------------------------------------------------------------- agent


@implementer(IResponse)
class FakeResponse:
    """An answer whose body goes to ``taker`` when the test says so."""

    version = (b"HTTP", 1, 1)
    phrase = b""
    length = 0
    request = None
    previousResponse: IResponse | None = None

    def __init__(self, code: int) -> None:
        self.code = code
        self.headers = Headers()
        self.taker: IProtocol | None = None
        self.transport = StringTransport()

    def deliverBody(self, protocol: IProtocol) -> None:
        self.taker = protocol
        protocol.makeConnection(self.transport)

    def setPreviousResponse(self, response: IResponse) -> None:
        self.previousResponse = response


@dataclass(eq=False)
class FakeProbe:
    """One request that the test answers, or does not."""

    method: bytes
    uri: bytes
    result: Deferred[IResponse]
    was_cancelled: bool = False
    response: FakeResponse | None = None

    def answer(self, code: int) -> None:
        self.response = FakeResponse(code)
        self.result.callback(self.response)
        assert self.response.taker is not None, "nobody took the body"
        self.response.taker.connectionLost(Failure(ConnectionError()))

    def refuse(self) -> None:
        self.result.errback(Refused())


@implementer(IAgent)
class FakeAgent:
    """Collects requests; those of a cancelled probe fail as Twisted's agent makes them fail."""

    def __init__(self) -> None:
        self.probes: list[FakeProbe] = []

    def request(
        self, method: bytes, uri: bytes, headers: Headers | None = None, bodyProducer: IBodyProducer | None = None
    ) -> Deferred[IResponse]:
        def cancel(result: Deferred[IResponse]) -> None:
            probe.was_cancelled = True
            result.errback(ConnectionAbortedError())

        probe = FakeProbe(method, uri, Deferred(cancel))
        self.probes.append(probe)
        return probe.result


# --------------------------------------------------------------------------- children


@implementer(IProcessTransport)
class FakeProcess:
    """A child that ends when the test says so."""

    def __init__(self, pid: int, protocol: IProcessProtocol, arguments: Mapping[str, Any]) -> None:
        self.pid: int | None = pid
        self.number = pid
        self.arguments = arguments
        self._protocol = protocol
        self._output = os.dup(arguments["childFDs"][1])
        protocol.makeConnection(self)

    def print(self, data: bytes) -> None:
        """Write to stdout."""
        os.write(self._output, data)

    def end(self, exit_code: int | None = 0, signum: int | None = None, *, keeps_output_open: bool = False) -> None:
        """Exit, and be reaped."""
        self.pid = None
        if not keeps_output_open:
            self.close_output()
        is_clean = exit_code == 0 and signum is None
        reason = ProcessDone(0) if is_clean else ProcessTerminated(exit_code, signum, 0)
        self._protocol.processExited(Failure(reason))

    def close_output(self) -> None:
        """Let go of stdout, as the last of all who have it."""
        os.close(self._output)

    def signalProcess(self, signalID: str | int) -> None:
        raise ProcessExitedAlready if self.pid is None else AssertionError("signals go to the group")

    def getHost(self) -> IAddress:
        raise NotImplementedError

    def getPeer(self) -> IAddress:
        raise NotImplementedError

    def write(self, data: bytes) -> None: ...

    def writeSequence(self, data: Iterable[bytes]) -> None: ...

    def closeStdin(self) -> None: ...

    def closeStdout(self) -> None: ...

    def closeStderr(self) -> None: ...

    def closeChildFD(self, descriptor: int) -> None: ...

    def writeToChild(self, childFD: int, data: bytes) -> None: ...

    def loseConnection(self) -> None: ...


@implementer(IReactorProcess)
class FakeProcessReactor(MemoryReactorClock):
    """A reactor whose children are :class:`FakeProcess`, and whose time is the test's."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # has no annotations
        self.children: list[FakeProcess] = []
        self.spawn_error: OSError | None = None
        self._pids = count(100)

    def spawnProcess(
        self,
        processProtocol: IProcessProtocol,
        executable: bytes | str,
        args: Sequence[bytes | str] = (),
        env: Mapping[Any, Any] | None = None,
        path: bytes | str | None = None,
        uid: int | None = None,
        gid: int | None = None,
        usePTY: bool = False,  # noqa: FBT001, FBT002
        childFDs: Mapping[int, int | str] | None = None,
    ) -> FakeProcess:
        if self.spawn_error is not None:
            raise self.spawn_error
        arguments = {"executable": executable, "args": args, "env": env, "path": path, "childFDs": childFDs}
        self.children.append(FakeProcess(next(self._pids), processProtocol, arguments))
        return self.children[-1]

    def spawn(
        self, _: object, protocol: IProcessProtocol, program: Program, descriptors: Mapping[int, int]
    ) -> FakeProcess:
        """Stand in for ``spawn_in_session``."""
        return self.spawnProcess(
            protocol, program.executable, program.argv, program.env, program.cwd, childFDs=descriptors
        )

    def read(self) -> None:
        """Let everybody read what there is to read."""
        reactor: Any = self
        for reader in list(reactor.readers):
            while (ended := reader.doRead()) is None and self._has_more(reader):
                pass
            if ended is not None:
                reactor.removeReader(reader)
                reader.connectionLost(Failure(ended))

    @staticmethod
    def _has_more(reader: Any) -> bool:
        import select

        return bool(select.select([reader.fileno()], [], [], 0)[0])


@dataclass(eq=False)
class FakeMember:
    """A process of :class:`FakeTable`; ``heeds`` are the signals that end it."""

    pid: int
    parent: int
    group: int
    marker: str = ""
    heeds: frozenset[int] = frozenset({9, 15})
    is_alive: bool = True

    def is_running(self) -> bool:
        return self.is_alive

    def status(self) -> str:
        return "sleeping"

    def send_signal(self, sig: int, /) -> None:
        if sig in self.heeds:
            self.is_alive = False


@dataclass
class FakeTable(Table):
    """The processes of a made-up machine; ``signals`` notes each as (target, number)."""

    members: list[FakeMember] = field(default_factory=list)
    signals: list[tuple[str, int]] = field(default_factory=list)
    orphans: frozenset[int] = frozenset()
    searches: list[int | None] = field(default_factory=list)
    is_hanging: bool = False

    def signal_group(self, leader_pid: int, signum: int) -> None:
        self.signals.append((f"group {leader_pid}", signum))
        for member in self.members:
            if member.group == leader_pid:
                member.send_signal(signum)

    def signal_leader(self, leader_pid: int, signum: int) -> None:
        self.signals.append((f"leader {leader_pid}", signum))

    def signal(self, members: Iterable[Member], signum: int) -> None:
        for member in members:
            self.signals.append((f"pid {member.pid}", signum))
            member.send_signal(signum)

    def group_of(self, member: Member) -> int | None:
        return member.group if isinstance(member, FakeMember) else None

    def alive(self, members: Iterable[Member]) -> set[Member]:
        return {member for member in members if member.is_running()}

    async def descendants(self, pid: int) -> set[Member]:
        return self._below(pid)

    def _below(self, pid: int) -> set[Member]:
        children = [m for m in self.members if m.parent == pid and m.is_alive]
        return {*children, *(below for child in children for below in self._below(child.pid))}

    def has_group(self, leader_pid: int) -> bool:
        return any(m.group == leader_pid and m.is_alive for m in self.members)

    def adopted(self) -> frozenset[int] | None:
        return self.orphans

    async def search(self, marker: str, leader_pid: int | None) -> set[Member]:
        self.searches.append(leader_pid)
        if self.is_hanging:
            await Deferred()
        return {m for m in self.members if m.is_alive and (m.marker == marker or m.group == leader_pid)}

    def resident_bytes(self, pid: int) -> Deferred[int | None]:
        return succeed(1)

    def listeners(self, port: int) -> Deferred[dict[int, str]]:
        return succeed({})


class InlineWorker:
    """Does blocking work at once, on the caller's thread.

    Attributes:
        error: What everything fails with, if anything.
        is_held: Whether work waits until :meth:`let_go`.
    """

    def __init__(self) -> None:
        self.error: Exception | None = None
        self.is_held = False
        self.has_ended = False
        self._held: list[tuple[Callable[[], Any], Deferred[Any]]] = []

    @property
    def has_nothing_to_do(self) -> bool:
        return not self._held

    def do(self, work: Callable[[], Any]) -> Deferred[Any]:
        assert not self.has_ended
        done: Deferred[Any] = Deferred()
        self._held.append((work, done))
        if not self.is_held:
            self.let_go()
        return done

    def let_go(self) -> None:
        self.is_held = False
        held, self._held = self._held, []
        for work, done in held:
            try:
                if self.error is not None:
                    raise self.error
                done.callback(work())
            except Exception:  # noqa: BLE001 - travels to whoever waits
                done.errback()

    def end(self) -> None:
        self.has_ended = True
