"""A supervisor's process ends: because it was asked to, by itself, or for good."""

from __future__ import annotations

import time

import pytest
from twisted.internet.defer import CancelledError

from llamaswap.core.values import StopReason
from llamaswap.errors import ModelUnloadedError, ShuttingDownError
from tests.conftest import LoggedFailures
from tests.deferreds import failure_of, no_result, success_of
from tests.unit.upstream_world import World


def test_stop_of_nothing_answers_at_once_and_changes_nothing() -> None:
    world = World()
    success_of(world.upstream.stop(10, StopReason.USER))
    assert world.events.told == []


def test_stop_waits_until_the_tree_is_gone() -> None:
    world = World()
    world.launcher.obeys = False
    world.start()
    stopped = world.upstream.stop(7, StopReason.USER)
    assert world.state == "stopping"
    assert world.launched.graces == [7]
    world.launched.exit()
    no_result(stopped)
    assert world.state == "stopping"
    world.launched.go()
    success_of(stopped)
    assert world.state == "stopped"


def test_h01_start_wanted_while_stopping_follows_the_stop() -> None:
    world = World()
    world.launcher.obeys = False
    world.start()
    stopped = world.upstream.stop(2, StopReason.IDLE_TIMEOUT)
    first, second = world.upstream.ensure_ready(), world.upstream.ensure_ready()
    no_result(first)
    assert len(world.launcher.specs) == 1
    world.launched.go()
    success_of(stopped)
    world.probe().answer(200)
    assert (success_of(first), success_of(second)) == (2, 2)
    assert world.events.told == [
        "1: ready -> stopping (idle_timeout)",
        "1: stopping -> stopped (idle_timeout)",
        "2: stopped -> starting",
        "2: starting -> ready",
    ]


def test_stop_callers_hear_before_the_next_start() -> None:
    world = World()
    world.launcher.obeys = False
    world.start()
    order: list[str] = []
    world.upstream.stop(2, StopReason.USER).addCallback(lambda _: order.append("stopped"))
    world.upstream.ensure_ready()
    world.events.then = order.append
    world.launched.go()
    assert order == ["1: stopping -> stopped (user)", "stopped", "2: stopped -> starting"]


def test_stop_joins_with_the_shorter_grace() -> None:
    world = World()
    world.launcher.obeys = False
    world.start()
    first = world.upstream.stop(10, StopReason.SWAP)
    second = world.upstream.stop(2, StopReason.USER)
    assert world.launched.graces == [10, 2]
    second.cancel()
    failure_of(second, CancelledError)
    world.launched.go()
    success_of(first)
    assert len(world.events.told) == 2


def test_h16_no_grace_means_the_models_own() -> None:
    world = World(unload_timeout_seconds=9)
    world.start()
    world.upstream.stop(0, StopReason.USER)
    assert world.launched.graces == [9]


@pytest.mark.parametrize("is_probing", [True, False], ids=["in mid-probe", "between probes"])
def test_h02_stop_during_the_start_aborts_it(is_probing: bool) -> None:  # noqa: FBT001
    world = World()
    world.launcher.obeys = False
    ready = world.upstream.ensure_ready()
    probe = world.probe()
    if not is_probing:
        probe.refuse()
    stopped = world.upstream.stop(3, StopReason.USER)
    assert probe.was_cancelled is is_probing
    assert world.state == "stopping"
    assert world.launched.graces == [3]
    no_result(ready)
    world.launched.go()
    assert str(failure_of(ready, ModelUnloadedError).value) == "aborted"
    success_of(stopped)
    assert world.events.told == [
        "1: stopped -> starting",
        "1: starting -> stopping (user)",
        "1: stopping -> stopped (user)",
    ]
    assert not world.clock.getDelayedCalls()


def test_h02_start_wanted_after_the_abort_is_a_new_one() -> None:
    world = World()
    world.launcher.obeys = False
    aborted = world.upstream.ensure_ready()
    world.probe()
    world.upstream.stop(3, StopReason.USER)
    wanted = world.upstream.ensure_ready()
    world.launched.go()
    failure_of(aborted, ModelUnloadedError)
    no_result(wanted)
    world.probe().answer(200)
    assert success_of(wanted) == 2


