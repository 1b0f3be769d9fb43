"""A model that prints a lot, and a reader of its log that does not read."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any, Final

import pytest_twisted
from klein import Klein
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import HostnameEndpoint, connectProtocol
from twisted.internet.protocol import ProcessProtocol, Protocol
from twisted.python.failure import Failure
from twisted.web.server import Site

from llamaswap.config.schema import Config, ModelConfig
from llamaswap.core.values import ModelId
from llamaswap.telemetry.logs import LogMonitor, Logs
from llamaswap.web.logs import STREAM_PATH, LogRoutes
from tests.unit.marks import assert_accounts_for, dropped_bytes

MODEL: Final = ModelId("m")
LIMIT_SECONDS: Final = 60
LINE: Final = b"%07d " + b"x" * 91 + b"\n"
COUNT: Final = 500_000
PROGRAM: Final = f"""
import sys
line = b"x" * 91 + b"\\n"
for number in range(0, {COUNT}, 100):
    sys.stdout.buffer.write(b"".join(b"%07d %s" % (each, line) for each in range(number, number + 100)))
"""


@dataclass
class Daemon:
    config: Config
    logs: Logs


class Printer(ProcessProtocol):
    """Passes what a child prints to a log."""

    def __init__(self, log: LogMonitor) -> None:
        self._log = log
        self.ended: Deferred[int | None] = Deferred()

    def outReceived(self, data: bytes) -> None:
        self._log.write(data)

    def processEnded(self, reason: Failure) -> None:
        self.ended.callback(getattr(reason.value, "exitCode", None))


class Reader(Protocol):
    """A client of the log that reads only when it is told to."""

    transport: Any

    def __init__(self) -> None:
        self.has_head: Deferred[None] = Deferred()
        self.ended: Deferred[None] = Deferred()
        self._received: list[bytes] = []

    def connectionMade(self) -> None:
        self.transport.write(b"GET %s/%s HTTP/1.0\r\n\r\n" % (STREAM_PATH.encode(), MODEL.encode()))

    def dataReceived(self, data: bytes) -> None:
        if not self._received:
            self.transport.pauseProducing()
            self.has_head.callback(None)
        self._received.append(data)

    def connectionLost(self, reason: Failure = Failure(ConnectionError())) -> None:  # noqa: B008
        self.ended.callback(None)

    def read(self) -> None:
        self.transport.resumeProducing()

    def body(self) -> bytes:
        return b"".join(self._received).partition(b"\r\n\r\n")[2]


@pytest_twisted.ensureDeferred
async def test_h29_a_reader_that_never_reads_does_not_hold_up_50_mb_of_output() -> None:
    from twisted.internet import reactor

    clock: Any = reactor
    config = Config(models={MODEL: ModelConfig(MODEL)})
    logs = Logs(config, clock, clock.callFromThread, lambda _: None)
    routes = LogRoutes(Daemon(config, logs))
    klein = Klein()
    klein.route(STREAM_PATH, branch=True)(routes.stream)
    port = clock.listenTCP(0, Site(klein.resource()), interface="127.0.0.1")
    try:
        endpoint = HostnameEndpoint(clock, "127.0.0.1", port.getHost().port)
        reader = await connectProtocol(endpoint, Reader()).addTimeout(LIMIT_SECONDS, clock)
        await reader.has_head.addTimeout(LIMIT_SECONDS, clock)
        printer = Printer(logs.model(MODEL))
        clock.spawnProcess(printer, sys.executable, [sys.executable, "-c", PROGRAM])
        assert await printer.ended.addTimeout(LIMIT_SECONDS, clock) == 0
        assert logs.model(MODEL).history().endswith(LINE % (COUNT - 1))
        reader.read()
        logs.end_readers()
        await reader.ended.addTimeout(LIMIT_SECONDS, clock)
    finally:
        await port.stopListening()
    got = reader.body()
    assert dropped_bytes(got) > 0
    assert_accounts_for(got, b"".join(LINE % number for number in range(COUNT)))
