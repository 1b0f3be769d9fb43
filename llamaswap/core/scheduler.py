"""Who is served, who waits, and what runs: events in, commands out.

The scheduler owns the queue, the reservations, the requests in flight and the active swaps. It
knows which processes are up only through what it ordered and what it was told; it never looks at
one. Rules in the order in which they decide about a request for model M:

1. M is unknown, or has as many reservations as its limit: refused.
2. A swap to M is under way: the request joins it.
3. M is up, the planner evicts nothing for it, nothing is in the way: served at once.
4. M is being unloaded, collides with an active swap, or a model that must go is busy, or somebody who
   has waited for too long comes first (:mod:`llamaswap.core.fences`): queued.
5. Otherwise a swap starts.

A request is in the book from its admission to its one end, and in exactly one of: the queue, the
waiters of one swap, the set in flight of its model. The queue is looked at again only when
something was freed. Decisions about ready models are remembered in ``_clear`` until anything that
a planner can see about processes changes, so that the common request asks no planner.
"""

from __future__ import annotations

from collections.abc import Container, Mapping
from math import inf
from typing import assert_never

from llamaswap.core.backoff import Backoff
from llamaswap.core.book import Request, RequestBook
from llamaswap.core.departures import Departures
from llamaswap.core.fences import Fences
from llamaswap.core.judge import Judge, Way
from llamaswap.core.messages import (
    Announce,
    Arrived,
    Command,
    Dismiss,
    Event,
    IdleExpired,
    Position,
    ProcessExited,
    Reconfigured,
    Refuse,
    RequestGone,
    Serve,
    ShutdownBegan,
    SwapFinished,
    SwapStarting,
    Tick,
    Unload,
    UnloadAsked,
    UnloadFinished,
    WakeAt,
)
from llamaswap.core.patience import ENDLESS, Patience
from llamaswap.core.queries import Queries, costs
from llamaswap.core.rules import Rules
from llamaswap.core.running import Running
from llamaswap.core.swaps import ActiveSwap, SwapNumbers
from llamaswap.core.values import Evict, ModelFacts, ModelId, RequestId, StopReason, SwapId, SwapReason, UnloadId
from llamaswap.core.views import Sight, forbidden_idle
from llamaswap.errors import (
    LlamaSwapError,
    ModelNotFoundError,
    ModelUnloadedError,
    ShuttingDownError,
)
from llamaswap.interfaces import ISwapPlanner