def test_stop_while_the_launcher_is_at_work() -> None:
    world = World()
    world.launcher.is_slow = True
    ready = world.upstream.ensure_ready()
    success_of(world.upstream.stop(3, StopReason.USER))
    failure_of(ready, ModelUnloadedError)
    assert world.launcher.cancelled == 1


def test_stop_while_a_failed_start_is_cleaned_up() -> None:
    world = World()
    world.launcher.obeys = False
    ready = world.upstream.ensure_ready()
    world.probe()
    world.launched.exit(3)
    stopped = world.upstream.stop(1, StopReason.USER)
    assert world.launched.graces == [5.0, 1]
    world.launched.go()
    failure_of(ready, ModelUnloadedError)
    success_of(stopped)
    assert world.state == "stopped"


def test_h30_start_and_stop_in_one_turn() -> None:
    world = World()
    ready = world.upstream.ensure_ready()
    success_of(world.upstream.stop(1, StopReason.USER))
    failure_of(ready, ModelUnloadedError)
    assert world.state == "stopped"


def test_h30_stop_and_start_in_one_turn() -> None:
    world = World()
    success_of(world.upstream.stop(1, StopReason.USER))
    ready = world.upstream.ensure_ready()
    world.probe().answer(200)
    assert success_of(ready) == 1


def test_h05_exit_of_a_ready_process() -> None:
    world = World(unload_timeout_seconds=9)
    world.start()
    world.launched.exit(9)
    assert world.state == "stopped"
    assert world.events.told == ["1: ready -> stopped (crash)", "1: exited"]
    assert world.launched.graces == [9.0], "what is left of the tree is removed"
    assert world.upstream.snapshot().crashes == 1
    again = world.upstream.ensure_ready()
    world.probe().answer(200)
    assert success_of(again) == 2


def test_leftovers_are_removed_before_the_next_start() -> None:
    world = World()
    world.launcher.obeys = False
    world.start()
    world.launched.exit(0)
    ready = world.upstream.ensure_ready()
    assert world.state == "starting"
    assert len(world.launcher.specs) == 1
    world.launched.go()
    assert len(world.launcher.specs) == 2
    world.probe().answer(200)
    assert success_of(ready) == 2


def test_stop_after_a_crash_waits_for_the_leftovers() -> None:
    world = World()
    world.launcher.obeys = False
    world.start()
    world.launched.exit(0)
    rest, stopped = world.upstream.leftover_gone(), world.upstream.stop(1, StopReason.USER)
    no_result(rest)
    no_result(stopped)
    world.launched.go()
    success_of(rest)
    success_of(stopped)
    success_of(world.upstream.leftover_gone())


def test_stop_while_leftovers_are_removed() -> None:
    world = World()
    world.launcher.obeys = False
    world.start()
    world.launched.exit(0)
    ready = world.upstream.ensure_ready()
    success_of(world.upstream.stop(1, StopReason.USER))
    failure_of(ready, ModelUnloadedError)
    assert len(world.launcher.specs) == 1
    again = world.upstream.ensure_ready()
    world.launched.go()
    world.probe().answer(200)
    assert success_of(again) == 3


def test_exit_during_a_stop_is_part_of_it() -> None:
    world = World()
    world.launcher.obeys = False
    world.start()
    world.upstream.stop(5, StopReason.SWAP)
    world.launched.exit(1)
    assert world.events.told == ["1: ready -> stopping (swap)"]
    world.launched.go()
    assert world.upstream.snapshot().crashes == 0


def test_h23_exit_and_stop_in_one_turn() -> None:
    world = World()
    world.start()
    world.launched.exit(9)
    success_of(world.upstream.stop(5, StopReason.SWAP))
    assert world.events.told == ["1: ready -> stopped (crash)", "1: exited"]


def test_h24_idle_time_counts_from_the_last_use() -> None:
    world = World(ttl_seconds=2)
    world.start()
    world.wait(6)
    assert "1: idle" in world.events.told, "the router knows of the request and says nothing"
    assert world.state == "ready"
    world.upstream.touch()
    world.events.told.clear()
    world.wait(1.8)
    assert world.events.told == []
    world.wait(1.3)
    assert world.events.told[0] == "1: idle"


def test_h25_a_timer_belongs_to_a_generation() -> None:
    world = World(ttl_seconds=5)
    for _ in range(20):
        world.start()
        world.wait(1)
        assert len(world.clock.getDelayedCalls()) == 1
        success_of(world.upstream.stop(1, StopReason.USER))
        assert not world.clock.getDelayedCalls()
    world.wait(10)
    assert "idle" not in " ".join(world.events.told)


