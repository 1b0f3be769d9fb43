from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.interfaces import ITCPTransport
from zope.interface import alsoProvides

from llamaswap.config.schema import HTTPConfig, ModelConfig
from llamaswap.core.values import ModelId
from llamaswap.web.crowd import Crowd, descriptor_limit
from tests.unit.edge_stack import PLAIN, Edge, get, post
from tests.unit.ends import End
from tests.unit.web_stack import Stack, config_of, response_of

MIB = 1024 * 1024
CHUNKED = "POST {} HTTP/1.1\r\nHost: h\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
TOO_LARGE = {
    "message": "request body too large",
    "type": "invalid_request_error",
    "param": None,
    "code": "payload_too_large",
}


@pytest.fixture
def stack() -> Stack:
    limits = HTTPConfig(max_body_mib=1)
    stack = Stack(config_of(ModelConfig(ModelId("p"), cmd="c", proxy="http://127.0.0.1:5800"), http=limits))
    stack.site.change_limits(limits)
    stack.be_ready("p")
    return stack


def hold(_request: object) -> None:
    """Answer later."""


def head_of(path: str, length: int, kind: str = "application/json") -> bytes:
    return f"POST {path} HTTP/1.1\r\nHost: h\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n\r\n".encode()


# --------------------------------------------------------------------------- bodies that are too long


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/upstream/p/x"])
def test_d9_a_body_that_says_it_is_too_long_is_not_read(stack: Stack, path: str) -> None:
    client = stack.connect()
    client.send(head_of(path, MIB + 1))
    reply = response_of(client.take())
    assert (reply.status, reply.document["error"]) == (413, TOO_LARGE)
    assert stack.router.entered == {}
    assert '" 413 ' in stack.access_lines[0]


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/upstream/p/x"])
def test_d9_a_body_as_long_as_it_may_be_is_taken(stack: Stack, path: str) -> None:
    body = b'{"model":"p"}'.ljust(MIB)
    client = stack.connect()
    client.send(head_of(path, MIB) + body)
    stack.accept()
    assert client.take() == b""


def test_d9_chunks_are_counted(stack: Stack) -> None:
    client = stack.connect()
    client.send(CHUNKED.format("/v1/chat/completions").encode())
    for _ in range(16):
        client.send(b"10000\r\n" + b"x" * 65536 + b"\r\n")
    assert client.take() == b""
    client.send(b"1\r\nx")
    reply = response_of(client.take())
    assert (reply.status, reply.document["error"]) == (413, TOO_LARGE)
    assert client.is_closed
    client.send(b"x" * 100_000)
    assert client.take() == b""


def test_d9_an_upstream_that_has_a_part_of_it_is_disconnected(stack: Stack) -> None:
    client = stack.connect()
    client.send(CHUNKED.format("/upstream/p/x").encode())
    upstream = stack.accept()
    client.send(b"100001\r\n" + b"x" * MIB)
    assert client.take() == b""
    client.send(b"x")
    reply = response_of(client.take())
    assert (reply.status, reply.document["error"]["code"]) == (413, "payload_too_large")
    assert upstream.is_closed
    assert stack.router.ended


