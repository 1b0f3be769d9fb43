"""Router, scheduler and supervisors together, played: clients, operators, processes and the time, in any order."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Mapping
from itertools import permutations
from typing import Final

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from zope.interface import implementer

from llamaswap.config.schema import ModelConfig, Timeouts
from llamaswap.core.messages import Reconfigured
from llamaswap.core.patience import Patience
from llamaswap.core.scheduler import Scheduler
from llamaswap.core.setparser import build_matrix
from llamaswap.core.values import (
    Decision,
    Evict,
    Generation,
    ModelFacts,
    ModelId,
    ModelView,
    PlanView,
    ProcessState,
    RequestId,
    StopReason,
    SwapId,
    SwapOutcome,
    SwapReason,
    SwapView,
    Wait,
)
from llamaswap.errors import LlamaSwapError, ModelUnloadedError
from llamaswap.interfaces import ISwapPlanner
from llamaswap.loan import Loan
from llamaswap.planners import group, matrix
from llamaswap.process.upstream import Upstream
from llamaswap.router import Router
from tests.fakes import FakeAgent, FakeProbe
from tests.unit.playing import EPSILON_SECONDS, Ear, Launcher, Level, Server, advance
from tests.unit.scheduler_world import groups

MODELS: Final = tuple(ModelId(m) for m in "abcd")
LIMIT: Final = 3
TTL_SECONDS: Final = {"a": 1, "c": 2}
PRIORITY: Final = {"d": 1}
GRACE_SECONDS: Final = 9
WAIT_SECONDS: Final = 3.0
DRAIN_SECONDS: Final = 4.0
PATIENCE: Final = Patience(4.0, {ModelId("c"): 1.0})
FACTS: Final = {m: ModelFacts(m, limit=LIMIT, priority=PRIORITY.get(m, 0)) for m in MODELS}

LAYOUTS: Final[Mapping[str, Callable[[], ISwapPlanner]]] = {
    "one": lambda: group.factory.build(groups(all=MODELS), FACTS),
    "mixed": lambda: group.factory.build(
        groups(
            pair={"members": ["a", "b"], "swap": False},
            keep={"members": ["c"], "persistent": True},
            free={"members": ["d"], "exclusive": False},
        ),
        FACTS,
    ),
    "matrix": lambda: matrix.factory.build(
        {"matrix": build_matrix({}, {"a": 3}, {"s": "a & b", "t": "b & c"}, FACTS)}, FACTS
    ),
}


@implementer(ISwapPlanner)
class MoodyPlanner:
    """Decides as another planner does, unless it would rather wait, and checks what it is told.

    Attributes:
        is_waiting: Whether it would.
        rechecks: When it wants to be asked again, by target, as it said when it was asked last.
    """

    def __init__(self, planner: ISwapPlanner, expect: Callable[[bool, str], None]) -> None:
        self.is_waiting = False
        self.rechecks: dict[ModelId, float] = {}
        self._planner = planner
        self._expect = expect
        self._swaps: dict[SwapId, frozenset[ModelId]] = {}

    def plan(self, view: PlanView, target: ModelId) -> Decision:
        self.rechecks.pop(target, None)
        if self.is_waiting:
            self.rechecks[target] = view.now + WAIT_SECONDS
            return Wait(self.rechecks[target])
        decision: Decision = self._planner.plan(view, target)
        return decision

    def swap_started(self, view: PlanView, swap: SwapView) -> None:
        self._expect(swap.waiters > 0, "I7: a load for nobody")
        self._expect(swap.id not in self._swaps, "one swap starts twice")
        is_alone = all(swap.evict.isdisjoint(evict) for evict in self._swaps.values())
        self._expect(is_alone, "H42: two swaps stop one model")
        self._swaps[swap.id] = swap.evict

    def swap_finished(self, view: PlanView, swap: SwapView, outcome: SwapOutcome) -> None:
        self._expect(self._swaps.pop(swap.id, None) is not None, "one swap ends twice")

    def models_changed(self, models: Mapping[ModelId, ModelFacts]) -> None: ...

    def close(self) -> None: ...


def exclusive_pairs(planner: ISwapPlanner) -> set[tuple[ModelId, ModelId]]:
    """Give the pairs that a planner forbids whichever comes first."""

    def evicts(target: ModelId, running: ModelId) -> bool:
        view = PlanView(serial=1, now=0.0, models={m: ModelView(m) for m in MODELS}, running=(running,))
        decision = planner.plan(view, target)
        assert isinstance(decision, Evict)
        return running in decision.models

    return {(a, b) for a, b in permutations(MODELS, 2) if evicts(a, b) and evicts(b, a)}


class Pool:
    """Connections to one generation; those who use them leave when it is closed."""

    def __init__(self, upstream: Upstream) -> None:
        self.upstream = upstream
        self.generation = upstream.generation
        self.timeouts = Timeouts()
        self.is_closed = False
        self.users: list[Client] = []

    def close(self) -> None:
        self.is_closed = True
        for user in list(self.users):
            user.leave()


class Client:
    """Somebody who asks for a model.

    Attributes:
        manner: ``ask`` waits; ``hasty`` leaves in the turn of its grant; ``stubborn`` asks again when it is
            refused, and when its answer is cut.
        state: ``waiting``, ``served`` or ``over``.
    """

    def __init__(self, play: TogetherPlay, model: ModelId, manner: str) -> None:
        self.request_id = RequestId(0)
        self.model = model
        self.manner = manner
        self.state = "waiting"
        self.position = 0
        self._play = play
        self._endings = play.endings(model)
        self._pool: Pool | None = None

    def granted(self, pool: Pool) -> None:
        play = self._play
        play.expect(self.state == "waiting", f"I2, I9: a grant while {self.state}")
        server = play.server(self.model)
        is_up = pool.upstream.state is ProcessState.READY and server is not None and not server.exited.called
        play.expect(is_up and not pool.is_closed, "H38: served by a process that is not up")
        play.expect(pool.generation == pool.upstream.generation, "H72: connections to another generation")
        play.expect(pool.upstream.model == self.model, "connections to another model")
        self.state = "served"
        self._pool = pool
        pool.users.append(self)
        if self.manner == "hasty":
            self.leave()

    def refused(self, error: LlamaSwapError) -> None:
        self._play.expect(self.state == "waiting", f"I2, I9: a refusal while {self.state}")
        is_due = not isinstance(error, ModelUnloadedError) or self._play.endings(self.model) > self._endings
        self._play.expect(is_due, "H50: refused for an unload that was before it came")
        self.leave()

    def moved(self, position: int) -> None:
        self._play.expect(self.state == "waiting", f"I8: a position while {self.state}")
        self.position = position

    def end_tunnel(self) -> None:
        self._play.expect(self.state == "served", f"a tunnel that is {self.state}")

    def leave(self) -> None:
        was = self.state
        self.state = "over"
        if self._pool is not None:
            self._pool.users.remove(self)
            self._pool = None
        self._play.ended(self)
        self._play.router.leave(self.request_id)
        if was != "over" and self.manner == "stubborn":
            self.manner = "ask"
            self._play.ask(self.model, "ask")


class Borrower(Client):
    """Asks on our own behalf."""

    loan: Loan

    def heard(self, result: object) -> None:
        """Take the end of the waiting."""
        if self.state != "waiting":
            return
        self.state = "over" if isinstance(result, Failure) else "served"
        if self.state == "over":
            self._play.ended(self)

    def leave(self) -> None:
        was, self.state = self.state, "over"
        self._play.ended(self)
        if was == "waiting":
            self.loan.ready.cancel()
        else:
            self.loan.release()


class TogetherPlay:
    """See the module's text; a :class:`tests.unit.playing.Play`."""

    def __init__(self, layout: str) -> None:
        planner = LAYOUTS[layout]()
        self.exclusive = exclusive_pairs(planner)
        self.clock = Clock()
        self.planner = MoodyPlanner(planner, self.expect)
        self.scheduler = Scheduler(FACTS, self.planner, layout, patience=PATIENCE)
        self.router: Router[Upstream, Pool] = Router(self.scheduler, self.clock, Pool)
        self.launchers = {m: Launcher(self.clock) for m in MODELS}
        self.agents = {m: FakeAgent() for m in MODELS}
        self.ears = {m: Ear(self, self.clock) for m in MODELS}
        self.present = set(MODELS)
        self.upstreams = {m: self._make_upstream(m) for m in MODELS}
        self.router.adopt(self.upstreams)
        self.clients: list[Client] = []
        self.pending: list[tuple[Deferred[None], float]] = []
        self.unloads: Counter[ModelId] = Counter()
        self.is_shutting_down = False
        self.is_stopping_all = False
        self._wrong: list[str] = []

    def _make_upstream(self, model: ModelId) -> Upstream:
        ttl = TTL_SECONDS.get(model, 0)
        url = f"http://127.0.0.1:{5800 + MODELS.index(model)}"
        config = ModelConfig(
            id=model, argv=("server",), proxy=url, ttl_seconds=ttl, unload_timeout_seconds=GRACE_SECONDS
        )
        upstream = self.ears[model].upstream = Upstream(
            config,
            clock=self.clock,
            launcher=self.launchers[model],
            probe_agent=self.agents[model],
            events=self.ears[model],
            on_output=lambda _: None,
            environ={},
            cwd="/",
        )
        self.launchers[model].on_launch = lambda: self._launching(model)
        touch = upstream.touch

        def touched() -> None:
            self.ears[model].used()
            touch()

        upstream.touch = touched  # type: ignore[method-assign]  # to see when the time to live starts anew
        return upstream

    # ------------------------------------------------------------- news of the supervisors

    def state_changed(
        self, model: ModelId, generation: Generation, old: ProcessState, new: ProcessState, reason: StopReason | None
    ) -> None:
        """Check who is stopped, and pass it on."""
        if old is ProcessState.READY and new is ProcessState.STOPPING:
            is_gentle = reason in {StopReason.SWAP, StopReason.IDLE_TIMEOUT}
            self.expect(not (is_gentle and self._of("served", model)), f"I4: {model} is busy and stopped ({reason})")
        if old is ProcessState.READY and new is ProcessState.STOPPED:
            self.launchers[model].servers[-1].was_crash = True
        self.router.state_changed(model, generation, old, new, reason)

    def process_exited(self, model: ModelId, generation: Generation) -> None:
        """Pass it on."""
        self.router.process_exited(model, generation)

    def idle_expired(self, model: ModelId, generation: Generation) -> None:
        """Pass it on, and check what it leads to."""
        is_wanted = bool(self._of("waiting", model) or self._of("served", model)) or model in self.scheduler._swap_to
        self.router.idle_expired(model, generation)
        is_ready = self.upstreams[model].state is ProcessState.READY
        self.expect(
            is_ready is is_wanted, f"H27: {model}, idle and {'' if is_wanted else 'not '}wanted, is judged wrongly"
        )

    def _launching(self, model: ModelId) -> None:
        swap = self.scheduler._swap_to.get(model)
        self.expect(swap is not None and not swap.is_cancelled, f"H49: {model} is launched for nobody")
        for other in MODELS:
            is_alive = self.launchers[other].is_pending or bool(self.launchers[other].living)
            is_wrong = is_alive and (model, other) in self.exclusive
            self.expect(not is_wrong, f"I3: {model} is launched while {other} is alive")

    # ------------------------------------------------------------- moves

    def moves(self, level: Level) -> list[str]:
        """See :class:`tests.unit.playing.Play`."""
        moves = ["wait 0.01", "wait 0.3", "wait 1.5", *(["planner decides"] if self.planner.is_waiting else [])]
        for model in MODELS:
            moves += [f"{word} {model}" for word in self._calm_moves(model)]
        if level >= Level.ROUGH:
            moves += self._rough_moves()
            for model in MODELS:
                moves += [f"{word} {model}" for word in self._rough_moves_of(model)]
        if self.is_shutting_down:
            moves += ["stop all 3", "stop all 1"] if level >= Level.FINAL or self.is_stopping_all else []
        elif level >= Level.FINAL:
            moves += ["begin shutdown"]
        return moves

    def _rough_moves(self) -> list[str]:
        some = self.launchers[MODELS[0]]
        moves = [] if self.is_shutting_down else ["reload none"]
        moves += [f"launchers {manner}" for manner in Launcher.MANNERS if manner != some.manner]
        moves += ["wait 6", "unload all", "servers defy" if some.obeys else "servers obey"]
        moves += ["planner waits"] if not self.planner.is_waiting else []
        moves += ["forget unload"] if self.pending else []
        return moves

    def _calm_moves(self, model: ModelId) -> list[str]:
        moves = ["ask", "hasty"] if model in self.present else []
        moves += ["hang-up"] if self._of("waiting", model) else []
        moves += ["answered", "answered"] if self._of("served", model) else []
        moves += ["launched"] if self.launchers[model].is_pending else []
        moves += ["gives-up"] if self.launchers[model].giving_up else []
        moves += ["probe-200", "probe-200"] if self._probe(model) else []
        server = self.server(model)
        return [*moves, "gone"] if server is not None and server.is_asked else moves

    def _rough_moves_of(self, model: ModelId) -> list[str]:
        moves = ["stubborn", "load", "preload", "unload"] if model in self.present else []
        if not self.is_shutting_down:
            moves += ["restart", *(["remove"] if len(self.present) > 1 else [])] if model in self.present else ["add"]
        moves += ["hang-up-last"] if self._of("waiting", model) else []
        moves += ["launched-dead", "launch-fails"] if self.launchers[model].is_pending else []
        moves += ["gives-up-oddly"] if self.launchers[model].giving_up else []
        moves += ["probe-503", "probe-refused"] if self._probe(model) else []
        server = self.server(model)
        return [*moves, "exit"] if server is not None and not server.exited.called else moves

    def _probe(self, model: ModelId) -> FakeProbe | None:
        probes = self.agents[model].probes
        return probes[-1] if probes and not probes[-1].result.called else None

    def server(self, model: ModelId) -> Server | None:
        """Give the living server of a model."""
        living = self.launchers[model].living
        return living[-1] if living else None

    def _of(self, state: str, model: ModelId) -> list[Client]:
        return [c for c in self.clients if c.state == state and c.model == model]

    def make(self, move: str) -> None:
        """See :class:`tests.unit.playing.Play`."""
        self._act(move)
        self._check()

    def _act(self, move: str) -> None:
        word, *_, last = move.split()
        if last in MODELS:
            self._act_on(word, ModelId(last))
            return
        acts: dict[str, Callable[[], object]] = {
            "wait": lambda: advance(self.clock, float(last)),
            "launchers": lambda: self._set_launchers("manner", last),
            "servers": lambda: self._set_launchers("obeys", last == "obey"),
            "planner": lambda: setattr(self.planner, "is_waiting", last == "waits"),
            "unload": lambda: self._unload(*self.router.supervisors),
            "reload": self._reload,
            "forget": self._forget,
            "begin": self._begin_shutdown,
            "stop": lambda: self._stop_all(float(last)),
        }
        acts[word]()

    def _act_on(self, word: str, model: ModelId) -> None:
        launcher, server, probe = self.launchers[model], self.server(model), self._probe(model)
        waiting, served = self._of("waiting", model), self._of("served", model)
        acts: dict[str, Callable[[], object]] = {
            "load": lambda: self._borrow(model, SwapReason.USER),
            "preload": lambda: self._borrow(model, SwapReason.PRELOAD),
            "unload": lambda: self._unload(model),
            "restart": lambda: self._reload(restarted=model),
            "remove": lambda: self._reload(removed=model),
            "add": lambda: self._reload(added=model),
            "hang-up": lambda: self._leave(waiting[0]),
            "hang-up-last": lambda: self._leave(waiting[-1]),
            "answered": lambda: self._leave(served[0]),
            "launched": launcher.bring,
            "launched-dead": lambda: launcher.bring(is_dead=True),
            "launch-fails": launcher.refuse,
            "gives-up": launcher.give_up,
            "gives-up-oddly": lambda: launcher.give_up(in_own_words=True),
        }
        if word in {"ask", "hasty", "stubborn"}:
            self.ask(model, word)
        elif probe is not None and word == "probe-refused":
            probe.refuse()
        elif probe is not None and word.startswith("probe-"):
            probe.answer(int(word.removeprefix("probe-")))
        elif server is not None and word == "exit":
            server.exit(1)
        elif server is not None and word == "gone":
            server.go()
        else:
            acts[word]()

    def _set_launchers(self, name: str, value: object) -> None:
        for launcher in self.launchers.values():
            setattr(launcher, name, value)

    def _forget(self) -> None:
        self.pending[0][0].cancel()

    @staticmethod
    def _leave(client: Client) -> None:
        client.leave()

    def ask(self, model: ModelId, manner: str) -> Client:
        """Let a client come."""
        client = Client(self, model, manner)
        self.clients.append(client)
        self.router.enter(model, client)
        return client

    def _borrow(self, model: ModelId, reason: SwapReason) -> None:
        borrower = Borrower(self, model, reason.value)
        self.clients.append(borrower)
        borrower.loan = self.router.borrow(model, reason)
        borrower.request_id = borrower.loan.request_id
        borrower.loan.ready.addBoth(borrower.heard)

    def ended(self, client: Client) -> None:
        """Take note that a client is gone."""
        if client in self.clients:
            self.clients.remove(client)

    def endings(self, model: ModelId) -> int:
        """Count what may refuse those who came before it."""
        return self.unloads[model] + self.ears[model].crashes

    def _unload(self, *models: ModelId) -> None:
        self.unloads.update(models)
        older = [server for model in models for server in self.launchers[model].servers]
        self._expect_end(self.router.unload(models), GRACE_SECONDS, older, "unload")

    def _reload(self, restarted: str = "", removed: str = "", added: str = "") -> None:
        """Have another configuration, in which one model is another, gone, or back."""
        self.present = {m for m in MODELS if m == added or (m in self.present and m != removed)}
        if added and ModelId(added) not in self.router.supervisors:
            self.ears[ModelId(added)] = Ear(self, self.clock)
            self.upstreams[ModelId(added)] = self._make_upstream(ModelId(added))
        event = Reconfigured(
            facts={m: FACTS[m] for m in sorted(self.present)},
            planner=self.planner,
            planner_name="another",
            restarted=frozenset(ModelId(m) for m in [restarted] if m),
            removed=frozenset(ModelId(m) for m in [removed] if m),
            drain_seconds=DRAIN_SECONDS,
            at_mono=self.clock.seconds(),
            patience=PATIENCE,
        )
        self.router.reconfigure({m: self.upstreams[m] for m in self.present}, event)

    def _begin_shutdown(self) -> None:
        self.is_shutting_down = True
        self.router.begin_shutdown()
        self.expect(
            not [c for c in self.clients if c.state == "waiting"], "H83: somebody waits after the shutdown began"
        )

    def _stop_all(self, grace: float) -> None:
        self.is_stopping_all = True
        older = [server for model in MODELS for server in self.launchers[model].servers]
        self._expect_end(self.router.stop_all(grace), grace, older, "end", spares_crashed=False)

    def _expect_end(
        self, done: Deferred[None], grace: float, older: list[Server], what: str, *, spares_crashed: bool = True
    ) -> None:
        entry = (done, self.clock.seconds() + grace)
        self.pending.append(entry)
        is_cancellable = what == "unload"

        def heard(result: object) -> None:
            self.pending.remove(entry)
            if isinstance(result, Failure):
                self.expect(is_cancellable, f"{what}: {result}")
                return
            left = [s for s in older if not s.is_gone and not (spares_crashed and s.was_crash)]
            self.expect(not left, f"H86: {what} is answered and {len(left)} processes live")

        done.addBoth(heard)

    def expect(self, is_right: bool, words: str) -> None:  # noqa: FBT001
        """Take note of a violation; callbacks must not raise."""
        if not is_right:
            self._wrong.append(words)

    # ------------------------------------------------------------- invariants

    def _check(self) -> None:
        assert not self._wrong, self._wrong[0]
        self._check_timers()
        self._check_book()
        if not self.is_stopping_all:
            self._check_views()
        for _, due_mono in self.pending:
            assert self.clock.seconds() <= due_mono + 5, "I5: a stop takes longer than its grace"

    def _check_timers(self) -> None:
        ranges = [ear.check() for ear in self.ears.values()]
        fakes = sum(server.timers for launcher in self.launchers.values() for server in launcher.living)
        wake = self.router._wake
        timers = len(self.clock.getDelayedCalls()) - fakes - (wake is not None and wake.active())
        least, most = (sum(bounds) for bounds in zip(*ranges, strict=True))
        assert least <= timers <= most, f"I11: {timers} timers, expected {least} to {most}"

    def _check_book(self) -> None:
        book = self.scheduler._book
        for model in MODELS:
            served = {c.request_id for c in self._of("served", model)}
            waiting = {c.request_id for c in self._of("waiting", model)}
            reserved = book._reserved.get(model, set())
            assert book._in_flight.get(model, set()) == served, f"I1: in flight for {model}"
            assert reserved == served | waiting, f"I1: reserved for {model}"
            assert len(reserved) <= LIMIT, "I1: the limit"
        assert set(self.router._waiters) == {c.request_id for c in self.clients}, "I2"
        by_id = {c.request_id: c for c in self.clients}
        queue = [by_id[request.id] for request in book.queue]
        joined = [by_id[request] for swap in self.scheduler._swaps.values() for request in swap.waiters]
        assert len(queue) + len(joined) == sum(c.state == "waiting" for c in self.clients), "a request waits nowhere"
        for position, client in enumerate(queue, 1):
            assert isinstance(client, Borrower) or client.position == position, "I8: positions are 1..n"
        wake = self.router._wake
        is_active = (
            self.scheduler._swaps or self.scheduler._departures._unloads or any(map(book._in_flight.get, MODELS))
        )
        assert not queue or is_active or (wake is not None and wake.active()), "I6: the queue sleeps for ever"
        for client in queue:
            recheck = self.planner.rechecks.get(client.model)
            is_held = self.scheduler._departures.holds(client.model) or client.model in self.scheduler._swap_to
            is_held = is_held or self.scheduler._fences.holding(client.model) is not None
            is_late = recheck is not None and recheck < self.clock.seconds() - EPSILON_SECONDS
            assert is_held or not is_late, "I6: a planner that wants to be asked again is not"

    def _check_views(self) -> None:
        for model, upstream in self.router.supervisors.items():
            up = self.scheduler._up.get(model)
            is_same = up is None or (upstream.state is ProcessState.READY and upstream.generation == up.generation)
            assert is_same, f"the scheduler believes in {model}, which is {upstream.state}"
            is_known = self.scheduler.queries.state(model).counts_as_running
            assert is_known or not upstream.state.counts_as_running, f"H43: {model} is {upstream.state}, unknown"
            has_pool = model in self.router._pools
            assert has_pool is (upstream.state is ProcessState.READY), f"pool of {model}, which is {upstream.state}"
        for swap in self.scheduler._swaps.values():
            is_over = self.upstreams[swap.target].state not in {ProcessState.STARTING, ProcessState.READY}
            assert is_over or swap.is_evicting or not swap.is_cancelled, (
                f"H02: {swap.target} comes up, although cancelled"
            )
        assert self.router._runner._runs.keys() == self.scheduler._swaps.keys(), "a swap ended for one side only"

    # ------------------------------------------------------------- the end

    def finish(self) -> None:
        """See :class:`tests.unit.playing.Play`."""
        for move in ("planner decides", "launchers quick", "servers obey"):
            self.make(move)
        if not self.is_shutting_down:
            for model in MODELS:
                if model not in self.present:
                    self.make(f"add {model}")
            self._come_to_rest()
            for model in MODELS:
                client = self.ask(model, "ask")
                self._come_to_rest(client)
                assert client.state == "served", f"{model} does not come up any more"
                client.leave()
            self.make("begin shutdown")
        drained = self.router.drained()
        self._help()
        assert drained.called, "H83: the shutdown waits although nobody is served"
        self.make("stop all 2")
        late = self.ask(MODELS[0], "ask")
        assert late.state == "over"
        self._help()
        assert not self.clients, "I2: somebody waits for ever"
        assert not self.pending, "H04: a caller waits for ever"
        for model, upstream in self.upstreams.items():
            assert upstream.state is ProcessState.SHUTDOWN
            assert not self.launchers[model].living, "I11: a process is left"
        assert not self.clock.getDelayedCalls(), "I11: a timer is left"

    def _come_to_rest(self, but: Client | None = None) -> None:
        for _ in range(300):
            others = [c for c in self.clients if c is not but]
            is_served = but is None or but.state == "served"
            if is_served and not (others or self.scheduler._swaps or self.scheduler._departures._unloads):
                return
            self._help(but)
            self.make("wait 0.3")
        raise AssertionError("H04, I6: somebody waits for ever")

    def _help(self, but: Client | None = None) -> None:
        """Let everything that is under way end well."""
        for model in MODELS:
            for client in self._of("served", model):
                if client is not but:
                    client.manner = "ask"
                    client.leave()
            while self.launchers[model].giving_up:
                self.make(f"gives-up {model}")
            if self.launchers[model].is_pending:
                self.make(f"launched {model}")
            if self._probe(model):
                self.make(f"probe-200 {model}")
            server = self.server(model)
            if server is not None and server.is_asked:
                self.make(f"gone {model}")

    def fingerprint(self) -> Hashable:
        """See :class:`tests.unit.playing.Play`."""
        scheduler = self.scheduler
        return (
            tuple(self._fingerprint_of(model) for model in MODELS),
            tuple(request.model for request in scheduler._book.queue)[:4],
            tuple(
                (s.target, s.evict, s.is_evicting, s.is_cancelled, bool(s.waiters)) for s in scheduler._swaps.values()
            ),
            frozenset(scheduler._departures._unloads.values()),
            self.is_shutting_down,
            self.is_stopping_all,
            frozenset(self.present),
            self.planner.is_waiting,
            frozenset(scheduler._fences.standing),
        )

    def _fingerprint_of(self, model: ModelId) -> Hashable:
        server = self.server(model)
        return (
            self.upstreams[model].state,
            bool(self._of("served", model)),
            bool(self._of("waiting", model)),
            self.launchers[model].is_pending,
            bool(self.launchers[model].giving_up),
            server and (server.exited.called, server.is_asked, server.was_crash),
        )
