"""Upstreams over TLS: who is trusted, and what becomes of a request when nobody is."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.interfaces import IHandshakeListener, IOpenSSLServerConnectionCreator
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.test import iosim
from zope.interface.verify import verifyObject

from llamaswap.config.schema import Timeouts
from llamaswap.proxy.hop import HopPool
from llamaswap.proxy.secure import SecureConnection
from tests.certificates import Signed, sign
from tests.unit.ends import REQUEST, SMALL, Taker, ask

HERE = sign()
ELSEWHERE = sign("elsewhere.example")


class Server(Protocol):
    """Keeps what comes, and answers."""

    def __init__(self) -> None:
        self.received = b""

    def dataReceived(self, data: bytes) -> None:
        self.received += data
        assert self.transport is not None
        self.transport.write(SMALL)


class Rig:
    """A pool, and a server that shows a certificate."""

    def __init__(self, url: str = "https://127.0.0.1:8443", trusted: Signed | None = HERE) -> None:
        self.reactor: Any = MemoryReactorClock()
        trust = trusted.trust() if trusted is not None else None
        self.pool = HopPool(self.reactor, url, Timeouts(), trust=trust)

    def connect(self, shown: Signed = HERE) -> tuple[Server, Any]:
        """Accept the connection that was tried, and let both sides talk."""
        _, _, factory, _, _ = self.reactor.tcpClients.pop()
        server = Server()
        listening = Factory.forProtocol(lambda: server)
        secured = TLSMemoryBIOFactory(shown, False, listening, clock=self.reactor)
        server_side, client_side = secured.buildProtocol(None), factory.buildProtocol(None)
        pump = iosim.connect(
            server_side,
            iosim.FakeTransport(server_side, isServer=True),
            client_side,
            iosim.FakeTransport(client_side, isServer=False),
        )
        self.run(pump)
        return server, pump

    def run(self, pump: Any) -> None:
        """Let both sides talk, longer than any exchange takes."""
        for _ in range(20):
            pump.pump()
            self.reactor.advance(0)


def asked(rig: Rig) -> Taker:
    return ask(rig.pool)


def test_a_request_goes_out_over_a_connection_whose_certificate_is_in_order() -> None:
    rig = Rig()
    taker = asked(rig)
    server, pump = rig.connect()
    assert server.received == REQUEST
    assert taker.body == b"ok"
    again = asked(rig)
    rig.run(pump)
    assert server.received == REQUEST + REQUEST
    assert again.body == b"ok"
    assert not rig.reactor.tcpClients


@pytest.mark.parametrize(
    ("trusted", "shown", "cause"),
    [
        (ELSEWHERE, HERE, "certificate verify failed"),
        (None, HERE, "certificate verify failed"),
        (ELSEWHERE, ELSEWHERE, "the certificate is for another host"),
    ],
)
def test_nothing_is_sent_to_somebody_else(trusted: Signed | None, shown: Signed, cause: str) -> None:
    rig = Rig(trusted=trusted)
    taker = asked(rig)
    server, _ = rig.connect(shown)
    assert server.received == b""
    assert str(taker.error) == f"no secure connection to the upstream: {cause}"


def test_a_name_is_verified_too() -> None:
    rig = Rig("https://elsewhere.example", ELSEWHERE)
    taker = asked(rig)
    rig.connect(ELSEWHERE)
    assert taker.body == b"ok"


def test_a_handshake_takes_as_long_as_is_configured() -> None:
    rig = Rig()
    taker = asked(rig)
    [(_, _, factory, _, _)] = rig.reactor.tcpClients
    transport = StringTransport()
    factory.buildProtocol(None).makeConnection(transport)
    rig.reactor.advance(9.9)
    assert taker.error is None
    rig.reactor.advance(0.2)
    assert str(taker.error) == "no secure connection to the upstream: the handshake took too long"
    assert transport.disconnected


def test_a_request_that_is_cancelled_in_the_handshake_is_not_sent() -> None:
    rig = Rig()
    taker = asked(rig)
    taker.call.cancel()
    server, _ = rig.connect()
    assert server.received == b""
    assert not taker.is_over


def test_a_secure_connection_listens_to_handshakes() -> None:
    rig = Rig()
    nobody: Any = lambda _: None  # noqa: E731
    connection = SecureConnection(rig.pool, nobody, nobody, keepalive_seconds=0, handshake_seconds=0)
    assert verifyObject(IHandshakeListener, connection)


def test_a_tests_certificate_makes_a_servers_connections() -> None:
    assert verifyObject(IOpenSSLServerConnectionCreator, HERE)
