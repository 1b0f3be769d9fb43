"""A world around the scheduler: keeps what its commands promise, and checks the invariants.

Processes, clients and swap runners are plain data here. Every event goes through :meth:`World.tell`,
which performs the commands and then checks the invariants of lifecycle section 10.4 that concern
the scheduler.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations
from math import inf
from typing import Any, assert_never

from llamaswap.core.messages import (
    Announce,
    Arrived,
    CancelSwap,
    Command,
    Complain,
    Dismiss,
    EndTunnel,
    Event,
    Fenced,
    IdleExpired,
    Position,
    ProcessExited,
    Reconfigured,
    Refuse,
    RequestGone,
    Serve,
    ShutdownBegan,
    Swap,
    SwapFinished,
    SwapStarting,
    Tick,
    Unload,
    UnloadAsked,
    UnloadFinished,
    WakeAt,
)
from llamaswap.core.patience import ENDLESS, Patience
from llamaswap.core.records import SwapRecord
from llamaswap.core.scheduler import Scheduler
from llamaswap.core.values import (
    Generation,
    ModelFacts,
    ModelId,
    RequestId,
    StopReason,
    SwapId,
    SwapReason,
    UnloadId,
)
from llamaswap.errors import LlamaSwapError, UpstreamStartError
from llamaswap.interfaces import ISwapPlanner
from llamaswap.planners.group import _DEFAULT as REMOVED
from llamaswap.planners.group import factory


def groups(**named: Sequence[str] | Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Write groups shortly: ``g=["a", "b"]`` or ``g={"members": [...], "swap": False}``."""
    flags = {"swap": True, "exclusive": True, "persistent": False}
    return {
        name: {**flags, **value} if isinstance(value, Mapping) else {**flags, "members": value}
        for name, value in named.items()
    }


def acts(commands: Sequence[Command]) -> list[Command]:
    """Give the commands that do more than tell."""
    return [command for command in commands if not isinstance(command, Announce | Fenced)]


@dataclass
class Running:
    """A swap that the scheduler ordered and that has not reported back."""

    command: Swap
    is_starting: bool = False
    is_cancelled: bool = False


