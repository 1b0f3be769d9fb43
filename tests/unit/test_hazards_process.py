"""Hazards of processes and of the daemon that no other test names, without any process."""

from __future__ import annotations

import errno
import os
import resource
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from llamaswap.config.schema import ModelConfig
from llamaswap.core.values import ModelId, ProcessState, StopReason
from llamaswap.errors import UpstreamStartError
from llamaswap.process import table
from llamaswap.process.local import LocalLauncher
from llamaswap.process.table import ProcessTable
from llamaswap.process.upstream import Upstream
from llamaswap.service import raise_descriptor_limit
from llamaswap.shutdown import Shutdown
from tests.deferreds import failure_of, no_result, success_of
from tests.fakes import Events, FakeAgent, FakeProcessReactor, FakeTable
from tests.unit.test_layers import callers_of, importers_of
from tests.unit.test_shutdown import FakeEnding

# --------------------------------------------------------------------------- H86


@mock.patch("llamaswap.shutdown.threading.Timer", mock.Mock())
def test_h86_the_end_comes_after_the_last_process_whoever_asked_for_it() -> None:
    clock, ending = Clock(), FakeEnding()
    shutdown = Shutdown(ending, clock, 10)
    first = shutdown.begin()
    ending.draining.callback(None)
    shutdown.hurry()
    second = shutdown.begin()
    clock.advance(60)
    no_result(first)
    no_result(second)
    assert "closed" not in ending.transcript
    ending.stopped()
    success_of(first)
    success_of(second)
    assert ending.transcript.count("closed") == 1


# --------------------------------------------------------------------------- H90


class RecordingPool:
    """A pool of threads that never has a thread free."""

    def __init__(self) -> None:
        self.waiting: list[Callable[..., object]] = []

    def callInThreadWithCallback(self, on_result: object, function: Callable[..., object], *args: object) -> None:
        """Record."""
        self.waiting.append(function)


def test_h90_the_processes_of_the_machine_are_scanned_in_threads() -> None:
    pool = RecordingPool()
    reactor = mock.Mock(**{"getThreadPool.return_value": pool})
    processes = ProcessTable(reactor)
    processes._has_children_files = False  # as on a system without these files
    scans: list[Deferred[Any]] = [
        Deferred.fromCoroutine(processes.search("marker", 1)),
        Deferred.fromCoroutine(processes.descendants(1)),
        processes.resident_bytes(1),
        processes.listeners(80),
    ]
    for scan in scans:
        no_result(scan)
    assert pool.waiting == [table._search, table._descendants, table._resident_bytes, table._listeners]


BEFORE_THE_REACTOR = {"llamaswap.process.orphans", "llamaswap.process.death_signal"}
"""What runs once, bounded, before the reactor does."""


@pytest.mark.parametrize(
    "call",
    ["sleep", "getaddrinfo", "gethostbyname", "create_connection", "process_iter", "wait_procs", "communicate"],
)
def test_h90_nothing_waits_on_the_reactors_thread(call: str) -> None:
    assert {m for m in callers_of(call) if not m.startswith("llamaswap.demo")} <= BEFORE_THE_REACTOR


def test_h90_nothing_that_can_only_wait_is_imported() -> None:
    waiting = importers_of("subprocess", "urllib.request", "http.client", "requests")
    assert {m for m in waiting if not m.startswith("llamaswap.demo")} <= BEFORE_THE_REACTOR


def test_h90_only_the_store_opens_a_database() -> None:
    # The others are handed a connection, in the store's thread.
    assert callers_of("connect") & importers_of("sqlite3") == {"llamaswap.telemetry.schema"}


# --------------------------------------------------------------------------- H98


@pytest.mark.parametrize(
    ("soft", "hard", "wanted"),
    [
        (1024, 4096, 4096),
        (1024, resource.RLIM_INFINITY, 1 << 20),
        (1024, 1 << 30, 1 << 20),
        (4096, 4096, None),
        (1 << 21, 1 << 21, None),
    ],
)
def test_h98_the_limit_of_open_files_is_raised_and_never_lowered(soft: int, hard: int, wanted: int | None) -> None:
    with (
        mock.patch("llamaswap.service.resource.getrlimit", return_value=(soft, hard)),
        mock.patch("llamaswap.service.resource.setrlimit") as changed,
    ):
        raise_descriptor_limit()
    expected = [] if wanted is None else [mock.call(resource.RLIMIT_NOFILE, (wanted, hard))]
    assert changed.mock_calls == expected


@pytest.mark.parametrize("scarce", ["pipe", "open", "spawn"])
def test_h98_a_start_without_descriptors_fails_and_the_next_one_may_succeed(
    monkeypatch: pytest.MonkeyPatch, scarce: str
) -> None:
    def refuse(*_: object) -> int:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    reactor = FakeProcessReactor()
    upstream = Upstream(
        ModelConfig(ModelId("m"), argv=("/bin/sh",), proxy="http://model.invalid", check_endpoint="none"),
        clock=reactor,
        launcher=LocalLauncher(reactor, table=FakeTable(), spawn=reactor.spawn),
        probe_agent=FakeAgent(),
        events=Events(),
        on_output=lambda _: None,
        environ={},
        cwd="/",
    )
    before = len(list(Path("/dev/fd").iterdir()))
    with monkeypatch.context() as patch:
        if scarce == "spawn":
            patch.setattr(reactor, "spawn_error", OSError(errno.EMFILE, os.strerror(errno.EMFILE)))
        else:
            patch.setattr(os, scarce, refuse)
        error = failure_of(upstream.ensure_ready(), UpstreamStartError).value
    assert str(error) == "failed to start command '/bin/sh': too many open files"
    assert upstream.state is ProcessState.STOPPED
    assert len(list(Path("/dev/fd").iterdir())) == before, "what was opened for it is closed"
    assert success_of(upstream.ensure_ready()) == 2
    stopped = upstream.stop(1, StopReason.USER)
    reactor.children[-1].end()
    success_of(stopped)
    reactor.read()