def test_d9_an_answer_that_has_begun_is_cut(stack: Stack) -> None:
    client = stack.connect()
    client.send(CHUNKED.format("/upstream/p/x").encode())
    stack.accept().send(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc")
    client.send(b"100001\r\n" + b"x" * (MIB + 1))
    assert client.is_closed
    assert client.take().endswith(b"\r\n\r\nabc")
    assert len(stack.access_lines) == 1


def test_d9_who_may_not_come_in_is_told_that_first(stack: Stack) -> None:
    stack.daemon.config = config_of(api_keys=("k",))
    client = stack.connect()
    client.send(head_of("/v1/chat/completions", MIB + 1))
    assert response_of(client.take()).status == 401


def test_d9_an_urlencoded_form_has_a_limit_of_its_own() -> None:
    edge = Edge()
    end = edge.connect()
    end.send(head_of("/direct", 10 * MIB + 1, "application/x-www-form-urlencoded"))
    assert end.take().startswith(b"HTTP/1.1 413 ")
    end = edge.connect()
    end.send(head_of("/direct", 10 * MIB + 1, "text/plain"))
    assert end.take() == b""


def test_what_is_left_of_a_body_that_nobody_wants_is_not_counted() -> None:
    edge = Edge(HTTPConfig(max_body_mib=1))
    end = edge.connect()
    end.send(head_of("/upstream/m/x", MIB)[:-2] + b"\r\n")
    assert end.take() == PLAIN
    end.send(b"x" * MIB)
    assert edge.codes == [200]


# --------------------------------------------------------------------------- too many connections


def full(limit: int = 2) -> Edge:
    return Edge(HTTPConfig(max_connections=limit), hold)


def test_d18_the_connection_that_was_idle_for_longest_makes_room() -> None:
    edge = Edge(HTTPConfig(max_connections=2))
    first, second = edge.connect(), edge.connect()
    first.send(get())  # so it is idle for less long than the second
    third = edge.connect()
    assert [end.is_dropped for end in (first, second, third)] == [False, True, False]
    third.send(get())
    assert third.take() == PLAIN


def test_d18_requests_that_wait_or_stream_or_arrive_are_left_alone() -> None:
    edge = full(3)
    waiting, arriving, half = edge.connect(), edge.connect(), edge.connect()
    waiting.send(get())
    arriving.send(post(b"abc")[:-1])
    half.send(b"GET /direct")
    late = edge.connect()
    reply = response_of(late.take())
    assert (reply.status, reply.body) == (503, b"too many connections\n")
    assert reply.headers["retry-after"] == "1"
    assert reply.headers["connection"] == "close"
    assert late.is_dropped
    assert edge.log.lines == ['Request 192.168.1.1 "-" 503 21 "" 0µs']
    assert not any(end.is_dropped for end in (waiting, arriving, half))
    edge.requests[0].relay_head(200, PLAIN)
    edge.requests[0].end(2)
    assert edge.connect().take() == b"", "one is idle now"
    assert waiting.is_dropped


def test_d18_there_is_room_again_when_a_connection_has_gone() -> None:
    edge = full(1)
    first = edge.connect()
    first.send(get())
    assert edge.connect().take() != b""
    first.close()
    assert edge.connect().take() == b""


def test_d18_only_so_many_are_told_that_there_are_too_many() -> None:
    edge = full(1)
    edge.connect().send(get())
    ends = [edge.connect() for _ in range(70)]
    assert [end.is_aborted for end in ends] == [False] * 64 + [True] * 6
    for end in ends:
        end.close()
    assert len(edge.site.crowd) == 1


def test_d18_another_limit_holds_for_those_who_come() -> None:
    edge = full(1)
    edge.connect().send(get())
    edge.site.change_limits(HTTPConfig(max_connections=2))
    assert edge.connect().take() == b""


@pytest.mark.parametrize(("descriptors", "most"), [(1024, 384), (300, 22), (10, 16)])
def test_d18_the_descriptors_set_the_limit(descriptors: int, most: int) -> None:
    guest: Any = End
    crowd = Crowd(0, lambda: descriptors)
    admitted = 0
    for _ in range(500):
        each: Any = guest(_Silent())
        if crowd.admit(each):
            crowd.busy(each)
            admitted += 1
    assert admitted == most
    assert descriptor_limit() > 0


class _Silent:
    def makeConnection(self, transport: object) -> None:
        """Do nothing."""


# --------------------------------------------------------------------------- the log of answers to what is no request


@pytest.mark.parametrize(
    ("sent", "line"),
    [
        (b"GET /a?key=secret HTTP/1.1\r\n\r\n", '"GET /a" 400 13'),
        (b"GET / HTTP/1.1\r\nHost: h\r\nHost: h\r\n\r\n", '"GET / HTTP/1.1" 400 24'),
        (b"\xff" * 300 + b"\r\n\r\n", f'"{chr(0xFFFD) * 200}" 400'),
        (b"GET /" + b"x" * 2000, f'"GET /{"x" * 195}" 431 22'),
    ],
)
def test_refusals_are_logged_with_their_status(sent: bytes, line: str) -> None:
    edge = Edge(HTTPConfig(max_header_bytes=1000))
    edge.ask(sent)
    assert len(edge.log.lines) == 1
    assert edge.log.lines[0].startswith(f"Request 192.168.1.1 {line}")


def test_heads_that_do_not_come_are_logged_if_they_began() -> None:
    edge = Edge()
    silent, slow = edge.connect(), edge.connect()
    slow.send(b"GET /slow HTT")
    for _ in range(32):
        edge.reactor.advance(1)
    assert silent.take().startswith(b"HTTP/1.1 408 ")
    assert slow.take().startswith(b"HTTP/1.1 408 ")
    assert edge.log.lines == ['Request 192.168.1.1 "GET /slow HTT" 408 33 "" 0µs']


def test_bodies_that_do_not_come_are_logged_with_their_status() -> None:
    edge = Edge()
    end = edge.connect()
    end.send(post(b"abc")[:-1])
    for _ in range(62):
        edge.reactor.advance(1)
    assert end.take().startswith(b"HTTP/1.1 408 ")
    [line] = edge.log.lines
    assert line.startswith('Request 192.168.1.1 "POST /direct HTTP/1.1" 408 33 ')


def test_d18_who_makes_way_and_does_not_read_loses_the_connection() -> None:
    edge = Edge(HTTPConfig(max_connections=1))
    first = edge.connect()
    first.send(get())
    second = edge.connect()
    assert first.is_dropped  # as soon as all is sent, which its client can put off for ever
    aborted = []
    for _ in range(3):
        aborted.append(first.is_aborted)
        edge.reactor.advance(1)
    assert [*aborted, first.is_aborted] == [False, False, True, True]
    assert not second.is_aborted


def test_d18_hundreds_that_are_late_do_not_hold_up_everybody() -> None:
    edge = Edge()
    ends = [edge.connect() for _ in range(120)]
    for end in ends:
        alsoProvides(end.transport, ITCPTransport)  # then they are listened to for a while
        end.transport.loseWriteConnection = end.transport.loseConnection
    edge.reactor.rightNow += 31
    told = []
    for _ in range(3):
        [call] = edge.reactor.getDelayedCalls()
        assert call.getTime() <= edge.reactor.rightNow
        call.cancel()
        edge.site.deadlines._look()
        told.append(sum(b" 408 " in end.transport.value() for end in ends))
    assert told == [50, 100, 120]
    [call] = edge.reactor.getDelayedCalls()
    assert call.getTime() == edge.reactor.rightNow + 1
