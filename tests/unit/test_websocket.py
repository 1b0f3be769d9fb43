"""Websockets between a client and a model's server in memory."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.error import ConnectionLost
from twisted.python.failure import Failure

from llamaswap.config.schema import ModelConfig, Peer
from llamaswap.core.values import ModelId, ProcessState
from llamaswap.proxy.websocket import wanted_upgrade
from llamaswap.web import channel
from tests.unit.web_stack import End, Stack, config_of, response_of

SWITCH = b"HTTP/1.1 101 Switched\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: x\r\n\r\n"
HANDSHAKE = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Key": "k", "Sec-WebSocket-Version": "13"}


@pytest.fixture
def stack() -> Stack:
    models = [
        ModelConfig(ModelId("alpha"), proxy="http://127.0.0.1:5800"),
        ModelConfig(ModelId("wsign"), proxy="http://127.0.0.1:5800", ignore_websockets=True),
    ]
    peer = Peer("p1", proxy="http://peer.example/base", models=("remote-m",), api_key="secret")
    stack = Stack(config_of(*models, peers={"p1": peer}))
    stack.be_ready("alpha", "wsign")
    return stack


def open_tunnel(stack: Stack, target: str = "/upstream/alpha/ws", early: bytes = b"") -> tuple[End, End]:
    """Give the client's end and the server's, behind the handshake."""
    client = stack.begin("GET", target, headers=HANDSHAKE)
    server = stack.accept()
    server.take()
    server.send(SWITCH + early)
    head, _, rest = client.take().partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 101 ")
    assert rest == early
    return client, server


# --------------------------------------------------------------------------- handshakes


@pytest.mark.parametrize(
    ("connection", "upgrade"),
    [
        (b"Upgrade", b"websocket"),
        (b"upgrade", b"WebSocket"),
        (b"keep-alive, Upgrade", b"websocket"),
        (b"keep-alive,upgrade ,x", b"h2c, websocket"),
    ],
)
def test_handshakes_are_known_by_words_in_lists(connection: bytes, upgrade: bytes) -> None:
    assert wanted_upgrade(b"GET", {b"connection": connection, b"upgrade": upgrade}) == upgrade


@pytest.mark.parametrize(
    ("method", "named"),
    [
        (b"GET", {b"upgrade": b"websocket"}),
        (b"GET", {b"connection": b"upgrade"}),
        (b"GET", {b"connection": b"upgrades", b"upgrade": b"websocket"}),
        (b"GET", {b"connection": b"upgrade", b"upgrade": b"h2c"}),
        (b"POST", {b"connection": b"upgrade", b"upgrade": b"websocket"}),
        (b"GET", {b"connection": b"upgrade", b"upgrade": b"websocket", b"content-length": b"1"}),
        (b"GET", {b"connection": b"upgrade", b"upgrade": b"websocket", b"transfer-encoding": b"chunked"}),
    ],
)
def test_what_is_no_handshake(method: bytes, named: dict[bytes, bytes]) -> None:
    assert wanted_upgrade(method, named) == b""


def test_h65_a_handshake_reaches_the_server_from_repeated_headers(stack: Stack) -> None:
    client = stack.connect()
    client.send(
        b"GET /upstream/alpha/ws HTTP/1.1\r\nHost: h\r\nConnection: keep-alive, X-Mine\r\nConnection: Upgrade\r\n"
        b"X-Mine: 1\r\nUpgrade: websocket\r\nSec-WebSocket-Key: k\r\n\r\n",
    )
    lines = stack.accept().take().split(b"\r\n")
    assert lines[0] == b"GET /ws HTTP/1.1"
    for line in (b"Connection: Upgrade", b"Upgrade: websocket", b"Sec-WebSocket-Key: k"):
        assert lines.count(line) == 1
    assert b"X-Mine: 1" not in lines


def test_an_upgrade_to_something_else_is_not_passed_on(stack: Stack) -> None:
    stack.begin("GET", "/upstream/alpha/x", headers={"Connection": "Upgrade", "Upgrade": "h2c"})
    assert b"pgrade" not in stack.accept().take()


@pytest.mark.parametrize("target", ["/upstream/alpha/ws", "/props?model=alpha"])
def test_v48_both_sides_speak_raw(stack: Stack, target: str) -> None:
    client, server = open_tunnel(stack, target)
    for piece in (b"\x81\x02hi", b"\r\n\r\n", b"GET / HTTP/1.1\r\n\r\n"):
        client.send(piece)
        assert server.take() == piece
        server.send(piece)
        assert client.take() == piece


@pytest.mark.parametrize(
    ("target", "sent"),
    [("/upstream/p1/remote-m/ws", b"GET /base/ws "), ("/props?model=remote-m", b"GET /base/props?model=remote-m ")],
)
def test_a_peer_is_spoken_to_likewise(stack: Stack, target: str, sent: bytes) -> None:
    client = stack.begin("GET", target, headers=HANDSHAKE)
    server = stack.accept()
    request = server.take()
    assert request.startswith(sent)
    for line in (b"Host: peer.example", b"Connection: Upgrade", b"Upgrade: websocket", b"x-api-key: secret"):
        assert request.split(b"\r\n").count(line) == 1
    server.send(SWITCH + b"early")
    assert client.take().endswith(b"\r\n\r\nearly")
    client.send(b"late")
    assert server.take() == b"late"
    server.leave()
    assert client.is_closed
    assert not stack.router.entered


def test_the_answers_head_says_what_was_switched_to(stack: Stack) -> None:
    client = stack.begin("GET", "/upstream/alpha/ws", headers=HANDSHAKE)
    stack.accept().send(SWITCH)
    lines = client.take().split(b"\r\n")
    for line in (b"Upgrade: websocket", b"Connection: Upgrade", b"Sec-WebSocket-Accept: x"):
        assert lines.count(line) == 1
    assert not [line for line in lines if line.lower().startswith((b"transfer-encoding", b"content-length"))]


def test_early_bytes_of_the_server_follow_the_head(stack: Stack) -> None:
    open_tunnel(stack, early=b"\x81\x05hello")


def test_early_bytes_of_the_client_wait_for_the_head(stack: Stack) -> None:
    client = stack.begin("GET", "/upstream/alpha/ws", headers=HANDSHAKE)
    server = stack.accept()
    server.take()
    client.send(b"\x81\x01a")
    client.send(b"\x81\x01b")
    assert server.take() == b""
    server.send(SWITCH)
    assert server.take() == b"\x81\x01a\x81\x01b"


def test_an_answer_that_switches_nothing_is_a_normal_one(stack: Stack) -> None:
    client = stack.begin("GET", "/upstream/alpha/ws", headers=HANDSHAKE)
    client.send(b"GET /health HTTP/1.1\r\nHost: h\r\n\r\n")
    server = stack.accept()
    server.take()
    server.send(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 2\r\n\r\nno")
    first, _, second = client.take().partition(b"\r\n\r\nno")
    assert first.startswith(b"HTTP/1.1 400 ")
    assert second.startswith(b"HTTP/1.1 200 "), "what came behind the handshake is the next request"
    assert not client.is_closed
    assert len(stack.router.ended) == 1


def test_a_switch_that_nobody_asked_for_is_no_answer(stack: Stack) -> None:
    client = stack.begin("GET", "/upstream/alpha/ws")
    server = stack.accept()
    server.send(SWITCH)
    assert response_of(client.take()).status == 502
    assert server.is_closed


# --------------------------------------------------------------------------- the end


def test_the_client_leaves_and_what_it_sent_still_arrives(stack: Stack) -> None:
    client, server = open_tunnel(stack)
    client.send(b"last")
    client.leave()
    assert server.take() == b"last"
    assert server.transport.disconnecting
    assert not server.transport.disconnected, "that could take the last bytes away from the server"
    server.leave()
    assert len(stack.router.ended) == 1
    stack.reactor.advance(1)
    assert not stack.reactor.getDelayedCalls()


def test_a_server_that_does_not_read_is_not_waited_for(stack: Stack) -> None:
    client, server = open_tunnel(stack)
    client.leave()
    stack.reactor.advance(5)
    assert server.transport.disconnected
    server.leave()
    assert not stack.reactor.getDelayedCalls()


@pytest.mark.parametrize("is_abrupt", [False, True])
def test_the_server_leaves(stack: Stack, is_abrupt: bool) -> None:  # noqa: FBT001
    client, server = open_tunnel(stack)
    server.send(b"last")
    server.leave() if not is_abrupt else server._protocol.connectionLost(Failure(ConnectionLost()))
    assert client.take() == b"last"
    assert client.transport.disconnecting
    assert not client.transport.disconnected
    client.leave()
    assert len(stack.router.ended) == 1


def test_its_line_in_the_access_log(stack: Stack) -> None:
    client, server = open_tunnel(stack, early=b"ab")
    client.send(b"to the server")
    server.send(b"cde")
    server.leave()
    [line] = stack.access_lines
    assert ' "GET /upstream/alpha/ws HTTP/1.1" 101 5 ' in line
    client.leave()
    assert len(stack.access_lines) == 1


def test_its_line_when_the_client_leaves(stack: Stack) -> None:
    client, server = open_tunnel(stack)
    server.send(b"cde")
    client.leave()
    assert '" 101 3 ' in stack.access_lines[0]


def test_the_generation_ends_under_it(stack: Stack) -> None:
    client, server = open_tunnel(stack)
    assert stack.router.pool is not None
    stack.router.pool.close()
    assert client.is_closed
    assert client.take() == b"", "nothing of ours in what both sides say"
    assert server.is_closed
    server.leave()


def test_it_is_cancelled_like_any_request(stack: Stack) -> None:
    client, _ = open_tunnel(stack)
    [exchange] = stack.daemon.observers.ledger.exchanges()
    assert exchange.cancel()
    assert client.is_closed
    assert len(stack.router.ended) == 1


def test_its_connection_serves_nobody_else(stack: Stack) -> None:
    _, server = open_tunnel(stack)
    server.leave()
    stack.begin("GET", "/upstream/alpha/x")
    assert stack.accept().take().startswith(b"GET /x ")


def test_nothing_is_ever_due(stack: Stack) -> None:
    client, server = open_tunnel(stack)
    client.send(b"one")
    stack.reactor.advance(1_000_000)
    server.take()
    client.send(b"two")
    stack.reactor.pump([1] * 200)
    assert server.take() == b"two"
    assert not client.is_closed


# --------------------------------------------------------------------------- back-pressure


def producer_of(end: End) -> Any:
    """Give what is told that this end reads slowly."""
    return end.transport.producer


def test_a_slow_server_holds_the_client_back(stack: Stack) -> None:
    client, server = open_tunnel(stack)
    producer_of(server).pauseProducing()
    assert client.transport.producerState == "paused"
    stack.reactor.pump([1] * 200)
    assert not client.is_closed, "no deadline runs, and it is still there"
    producer_of(server).resumeProducing()
    assert client.transport.producerState == "producing"


def test_h74_a_client_that_we_make_wait_may_have_left_something_to_read(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    client, server = open_tunnel(stack)
    producer_of(server).pauseProducing()
    monkeypatch.setattr(channel, "has_hung_up", lambda _: True)
    stack.reactor.advance(1)
    assert not client.is_closed
    monkeypatch.setattr(channel, "is_broken", lambda _: True)
    stack.reactor.advance(1)
    assert client.is_closed


def test_a_slow_client_holds_the_server_back(stack: Stack) -> None:
    client, server = open_tunnel(stack)
    producer_of(client).pauseProducing()
    assert server.transport.producerState == "paused"
    producer_of(client).resumeProducing()
    assert server.transport.producerState == "producing"


def test_a_client_that_never_reads_the_end_is_not_waited_for(stack: Stack) -> None:
    client, server = open_tunnel(stack)
    producer_of(client).pauseProducing()
    server.leave()
    stack.reactor.pump([1] * 50)
    assert client.transport.disconnecting
    was_open = not client.transport.disconnected
    stack.reactor.pump([1] * 20)
    assert was_open
    assert client.transport.disconnected
    client.leave()
    stack.reactor.advance(1)
    assert not stack.reactor.getDelayedCalls()


def test_a_client_that_reads_the_end_slowly_gets_all_of_it(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    left = [3000]
    monkeypatch.setattr(channel, "unsent_bytes", lambda _: left[0])
    client, server = open_tunnel(stack)
    producer_of(client).pauseProducing()
    server.leave()
    for _ in range(3):
        left[0] -= 500
        stack.reactor.pump([1] * 61)
        assert not client.transport.disconnected
    stack.reactor.pump([1] * 61)
    assert client.transport.disconnected, "it has read nothing for a minute"
    client.leave()


# --------------------------------------------------------------------------- ignored ones


def test_v49_an_ignored_one_starts_nothing(stack: Stack) -> None:
    stack.router.states["wsign"] = ProcessState.STARTING
    answer = stack.ask("GET", "/upstream/wsign/ws", headers=HANDSHAKE)
    assert answer.status == 409
    message = "model wsign is not loaded; ignored websocket requests cannot start it"
    assert answer.document["error"]["message"] == message
    assert not stack.router.entered


def test_v49_an_ignored_one_is_not_counted(stack: Stack) -> None:
    client, server = open_tunnel(stack, "/upstream/wsign/ws")
    client.send(b"a")
    server.send(b"b")
    assert (server.take(), client.take()) == (b"a", b"b")
    assert not stack.router.entered
    assert not stack.daemon.observers.ledger.exchanges()
    server.leave()
    client.leave()
    assert not stack.router.ended


def test_h66_an_ignored_one_ends_with_its_process(stack: Stack) -> None:
    client, _ = open_tunnel(stack, "/upstream/wsign/ws")
    assert stack.router.pool is not None
    stack.router.pool.close()
    assert client.is_closed


def test_an_ordinary_request_of_such_a_model_is_counted(stack: Stack) -> None:
    stack.begin("GET", "/upstream/wsign/x")
    assert stack.router.models == ["wsign"]


def test_the_end_of_the_daemon_waits_for_tunnels_but_not_for_ignored_ones(stack: Stack) -> None:
    client, _ = open_tunnel(stack)
    ignored, _ = open_tunnel(stack, "/upstream/wsign/ws")
    stack.site.close_idle()
    assert ignored.is_closed
    assert not client.is_closed


# --------------------------------------------------------------------------- closed because it is in the way

CLIENT_FRAME = b"\x81\x85\x01\x02\x03\x04iemhn"  # a masked "hello"
SERVER_FRAME = b"\x81\x05hello"


def told(last: bytes) -> tuple[int, str]:
    """Read a closing frame, masked with zeros or not at all."""
    assert last[0] == 0x88
    is_masked, size = bool(last[1] & 0x80), last[1] & 0x7F
    content = last[2:].removeprefix(bytes(4)) if is_masked else last[2:]
    assert len(content) == size
    return int.from_bytes(content[:2]), content[2:].decode()


def test_a_tunnel_in_the_way_is_closed_with_1012_on_both_sides(stack: Stack) -> None:
    client, server = open_tunnel(stack)
    client.send(CLIENT_FRAME)
    server.send(SERVER_FRAME)
    assert (server.take(), client.take()) == (CLIENT_FRAME, SERVER_FRAME)
    stack.router.waiter.end_tunnel()
    to_server, to_client = server.take(), client.take()
    assert to_server[1] & 0x80, "RFC 6455: who speaks to a server masks"
    assert not to_client[1] & 0x80
    assert told(to_server) == told(to_client) == (1012, "another model has waited for too long")
    stack.reactor.advance(0)
    assert len(stack.router.ended) == 1
    assert client.is_closed
    assert server.is_closed
    client.leave()
    server.leave()
    stack.reactor.advance(10)
    assert not stack.reactor.getDelayedCalls()


@pytest.mark.parametrize("cut", range(1, len(CLIENT_FRAME)))
def test_it_is_closed_between_two_frames(stack: Stack, cut: int) -> None:
    client, server = open_tunnel(stack)
    client.send(CLIENT_FRAME[:cut])
    server.send(SERVER_FRAME)
    stack.router.waiter.end_tunnel()
    stack.reactor.advance(1)
    assert server.take() == CLIENT_FRAME[:cut], "not in the midst of one"
    assert not stack.router.ended
    client.send(CLIENT_FRAME[cut:] + CLIENT_FRAME)
    rest = server.take()
    assert rest.startswith(CLIENT_FRAME[cut:])
    assert told(rest[len(CLIENT_FRAME) - cut :])[0] == 1012
    client.send(CLIENT_FRAME)
    server.send(SERVER_FRAME)
    assert server.take() == b"", "nothing follows the end"
    assert told(client.take().removeprefix(SERVER_FRAME))[0] == 1012
    stack.reactor.advance(0)
    assert len(stack.router.ended) == 1


def test_a_frame_without_an_end_is_not_waited_for(stack: Stack) -> None:
    client, server = open_tunnel(stack)
    server.send(b"\x82\x7f" + (1 << 40).to_bytes(8) + b"x")
    stack.router.waiter.end_tunnel()
    stack.reactor.advance(4.9)
    assert not stack.router.ended
    stack.reactor.advance(0.2)
    assert len(stack.router.ended) == 1
    assert client.is_closed


def test_one_that_is_being_asked_for_is_closed_when_it_is_there(stack: Stack) -> None:
    client = stack.begin("GET", "/upstream/alpha/ws", headers=HANDSHAKE)
    server = stack.accept()
    stack.router.waiter.end_tunnel()
    assert not stack.router.ended
    server.send(SWITCH + SERVER_FRAME)
    _, _, rest = client.take().partition(b"\r\n\r\n")
    assert told(rest.removeprefix(SERVER_FRAME))[0] == 1012
    stack.reactor.advance(0)
    assert len(stack.router.ended) == 1


def test_ordinary_requests_are_never_cut(stack: Stack) -> None:
    for headers in ({}, HANDSHAKE):
        client = stack.begin("GET", "/upstream/alpha/x", headers=headers)
        server = stack.accept()
        [(_, waiter, _)] = stack.router.entered.values()
        waiter.end_tunnel()
        server.send(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nab")
        waiter.end_tunnel()
        stack.reactor.advance(100)
        server.send(b"cd")
        assert client.take().endswith(b"\r\n\r\nabcd")
        assert not client.is_closed
        stack.router.entered.clear()
        server.leave()


def test_a_tunnel_that_ends_by_itself_meanwhile_ends_once(stack: Stack) -> None:
    client, server = open_tunnel(stack)
    client.send(CLIENT_FRAME[:3])
    waiter = stack.router.waiter
    waiter.end_tunnel()
    client.leave()
    waiter.end_tunnel()
    stack.reactor.advance(10)
    server.leave()
    assert len(stack.router.ended) == 1
    assert not stack.reactor.getDelayedCalls()
