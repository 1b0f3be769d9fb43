"""The end of the daemon: order, time limits, signals."""

from __future__ import annotations

import os
import signal
from collections.abc import Awaitable, Callable, Iterator
from typing import Any
from unittest import mock

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock, deferLater

from llamaswap.shutdown import Shutdown, Signals
from tests.deferreds import no_result, success_of


class FakeEnding:
    """Something to end, which records what is asked of it."""

    def __init__(self) -> None:
        self.transcript: list[str] = []
        self.draining: Deferred[None] = Deferred()
        self.stopping: list[Deferred[None]] = []

    def refuse_new(self) -> None:
        """Record."""
        self.transcript.append("refuse")

    def close_doors(self) -> Awaitable[object]:
        """Record."""
        self.transcript.append("close doors")
        return succeed(None)

    def drained(self) -> Deferred[None]:
        """Record."""
        self.transcript.append("drain")
        return self.draining

    def stop_all(self, grace_seconds: float) -> Deferred[None]:
        """Record."""
        self.transcript.append(f"stop {grace_seconds:g}")
        self.stopping.append(Deferred())
        return self.stopping[-1]

    def kill_all(self) -> None:
        """Record."""
        self.transcript.append("kill all")

    def closed(self) -> None:
        """Record."""
        self.transcript.append("closed")

    def stopped(self) -> None:
        """Let all stops be done."""
        for stop in self.stopping:
            stop.callback(None)


@pytest.fixture
def watchdogs() -> Iterator[mock.Mock]:
    """Keep the watchdog's thread from being made."""
    with mock.patch("llamaswap.shutdown.threading.Timer") as timer:
        yield timer


def begun(reserve_seconds: float = 10.0) -> tuple[Clock, FakeEnding, Shutdown, Deferred[None]]:
    """A shutdown that has begun."""
    clock, ending = Clock(), FakeEnding()
    shutdown = Shutdown(ending, clock, reserve_seconds)
    return clock, ending, shutdown, shutdown.begin()


def test_the_order_is_kept_and_everybody_who_asked_is_told(watchdogs: mock.Mock) -> None:
    _clock, ending, shutdown, first = begun()
    second = shutdown.begin()
    assert ending.transcript == ["refuse", "close doors", "drain"]
    ending.draining.callback(None)
    assert ending.transcript[-1] == "stop 30"
    no_result(first)
    ending.stopped()
    assert ending.transcript[-1] == "closed"
    success_of(first)
    success_of(second)
    success_of(shutdown.begin())
    watchdogs.return_value.cancel.assert_called_once_with()


def test_h84_a_long_answer_leaves_the_processes_their_share(watchdogs: mock.Mock) -> None:
    clock, ending, _, _done = begun(reserve_seconds=10)
    clock.advance(19.9)
    assert ending.transcript[-1] == "drain"
    clock.advance(0.2)
    assert ending.transcript[-1] == "stop 10"
    assert watchdogs.called


@pytest.mark.usefixtures("watchdogs")
def test_short_graces_leave_more_time_for_answers() -> None:
    clock, ending, _, _done = begun(reserve_seconds=2)
    clock.advance(27.9)
    assert ending.transcript[-1] == "drain"
    clock.advance(0.2)
    assert ending.transcript[-1] == "stop 2"


@pytest.mark.usefixtures("watchdogs")
def test_h85_a_second_signal_skips_the_drain() -> None:
    _clock, ending, shutdown, _done = begun()
    shutdown.hurry()
    assert ending.transcript[-1] == "stop 1"


@pytest.mark.usefixtures("watchdogs")
def test_h85_a_second_signal_while_the_doors_close_skips_the_drain() -> None:
    ending, closing = FakeEnding(), Deferred[None]()
    with mock.patch.object(ending, "close_doors", return_value=closing):
        shutdown = Shutdown(ending, Clock(), 10)
        shutdown.begin()
    shutdown.hurry()
    closing.callback(None)
    assert ending.transcript == ["refuse", "stop 1"]


@pytest.mark.usefixtures("watchdogs")
def test_h85_a_second_signal_while_processes_end_shortens_their_grace() -> None:
    _clock, ending, shutdown, _done = begun()
    ending.draining.callback(None)
    shutdown.hurry()
    assert ending.transcript[-2:] == ["stop 30", "stop 1"]


def test_h87_a_blocked_end_is_forced_by_a_thread(watchdogs: mock.Mock) -> None:
    _clock, ending, _, _done = begun()
    (seconds, give_up), _ = watchdogs.call_args
    assert seconds == 35
    assert watchdogs.return_value.daemon is True
    with (
        mock.patch("llamaswap.shutdown.os._exit") as ended,
        mock.patch("llamaswap.shutdown.os.write"),
    ):
        give_up()
    assert ending.transcript[-1] == "kill all"
    ended.assert_called_once_with(1)


@pytest.mark.usefixtures("watchdogs")
def test_a_bug_in_the_end_still_ends(logged_failures: Any) -> None:
    ending = FakeEnding()
    with mock.patch.object(ending, "refuse_new", side_effect=ZeroDivisionError):
        success_of(Shutdown(ending, Clock(), 1).begin())
    assert len(logged_failures.flush(ZeroDivisionError)) == 1
    assert ending.transcript[-1] == "closed"


@pytest.mark.usefixtures("watchdogs")
def test_a_bug_at_the_very_end_holds_nobody_up(logged_failures: Any) -> None:
    _clock, ending, _, done = begun()
    ending.draining.callback(None)
    with mock.patch.object(ending, "closed", side_effect=ZeroDivisionError):
        ending.stopped()
    success_of(done)
    assert len(logged_failures.flush(ZeroDivisionError)) == 1


def test_h87_forced_end_comes_even_when_nobody_can_be_found_to_kill(watchdogs: mock.Mock) -> None:
    _clock, ending, _, _done = begun()
    (_, give_up), _ = watchdogs.call_args
    with (
        mock.patch.object(ending, "kill_all", side_effect=ZeroDivisionError),
        mock.patch("llamaswap.shutdown.os._exit") as ended,
        pytest.raises(ZeroDivisionError),  # goes on only because the real _exit is not called
    ):
        give_up()
    ended.assert_called_once_with(1)


class TestSignals:
    """What signals do."""

    @pytest.fixture
    def heard(self) -> Iterator[list[str]]:
        """Signals are ours for the test; what they cause lands here."""
        from twisted.internet import reactor

        # That of the tests takes signals when it first runs, which may be in this very test.
        pytest_twisted.blockon(deferLater(reactor, 0))
        heard: list[str] = []

        def run(call: Callable[..., object], *args: Any) -> None:
            call(*args)

        words = ("stop", "hurry", "kill", "reload")
        stop, hurry, kill, reload = (lambda word=word: heard.append(word) for word in words)
        signals = Signals(stop, hurry, kill, run, reload)
        signals.install()
        try:
            yield heard
        finally:
            signals.restore()

    def test_first_stops_second_hurries_third_kills(self, heard: list[str]) -> None:
        with mock.patch("llamaswap.shutdown.os._exit") as ended:
            os.kill(os.getpid(), signal.SIGTERM)
            os.kill(os.getpid(), signal.SIGINT)
            assert heard == ["stop", "hurry"]
            os.kill(os.getpid(), signal.SIGTERM)
        assert heard == ["stop", "hurry", "kill"]
        ended.assert_called_once_with(143)

    def test_h89_hang_up_does_not_end_the_daemon_but_reloads_each_time(self, heard: list[str]) -> None:
        for _ in range(3):
            os.kill(os.getpid(), signal.SIGHUP)
        assert heard == ["reload"] * 3
