"""The fixtures of ``tests/conftest.py`` fail tests that leak, and only those."""

from __future__ import annotations

from pathlib import Path

import pytest
from twisted.logger import ILogObserver
from zope.interface.verify import verifyObject

from tests import conftest

PLANTED = """
from twisted.internet import reactor
from twisted.internet.defer import fail, succeed
from twisted.internet.protocol import Factory, ProcessProtocol
from twisted.logger import Logger
import pytest_twisted

def test_forgotten_error():
    fail(ValueError("lost"))

def test_logged_failure():
    try:
        raise KeyError("k")
    except KeyError:
        Logger().failure("went wrong")

def test_timer():
    reactor.callLater(100, print)

def test_listening_port():
    reactor.listenTCP(0, Factory(), interface="127.0.0.1")

def test_child():
    reactor.spawnProcess(ProcessProtocol(), "/bin/sleep", ["sleep", "100"], childFDs={})

def test_flushed(logged_failures):
    fail(ValueError("expected"))
    assert len(logged_failures.flush(ValueError)) == 1

def test_flushed_another_type(logged_failures):
    fail(ValueError("lost"))
    assert logged_failures.flush(KeyError) == []

def test_clean():
    succeed(1)
    reactor.callLater(100, print).cancel()

@pytest_twisted.ensureDeferred
async def test_port_that_closes():
    port = reactor.listenTCP(0, Factory(), interface="127.0.0.1")
    await port.stopListening()
"""


def test_planted_leaks_fail_and_nothing_else_does(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(conftest.__file__).parents[1]))
    pytester.makeconftest("from tests.conftest import clean_reactor, logged_failures")
    pytester.makepyfile(PLANTED)

    result = pytester.runpytest_subprocess(
        "-rpE", "-p", "no:randomly", "-p", "no:cacheprovider", "-p", "no:schemathesis"
    )

    # A leak is found after the test itself has passed: an error of its teardown.
    result.assert_outcomes(passed=9, errors=6)
    leaky = {
        "test_forgotten_error",
        "test_logged_failure",
        "test_timer",
        "test_listening_port",
        "test_child",
        "test_flushed_another_type",
    }
    errors = {
        line.split("::")[1].split(" ")[0] for line in result.outlines if line.startswith("ERROR ") and "::" in line
    }
    assert errors == leaky


def test_logged_failures_are_an_observer() -> None:
    assert verifyObject(ILogObserver, conftest.LoggedFailures())
