"""A supervisor starts its process."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import capturedLogs, formatEvent

from llamaswap.core.values import LoadTimes, ProcessState, StopReason
from llamaswap.errors import ModelUnloadedError, ShuttingDownError, UpstreamStartError, UpstreamStartTimeoutError
from tests.conftest import LoggedFailures
from tests.deferreds import failure_of, no_result, success_of
from tests.unit.upstream_world import World


def test_normal_life() -> None:
    world = World()
    ready = world.upstream.ensure_ready()
    assert world.state == "starting"
    probe = world.probe()
    assert probe.uri == b"http://127.0.0.1:5800/health"
    no_result(ready)
    probe.answer(200)
    assert success_of(ready) == 1
    assert world.state == "ready"
    success_of(world.upstream.stop(10, StopReason.SWAP))
    assert world.events.told == [
        "1: stopped -> starting",
        "1: starting -> ready",
        "1: ready -> stopping (swap)",
        "1: stopping -> stopped (swap)",
    ]
    assert not world.clock.getDelayedCalls()


def test_ready_answers_before_it_returns() -> None:
    world = World()
    world.start()
    assert success_of(world.upstream.ensure_ready()) == 1
    assert len(world.launcher.specs) == 1


def test_launcher_gets_the_model() -> None:
    world = World(env=("A=1",), stop_argv=("stop",))
    world.start()
    (spec,) = world.launcher.specs
    assert (spec.model, spec.argv, spec.cwd, spec.stop_argv) == ("m", ("server",), "/srv", ("stop",))
    assert spec.env == {"PATH": "/bin", "A": "1"}


def test_no_probing_is_ready_at_once() -> None:
    world = World(check_endpoint="none")
    assert success_of(world.upstream.ensure_ready()) == 1
    assert world.agent.probes == []


def test_no_probing_of_a_process_that_is_dead_already() -> None:
    world = World(check_endpoint="none")
    world.launcher.is_slow = True
    ready = world.upstream.ensure_ready()
    assert world.launcher.pending is not None
    launched = world.launcher.make()
    launched.exit(1)
    world.launcher.pending.callback(launched)
    failure_of(ready, UpstreamStartError)
    assert world.state == "stopped"


def test_h31_two_starts_at_once_are_one() -> None:
    world = World()
    first, second = world.upstream.ensure_ready(), world.upstream.ensure_ready()
    assert first is not second
    world.probe().answer(200)
    assert (success_of(first), success_of(second)) == (1, 1)
    assert len(world.launcher.specs) == 1


def test_cancelling_one_waiter_affects_nobody_else() -> None:
    world = World()
    first, second = world.upstream.ensure_ready(), world.upstream.ensure_ready()
    probe = world.probe()
    first.cancel()
    failure_of(first, CancelledError)
    assert not probe.was_cancelled
    probe.answer(200)
    assert success_of(second) == 1


def test_start_goes_on_without_waiters() -> None:
    world = World()
    ready = world.upstream.ensure_ready()
    ready.cancel()
    failure_of(ready, CancelledError)
    world.probe().answer(200)
    assert world.state == "ready"


@pytest.mark.parametrize(
    ("fields", "message"),
    [({"proxy": ""}, "upstream proxy missing"), ({"argv": ()}, "empty command")],
)
def test_refused_early(fields: dict[str, object], message: str) -> None:
    world = World(**fields)
    error = failure_of(world.upstream.ensure_ready(), UpstreamStartError).value
    assert str(error) == message
    assert world.launcher.specs == []
    assert world.events.told == ["1: stopped -> starting", "1: starting -> stopped (start_failed)"]


def test_h32_spawn_error_comes_at_once_with_its_own_text() -> None:
    world = World()
    world.launcher.error = UpstreamStartError("failed to start command 'server': no such file or directory")
    error = failure_of(world.upstream.ensure_ready(), UpstreamStartError).value
    assert str(error) == "failed to start command 'server': no such file or directory"
    assert world.state == "stopped"


def test_no_secret_of_a_command_is_logged() -> None:
    world = World(cmd="server --api-key s3cret --port 5800", argv=("server", "--api-key", "s3cret", "--port", "5800"))
    with capturedLogs() as events:
        world.start()
    lines = [formatEvent(event) for event in events]
    assert any("starting server --api-key [REDACTED] --port 5800" in line for line in lines)
    assert not any("s3cret" in line for line in lines)


def test_each_waiter_gets_an_error_of_its_own() -> None:
    world = World()
    waiting = [world.upstream.ensure_ready() for _ in range(2)]
    world.probe()
    world.launched.exit(3)
    errors = [failure_of(each, UpstreamStartError).value for each in waiting]
    assert errors[0] is not errors[1]
    assert str(errors[0]) == str(errors[1]) == "upstream command exited prematurely"


def test_h06_premature_exit_in_mid_probe() -> None:
    world = World()
    ready = world.upstream.ensure_ready()
    probe = world.probe()
    world.launched.exit(3)
    failure_of(ready, UpstreamStartError)
    assert probe.was_cancelled
    assert world.launched.graces == [5.0], "the rest of the tree is removed"
    assert world.events.told[-1] == "1: starting -> stopped (start_failed)"
    assert not world.clock.getDelayedCalls()


def test_h06_premature_exit_between_two_probes() -> None:
    world = World()
    ready = world.upstream.ensure_ready()
    world.probe().refuse()
    world.launched.exit(3)
    failure_of(ready, UpstreamStartError)
    assert len(world.agent.probes) == 1
    assert not world.clock.getDelayedCalls()


def test_premature_exit_is_answered_when_the_rest_of_the_tree_is_gone() -> None:
    world = World()
    world.launcher.obeys = False
    ready = world.upstream.ensure_ready()
    world.probe()
    world.launched.exit(3)
    assert world.state == "starting"
    no_result(ready)
    joined = world.upstream.ensure_ready()
    world.launched.go()
    failure_of(ready, UpstreamStartError)
    failure_of(joined, UpstreamStartError)
    assert world.state == "stopped"


def test_h07_deadline_ends_a_hanging_start() -> None:
    world = World(health_check_timeout_seconds=15)
    ready = world.upstream.ensure_ready()
    world.wait(14.9)
    no_result(ready)
    world.wait(0.2)
    error = failure_of(ready, UpstreamStartTimeoutError).value
    assert str(error) == "health check timed out after 15s"
    assert world.launched.graces == [5.0]
    assert world.state == "stopped"
    assert not world.clock.getDelayedCalls()


def test_h05_failure_is_not_sticky() -> None:
    world = World()
    ready = world.upstream.ensure_ready()
    world.probe()
    world.launched.exit(3)
    failure_of(ready, UpstreamStartError)
    again = world.upstream.ensure_ready()
    world.probe().answer(200)
    assert success_of(again) == 2


def cause_ready(world: World) -> None:
    world.agent.probes[-1].answer(200)


def cause_failure(world: World) -> None:
    world.wait(16)


def cause_exit(world: World) -> None:
    world.launched.exit(1)


def cause_abort(world: World) -> None:
    world.upstream.stop(1, StopReason.USER)


def cause_shutdown(world: World) -> None:
    world.upstream.shut_down(1)


@pytest.mark.parametrize(
    ("cause", "error"),
    [
        (cause_ready, None),
        (cause_failure, UpstreamStartTimeoutError),
        (cause_exit, UpstreamStartError),
        (cause_abort, ModelUnloadedError),
        (cause_shutdown, ShuttingDownError),
    ],
)
def test_h04_every_settled_transition_tells_its_waiters(
    cause: Callable[[World], None], error: type[Exception] | None
) -> None:
    world = World(health_check_timeout_seconds=15)
    ready = world.upstream.ensure_ready()
    world.probe()
    cause(world)
    if error is None:
        success_of(ready)
    else:
        failure_of(ready, error)


@pytest.mark.parametrize("cause", [cause_exit, cause_abort])
def test_h04_those_who_waited_for_the_end_are_told_too(cause: Callable[[World], None]) -> None:
    world = World()
    world.launcher.obeys = False
    world.start()
    stopped = world.upstream.stop(5, StopReason.USER)
    waiting = world.upstream.ensure_ready()
    cause(world)
    world.launched.go()
    success_of(stopped)
    world.probe().answer(200)
    assert success_of(waiting) == 2


def test_load_times_and_snapshot() -> None:
    world = World()
    assert world.upstream.snapshot().started_at is None
    world.upstream.ensure_ready()
    world.clock.advance(0.002)
    world.clock.advance(4)
    world.agent.probes[-1].answer(200)
    snapshot = world.upstream.snapshot()
    assert snapshot.load == LoadTimes(count=1, last=4.002, ewma=4.002, p50=4.002, p95=4.002)
    assert (snapshot.model, snapshot.state, snapshot.generation, snapshot.pid) == ("m", "ready", 1, 4242)
    assert (snapshot.starts, snapshot.crashes) == (1, 0)
    assert snapshot.started_at is not None
    assert snapshot.ready_at is not None
    world.upstream.stop(1, StopReason.USER)
    snapshot = world.upstream.snapshot()
    assert (snapshot.state, snapshot.pid, snapshot.ready_at) == ("stopped", None, None)


def test_address_is_the_one_that_the_launcher_gave() -> None:
    world = World()
    assert world.upstream.base_url == "http://127.0.0.1:5800"
    world.launcher.is_slow = True
    ready = world.upstream.ensure_ready()
    launched = world.launcher.make()
    launched.base_url = "http://node7:9000"
    assert world.launcher.pending is not None
    world.launcher.pending.callback(launched)
    assert world.probe().uri == b"http://node7:9000/health"
    assert world.upstream.base_url == "http://node7:9000"
    world.agent.probes[-1].answer(200)
    success_of(ready)


def test_start_that_breaks_is_ended_and_logged(logged_failures: LoggedFailures) -> None:
    world = World()
    world.launcher.error = ZeroDivisionError("a bug of a launcher")
    failure_of(world.upstream.ensure_ready(), ModelUnloadedError)
    assert world.state == "stopped"
    assert len(logged_failures.flush(ZeroDivisionError)) == 1


def test_state_is_changed_before_anybody_hears_of_it() -> None:
    world = World()
    seen: list[ProcessState] = []
    world.events.then = lambda _: seen.append(world.state)
    world.start()
    assert seen == ["starting", "ready"]


def test_stop_out_of_the_news_of_the_start() -> None:
    world = World()
    stops: list[Deferred[None]] = []

    def stop(words: str) -> None:
        if words == "1: stopped -> starting":
            stops.append(world.upstream.stop(1, StopReason.USER))

    world.events.then = stop
    failure_of(world.upstream.ensure_ready(), ModelUnloadedError)
    success_of(stops[0])
    assert world.launcher.specs == []
    assert world.state == "stopped"


def test_stop_out_of_the_news_of_being_ready() -> None:
    world = World()

    def stop(words: str) -> None:
        if words == "1: starting -> ready":
            world.upstream.stop(1, StopReason.USER)

    world.events.then = stop
    ready = world.upstream.ensure_ready()
    world.probe().answer(200)
    failure_of(ready, ModelUnloadedError)
    assert world.state == "stopped"
    assert not world.clock.getDelayedCalls()


def test_news_of_being_ready_that_breaks_ends_the_process_and_its_waiting(logged_failures: LoggedFailures) -> None:
    world = World()

    def break_down(words: str) -> None:
        if words == "1: starting -> ready":
            raise ZeroDivisionError

    world.events.then = break_down
    ready = world.upstream.ensure_ready()
    world.probe().answer(200)
    failure_of(ready, ModelUnloadedError)
    assert world.state == "stopped"
    assert len(logged_failures.flush(ZeroDivisionError)) == 1
    assert not world.clock.getDelayedCalls()


def test_another_configuration_leaves_the_process_and_holds_for_the_next_one() -> None:
    world = World(ttl_seconds=50)
    world.start()
    config = replace(world.upstream.config, argv=("other",), proxy="http://127.0.0.1:5900", ttl_seconds=3)
    world.upstream.reconfigure(config)
    assert world.upstream.base_url == "http://127.0.0.1:5800"
    world.wait(3.2)
    assert world.events.told == ["1: idle"]
    world.upstream.stop(1.0, StopReason.RELOAD)
    world.start()
    assert world.upstream.generation == 2
    assert world.upstream.base_url == "http://127.0.0.1:5900"
