"""What pytest lacks beside Twisted's own test runner: leaks fail the test that made them."""

from __future__ import annotations

import contextlib
import faulthandler
import gc
import os
import time
from collections.abc import Iterator
from functools import cache
from typing import Any, Final

import pytest
import pytest_twisted
from _pytest import unittest
from hypothesis import settings
from twisted.internet import error, process
from twisted.internet.base import DelayedCall
from twisted.internet.task import deferLater
from twisted.logger import ILogObserver, LogEvent, globalLogPublisher
from twisted.python.failure import Failure
from zope.interface import implementer

# The examples of each property: few in every run, many in `make test`.
settings.register_profile("quick", parent=settings.default, max_examples=20)
settings.register_profile("thorough", parent=settings.default, max_examples=100)
settings.load_profile("quick")

# Each test ends with a collection anyway.
gc.disable()

# pytest reads Twisted's version out of its metadata before each test.
unittest._get_twisted_version = cache(unittest._get_twisted_version)

HANG_SECONDS: Final = 120
_WATCH_SECONDS: Final = 30


class HangWatch:
    """Shows where a test hangs, as pytest's ``faulthandler_timeout`` does, but not with one thread for each test."""

    def __init__(self) -> None:
        self._stderr = os.dup(2)
        self._begun_mono = 0.0

    def pytest_runtest_logstart(self) -> None:
        """Watch from now on, unless that has begun lately: this test has a little less time then."""
        now_mono = time.monotonic()
        if now_mono - self._begun_mono > _WATCH_SECONDS:
            self._begun_mono = now_mono
            faulthandler.dump_traceback_later(HANG_SECONDS + _WATCH_SECONDS, file=self._stderr)

    def pytest_unconfigure(self) -> None:
        """Watch no more."""
        faulthandler.cancel_dump_traceback_later()
        os.close(self._stderr)


def pytest_configure(config: pytest.Config) -> None:
    """Watch the tests, while standard error is not captured yet."""
    config.pluginmanager.register(HangWatch())


@implementer(ILogObserver)
class LoggedFailures:
    """The failures that were logged during a test, unhandled Deferred errors among them."""

    def __init__(self) -> None:
        self._failures: list[Failure] = []

    def __call__(self, event: LogEvent) -> None:
        """Observe a log event."""
        failure = event.get("log_failure")
        if failure is not None:
            self._failures.append(failure)

    def flush(self, *types: type[BaseException]) -> list[Failure]:
        """Take the failures of these types out, all of them without types: they were expected."""
        gc.collect()
        taken = [f for f in self._failures if not types or f.check(*types) is not None]
        self._failures = [f for f in self._failures if f not in taken]
        return taken


@pytest.fixture(scope="session", autouse=True)
def own_state_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep the daemons of the tests away from what the user's own one has noted."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("STATE_DIRECTORY", raising=False)
        patch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))
        yield


@pytest.fixture(autouse=True)
def logged_failures() -> Iterator[LoggedFailures]:
    """Fail a test that logs a failure, or forgets a failed Deferred, and does not flush it."""
    # What is alive now is left out of the collection after the test, which is quick then.
    gc.freeze()
    observer = LoggedFailures()
    globalLogPublisher.addObserver(observer)
    try:
        yield observer
        left = observer.flush()
    finally:
        globalLogPublisher.removeObserver(observer)
    if left:
        pytest.fail("failures were logged:\n" + "\n".join(f.getTraceback() for f in left), pytrace=False)


@pytest.fixture(autouse=True)
def clean_reactor() -> Iterator[None]:
    """Fail a test that leaves a timer, a selectable or a child in the real reactor, and remove it."""
    before = _population()
    yield
    left = _population() - before
    for _ in range(2 if left else 0):
        # What ends in the next turns, such as a connection told to close, is not a leak.
        pytest_twisted.blockon(deferLater(_reactor(), 0))
        left = _population() - before
    for each in left:
        _remove(each)
    if left:
        pytest.fail("left in the reactor:\n" + "\n".join(map(str, left)), pytrace=False)


def _reactor() -> Any:
    from twisted.internet import reactor

    return reactor


def _population() -> set[Any]:
    """Everything that may still happen in the reactor: timers, descriptors, children not reaped."""
    reactor = _reactor()
    wakers = reactor._internalReaders
    selectables = {*reactor.getReaders(), *reactor.getWriters()} - wakers
    return {*reactor.getDelayedCalls(), *selectables, *process.reapProcessHandlers.values()}


def _remove(left: Any) -> None:
    if isinstance(left, DelayedCall):
        left.cancel()
    elif isinstance(left, process.Process):
        with contextlib.suppress(error.ProcessExitedAlready):
            left.signalProcess("KILL")
    else:
        reactor = _reactor()
        reactor.removeReader(left)
        reactor.removeWriter(left)
        left.connectionLost(Failure(error.ConnectionAborted()))
