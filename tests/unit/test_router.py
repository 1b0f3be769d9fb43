"""The router: commands carried out, one event at a time, with one end per request."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any
from unittest import mock

from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock
from twisted.logger import capturedLogs

from llamaswap.config.schema import ModelConfig, Timeouts
from llamaswap.core.messages import Fenced, Reconfigured
from llamaswap.core.news import StateChanged, SwapNoted
from llamaswap.core.patience import Patience
from llamaswap.core.scheduler import Scheduler
from llamaswap.core.snapshot import UpstreamSnapshot
from llamaswap.core.values import (
    Evict,
    Generation,
    ModelFacts,
    ModelId,
    OutcomeKind,
    ProcessState,
    RequestId,
    StopReason,
    SwapReason,
    Wait,
)
from llamaswap.errors import (
    LlamaSwapError,
    ModelUnloadedError,
    NotReadyError,
    ShuttingDownError,
    UpstreamStartError,
)
from llamaswap.planners.group import factory
from llamaswap.router import Router
from tests.deferreds import failure_of, no_result, success_of
from tests.unit.scheduler_world import groups

A, B = ModelId("a"), ModelId("b")


@dataclass(eq=False)
class FakePool:
    """Connections of one generation."""

    model: ModelId
    generation: int
    is_closed: bool = False
    timeouts: Timeouts = field(default_factory=Timeouts)
    on_close: list[Callable[[], None]] = field(default_factory=list)

    def close(self) -> None:
        """Cut what is under way."""
        self.is_closed = True
        for call in self.on_close:
            call()


class FakeSupervisor:
    """A supervisor whose process does what the test says; the calls land in a shared transcript."""

    def __init__(self, model: ModelId, router: Router[Any, Any], transcript: list[str]) -> None:
        self.config = ModelConfig(id=model, unload_timeout_seconds=7)
        self.model = model
        self.state = ProcessState.STOPPED
        self.generation = 0
        self.touched = 0
        self.starts: list[Deferred[Generation]] = []
        self.stops: list[Deferred[None]] = []
        self.leftover: Deferred[None] | None = None
        self._router = router
        self._transcript = transcript

    def ensure_ready(self) -> Deferred[Generation]:
        """Record the call."""
        self._transcript.append(f"start {self.model}")
        done: Deferred[Generation] = Deferred()
        if self.state is ProcessState.READY:
            done.callback(Generation(self.generation))
            return done
        if self.state is not ProcessState.STARTING:
            self.generation += 1
            self.become(ProcessState.STARTING)
        self.starts.append(done)
        return done

    def stop(self, grace_seconds: float, reason: StopReason) -> Deferred[None]:
        """Record the call; nothing to stop fires at once."""
        self._transcript.append(f"stop {self.model} {grace_seconds:g} {reason.value}")
        done: Deferred[None] = Deferred()
        if self.state is ProcessState.STOPPED:
            done.callback(None)
            return done
        self.become(ProcessState.STOPPING)
        starts, self.starts = self.starts, []
        for start in starts:
            start.errback(ModelUnloadedError("aborted"))
        self.stops.append(done)
        return done

    def leftover_gone(self) -> Deferred[None]:
        """Nothing, unless the test says so."""
        return self.leftover or succeed(None)

    def shut_down(self, grace_seconds: float) -> Deferred[None]:
        """Record the call."""
        self._transcript.append(f"shut down {self.model} {grace_seconds:g}")
        self.become(ProcessState.SHUTDOWN)
        done: Deferred[None] = Deferred()
        done.callback(None)
        return done

    def touch(self) -> None:
        """Count the call."""
        self.touched += 1

    def snapshot(self) -> UpstreamSnapshot:
        """Describe it."""
        return UpstreamSnapshot(self.model, self.state, self.generation)

    def resident_bytes(self) -> Deferred[int | None]:
        """Know it, in a manner of speaking."""
        return succeed(self.generation)

    def become(self, new: ProcessState) -> None:
        """Change the state and say so."""
        old, self.state = self.state, new
        if old is not new:
            self._router.state_changed(self.model, Generation(self.generation), old, new, None)

    def ready(self) -> None:
        """Let the start succeed."""
        self.become(ProcessState.READY)
        starts, self.starts = self.starts, []
        for start in starts:
            start.callback(Generation(self.generation))

    def fail(self, message: str) -> None:
        """Let the start fail."""
        self.become(ProcessState.STOPPED)
        starts, self.starts = self.starts, []
        for start in starts:
            start.errback(UpstreamStartError(message))

    def stopped(self) -> None:
        """Let the stop be done."""
        self.become(ProcessState.STOPPED)
        stops, self.stops = self.stops, []
        for stop in stops:
            stop.callback(None)


class FakeWaiter:
    """A client: records what it hears, and leaves when it is told to."""

    def __init__(self, router: Router[Any, Any], *, leaves_at_once: bool = False) -> None:
        self.request_id = RequestId(0)
        self.heard: list[Any] = []
        self._router = router
        self._leaves_at_once = leaves_at_once

    def granted(self, pool: FakePool) -> None:
        """Take a grant."""
        self.heard.append(pool)
        pool.on_close.append(self.leave)
        if self._leaves_at_once:
            self.leave()

    def refused(self, error: LlamaSwapError) -> None:
        """Take a refusal, which ends the request."""
        self.heard.append(error)
        self.leave()

    def moved(self, position: int) -> None:
        """Take a position."""
        self.heard.append(position)

    def end_tunnel(self) -> None:
        """Take note that a tunnel must end now."""
        self.heard.append("end")

    def leave(self) -> None:
        """End the request."""
        self._router.leave(self.request_id)


class Rig:
    """A router over fake supervisors of models in one exclusive group."""

    def __init__(self, *models: ModelId, limit: int = 10, layout: Mapping[str, Any] | None = None) -> None:
        facts = {m: ModelFacts(m, limit=limit) for m in models}
        self.planner = factory.build(layout or groups(g=list(models)), facts)
        self.clock = Clock()
        self.scheduler = Scheduler(facts, self.planner, "group")
        self.pools: list[FakePool] = []
        self.dismissed: list[ModelId] = []
        self.news: list[Any] = []
        self.router: Router[FakeSupervisor, FakePool] = Router(
            self.scheduler, self.clock, self._make_pool, self.dismissed.append, self.news.append
        )
        self.transcript: list[str] = []
        self.upstreams = {m: FakeSupervisor(m, self.router, self.transcript) for m in models}
        self.router.adopt(self.upstreams)

    def _make_pool(self, upstream: FakeSupervisor) -> FakePool:
        self.pools.append(FakePool(upstream.model, upstream.generation))
        return self.pools[-1]

    def ask(self, model: ModelId, *, leaves_at_once: bool = False) -> FakeWaiter:
        """Let a client come."""
        waiter = FakeWaiter(self.router, leaves_at_once=leaves_at_once)
        self.router.enter(model, waiter)
        return waiter

    def up(self, model: ModelId) -> FakeWaiter:
        """Let a client come, and its model up."""
        waiter = self.ask(model)
        self.upstreams[model].ready()
        return waiter


def test_a_cold_request_starts_its_model_and_gets_the_connections_of_that_generation() -> None:
    rig = Rig(A)
    waiter = rig.up(A)
    assert rig.transcript == ["start a"]
    assert waiter.heard == [FakePoolOf(A, 1)]


class FakePoolOf:
    """Equal to any pool of this model and generation."""

    def __init__(self, model: ModelId, generation: int) -> None:
        self._is = (model, generation)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, FakePool) and (other.model, other.generation) == self._is

    def __hash__(self) -> int:
        return hash(self._is)

    def __repr__(self) -> str:
        return f"<pool of {self._is}>"


def test_fifty_concurrent_cold_requests_start_their_model_once() -> None:
    rig = Rig(A, limit=50)
    waiters = [rig.ask(A) for _ in range(50)]
    rig.upstreams[A].ready()
    assert rig.transcript == ["start a"]
    assert all(w.heard == [FakePoolOf(A, 1)] for w in waiters)


def test_a_swap_stops_first_with_the_models_own_grace_and_then_starts() -> None:
    rig = Rig(A, B)
    rig.up(A).leave()
    waiter = rig.ask(B)
    assert rig.transcript == ["start a", "stop a 7 swap"]
    rig.upstreams[A].stopped()
    assert rig.transcript[-1] == "start b"
    rig.upstreams[B].ready()
    assert waiter.heard[-1] == FakePoolOf(B, 1)


def test_a_swap_waits_for_what_is_left_of_a_leader_that_crashed() -> None:
    rig = Rig(A, B)
    rig.up(A).leave()
    rest: Deferred[None] = Deferred()
    rig.upstreams[A].leftover = rest
    rig.upstreams[A].become(ProcessState.STOPPED)
    rig.router.process_exited(A, Generation(1))
    rig.ask(B)
    assert rig.transcript == ["start a"]
    rest.callback(None)
    assert rig.transcript == ["start a", "start b"]


def test_leaving_ready_closes_the_connections_of_the_generation() -> None:
    rig = Rig(A, B)
    rig.up(A).leave()
    rig.ask(B)
    assert rig.pools[0].is_closed


def test_a_failed_start_is_told_with_the_words_that_clients_look_for() -> None:
    rig = Rig(A)
    waiter = rig.ask(A)
    rig.upstreams[A].fail("upstream command exited prematurely")
    (error,) = waiter.heard
    assert isinstance(error, UpstreamStartError)
    assert error.message == "unspecific error: upstream command exited prematurely"


def test_a_request_for_a_ready_model_makes_no_deferred_and_asks_no_planner() -> None:
    rig = Rig(A)
    rig.up(A)
    rig.ask(A)
    with (
        mock.patch.object(Deferred, "__init__", side_effect=AssertionError("a Deferred was made")),
        mock.patch.object(type(rig.planner), "plan", side_effect=AssertionError("the planner was asked")),
        mock.patch.object(rig.clock, "callLater", side_effect=AssertionError("a timer was set")),
    ):
        waiter = rig.ask(A)
        waiter.leave()
    assert waiter.heard == [FakePoolOf(A, 1)]


def test_h57_clients_that_end_in_the_grant_are_not_handled_recursively() -> None:
    rig = Rig(A, B)
    order: list[str] = []
    handle = rig.scheduler.handle

    def noting(event: Any) -> Any:
        order.append(type(event).__name__)
        return handle(event)

    class Brief(FakeWaiter):
        def granted(self, pool: FakePool) -> None:
            order.append("granted")
            super().granted(pool)

    with mock.patch.object(rig.scheduler, "handle", noting):
        clients = [Brief(rig.router, leaves_at_once=True) for _ in range(5)]
        for client in clients:
            rig.router.enter(A, client)
        rival = rig.ask(B)
        order.clear()
        rig.upstreams[A].ready()
        assert order == ["SwapFinished", *["granted"] * 5, *["RequestGone"] * 5]
        rig.upstreams[A].stopped()
        rig.upstreams[B].ready()
    assert all(len(c.heard) == 1 for c in clients)
    assert rival.heard[-1] == FakePoolOf(B, 1)


def test_h39_a_client_gone_in_the_turn_of_its_grant_does_not_block_its_rival() -> None:
    rig = Rig(A, B)
    client = rig.ask(A)
    rival = rig.ask(B)
    client.leave()
    rig.upstreams[A].ready()
    rig.upstreams[A].stopped()
    rig.upstreams[B].ready()
    assert client.heard == []
    assert rival.heard[-1] == FakePoolOf(B, 1)


def test_h40_leaving_twice_counts_once() -> None:
    rig = Rig(A)
    waiter = rig.up(A)
    waiter.leave()
    waiter.leave()
    assert rig.upstreams[A].touched == 1


def test_a_client_that_leaves_the_queue_never_loads_its_model() -> None:
    rig = Rig(A, B)
    running = rig.up(A)
    rig.ask(B).leave()
    running.leave()
    assert rig.transcript == ["start a"]


def test_a_process_that_vanished_before_the_grant_is_refused_and_then_started_again() -> None:
    rig = Rig(A)
    rig.up(A).leave()
    rig.router._pools.clear()  # as if it had vanished in this very turn
    rig.upstreams[A].state = ProcessState.STOPPED
    refused = rig.ask(A)
    assert [type(h) for h in refused.heard] == [NotReadyError]
    again = rig.up(A)
    assert again.heard == [FakePoolOf(A, 2)]


def test_a_bug_in_one_clients_code_ends_that_request_alone(logged_failures: Any) -> None:
    rig = Rig(A)

    class Broken(FakeWaiter):
        def granted(self, pool: FakePool) -> None:
            raise ZeroDivisionError

    broken = Broken(rig.router)
    rig.router.enter(A, broken)
    healthy = rig.up(A)
    [error] = broken.heard
    assert error.message == "internal error", "its client is not left waiting"
    assert healthy.heard == [FakePoolOf(A, 1)]
    assert len(logged_failures.flush(ZeroDivisionError)) == 1
    healthy.leave()
    assert success_of(rig.router.drained()) is None


def test_a_bug_in_a_planner_refuses_its_request_alone_and_keeps_no_reservation(logged_failures: Any) -> None:
    rig = Rig(A, limit=1)
    with mock.patch.object(type(rig.planner), "plan", side_effect=ZeroDivisionError):
        waiter = rig.ask(A)
    (error,) = waiter.heard
    assert isinstance(error, LlamaSwapError)
    assert (error.status, error.message) == (500, "internal error")
    assert len(logged_failures.flush(ZeroDivisionError)) == 1
    assert rig.router.reserved(A) == (0, 0)
    assert success_of(rig.router.drained()) is None
    assert rig.up(A).heard == [FakePoolOf(A, 1)]


def test_events_behind_one_whose_handling_broke_are_still_handled(logged_failures: Any) -> None:
    rig = Rig(A)
    later: list[FakeWaiter] = []
    handle = rig.scheduler.handle

    def breaking(event: Any) -> Any:
        if not later:
            later.append(rig.ask(A))  # lands in the mailbox, behind this one
            raise ZeroDivisionError
        return handle(event)

    with mock.patch.object(rig.scheduler, "handle", breaking):
        rig.router.process_exited(A, Generation(1))
    assert len(logged_failures.flush(ZeroDivisionError)) == 1
    rig.upstreams[A].ready()
    assert later[0].heard == [FakePoolOf(A, 1)]


def test_unload_answers_when_all_are_stopped_and_cuts_what_is_in_flight() -> None:
    rig = Rig(A)
    waiter = rig.up(A)
    done = rig.router.unload([A])
    no_result(done)
    assert rig.pools[0].is_closed
    assert waiter.heard == [FakePoolOf(A, 1)]
    rig.upstreams[A].stopped()
    success_of(done)
    assert rig.transcript == ["start a", "stop a 7 user"]


def test_h49_unload_of_a_model_whose_swap_still_evicts_never_starts_it() -> None:
    rig = Rig(A, B)
    rig.up(A).leave()
    waiter = rig.ask(B)
    unloaded = rig.router.unload([B])
    rig.upstreams[A].stopped()
    success_of(unloaded)
    assert isinstance(waiter.heard[-1], ModelUnloadedError)
    assert "start b" not in rig.transcript


def test_h02_unload_during_a_start_aborts_it() -> None:
    rig = Rig(A)
    waiter = rig.ask(A)
    unloaded = rig.router.unload([A])
    assert isinstance(waiter.heard[-1], ModelUnloadedError)
    no_result(unloaded)
    rig.upstreams[A].stopped()
    success_of(unloaded)
    assert rig.router.state(A) is ProcessState.STOPPED


def test_h01_a_request_while_its_model_is_stopping_waits_and_starts_it_again() -> None:
    rig = Rig(A)
    rig.up(A).leave()
    rig.router.unload([A])
    waiter = rig.ask(A)
    assert waiter.heard == [1]
    rig.upstreams[A].stopped()
    rig.upstreams[A].ready()
    assert waiter.heard[-1] == FakePoolOf(A, 2)


def test_an_expired_idle_time_unloads_only_an_idle_model() -> None:
    rig = Rig(A)
    waiter = rig.up(A)
    rig.router.idle_expired(A, Generation(1))
    assert rig.transcript == ["start a"]
    waiter.leave()
    rig.router.idle_expired(A, Generation(1))
    assert rig.transcript[-1] == "stop a 7 idle_timeout"


def test_borrowing_goes_the_way_of_every_request_and_is_given_back_once() -> None:
    rig = Rig(A)
    loan = rig.router.borrow(A, SwapReason.PRELOAD)
    no_result(loan.ready)
    rig.upstreams[A].ready()
    success_of(loan.ready)
    no_result(rig.router.drained())
    loan.release()
    loan.release()
    success_of(rig.router.drained())


def test_a_cancelled_ordered_load_stops_the_start() -> None:
    rig = Rig(A)
    loan = rig.router.borrow(A, SwapReason.USER)
    loan.ready.cancel()
    failure_of(loan.ready)
    assert set(rig.transcript) == {"start a", "stop a 7 user"}


def test_a_cancelled_start_counts_as_running_until_it_is_gone() -> None:
    rig = Rig(A, B)
    loan = rig.router.borrow(A, SwapReason.USER)
    rig.ask(B)
    loan.ready.cancel()
    failure_of(loan.ready)
    assert "start b" not in rig.transcript
    rig.upstreams[A].stopped()
    assert "start b" in rig.transcript


def test_a_load_cancelled_while_it_evicts_leaves_its_target_alone() -> None:
    rig = Rig(A, B, layout=groups(g=[A], free={"members": [B], "exclusive": False}))
    rig.up(A).leave()
    rig.up(B).leave()
    loan = rig.router.borrow(A, SwapReason.USER)
    loan.ready.cancel()
    failure_of(loan.ready)
    rig.upstreams[B].stopped()
    assert rig.ask(A).heard == [FakePoolOf(A, 1)]
    assert rig.transcript == ["start a", "start b", "stop b 7 swap"]


def test_a_grant_for_an_older_process_is_not_sent_to_its_successor() -> None:
    rig = Rig(A)
    rig.up(A).leave()
    rig.upstreams[A].become(ProcessState.STOPPED)
    rig.upstreams[A].generation = 2
    rig.upstreams[A].become(ProcessState.READY)
    assert [type(h) for h in rig.ask(A).heard] == [NotReadyError]
    assert rig.ask(A).heard == [FakePoolOf(A, 2)]


def test_shutdown_refuses_who_waits_and_waits_for_who_is_served() -> None:
    rig = Rig(A, B)
    served = rig.up(A)
    queued = rig.ask(B)
    rig.router.begin_shutdown()
    assert isinstance(queued.heard[-1], ShuttingDownError)
    drained = rig.router.drained()
    no_result(drained)
    served.leave()
    success_of(drained)
    success_of(rig.router.stop_all(3.0))
    success_of(rig.router.stop_all(30.0))
    assert rig.transcript[-4:] == ["shut down a 3", "shut down b 3", "shut down a 7", "shut down b 7"]


def test_snapshots_are_sorted_by_model() -> None:
    rig = Rig(B, A)
    assert [s.model for s in rig.router.snapshots()] == [A, B]


def test_memory_is_what_the_models_own_supervisor_measures() -> None:
    rig = Rig(B, A)
    rig.upstreams[B].generation = 7
    assert success_of(rig.router.resident_bytes(B)) == 7


def test_a_bug_in_a_supervisor_fails_the_swap_and_wedges_nothing(logged_failures: Any) -> None:
    rig = Rig(A)
    with mock.patch.object(rig.upstreams[A], "ensure_ready", side_effect=ZeroDivisionError("oops")):
        waiter = rig.ask(A)
    (error,) = waiter.heard
    assert isinstance(error, UpstreamStartError)
    assert "oops" in error.message
    assert len(logged_failures.flush(ZeroDivisionError)) == 1
    assert rig.up(A).heard == [FakePoolOf(A, 1)]


def test_a_process_that_ends_by_itself_is_started_by_the_next_request() -> None:
    rig = Rig(A)
    rig.up(A).leave()
    rig.upstreams[A].become(ProcessState.STOPPED)
    rig.router.process_exited(A, Generation(1))
    assert rig.up(A).heard == [FakePoolOf(A, 2)]


def test_waiting_for_the_end_may_be_given_up() -> None:
    rig = Rig(A)
    waiter = rig.up(A)
    drained = rig.router.drained()
    drained.cancel()
    failure_of(drained)
    unloaded = rig.router.unload([A])
    unloaded.cancel()
    failure_of(unloaded)
    waiter.leave()
    rig.upstreams[A].stopped()
    assert rig.router.state(A) is ProcessState.STOPPED


def test_a_planner_that_wants_to_be_asked_again_is_asked_at_its_newest_time() -> None:
    rig = Rig(A, B)
    decisions = [Wait(recheck=50.0), Wait(recheck=20.0), Wait(), Evict(frozenset())]
    with mock.patch.object(type(rig.planner), "plan", side_effect=decisions) as plan:
        waiter = rig.ask(A)
        rig.ask(B)
        assert len(rig.clock.getDelayedCalls()) == 1
        rig.clock.advance(20.0)
        assert plan.call_count == 4
    assert rig.transcript == ["start b"]
    assert waiter.heard == [1]


def test_a_bug_in_cutting_one_client_does_not_keep_its_process_from_ending(logged_failures: Any) -> None:
    rig = Rig(A, B)
    rig.up(A)
    rig.pools[0].on_close.insert(0, mock.Mock(side_effect=ZeroDivisionError))
    done = rig.router.unload([A])
    rig.upstreams[A].stopped()
    success_of(done)
    assert len(logged_failures.flush(ZeroDivisionError)) == 1


def reconfigured(rig: Rig, *models: ModelId, restarted: Collection[ModelId] = (), drain_seconds: float = 30) -> None:
    """Give the router a configuration with these models."""
    facts = {m: ModelFacts(m) for m in models}
    upstreams = {m: rig.upstreams.setdefault(m, FakeSupervisor(m, rig.router, rig.transcript)) for m in models}
    removed = frozenset(rig.upstreams.keys() - facts.keys())
    planner = factory.build(groups(g=list(models)), facts)
    event = Reconfigured(facts, planner, "group", frozenset(restarted), removed, drain_seconds, rig.clock.seconds())
    rig.router.reconfigure(upstreams, event)


def test_a_reload_keeps_the_connections_and_tells_them_their_new_limits() -> None:
    rig = Rig(A)
    rig.up(A)
    limits = Timeouts(response_header_seconds=3)
    rig.upstreams[A].config = ModelConfig(id=A, timeouts=limits)
    reconfigured(rig, A, B)
    assert rig.pools == [rig.pools[0]]
    assert not rig.pools[0].is_closed
    assert rig.pools[0].timeouts is limits
    assert rig.router.state(B) is ProcessState.STOPPED


def test_a_changed_model_is_stopped_for_the_reload_when_its_time_is_over() -> None:
    rig = Rig(A)
    waiter = rig.up(A)
    reconfigured(rig, A, restarted=[A])
    follower = rig.ask(A)
    rig.clock.advance(29)
    assert rig.transcript == ["start a"]
    rig.clock.advance(1)
    assert rig.transcript == ["start a", "stop a 7 reload"]
    assert waiter.heard == [FakePoolOf(A, 1)]
    rig.upstreams[A].stopped()
    rig.upstreams[A].ready()
    assert follower.heard == [1, FakePoolOf(A, 2)]


def test_the_supervisor_of_a_removed_model_leaves_when_its_process_has() -> None:
    rig = Rig(A, B)
    waiter = rig.up(A)
    upstream = rig.upstreams[A]
    reconfigured(rig, B)
    assert set(rig.router.supervisors) == {A, B}
    waiter.leave()
    assert rig.transcript[-1] == "stop a 7 reload"
    upstream.stopped()
    assert rig.transcript[-1] == "shut down a 7"
    assert set(rig.router.supervisors) == {B}
    assert rig.dismissed == [A]


def test_what_a_dismissed_supervisor_still_ends_is_part_of_the_end() -> None:
    rig = Rig(A, B)
    shutting: Deferred[None] = Deferred()
    with mock.patch.object(rig.upstreams[A], "shut_down", return_value=shutting) as shut_down:
        reconfigured(rig, B)
        assert set(rig.router.supervisors) == {B}
        rig.router.stop_all(1.0)
        assert [call.args for call in shut_down.call_args_list] == [(7.0,), (1.0,)]
    shutting.callback(None)


def test_no_timer_of_a_drain_outlives_the_end() -> None:
    rig = Rig(A)
    rig.up(A)
    reconfigured(rig, A, restarted=[A])
    assert rig.clock.getDelayedCalls() != []
    rig.router.begin_shutdown()
    rig.router.stop_all(1.0)
    assert rig.clock.getDelayedCalls() == []


def test_the_start_of_a_changed_model_is_aborted_for_the_reload() -> None:
    rig = Rig(A)
    waiter = rig.ask(A)
    reconfigured(rig, A, restarted=[A])
    assert rig.transcript[:2] == ["start a", "stop a 7 reload"]
    rig.upstreams[A].stopped()
    rig.upstreams[A].ready()
    assert waiter.heard[-1] == FakePoolOf(A, 2)


def test_swaps_are_told_before_they_stop_anything_and_when_they_are_over() -> None:
    rig = Rig(A, B)
    rig.up(A).leave()
    rig.news.clear()
    rig.ask(B)
    told = [(news.record.target, news.record.outcome) for news in rig.news if isinstance(news, SwapNoted)]
    assert told == [(B, None)]
    assert isinstance(rig.news[0], SwapNoted)
    assert isinstance(rig.news[1], StateChanged)
    rig.upstreams[A].stopped()
    rig.upstreams[B].ready()
    assert rig.news[-1].record.outcome is OutcomeKind.READY


def test_who_waits_and_what_would_happen_can_be_asked() -> None:
    rig = Rig(A, B)
    rig.up(A)
    waiter = rig.ask(B)
    assert [(w.request, w.text) for w in rig.router.waiting()] == [(waiter.request_id, "a has 1 running request")]
    assert rig.router.what_if(B).blocked_by == ((A, 1),)
    assert rig.router.reserved(B) == (1, 0)


def test_f7_fences_are_logged_shown_and_told() -> None:
    rig = Rig(A, B)
    rig.scheduler._fences.patience = Patience(300)
    busy = rig.up(A)
    rig.ask(B)
    with capturedLogs() as events:
        rig.clock.advance(300)
        assert [fence.model for fence in rig.router.fences()] == [B]
        busy.leave()
        rig.upstreams[A].stopped()
        rig.upstreams[B].ready()
    said = [event for event in events if "seconds" in event]
    assert [(event["model"], event["seconds"], event["others"]) for event in said] == [(B, 300, "a"), (B, 0, "a")]
    assert [(news.model, news.is_raised) for news in rig.news if isinstance(news, Fenced)] == [(B, True), (B, False)]
    assert not rig.router.fences()


def test_tunnels_that_hold_up_others_for_too_long_are_told() -> None:
    rig = Rig(A, B)
    rig.scheduler._fences.patience = Patience(300, drain_seconds=60)
    busy = rig.up(A)
    loan = rig.router.borrow(A, SwapReason.REQUEST)
    late = rig.ask(B)
    rig.clock.advance(300)
    held = rig.ask(A)
    rig.clock.advance(59)
    assert "end" not in busy.heard
    rig.clock.advance(1)
    assert busy.heard[-1] == "end"
    assert "end" not in [*late.heard, *held.heard], "nobody who waits"
    loan.release()
    assert busy.heard.count("end") == 1
    rig.clock.advance(10_000)
    assert busy.heard.count("end") == 1