class Scheduler:
    """First come, first served, except that a ready model answers at once and loads are shared.

    Args:
        facts: By id, every configured local model.
        planner: Provider of :class:`~llamaswap.interfaces.ISwapPlanner`.
        planner_name: What it is called in records and logs.
        backoff: Knows which models are not tried for a while; none ever unless given.
        patience: How long a request may be overtaken.
        numbers: Of swaps; from 1 on unless given.

    Attributes:
        queries: Answers those who only ask.
    """

    def __init__(
        self,
        facts: Mapping[ModelId, ModelFacts],
        planner: ISwapPlanner,
        planner_name: str,
        backoff: Backoff | None = None,
        patience: Patience = ENDLESS,
        numbers: SwapNumbers | None = None,
    ) -> None:
        self._rules = Rules(facts, planner, planner_name, backoff or Backoff())
        self._book = RequestBook(facts)
        self._swaps: dict[SwapId, ActiveSwap] = {}
        self._swap_to: dict[ModelId, ActiveSwap] = {}
        self._departures = Departures()
        self._running = Running(self._swaps, self._departures)
        self._up = self._running.up
        self._fences = Fences(self._rules, self._swaps, self._book)
        self._fences.patience = patience
        self._judge = Judge(self._rules, self._swaps, self._departures, self._running, self._book, self._fences)
        self.queries = Queries(self._rules, self._swaps, self._running, self._book, self._judge, self._fences)
        self._clear: set[ModelId] = set()
        self._wake_mono = inf
        self._numbers = numbers or SwapNumbers()

    # ----------------------------------------------------------------- events

    def handle(self, event: Event) -> list[Command]:
        """Take one event in; give the commands that it causes, in order.

        Never raises for an id that it no longer knows: late news is no news. Even where a bug made it
        raise for an arrival, the end of that request leaves nothing of it behind.
        """
        commands = self._react(event)
        if self._departures.removed:
            commands += self._dismiss()
        return commands + self._wake(self._departures.deadline_mono)

    def _wake(self, at_mono: float) -> list[Command]:
        """Ask for a tick; one tick looks at everything, so the earliest wish is the one that counts."""
        if at_mono >= self._wake_mono:
            return []
        self._wake_mono = at_mono
        return [WakeAt(at_mono)]

    def _react(self, event: Event) -> list[Command]:  # noqa: C901, PLR0911
        match event:
            case Arrived():
                return self._arrive(event)
            case RequestGone():
                return self._forget(event)
            case SwapStarting():
                return self._swap_starting(event)
            case SwapFinished():
                return self._swap_finished(event)
            case UnloadAsked():
                return self._unload(event)
            case IdleExpired():
                return self._idle(event)
            case UnloadFinished():
                return self._unload_finished(event)
            case ProcessExited():
                return self._exited_by_itself(event)
            case Tick():
                self._wake_mono = inf
                return self._retire(event.at_mono) + self._review(event.at_mono)
            case ShutdownBegan():
                return self._shut_down(event)
            case Reconfigured():
                return self._reconfigure(event)
            case _:
                assert_never(event)

    def _arrive(self, event: Arrived) -> list[Command]:
        model = event.model
        refusal = self._judge.refusal(model, event.at_mono)
        if refusal is not None:
            return [Refuse(event.request, refusal)]
        request = Request(event.request, model, event.at_mono, event.reason)
        self._book.admit(request)
        if model in self._clear:
            return [self._serve(request)]
        commands: list[Command] = []
        if not self._try(request, self._judge.sight(event.at_mono), commands):
            self._book.enqueue(request)
            commands += self._positions()
            commands += self._wake(event.at_mono + self._fences.patience.seconds(model))
        return commands

    def _forget(self, event: RequestGone) -> list[Command]:
        request = self._book.find(event.request)
        if request is None:
            return []
        self._book.last_used_mono[request.model] = event.at_mono
        if self._book.is_in_flight(request):
            self._book.release(request)
            if self._book.in_flight(request.model):
                return []
            return self._retire(event.at_mono) + self._review(event.at_mono)
        commands: list[Command] = []
        swap = self._swap_to.get(request.model)
        if swap is not None and request.id in swap.waiters:
            del swap.waiters[request.id]
            # A load that was ordered as such is stopped by its orderer; others run to their end.
            if not swap.waiters and swap.reason is SwapReason.USER:
                commands += swap.cancel()
        else:
            self._book.take_waiting(lambda r: r is request)
        self._book.release(request)
        return commands + self._review(event.at_mono)

    def _swap_starting(self, event: SwapStarting) -> list[Command]:
        swap = self._swaps.get(event.swap)
        if swap is None:
            return []
        swap.starting_mono = event.at_mono
        self._clear.clear()
        return []

    def _swap_finished(self, event: SwapFinished) -> list[Command]:
        swap = self._swaps.pop(event.swap, None)
        if swap is None:
            return []
        self._swap_to.pop(swap.target)
        self._clear.clear()
        error = event.error
        if error is None and self._running.is_over(swap.target, event.generation):
            error = ModelUnloadedError(f"[{swap.target}] process is not ready")
        outcome = swap.outcome(event.at_mono, error)
        commands: list[Command] = [Announce(swap.record(event.at_mono, outcome, error))]
        self._rules.backoff.swap_ended(swap.target, error, event.at_mono)
        if pause := self._rules.backoff.refusal(swap.target, event.at_mono):
            commands += self._refuse_all(self._book.take_waiting(lambda r: r.model == swap.target), pause)
        if error is not None:
            # A swap that ended before it touched its target leaves the target as it was.
            if not swap.is_evicting:
                self._running.lose((swap.target,))
            commands += self._refuse_all(list(swap.waiters.values()), error)
        elif not self._departures.holds(swap.target):
            self._running.came_up(swap.target, event.generation, event.at_mono)
            commands += [self._serve(waiter) for waiter in swap.waiters.values()]
        view = self._judge.view(event.at_mono)
        commands += self._rules.tell("swap_finished", lambda p: p.swap_finished(view, swap.view(), outcome))
        return commands + self._review(event.at_mono)

    def _unload(self, event: UnloadAsked) -> list[Command]:
        error = ModelUnloadedError(f"unspecific error: {self._rules.planner_name}: model unloaded")
        commands = self._give_up(event.models, error, event.at_mono)
        self._hold(event.unload, event.models)
        commands.append(Unload(event.unload, event.models, event.reason))
        return commands + self._review(event.at_mono)

    def _idle(self, event: IdleExpired) -> list[Command]:
        up = self._up.get(event.model)
        if up is None or up.generation != event.generation:
            return []
        if self._book.reserved(event.model) or event.model in self._swap_to:
            return []
        models = frozenset({event.model})
        self._hold(event.unload, models)
        return [Unload(event.unload, models, StopReason.IDLE_TIMEOUT)]

    def _hold(self, unload: UnloadId, models: frozenset[ModelId]) -> None:
        self._departures.begin_unload(unload, models)
        self._running.lose(models)
        self._clear.clear()

    def _unload_finished(self, event: UnloadFinished) -> list[Command]:
        if not self._departures.end_unload(event.unload):
            return []
        self._clear.clear()
        return self._review(event.at_mono)

    def _exited_by_itself(self, event: ProcessExited) -> list[Command]:
        if event.model not in self._rules.facts or not self._running.exited(event.model, event.generation):
            return []
        self._clear.clear()
        return self._review(event.at_mono)

    def _shut_down(self, event: ShutdownBegan) -> list[Command]:
        self._judge.is_shutting_down = True
        self._clear.clear()
        error = ShuttingDownError("llama-swap is shutting down")
        commands = self._give_up(self._rules.facts, error, event.at_mono)
        return [*commands, *self._fences.lift(event.at_mono, all_of_them=True)]

    def _give_up(self, models: Container[ModelId], error: LlamaSwapError, now: float) -> list[Command]:
        """Cancel the swaps to these models, and refuse everybody who waits for them."""
        commands: list[Command] = []
        for swap in self._swaps.values():
            if swap.target in models:
                if swap.waiters:
                    commands.append(Announce(swap.record(now)))
                commands += self._refuse_all(swap.give_up_waiters(now), error)
                commands += swap.cancel()
        return commands + self._refuse_all(self._book.take_waiting(lambda r: r.model in models), error)

    # ----------------------------------------------------------------- reload

    def _reconfigure(self, event: Reconfigured) -> list[Command]:
        if self._judge.is_shutting_down:
            return []
        commands: list[Command] = [*self._fences.lift(event.at_mono, all_of_them=True)]
        self._fences.patience = event.patience
        leaving = {*event.restarted, *event.removed}
        self._rules.backoff.change(event.backoff, leaving)
        waiters: list[Request] = []
        for swap in self._swaps.values():
            if swap.target in leaving:
                waiters += swap.take_waiters()
                commands += swap.cancel(StopReason.RELOAD)
        self._book.queue[:0] = sorted(waiters, key=lambda r: r.admitted_mono)
        gone = self._book.take_waiting(lambda r: r.model in event.removed)
        commands += self._refuse_all(gone, ModelNotFoundError("model removed by configuration reload"))
        self._departures.removed = (self._departures.removed | event.removed) - event.facts.keys()
        rules = self._rules
        leftover = {model: rules.facts[model] for model in self._departures.removed}
        rules.facts, rules.planner, rules.planner_name = {**event.facts, **leftover}, event.planner, event.planner_name
        self._book.reconfigure(rules.facts)
        if event.enforces:
            now = event.at_mono
            commands += rules.tell("plan", lambda p: leaving.update(forbidden_idle(p, self._judge.view(now))))
        self._departures.retire(leaving, event.at_mono + event.drain_seconds)
        self._running.lose(leaving)
        self._clear.clear()
        return commands + self._retire(event.at_mono) + self._review(event.at_mono)

    def _retire(self, now: float) -> list[Command]:
        return [*self._departures.take_due(now, self._book.in_flight)]

    def _dismiss(self) -> list[Command]:
        """Forget removed models of which nothing is left."""
        gone = self._departures.take_gone(lambda m: m in self._swap_to or self._book.reserved(m))
        for model in gone:
            self._book.forget(model)
            self._rules.facts = {m: facts for m, facts in self._rules.facts.items() if m != model}
            self._running.forget(model)
            self._clear.clear()
        return [Dismiss(model) for model in gone]

    # ----------------------------------------------------------------- decisions

    def _try(self, request: Request, sight: Sight, commands: list[Command]) -> bool:
        """Serve, join, swap or refuse if that is possible now; ``False`` = it has to wait."""
        verdict = self._judge.look(request.model, sight)
        match verdict.way:
            case Way.JOIN:
                self._swap_to[request.model].waiters[request.id] = request
            case Way.SERVE:
                self._clear.add(request.model)
                commands.append(self._serve(request))
            case Way.START:
                commands += self._begin_swap(request, verdict.evict(), sight.now)
            case Way.REFUSE:
                commands += [*verdict.complaints(), *self._refuse_all([request], verdict.refusal())]
            case Way.WAIT:
                commands += self._wake(verdict.recheck_mono)
                return False
            case _:
                assert_never(verdict.way)
        return True

    def _begin_swap(self, request: Request, decision: Evict, now: float) -> list[Command]:
        evicted = costs(decision.models, self._rules.facts)
        number, planner = self._numbers.take(), self._rules.planner_name
        swap = ActiveSwap(number, request.model, decision, planner, evicted, request, now)
        swap.waiters[request.id] = request
        self._swaps[swap.id] = self._swap_to[request.model] = swap
        self._running.lose(decision.models)
        self._clear.clear()
        complaints = self._rules.tell("swap_started", lambda p: p.swap_started(self._judge.view(now), swap.view()))
        return [Announce(swap.record(now)), swap.command(), *complaints]

    def _review(self, now: float) -> list[Command]:
        """Look at the whole queue again; what is blocked keeps its place and blocks nobody."""
        if not (self._book.queue or self._fences.standing):
            return []
        commands: list[Command] = []
        while True:
            commands += [*self._fences.lift(now), *self._fences.update(self._judge.sight(now))]
            for fence in self._fences.standing.values():
                self._clear -= fence.holds
            commands += self._walk(now)
            lifted = self._fences.lift(now)
            if not lifted:
                break
            commands += lifted
        return [*commands, *self._fences.drain(now), *self._positions(), *self._wake(self._fences.next_mono(now))]

    def _walk(self, now: float) -> list[Command]:
        """Try everybody in the queue: whose turn it is, then the others in order."""
        commands: list[Command] = []
        done: set[RequestId] = set()
        # Within one walk things only get scarcer, so a model that was blocked once stays blocked.
        blocked: set[ModelId] = set()
        sight = self._judge.sight(now)
        for request in sorted(self._book.queue, key=lambda r: r.model not in self._fences.standing):
            if request.model in self._clear:
                commands.append(self._serve(request))
            elif request.model in blocked or not self._try(request, sight, commands):
                blocked.add(request.model)
                continue
            done.add(request.id)
            sight = self._judge.sight(now)
        self._book.take_waiting(lambda r: r.id in done)
        return commands

    def _positions(self) -> list[Command]:
        return [Position(request.id, request.position) for request in self._book.moved()]

    def _serve(self, request: Request) -> Serve:
        self._book.serve(request)
        return Serve(request.id, request.model, self._up[request.model].generation)

    def _refuse_all(self, requests: list[Request], error: LlamaSwapError) -> list[Command]:
        for request in requests:
            self._book.release(request)
        return [Refuse(request.id, error) for request in requests]
