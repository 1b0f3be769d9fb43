"""Carries out what the scheduler decides; the only caller of ``Scheduler.handle``.

Everything that happens becomes an event in one mailbox and is handled one at a time, each event's
commands before the next event (:meth:`Router.tell`). A command may cause events in the same turn,
as a granted request does that fails at once: they are appended, never handled recursively.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Mapping
from itertools import count
from typing import ClassVar, Generic, TypeVar, assert_never

from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from llamaswap.config.schema import ModelConfig
from llamaswap.core.fences import Fence
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
    Tick,
    Unload,
    UnloadAsked,
    UnloadFinished,
    WakeAt,
)
from llamaswap.core.news import StateChanged, SwapNoted
from llamaswap.core.records import Waiting, WhatIf
from llamaswap.core.scheduler import Scheduler
from llamaswap.core.snapshot import UpstreamSnapshot
from llamaswap.core.values import Generation, ModelId, ProcessState, RequestId, StopReason, SwapReason, UnloadId
from llamaswap.errors import LlamaSwapError, NotReadyError
from llamaswap.loan import Loan
from llamaswap.runner import Runner, Supervisor
from llamaswap.waiter import PoolT, Waiter

SupervisorT = TypeVar("SupervisorT", bound=Supervisor)


class Router(Generic[SupervisorT, PoolT]):
    """Turns grants into forwarding and swaps into stops and starts; see the module's text.

    Args:
        scheduler: Decides; nobody else may call it.
        clock: Gives the time of each event.
        make_pool: Makes the connections of a generation that became ready.
        on_dismissed: Called when nothing is left of a model that was removed.
        publish: Told of changes, see :mod:`llamaswap.core.news`.
    """

    _log: ClassVar[Logger] = Logger()

    def __init__(
        self,
        scheduler: Scheduler,
        clock: IReactorTime,
        make_pool: Callable[[SupervisorT], PoolT],
        on_dismissed: Callable[[ModelId], object] = lambda _: None,
        publish: Callable[[object], object] = lambda _: None,
    ) -> None:
        self._scheduler = scheduler
        self._clock = clock
        self._make_pool = make_pool
        self._on_dismissed = on_dismissed
        self._publish = publish
        self._upstreams: dict[ModelId, SupervisorT] = {}
        self._dismissed: set[SupervisorT] = set()
        self._runner = Runner(self.tell, clock)
        self._pools: dict[ModelId, tuple[Generation, PoolT]] = {}
        self._waiters: dict[RequestId, tuple[ModelId, Waiter[PoolT]]] = {}
        self._unloads: dict[UnloadId, Deferred[None]] = {}
        self._idle: list[Deferred[None]] = []
        self._mailbox: deque[Event] = deque()
        self._is_draining = False
        self._wake: IDelayedCall | None = None
        self._request_ids = count(1)
        self._unload_ids = count(1)

    def adopt(self, upstreams: Mapping[ModelId, SupervisorT]) -> None:
        """Take the first supervisors, which were made with this router as their listener; called once."""
        self._upstreams.update(upstreams)
        self._runner.adopt(self._upstreams)

    @property
    def supervisors(self) -> Mapping[ModelId, SupervisorT]:
        """The supervisors of all models of which there is anything, removed ones included."""
        return self._upstreams

    def reconfigure(self, upstreams: Mapping[ModelId, SupervisorT], event: Reconfigured) -> None:
        """Follow another configuration.

        Args:
            upstreams: Every configured model's supervisor, the known ones where there are any.
            event: What has changed.
        """
        self._upstreams.update(upstreams)
        self.tell(event)
        for model, (_, pool) in self._pools.items():
            pool.timeouts = self._upstreams[model].config.timeouts

    def _dismiss(self, model: ModelId) -> None:
        upstream = self._upstreams.pop(model)
        self._dismissed.add(upstream)
        # Nothing is up any more, but what a crash left behind may still be ending.
        gone = upstream.shut_down(float(upstream.config.unload_timeout_seconds))
        gone.addCallback(lambda _: self._dismissed.discard(upstream))
        self._on_dismissed(model)

    # ----------------------------------------------------------------- requests

    def enter(self, model: ModelId, waiter: Waiter[PoolT], reason: SwapReason = SwapReason.REQUEST) -> RequestId:
        """Ask for a model.

        Args:
            model: A configured local model's id.
            waiter: Gets its ``request_id``, then is granted or refused once, perhaps before this returns.
            reason: On whose behalf.

        Returns:
            The ``request_id``, to :meth:`leave` with.
        """
        waiter.request_id = request = RequestId(next(self._request_ids))
        self._waiters[request] = (model, waiter)
        self.tell(Arrived(request, model, self._clock.seconds(), reason))
        return request

    def leave(self, request: RequestId) -> None:
        """End a request, whatever its end was; idempotent."""
        entry = self._waiters.pop(request, None)
        if entry is None:
            return
        upstream = self._upstreams.get(entry[0])
        if upstream is not None:
            upstream.touch()
        self.tell(RequestGone(request, self._clock.seconds()))
        if not self._waiters:
            waiting, self._idle = self._idle, []
            for waiter in waiting:
                waiter.callback(None)

    def borrow(self, model: ModelId, reason: SwapReason) -> Loan:
        """Ask for a model on our own behalf, in line with everybody else."""
        loan = Loan(self.leave)
        self.enter(model, loan, reason)
        return loan

    def unload(self, models: Collection[ModelId], reason: StopReason = StopReason.USER) -> Deferred[None]:
        """Stop models at once: what waits for them is refused, what they serve is cut.

        Returns:
            Fires with ``None`` when all of them are stopped; never fails. Cancelling only stops listening.
        """
        unload = UnloadId(next(self._unload_ids))
        done: Deferred[None] = Deferred(lambda _: self._forget_unload(unload))
        self._unloads[unload] = done
        self.tell(UnloadAsked(unload, frozenset(models), self._clock.seconds(), reason))
        return done

    def _forget_unload(self, unload: UnloadId) -> None:
        self._unloads.pop(unload, None)

    def snapshots(self) -> list[UpstreamSnapshot]:
        """Describe every model's process at this moment, sorted by model."""
        return [self._upstreams[model].snapshot() for model in sorted(self._upstreams)]

    def resident_bytes(self, model: ModelId) -> Deferred[int | None]:
        """Measure the host memory of a model's process; fires with ``None`` when it is unknown, never fails."""
        return self._upstreams[model].resident_bytes()

    def state(self, model: ModelId) -> ProcessState:
        """Give the state of a configured model, for display and advice only."""
        return self._upstreams[model].state

    def config_of(self, model: ModelId) -> ModelConfig:
        """Give the configuration of a model; of a removed one, its last."""
        return self._upstreams[model].config

    def reserved(self, model: ModelId) -> tuple[int, int]:
        """Count the requests of a configured model: those that wait, and those in flight."""
        return self._scheduler.queries.reserved(model)

    def ready_pool(self, model: ModelId) -> PoolT | None:
        """Give the connections of a model that is ready, for what is neither counted nor waited for."""
        entry = self._pools.get(model)
        return entry[1] if entry is not None else None

    def waiting(self) -> list[Waiting]:
        """Say who waits for what: first those of swaps under way, then the queue in order."""
        return list(self._scheduler.queries.waiting(self._clock.seconds()))

    def fences(self) -> list[Fence]:
        """Say for whom others have to wait, because they have waited for too long."""
        return self._scheduler.queries.fences()

    def what_if(self, model: ModelId) -> WhatIf:
        """Say what a request for a configured model would cause; nothing changes."""
        return self._scheduler.queries.what_if(model, self._clock.seconds())

    # ----------------------------------------------------------------- the end

    def begin_shutdown(self) -> None:
        """Refuse everything that waits and everything new; abort starts; let go on what is in flight."""
        self.tell(ShutdownBegan(self._clock.seconds()))
        if self._wake is not None and self._wake.active():
            self._wake.cancel()

    def drained(self) -> Deferred[None]:
        """Give a Deferred that fires with ``None`` when no request is left; never fails; may be cancelled."""
        done: Deferred[None] = Deferred(self._forget_idle)
        if self._waiters:
            self._idle.append(done)
        else:
            done.callback(None)
        return done

    def _forget_idle(self, waiter: Deferred[None]) -> None:
        if waiter in self._idle:
            self._idle.remove(waiter)

    def stop_all(self, grace_seconds: float) -> Deferred[None]:
        """End every process for good, in parallel.

        Args:
            grace_seconds: From asking to killing, at most; above 0. A model's own ``unloadTimeout`` may be shorter.

        Returns:
            Fires with ``None`` when all are gone; never fails.
        """
        stops = [
            # Who obeys within its own time is not waited for longer: service managers are impatient.
            upstream.shut_down(min(grace_seconds, float(upstream.config.unload_timeout_seconds)))
            for upstream in (*self._upstreams.values(), *self._dismissed)
        ]
        return gatherResults(stops).addCallback(lambda _: None)

    # ----------------------------------------------------------------- news from the supervisors

    def state_changed(
        self,
        model: ModelId,
        generation: Generation,
        old: ProcessState,
        new: ProcessState,
        reason: StopReason | None,
    ) -> None:
        """See :class:`llamaswap.process.upstream.UpstreamEvents`."""
        self._log.debug(
            "{model}: {old} -> {new}",
            model=model,
            generation=generation,
            old=old.value,
            new=new.value,
            reason=reason,
        )
        if new is ProcessState.READY:
            self._pools[model] = (generation, self._make_pool(self._upstreams[model]))
        elif old is ProcessState.READY and model in self._pools:
            self._close(model, self._pools.pop(model)[1])
        self._publish(StateChanged(model, generation, old, new, reason, self._clock.seconds()))

    def _close(self, model: ModelId, pool: PoolT) -> None:
        try:
            pool.close()
        except Exception:  # noqa: BLE001 - a bug in one request's code must not keep the process from ending
            self._log.failure("could not close the connections to {model}", model=model)

    def process_exited(self, model: ModelId, generation: Generation) -> None:
        """See :class:`llamaswap.process.upstream.UpstreamEvents`."""
        self.tell(ProcessExited(model, generation, self._clock.seconds()))

    def idle_expired(self, model: ModelId, generation: Generation) -> None:
        """See :class:`llamaswap.process.upstream.UpstreamEvents`."""
        self.tell(IdleExpired(UnloadId(next(self._unload_ids)), model, generation, self._clock.seconds()))

    # ----------------------------------------------------------------- the trampoline

    def tell(self, event: Event) -> None:
        """Put an event into the mailbox, and handle all there is unless that goes on already."""
        self._mailbox.append(event)
        if self._is_draining:
            return
        self._is_draining = True
        try:
            while self._mailbox:
                event = self._mailbox.popleft()
                try:
                    commands = self._scheduler.handle(event)
                except Exception:  # noqa: BLE001 - a bug, perhaps a planner's, must not lose the events behind this one
                    commands = self._broken(event)
                for command in commands:
                    self._perform_guarded(command)
        finally:
            self._is_draining = False

    def _broken(self, event: Event) -> list[Command]:
        self._log.failure("could not handle {kind}", kind=type(event).__name__)
        # Its end, which follows, takes its reservation away.
        return [Refuse(event.request, LlamaSwapError("internal error"))] if isinstance(event, Arrived) else []

    def _perform_guarded(self, command: Command) -> None:
        try:
            self._perform(command)
        except Exception:  # noqa: BLE001 - a bug in one request's code must not lose the commands of others
            self._log.failure("could not perform {command}", command=command)
            if isinstance(command, Serve):
                self._perform_guarded(Refuse(command.request, LlamaSwapError("internal error")))
            if isinstance(command, Serve | Refuse):
                self.leave(command.request)

    def _perform(self, command: Command) -> None:  # noqa: C901, PLR0912 - one case for each command
        match command:
            case Serve():
                self._serve(command)
            case Refuse():
                entry = self._waiters.get(command.request)
                if entry is not None:
                    entry[1].refused(command.error)
            case Position():
                entry = self._waiters.get(command.request)
                if entry is not None:
                    entry[1].moved(command.position)
            case EndTunnel():
                entry = self._waiters.get(command.request)
                if entry is not None:
                    entry[1].end_tunnel()
            case Swap():
                self._runner.swap(command)
            case CancelSwap():
                self._runner.cancel(command)
            case Unload():
                self._runner.unload(command).addCallback(self._unloaded, command.unload)
            case WakeAt():
                self._wake_at(command.at_mono)
            case Dismiss():
                self._dismiss(command.model)
            case Announce(record):
                self._publish(SwapNoted(record, self._clock.seconds()))
            case Fenced():
                self._say_fenced(command)
            case Complain(call, fault):
                self._log.failure("the planner failed in {call}", Failure(fault), call=call)
            case _:
                assert_never(command)

    def _say_fenced(self, command: Fenced) -> None:
        self._log.info(
            "{model} has waited for {seconds:.0f} s: it comes before {others} now"
            if command.is_raised
            else "{model} has had its turn after {seconds:.1f} s",
            model=command.model,
            seconds=command.seconds,
            others=", ".join(sorted(command.holds)) or "others",
        )
        self._publish(command)

    def _serve(self, command: Serve) -> None:
        entry = self._waiters.get(command.request)
        if entry is None:
            return  # it left; its RequestGone is in the mailbox
        generation, pool = self._pools.get(command.model, (Generation(-1), None))
        if pool is None or generation != command.generation:
            # It vanished in this very turn. Say so once more, lest the core believes in it.
            self.tell(ProcessExited(command.model, command.generation, self._clock.seconds()))
            entry[1].refused(NotReadyError(command.model))
            return
        entry[1].granted(pool)

    def _unloaded(self, _: None, unload: UnloadId) -> None:
        self.tell(UnloadFinished(unload, self._clock.seconds()))
        done = self._unloads.pop(unload, None)
        if done is not None:
            done.callback(None)

    def _wake_at(self, at_mono: float) -> None:
        if self._wake is not None and self._wake.active():
            self._wake.cancel()
        delay = max(0.0, at_mono - self._clock.seconds())
        self._wake = self._clock.callLater(delay, lambda: self.tell(Tick(self._clock.seconds())))
