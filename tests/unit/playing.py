"""What the played worlds have in common: servers, a launcher, and an ear for what supervisors tell.

A played world is a *play*: it names the moves that are possible at the moment as short texts, makes
the one it is told to make, and then checks what must hold. So a test, a property test and a long
random run can drive the same world, and a list of texts is a complete account of what happened.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from enum import IntEnum
from typing import Final, Protocol

from twisted.internet.defer import CancelledError, Deferred, fail, succeed
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.task import Clock
from zope.interface import implementer

from llamaswap.core.lifecycle import TRANSITIONS
from llamaswap.core.values import Generation, ModelId, ProcessState, StopReason
from llamaswap.errors import UpstreamStartError
from llamaswap.interfaces import ILaunched, IUpstreamLauncher, LaunchSpec
from llamaswap.process.upstream import Upstream, UpstreamEvents
from tests.fakes import FakeLaunched

EPSILON_SECONDS: Final = 1e-6
"""What sums of seconds may be off."""

LEGAL: Final = frozenset((old, new) for (old, _), new in TRANSITIONS.items())


class Level(IntEnum):
    """What kinds of moves to name: each level has those of the levels before it, too.

    Attributes:
        CALM: Models are asked for, come up, answer and go.
        ROUGH: Whatever disturbs that.
        FINAL: The end.
    """

    CALM = 0
    ROUGH = 1
    FINAL = 2


class Play(Protocol):
    """A world that can be played."""

    def moves(self, level: Level) -> list[str]:
        """Name what may happen now."""

    def make(self, move: str) -> None:
        """Let it happen, and check what must hold; a violation is an ``AssertionError``."""

    def finish(self) -> None:
        """Let everything come to rest, then end it for good, and check that nothing is left."""

    def fingerprint(self) -> Hashable:
        """Describe the moment as coarsely as makes a difference."""


def advance(clock: Clock, seconds: float) -> None:
    """Let time pass, timer by timer, each at its own time."""
    end = clock.seconds() + seconds
    while (calls := clock.getDelayedCalls()) and (due := min(call.getTime() for call in calls)) <= end:
        clock.advance(max(0.0, due - clock.seconds()))
    clock.advance(max(0.0, end - clock.seconds()))


@implementer(ILaunched)
class Server(FakeLaunched):
    """A server that is gone at the end of the grace at the latest, as launchers promise."""

    def __init__(self, base_url: str, clock: Clock, *, obeys: bool) -> None:
        super().__init__(base_url, obeys=obeys)
        self.was_crash = False
        self._clock = clock
        self._kill: IDelayedCall | None = None

    @property
    def is_gone(self) -> bool:
        return self._is_gone

    @property
    def is_asked(self) -> bool:
        return bool(self.graces)

    @property
    def timers(self) -> int:
        return self._kill is not None

    def stop(self, grace_seconds: float) -> Deferred[None]:
        assert grace_seconds > 0, "H16: a grace of zero is no grace"
        stopped = super().stop(grace_seconds)
        if not self.is_gone:
            if self._kill is None:
                self._kill = self._clock.callLater(grace_seconds, self._killed)
            elif self._kill.getTime() > self._clock.seconds() + grace_seconds:
                self._kill.reset(grace_seconds)
        return stopped

    def _killed(self) -> None:
        self._kill = None
        self.go()

    def go(self) -> None:
        if self._kill is not None:
            self._kill.cancel()
            self._kill = None
        if not self.is_gone:
            super().go()


@implementer(IUpstreamLauncher)
class Launcher:
    """Brings servers up in the way that was set last, and checks that there is one at a time.

    Attributes:
        manner: ``quick``, ``slow`` (waits for :meth:`bring` or :meth:`refuse`), ``lingering`` (as slow, and
            takes its time to give up, too), or ``failing``.
        obeys: Whether servers made from now on are gone as soon as they are asked.
        servers: All that were made.
        giving_up: Attempts that were cancelled and linger.
        on_launch: Called at the beginning of each launch.
    """

    MANNERS = ("quick", "slow", "lingering", "failing")

    def __init__(self, clock: Clock) -> None:
        self.manner = "quick"
        self.obeys = False
        self.servers: list[Server] = []
        self.giving_up: list[Deferred[None]] = []
        self.on_launch: Callable[[], None] = lambda: None
        self._clock = clock
        self._pending: Deferred[ILaunched] | None = None
        self._base_url = ""

    @property
    def living(self) -> list[Server]:
        return [server for server in self.servers if not server.is_gone]

    @property
    def is_pending(self) -> bool:
        return self._pending is not None

    def launch(self, spec: LaunchSpec, on_output: Callable[[bytes], None]) -> Deferred[ILaunched]:
        assert not self.living, "I3: two generations are alive together"
        assert self._pending is None, "H31: two launches at once"
        self.on_launch()
        self._base_url = spec.base_url
        if self.manner == "failing":
            return fail(UpstreamStartError("failed to start command"))
        if self.manner == "quick":
            return succeed(self._make())
        self._pending = Deferred()
        return Deferred.fromCoroutine(self._launch(self._pending, is_lingering=self.manner == "lingering"))

    async def _launch(self, pending: Deferred[ILaunched], *, is_lingering: bool) -> ILaunched:
        try:
            return await pending
        except CancelledError:
            self._pending = None
            if is_lingering:
                self.giving_up.append(Deferred())
                await self.giving_up[-1]
            raise

    def bring(self, *, is_dead: bool = False) -> None:
        """Let the launch under way succeed, perhaps with a server whose leader has ended already."""
        server = self._make()
        if is_dead:
            server.exit(1)
        pending, self._pending = self._pending, None
        assert pending is not None
        pending.callback(server)

    def refuse(self) -> None:
        """Let the launch under way fail."""
        pending, self._pending = self._pending, None
        assert pending is not None
        pending.errback(UpstreamStartError("failed to start command"))

    def give_up(self, *, in_own_words: bool = False) -> None:
        """Let the oldest lingering attempt be over."""
        lingering = self.giving_up.pop(0)
        if in_own_words:
            lingering.errback(UpstreamStartError("the launcher was cancelled"))
        else:
            lingering.callback(None)

    def _make(self) -> Server:
        self.servers.append(Server(self._base_url, self._clock, obeys=self.obeys))
        return self.servers[-1]


class Ear:
    """Checks what one supervisor tells, and passes it on.

    Attributes:
        upstream: The supervisor; set when it is made.
        wrong: What was found to be wrong; callbacks must not raise.
        crashes: Exits of ready processes so far.
    """

    upstream: Upstream

    def __init__(self, listener: UpstreamEvents, clock: Clock) -> None:
        self.wrong: list[str] = []
        self.crashes = 0
        self.path = [ProcessState.STOPPED]
        self._listener = listener
        self._clock = clock
        self._exit_to_tell: Generation | None = None
        self._generation = Generation(0)
        self._used_mono = 0.0
        self._reported_mono = 0.0

    def state_changed(
        self, model: ModelId, generation: Generation, old: ProcessState, new: ProcessState, reason: StopReason | None
    ) -> None:
        self._expect(old is self.path[-1], f"I10: {old} -> {new} is told in {self.path[-1]}")
        self._expect((old, new) in LEGAL, f"I10: {old} -> {new}")
        self._expect(self.upstream.state is new, f"I10: told of {new} in {self.upstream.state}")
        self.path.append(new)
        if new is ProcessState.STARTING:
            self._expect(generation == self._generation + 1, f"generation {generation} after {self._generation}")
            self._generation = generation
        self._expect(generation == self._generation, f"generation {generation} for {self._generation}")
        if new is ProcessState.READY:
            self._used_mono = self._reported_mono = self._clock.seconds()
        if (old, new) == (ProcessState.READY, ProcessState.STOPPED):
            self._exit_to_tell = generation
        self._listener.state_changed(model, generation, old, new, reason)

    def process_exited(self, model: ModelId, generation: Generation) -> None:
        self._expect(generation == self._exit_to_tell, f"exit of {generation} is told for {self._exit_to_tell}")
        self._exit_to_tell = None
        self.crashes += 1
        self._listener.process_exited(model, generation)

    def idle_expired(self, model: ModelId, generation: Generation) -> None:
        idle = self._clock.seconds() - self._used_mono
        self._expect(self.upstream.state is ProcessState.READY, "H25: a timer survived its generation")
        self._expect(generation == self._generation, "H25: a timer of another generation")
        self._expect(idle >= self.upstream.config.ttl_seconds - EPSILON_SECONDS, f"H24: idle after {idle} s")
        self._reported_mono = self._clock.seconds()
        self._listener.idle_expired(model, generation)

    def used(self) -> None:
        """Take note that the time to live counts from now."""
        self._used_mono = self._clock.seconds()

    def check(self) -> tuple[int, int]:
        """Check what holds between two moves; gives how many timers of the supervisor may be pending."""
        state = self.upstream.state
        self._expect(state is self.path[-1], f"I10: {state} was never told")
        self._expect(self._exit_to_tell is None, "an exit was not told")
        snapshot = self.upstream.snapshot()
        self._expect(snapshot.crashes == self.crashes, "crashes")
        self._expect(snapshot.generation == snapshot.starts == self._generation, "generations")
        del self.path[:-1]
        ttl = self.upstream.config.ttl_seconds
        if state is ProcessState.READY and ttl:
            late = self._clock.seconds() - max(self._used_mono + ttl, self._reported_mono)
            self._expect(late <= 1 + EPSILON_SECONDS, f"the idle report is {late} s late")
        assert not self.wrong, self.wrong[0]
        if state is ProcessState.STARTING:
            return 0, 2
        return (1, 1) if state is ProcessState.READY and ttl else (0, 0)

    def _expect(self, is_right: bool, words: str) -> None:  # noqa: FBT001
        if not is_right:
            self.wrong.append(words)
