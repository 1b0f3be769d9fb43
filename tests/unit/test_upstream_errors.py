"""Why a model is not up is remembered until it is; what its process takes is measured."""

from __future__ import annotations

import pytest
from twisted.internet.defer import CancelledError, Deferred, fail, succeed

from llamaswap.core.snapshot import LoadError
from llamaswap.core.values import StopReason
from llamaswap.errors import UpstreamStartError
from tests.deferreds import failure_of, no_result, success_of
from tests.unit.upstream_world import World


def error_of(world: World) -> LoadError:
    error = world.upstream.snapshot().last_error
    assert error is not None
    return error


def test_command_that_cannot_be_run() -> None:
    world = World()
    world.launcher.error = UpstreamStartError("failed to start command 'server': no")
    failure_of(world.upstream.ensure_ready(), UpstreamStartError)
    error = error_of(world)
    assert (error.kind, error.message) == ("spawn_error", "failed to start command 'server': no")
    assert (error.exit_code, error.signal, error.log_tail) == (None, None, ())


def test_exit_during_the_start_keeps_the_last_twenty_lines() -> None:
    world = World()
    world.history = b"".join(b"line %d\n" % number for number in range(30)) + b"\xff"
    ready = world.upstream.ensure_ready()
    world.probe()
    world.launched.exit(3)
    failure_of(ready, UpstreamStartError)
    error = error_of(world)
    assert (error.kind, error.message, error.exit_code) == ("exited", "upstream command exited prematurely", 3)
    assert error.log_tail == (*(f"line {number}" for number in range(11, 30)), "\N{REPLACEMENT CHARACTER}")


def test_deadline() -> None:
    world = World(health_check_timeout_seconds=15)
    ready = world.upstream.ensure_ready()
    world.wait(16)
    failure_of(ready, UpstreamStartError)
    assert (error_of(world).kind, error_of(world).message) == ("timeout", "health check timed out after 15s")


def test_crash_is_forgotten_after_the_next_start() -> None:
    world = World()
    world.start()
    assert world.upstream.snapshot().last_error is None
    world.launched.exit(1)
    assert (error_of(world).kind, error_of(world).exit_code) == ("crash", 1)
    world.start()
    assert world.upstream.snapshot().last_error is None


def test_stop_is_no_error() -> None:
    world = World(ttl_seconds=5)
    world.start()
    expires_at = world.upstream.snapshot().expires_at
    assert expires_at is not None
    world.upstream.stop(1, StopReason.USER)
    assert world.upstream.snapshot().last_error is None
    assert world.upstream.snapshot().expires_at is None


def test_memory_is_that_of_the_process_and_unknown_without_one() -> None:
    world = World()
    assert success_of(world.upstream.resident_bytes()) is None
    world.launcher.is_slow = True
    world.upstream.ensure_ready()
    assert success_of(world.upstream.resident_bytes()) is None, "there is no process yet"
    world = World()
    world.start()
    world.launched.memory = succeed(4096)
    assert success_of(world.upstream.resident_bytes()) == 4096
    assert not world.clock.getDelayedCalls()


def test_memory_that_a_launcher_does_not_tell_in_time_is_unknown() -> None:
    world = World()
    world.start()
    world.launched.memory = Deferred()
    measured = world.upstream.resident_bytes()
    world.clock.advance(1.9)
    no_result(measured)
    world.clock.advance(0.2)
    assert success_of(measured) is None


@pytest.mark.parametrize("error", [RuntimeError("no thread"), LookupError()])
def test_memory_that_a_launcher_cannot_tell_is_unknown(error: Exception) -> None:
    world = World()
    world.start()
    world.launched.memory = fail(error)
    assert success_of(world.upstream.resident_bytes()) is None


def test_nobody_waits_for_memory_any_more() -> None:
    world = World()
    world.start()
    world.launched.memory = Deferred()
    measured = world.upstream.resident_bytes()
    measured.cancel()
    failure_of(measured, CancelledError)
    assert not world.clock.getDelayedCalls()
