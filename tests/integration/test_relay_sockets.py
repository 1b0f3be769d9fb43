"""The data path on real sockets: who is told when somebody leaves, and how much is in memory meanwhile."""

from __future__ import annotations

import socket
from collections.abc import Callable, Coroutine
from functools import wraps
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP6ServerEndpoint
from twisted.internet.interfaces import IPullProducer
from zope.interface.verify import verifyObject

from tests.integration.relay_rig import LIMIT_SECONDS, Flood, Peer, Rig

MIB = 1 << 20
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
STREAM = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
GET = b"GET /upstream/x HTTP/1.1\r\nHost: h\r\n\r\n"


def limited(test: Callable[[], Coroutine[Any, Any, None]]) -> Any:
    """Make a coroutine a test that ends in time."""

    @wraps(test)
    async def run() -> None:
        from twisted.internet import reactor

        clock: Any = reactor
        await Deferred.fromCoroutine(test()).addTimeout(LIMIT_SECONDS, clock)

    return pytest_twisted.ensureDeferred(run)


@limited
async def test_h60_client_leaves_in_the_answer() -> None:
    rig = Rig(lambda peer: peer.transport.write(STREAM + b"1\r\na\r\n"))
    await rig.listen()
    client = await rig.connect()
    client.transport.write(GET)
    await client.seen(b"1\r\na\r\n")
    client.transport.loseConnection()
    await rig.accepted[0].lost
    assert rig.in_flight == set()
    assert rig.log[0].startswith('Request 127.0.0.1 "GET /upstream/x HTTP/1.1" 200 1 ')
    await rig.close()


@limited
async def test_h60_client_leaves_before_the_answer() -> None:
    rig = Rig()
    await rig.listen()
    client = await rig.connect()
    client.transport.write(GET)
    while not rig.accepted:
        await rig.turn()
    await rig.accepted[0].seen(b"\r\n\r\n")
    client.transport.abortConnection()
    await rig.accepted[0].lost
    assert rig.in_flight == set()
    assert " 499 0 " in rig.log[0]
    await rig.close()


@limited
async def test_h60_client_leaves_while_its_body_is_sent() -> None:
    rig = Rig()
    await rig.listen()
    client = await rig.connect()
    client.transport.write(b"POST /upstream/x HTTP/1.1\r\nHost: h\r\nContent-Length: 100\r\n\r\nsome")
    while not rig.accepted:
        await rig.turn()
    await rig.accepted[0].seen(b"some")
    client.transport.loseConnection()
    await rig.accepted[0].lost
    assert rig.in_flight == set()
    await rig.close()


@limited
async def test_h63_an_upstream_that_dies_leaves_no_whole_answer() -> None:
    def die(peer: Peer) -> None:
        peer.transport.write(STREAM + b"1\r\na\r\n1\r\n")
        peer.transport.loseConnection()

    rig = Rig(die)
    await rig.listen()
    client = await rig.connect()
    client.transport.write(GET)
    await client.lost
    assert b"upstream_disconnected" in client.received
    assert not client.received.endswith(b"0\r\n\r\n")
    assert rig.in_flight == set()
    await rig.close()


@limited
async def test_h70_a_slow_client_holds_the_upstream_back() -> None:
    size = 200 * MIB
    floods: list[Flood] = []
    most_between = 0

    def flood(peer: Peer) -> None:
        peer.transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
        floods.append(Flood(peer.transport, size))

    def read(peer: Peer) -> None:
        nonlocal most_between
        most_between = max(most_between, floods[0].sent - peer.count)
        peer.transport.pauseProducing()
        rig.reactor.callLater(0, peer.transport.resumeProducing)

    rig = Rig(flood, keeps=False)
    await rig.listen()
    client = await rig.connect(read, keeps=False)
    client.transport.write(GET)
    await client.until(lambda peer: peer.count > size)
    assert most_between < 32 * MIB, "sockets' buffers of the kernel among them"
    await rig.close()


@limited
async def test_h70_a_slow_upstream_holds_the_client_back() -> None:
    size = 100 * MIB
    most_between = 0

    def read(peer: Peer) -> None:
        nonlocal most_between
        most_between = max(most_between, flood.sent - peer.count)
        if peer.count > size:
            peer.transport.write(OK)
            return
        peer.transport.pauseProducing()
        rig.reactor.callLater(0, peer.transport.resumeProducing)

    rig = Rig(read, keeps=False)
    await rig.listen()
    client = await rig.connect()
    client.transport.write(b"POST /upstream/x HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n" % size)
    flood = Flood(client.transport, size)
    verifyObject(IPullProducer, flood)
    await client.seen(b"ok")
    assert most_between < 32 * MIB
    assert rig.in_flight == set()
    await rig.close()


@limited
async def test_an_upload_that_nobody_wants_can_read_why() -> None:
    def refuse(peer: Peer) -> None:
        if not peer.transport.disconnecting:
            peer.transport.write(b"HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\nConnection: close\r\n\r\nno!")
            peer.transport.loseConnection()

    rig = Rig(refuse, keeps=False)
    await rig.listen()
    client = await rig.connect()
    client.transport.write(b"POST /upstream/x HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n" % (50 * MIB))
    Flood(client.transport, 50 * MIB)
    await client.lost
    assert client.received.endswith(b"no!")
    assert rig.in_flight == set()
    await rig.close()


@limited
async def test_h72_connections_that_the_upstream_closes_cost_no_request() -> None:
    def answer(peer: Peer) -> None:
        peer.transport.write(OK)
        peer.transport.loseConnection()

    rig = Rig(answer)
    await rig.listen()
    client = await rig.connect()
    for _ in range(20):
        client.transport.write(GET)
        await client.seen(b"ok")
        assert client.take().endswith(b"\r\n\r\nok")
    assert [peer.received.count(b"GET ") for peer in rig.accepted] == [1] * 20, "none was sent twice"
    await rig.close()


@limited
async def test_a_kept_connection_serves_all_requests() -> None:
    rig = Rig(lambda peer: peer.transport.write(OK))
    await rig.listen()
    client = await rig.connect()
    for _ in range(20):
        client.transport.write(GET)
        await client.seen(b"ok")
        client.take()
    assert len(rig.accepted) == 1
    await rig.close()


@limited
async def test_h73_localhost_may_be_version_6_only() -> None:
    if not has_ipv6():
        pytest.skip("this machine has no ::1")
    rig = Rig(lambda peer: peer.transport.write(OK))
    await rig.listen(TCP6ServerEndpoint, "::1")
    client = await rig.connect()
    client.transport.write(GET)
    await client.seen(b"ok")
    await rig.close()


def has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as trial:
            trial.bind(("::1", 0))
    except OSError:
        return False
    return True