def test_h25_no_timer_survives_an_exit() -> None:
    world = World(ttl_seconds=5)
    world.start()
    world.launched.exit(1)
    assert not world.clock.getDelayedCalls()


def test_h26_idle_time_counts_from_being_ready() -> None:
    world = World(ttl_seconds=3600)
    world.upstream.ensure_ready()
    world.clock.advance(0.002)
    world.clock.advance(4)
    world.agent.probes[-1].answer(200)
    world.wait(6)
    assert world.events.told[-1] == "1: starting -> ready"


def test_h28_a_use_of_an_earlier_life_does_not_count() -> None:
    world = World(ttl_seconds=5)
    world.start()
    world.upstream.touch()
    world.upstream.stop(1, StopReason.USER)
    world.upstream.touch()
    world.clock.advance(3600)
    world.start()
    world.wait(4.5)
    assert world.events.told == []
    world.wait(1)
    assert world.events.told == ["2: idle"]


def test_h37_steps_of_the_wall_clock_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(ttl_seconds=5)
    world.upstream.ensure_ready()
    really = time.time
    monkeypatch.setattr(time, "time", lambda: really() + 3600)
    world.probe().answer(200)
    monkeypatch.setattr(time, "time", lambda: really() - 3600)
    world.wait(4.5)
    assert world.events.told[-1] == "1: starting -> ready"
    world.wait(1)
    assert world.events.told[-1] == "1: idle"
    load = world.upstream.snapshot().load.last
    assert load is not None
    assert load < 1


def test_shutdown_of_a_ready_process() -> None:
    world = World()
    world.launcher.obeys = False
    world.start()
    done = world.upstream.shut_down(4)
    assert world.launched.graces == [4]
    no_result(done)
    world.launched.go()
    success_of(done)
    assert world.events.told == [
        "1: ready -> stopping (shutdown)",
        "1: stopping -> stopped (shutdown)",
        "1: stopped -> shutdown (shutdown)",
    ]
    success_of(world.upstream.shut_down(4))
    success_of(world.upstream.stop(4, StopReason.USER))
    failure_of(world.upstream.ensure_ready(), ShuttingDownError)
    assert len(world.events.told) == 3


def test_h03_shutdown_during_the_start_aborts_it_in_the_same_turn() -> None:
    world = World()
    world.launcher.obeys = False
    ready = world.upstream.ensure_ready()
    probe = world.probe()
    done = world.upstream.shut_down(1)
    assert probe.was_cancelled
    world.launched.go()
    success_of(done)
    failure_of(ready, ShuttingDownError)
    assert world.state == "shutdown"
    assert not world.clock.getDelayedCalls()


def test_shutdown_refuses_starts_that_wait_for_a_stop() -> None:
    world = World()
    world.launcher.obeys = False
    world.start()
    world.upstream.stop(5, StopReason.SWAP)
    waiting = world.upstream.ensure_ready()
    done = world.upstream.shut_down(1)
    late = world.upstream.ensure_ready()
    failure_of(late, ShuttingDownError)
    world.launched.go()
    success_of(done)
    failure_of(waiting, ShuttingDownError)
    assert len(world.launcher.specs) == 1


def test_shutdown_waits_for_leftovers() -> None:
    world = World()
    world.launcher.obeys = False
    world.start()
    world.launched.exit(0)
    done = world.upstream.shut_down(1)
    no_result(done)
    assert world.launched.graces[-1] == 1
    world.launched.go()
    success_of(done)


def test_shutdown_twice() -> None:
    world = World()
    world.launcher.obeys = False
    world.start()
    first, second = world.upstream.shut_down(10), world.upstream.shut_down(1)
    assert world.launched.graces == [10, 1]
    world.launched.go()
    success_of(first)
    success_of(second)
    assert world.state == "shutdown"


def test_launcher_whose_stop_fails_holds_nobody(logged_failures: LoggedFailures) -> None:
    world = World()
    world.launcher.obeys = False
    world.start()
    stopped = world.upstream.stop(5, StopReason.USER)
    world.launched._callers.fail(lambda: ZeroDivisionError("a bug of a launcher"))
    success_of(stopped)
    assert world.state == "stopped"
    assert len(logged_failures.flush(ZeroDivisionError)) == 1
