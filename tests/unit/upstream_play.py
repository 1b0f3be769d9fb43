"""One supervisor, played: callers, a launcher, probes, a process and the time, in any order."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from functools import partial
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from llamaswap.config.schema import ModelConfig
from llamaswap.core.values import Generation, ModelId, ProcessState, StopReason
from llamaswap.errors import LlamaSwapError, ModelUnloadedError, ShuttingDownError, UpstreamStartError
from llamaswap.process.upstream import Upstream
from tests.fakes import FakeAgent, FakeProbe
from tests.unit.playing import Ear, Launcher, Level, Server, advance

TTL_SECONDS = 4
GRACE_SECONDS = 9
HEALTH_SECONDS = 15


@dataclass(eq=False)
class Call:
    """A Deferred that a caller got.

    Attributes:
        deferred: The Deferred.
        due_mono: When it must have fired.
        outcomes: What it fired with; one at most.
    """

    deferred: Deferred[Any]
    due_mono: float
    outcomes: list[object]


class UpstreamPlay:
    """See the module's text; a :class:`tests.unit.playing.Play`."""

    def __init__(self, *, probes: bool = True) -> None:
        self.clock = Clock()
        self.launcher = Launcher(self.clock)
        self.agent = FakeAgent()
        self.ear = Ear(self, self.clock)
        self.upstream = self.ear.upstream = Upstream(
            ModelConfig(
                id=ModelId("m"),
                argv=("server",),
                proxy="http://127.0.0.1:5800",
                ttl_seconds=TTL_SECONDS,
                unload_timeout_seconds=GRACE_SECONDS,
                health_check_timeout_seconds=HEALTH_SECONDS,
                check_endpoint="/health" if probes else "none",
            ),
            clock=self.clock,
            launcher=self.launcher,
            probe_agent=self.agent,
            events=self.ear,
            on_output=lambda _: None,
            environ={},
            cwd="/",
        )
        self._starts: list[Call] = []
        self._stops: list[Call] = []
        self._ends: list[Call] = []
        self._on_news: list[str] = []
        self._is_ending = False

    # ------------------------------------------------------------- news

    def state_changed(
        self, model: ModelId, generation: Generation, old: ProcessState, new: ProcessState, reason: StopReason | None
    ) -> None:
        """Let a listener do something out of the news."""
        if old is ProcessState.READY and new is ProcessState.STOPPED:
            self.launcher.servers[-1].was_crash = True
        self._hear()

    def process_exited(self, model: ModelId, generation: Generation) -> None:
        """As above."""
        self._hear()

    def idle_expired(self, model: ModelId, generation: Generation) -> None:
        """As above."""
        self._hear()

    def _hear(self) -> None:
        if self._on_news:
            self._act(self._on_news.pop(0))

    # ------------------------------------------------------------- moves

    def moves(self, level: Level) -> list[str]:
        """See :class:`tests.unit.playing.Play`."""
        moves = ["ensure", "touch", "wait 0.01", "wait 0.3", "wait 1.5"]
        moves += ["launched"] if self.launcher.is_pending else []
        moves += ["gives up"] if self.launcher.giving_up else []
        moves += ["probe 200"] if self._probe else []
        moves += ["gone"] if self._server is not None and self._server.is_asked else []
        if level >= Level.ROUGH:
            moves += self._rough_moves()
        if level >= Level.FINAL:
            moves += ["shut down 2", "on news shut down 2"]
        return moves

    def _rough_moves(self) -> list[str]:
        moves = ["stop 0", "stop 1", "stop 20", "wait 6", "servers defy" if self.launcher.obeys else "servers obey"]
        moves += [f"launcher {manner}" for manner in Launcher.MANNERS if manner != self.launcher.manner]
        if len(self._on_news) < 3:
            moves += ["on news ensure", "on news stop 1", "on news touch"]
        for name, calls in (("start", self._starts), ("stop", self._stops)):
            moves += [f"leave {name} first", f"leave {name} last"] if calls else []
        moves += ["launched dead", "launch fails"] if self.launcher.is_pending else []
        moves += ["gives up in its own words"] if self.launcher.giving_up else []
        moves += ["probe 503", "probe refused"] if self._probe else []
        moves += ["exit"] if self._server is not None and not self._server.exited.called else []
        return moves

    @property
    def _probe(self) -> FakeProbe | None:
        probe = self.agent.probes[-1] if self.agent.probes else None
        return probe if probe is not None and not probe.result.called else None

    @property
    def _server(self) -> Server | None:
        living = self.launcher.living
        return living[-1] if living else None

    def make(self, move: str) -> None:
        """See :class:`tests.unit.playing.Play`."""
        self._act(move)
        self._check()

    def _act(self, move: str) -> None:
        word, _, rest = move.strip().partition(" ")
        acts: dict[str, Callable[[str], object]] = {
            "ensure": self._ensure,
            "touch": self._touch,
            "stop": self._stop,
            "shut": self._shut_down,
            "leave": self._leave,
            "wait": lambda seconds: advance(self.clock, float(seconds)),
            "on": lambda act: self._on_news.append(act.removeprefix("news ")),
            "launcher": partial(setattr, self.launcher, "manner"),
            "servers": lambda how: setattr(self.launcher, "obeys", how == "obey"),
            "launched": lambda how: self.launcher.bring(is_dead=how == "dead"),
            "launch": lambda _: self.launcher.refuse(),
            "gives": lambda how: self.launcher.give_up(in_own_words=how != "up"),
            "probe": self._answer,
            "exit": lambda _: self._living.exit(1),
            "gone": lambda _: self._living.go(),
        }
        acts[word](rest)

    @property
    def _living(self) -> Server:
        assert self._server is not None
        return self._server

    def _answer(self, how: str) -> None:
        probe = self._probe
        assert probe is not None
        if how == "refused":
            probe.refuse()
        else:
            probe.answer(int(how))

    def _touch(self, _: str) -> None:
        self.upstream.touch()
        self.ear.used()

    def _ensure(self, _: str) -> None:
        joined: list[Generation] = []

        def judge(outcome: object) -> bool:
            # A start is not told to have failed while it goes on.
            is_under_way = self.upstream.state in {ProcessState.STARTING, ProcessState.READY}
            is_other = not joined or joined[0] != self.upstream.generation
            return self._is_right(outcome) and (is_other or not is_under_way or outcome in joined)

        self._listen(self._starts, self.upstream.ensure_ready(), float("inf"), judge)
        if self.upstream.state is ProcessState.STARTING:
            joined.append(self.upstream.generation)

    def _stop(self, grace: str) -> None:
        seconds = float(grace) or GRACE_SECONDS
        older = list(self.launcher.servers)
        # A stop that cuts a start short does not wait for what that start waited for.
        spares_crashed = self.upstream.state in {ProcessState.STARTING, ProcessState.STOPPING}

        def judge(outcome: object) -> bool:
            return outcome is None and all(s.is_gone or (spares_crashed and s.was_crash) for s in older)

        stopped = self.upstream.stop(float(grace), StopReason.USER)
        self._listen(self._stops, stopped, self.clock.seconds() + seconds, judge)

    def _shut_down(self, words: str) -> None:
        seconds = float(words.removeprefix("down "))
        self._is_ending = True
        done = self.upstream.shut_down(seconds)
        self._listen(self._ends, done, self.clock.seconds() + seconds, self._ended)

    def _leave(self, words: str) -> None:
        whose, _, which = words.partition(" ")
        calls = self._starts if whose == "start" else self._stops
        call = calls[0 if which == "first" else -1]
        call.deferred.cancel()
        self._expect(isinstance(call.outcomes[0], CancelledError), "a cancelled wait goes on")

    # ------------------------------------------------------------- what callers hear

    def _listen(
        self, calls: list[Call], deferred: Deferred[Any], due_mono: float, judge: Callable[[object], bool]
    ) -> None:
        call = Call(deferred, due_mono, [])
        calls.append(call)

        def heard(result: object) -> None:
            outcome = result.value if isinstance(result, Failure) else result
            call.outcomes.append(outcome)
            calls.remove(call)
            self._expect(isinstance(outcome, CancelledError) or judge(outcome), f"told {outcome!r} in {self._moment}")

        deferred.addBoth(heard)

    @property
    def _moment(self) -> str:
        return f"{self.upstream.state}, {len(self.launcher.living)} alive"

    def _is_right(self, outcome: object) -> bool:
        if not isinstance(outcome, LlamaSwapError):
            is_up = self.upstream.state is ProcessState.READY and len(self.launcher.living) == 1
            return is_up and outcome == self.upstream.generation
        if isinstance(outcome, ShuttingDownError):
            return self._is_ending
        return isinstance(outcome, UpstreamStartError | ModelUnloadedError)

    def _ended(self, outcome: object) -> bool:
        return outcome is None and not self.launcher.living and self.upstream.state is ProcessState.SHUTDOWN

    def _expect(self, is_right: bool, words: str) -> None:  # noqa: FBT001
        if not is_right:
            self.ear.wrong.append(words)

    # ------------------------------------------------------------- invariants

    def _check(self) -> None:
        least, most = self.ear.check()
        timers = len(self.clock.getDelayedCalls()) - sum(server.timers for server in self.launcher.servers)
        state = self.upstream.state
        assert least <= timers <= most, f"I11: {timers} timers while {state}"
        if self._starts and not self._ends:
            assert state in {ProcessState.STARTING, ProcessState.STOPPING}, f"H04: somebody waits while {state}"
        if self._stops:
            assert self.launcher.living, f"H04: somebody waits for a stop while {state}, and nothing lives"
        for call in (*self._stops, *self._ends):
            assert self.clock.seconds() <= call.due_mono + 5, "I5: a stop takes longer than its grace"
        if self._ends:
            assert self.launcher.living, "H04: somebody waits for an end that was"
        for server in self.launcher.living:
            assert server.is_asked or not server.exited.called, "H06: nobody noticed that the leader ended"
        if state is ProcessState.READY:
            assert self.launcher.living, "ready without a process"
            assert not self.launcher.living[0].exited.called, "H06: ready after its leader's exit"

    def finish(self) -> None:
        """See :class:`tests.unit.playing.Play`."""
        self._on_news.clear()
        if not self._is_ending:
            self._come_up()
        self._on_news.clear()
        self.make("shut down 2")
        while self.launcher.giving_up:
            self.make("gives up")
        self.make("wait 30")
        assert not [*self._starts, *self._stops, *self._ends], "H04: somebody waits for ever"
        assert self.upstream.state is ProcessState.SHUTDOWN
        assert not self.launcher.living, "I11: a process is left"
        assert not self.clock.getDelayedCalls(), "I11: a timer is left"

    def _come_up(self) -> None:
        """Whatever happened before, the next start works."""
        self.make("launcher quick")
        for _ in range(400):
            if self.upstream.state is ProcessState.READY:
                break
            if not self._starts:
                self.make("ensure")
            elif self.launcher.is_pending:
                self.make("launched")
            else:
                self.make("probe 200" if self._probe else "wait 0.1")
        assert self.upstream.state is ProcessState.READY, "a start does not come up any more"

    def fingerprint(self) -> Hashable:
        """See :class:`tests.unit.playing.Play`."""
        server = self._server
        return (
            self.upstream.state,
            min(len(self._starts), 2),
            min(len(self._stops), 2),
            min(len(self._ends), 2),
            self._is_ending,
            tuple(self._on_news),
            self.launcher.manner,
            self.launcher.obeys,
            self.launcher.is_pending,
            min(len(self.launcher.giving_up), 2),
            self._probe is not None,
            server and (server.exited.called, server.is_asked, server.was_crash, server.obeys),
            self.upstream.snapshot().ready_at is not None,
            self.ear.crashes > 0,
        )