@dataclass
class World:
    """See the module's text.

    Attributes:
        alive: Model to generation of the process that exists, in any state.
        ready: Model to generation of the process that is up.
        stopping: Models whose process is being stopped.
        outcomes: What became of each request: ``serve``, the error, or ``left``.
        transcript: Every command so far.
        records: The newest record of each swap.
        has_ended: Whether the daemon's end has begun.
        complaints: What was said of the planner's faults.
        fences: For whom one stands.
        told: Whose tunnels were to end.
    """

    models: Sequence[str]
    settings: Mapping[str, Any]
    limit: int = 10
    priority: Mapping[str, int] = field(default_factory=dict)
    planner: ISwapPlanner | None = None
    patience: Patience = ENDLESS

    def __post_init__(self) -> None:
        self.facts = {
            ModelId(m): ModelFacts(ModelId(m), limit=self.limit, priority=self.priority.get(m, 0)) for m in self.models
        }
        self.rules = factory.build(self.settings, self.facts)
        self.scheduler = Scheduler(self.facts, self.planner or self.rules, "group", patience=self.patience)
        self.now = 0.0
        self.alive: dict[ModelId, Generation] = {}
        self.ready: dict[ModelId, Generation] = {}
        self.swaps: dict[SwapId, Running] = {}
        self.unloads: dict[UnloadId, frozenset[ModelId]] = {}
        self.model_of: dict[RequestId, ModelId] = {}
        self.in_flight: dict[ModelId, set[RequestId]] = {m: set() for m in self.facts}
        self.waiting: dict[RequestId, ModelId] = {}
        self.outcomes: dict[RequestId, str | LlamaSwapError] = {}
        self.positions: dict[RequestId, int] = {}
        self.transcript: list[Command] = []
        self.generations: dict[ModelId, int] = {}
        self.spawns: list[ModelId] = []
        self.configured = set(self.facts)
        self.leftovers: set[frozenset[ModelId]] = set()
        self.wake = inf
        self._next = 0
        self.records: dict[SwapId, SwapRecord] = {}
        self.has_ended = False
        self.complaints: list[Complain] = []
        self.fences: set[ModelId] = set()
        self.told: list[RequestId] = []

    # ------------------------------------------------------------- what may happen

    def arrive(self, model: str, reason: SwapReason = SwapReason.REQUEST) -> RequestId:
        """Let a request come."""
        self._next += 1
        request = RequestId(self._next)
        self.model_of[request] = self.waiting[request] = ModelId(model)
        self.tell(Arrived(request, ModelId(model), self.now, reason))
        return request

    def leave(self, request: RequestId) -> None:
        """End a request, as its client or as its answer's end."""
        self.in_flight[self.model_of[request]].discard(request)
        if self.waiting.pop(request, None) is not None:
            self.outcomes[request] = "left"
        self.positions.pop(request, None)
        self.tell(RequestGone(request, self.now))

    def evicted(self, swap: SwapId) -> None:
        """Let a swap's victims be gone, and its target be started unless it was cancelled."""
        run = self.swaps[swap]
        for victim in run.command.evict:
            self._gone(victim)
        if run.is_cancelled:
            self.finish(swap, "aborted")
            return
        run.is_starting = True
        target = run.command.model
        if target not in self.alive:
            self.generations[target] = self.generations.get(target, 0) + 1
            self.alive[target] = Generation(self.generations[target])
            self.spawns.append(target)
        self.tell(SwapStarting(swap, self.now))
        if target in self.ready:
            self.finish(swap)

    def finish(self, swap: SwapId, failure: str = "") -> None:
        """Let a swap end; a failed or cancelled one leaves no process."""
        run = self.swaps.pop(swap)
        target = run.command.model
        if run.is_starting and (failure or run.is_cancelled):
            self._gone(target)
        if failure or run.is_cancelled:
            self.tell(SwapFinished(swap, self.now, error=UpstreamStartError(failure or "aborted")))
            return
        self.ready[target] = self.alive[target]
        self.tell(SwapFinished(swap, self.now, generation=self.alive[target]))

    def load(self, model: str) -> RequestId:
        """Let a request come and bring it all the way to its model."""
        request = self.arrive(model)
        self.settle()
        return request

    def settle(self) -> None:
        """Let every swap and unload under way succeed, and what follows from it."""
        while self.swaps or self.unloads:
            for unload in list(self.unloads):
                self.unloaded(unload)
            for swap, run in list(self.swaps.items()):
                if swap in self.swaps and not run.is_starting:
                    self.evicted(swap)
                if swap in self.swaps:
                    self.finish(swap)

    def unload(self, *models: str) -> UnloadId:
        """Ask for an unload."""
        self._next += 1
        unload = UnloadId(self._next)
        self.tell(UnloadAsked(unload, frozenset(ModelId(m) for m in models), self.now))
        return unload

    def expire(self, model: str) -> None:
        """Let a ready process' idle time be over."""
        self._next += 1
        self.tell(IdleExpired(UnloadId(self._next), ModelId(model), self.ready[ModelId(model)], self.now))

    def unloaded(self, unload: UnloadId) -> None:
        """Let an unload be done: its processes are gone, and what they served is cut."""
        for model in self.unloads[unload]:
            for swap, run in list(self.swaps.items()):
                if run.command.model == model and run.is_starting:
                    self.finish(swap, "aborted")
            self._gone(model)
            for request in list(self.in_flight[model]):
                self.leave(request)
        del self.unloads[unload]
        self.tell(UnloadFinished(unload, self.now))

    def crash(self, model: str) -> None:
        """Let a ready process end by itself; what it served is cut."""
        generation = self.ready.pop(ModelId(model))
        del self.alive[ModelId(model)]
        self.tell(ProcessExited(ModelId(model), generation, self.now))
        for request in list(self.in_flight[ModelId(model)]):
            self.leave(request)

    def reload(
        self,
        *models: str,
        settings: Mapping[str, Any] | None = None,
        restarted: Collection[str] = (),
        limit: int = 0,
        drain: float = 30.0,
        enforces: bool = False,
    ) -> list[Command]:
        """Have another configuration: these models and no others."""
        kept = [ModelId(m) for m in models]
        limits = dict.fromkeys(kept, limit or self.limit)
        self.limit = max(self.limit, limit)
        facts = {m: ModelFacts(m, limit=limits[m], priority=self.priority.get(m, 0)) for m in kept}
        self.settings = settings if settings is not None else self.settings
        self.rules = factory.build(self.settings, facts)
        removed = frozenset(self.configured - facts.keys())
        self.configured = set(facts)
        for model in kept:
            self.facts[model] = facts[model]
            self.in_flight.setdefault(model, set())
        # What runs together now, or will when the swaps under way are done, may go on to do so.
        running = {*self.alive, *(run.command.model for run in self.swaps.values())}
        self.leftovers = {frozenset(pair) for pair in combinations(running, 2)}
        again = frozenset(ModelId(m) for m in restarted)
        planner = self.planner or self.rules
        event = Reconfigured(facts, planner, "group", again, removed, drain, self.now, enforces=enforces)
        return self.tell(replace(event, patience=self.patience))

    def wait(self) -> None:
        """Let time pass until the scheduler wants to be woken."""
        self.now, self.wake = max(self.now, self.wake), inf
        self.tell(Tick(self.now))

    def shut_down(self) -> None:
        """Let the daemon's end begin."""
        self.has_ended = True
        self.tell(ShutdownBegan(self.now))

    # ------------------------------------------------------------- commands

    def tell(self, event: Event) -> list[Command]:
        """Hand over an event, do what is commanded, check the invariants."""
        self.now += 1.0
        commands = self.scheduler.handle(event)
        self.transcript += commands
        for command in commands:
            self._perform(command)
        self.check()
        return commands

    def _perform(self, command: Command) -> None:  # noqa: C901, PLR0912 - one case for each command
        match command:
            case Serve():
                self._once(command.request)
                self.outcomes[command.request] = "serve"
                assert self.ready.get(command.model) == command.generation, "served by a process that is not up"
                self.in_flight[command.model].add(command.request)
            case Refuse():
                self._once(command.request)
                self.outcomes[command.request] = command.error
            case Position():
                assert command.request in self.waiting, "I8: a position for a request that left"
                self.positions[command.request] = command.position
            case Swap():
                self._start(command)
            case CancelSwap():
                assert command.swap in self.swaps
                self.swaps[command.swap].is_cancelled = True
            case Unload():
                self.unloads[command.unload] = command.models
                for model in command.models:
                    self.ready.pop(model, None)
                if command.reason is StopReason.IDLE_TIMEOUT:
                    assert not any(self.in_flight[m] for m in command.models), "H27: idle stop of a busy model"
            case WakeAt():
                self.wake = command.at_mono
            case Dismiss():
                assert command.model not in self.alive, "a process without a supervisor"
                assert not self.in_flight[command.model]
                del self.facts[command.model]
            case Announce(record):
                self._note(record)
            case Complain():
                self.complaints.append(command)
            case EndTunnel():
                self._tell_tunnel(command.request)
            case Fenced():
                assert (command.model in self.fences) is not command.is_raised
                self.fences ^= {command.model}
            case _:
                assert_never(command)

    def _tell_tunnel(self, request: RequestId) -> None:
        model = self.model_of[request]
        assert request in self.in_flight[model]
        assert any(model in fence.holds for fence in self.scheduler.queries.fences()), "a tunnel in nobody's way"
        self.told.append(request)

    def _note(self, record: SwapRecord) -> None:
        before = self.records.get(record.id)
        assert before is None or before.outcome is None, "a swap ends once"
        for waiter in record.waiters:
            assert self.model_of[waiter.request] == record.target
        self.records[record.id] = record

    def _once(self, request: RequestId) -> None:
        assert request in self.waiting, "I2, I9: an effect for a request after its outcome"
        del self.waiting[request]
        self.positions.pop(request, None)

    def _start(self, command: Swap) -> None:
        assert command.model not in command.evict
        assert any(m == command.model for m in self.waiting.values()), "I7: a load for nobody"
        for victim in command.evict:
            assert not self.in_flight[victim] or self._is_unloading(victim), "I4: a busy model is stopped"
            self.ready.pop(victim, None)
        for other in self.swaps.values():
            assert other.command.model != command.model
            assert other.command.model not in command.evict
            assert command.model not in other.command.evict
            assert not command.evict & other.command.evict, "H42: two swaps stop one model"
        self.swaps[command.swap] = Running(command)

    def _gone(self, model: ModelId) -> None:
        self.leftovers = {pair for pair in self.leftovers if model not in pair}
        self.alive.pop(model, None)
        self.ready.pop(model, None)

    def _is_unloading(self, model: ModelId) -> bool:
        return any(model in models for models in self.unloads.values())

    # ------------------------------------------------------------- invariants

    def check(self) -> None:
        """Check what must hold after every event."""
        book = self.scheduler._book
        for model in self.facts:
            assert book._in_flight[model] == self.in_flight[model], "I1"
            assert len(book._reserved[model]) <= self.limit
            reserved = {r for r, m in self.waiting.items() if m == model} | book._in_flight[model]
            assert book._reserved[model] == reserved, "I1: reserved = queued + joined + in flight"
        self._check_records()
        queued = [r.id for r in book.queue]
        assert [self.positions.get(r) for r in queued] == list(range(1, len(queued) + 1)), "I8: positions are 1..n"
        joined = [r for s in self.scheduler._swaps.values() for r in s.waiters]
        assert sorted(queued + joined) == sorted(self.waiting), "a waiting request is in exactly one place"
        assert self.wake <= self.scheduler._departures.deadline_mono, "nobody ends the drain"
        assert self.wake <= self.scheduler._fences.next_mono(self.now), "nobody sees who is overdue"
        assert self.fences == set(self.scheduler._fences.standing), "F7: a fence that was not told"
        assert self.fences <= {*self.waiting.values()}, "F6: a fence for nobody"
        if queued:
            assert self.swaps or self.unloads or any(self.in_flight.values()), "I6: the queue sleeps for ever"
        for model in self.ready:
            assert self.ready[model] == self.alive[model]
        self._check_exclusion()

    def _check_records(self) -> None:
        """What the scheduler tells of itself is true."""
        assert {swap for swap, record in self.records.items() if record.outcome is None} <= self.swaps.keys()
        if self.planner is not None:
            return  # its tests count the questions
        shown = list(self.scheduler.queries.waiting(self.now))
        assert {each.request: each.model for each in shown} == self.waiting
        assert all(each.position in {None, self.positions.get(each.request)} for each in shown)
        assert all(each.text for each in shown)

    def _check_exclusion(self) -> None:
        """I3: what the rules forbid together is never alive together (one-way pairs and leftovers apart)."""
        for a, b in combinations(self.alive, 2):
            if frozenset({a, b}) in self.leftovers:
                continue
            mine, other = (self.rules.group_of.get(m, REMOVED) for m in (a, b))
            assert not (mine.evicts(other) and other.evicts(mine)), f"I3: {a} and {b} are alive together"
