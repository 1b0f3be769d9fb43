from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import Deferred

from llamaswap.web.edge import EdgeRequest
from tests.conftest import LoggedFailures
from tests.unit.edge_stack import PLAIN, Edge, get, post


@pytest.fixture
def edge() -> Edge:
    return Edge()


def test_kleins_routes_work_as_ever(edge: Edge) -> None:
    seen: list[Any] = []

    def handle(request: Any) -> bytes:
        seen.append((request.args, request.content.read(), request.requestHeaders.getRawHeaders("x-a")))
        request.setHeader(b"X-B", b"2")
        return b"done"

    edge.klein = handle
    reply = edge.ask(post(b"abc", "/klein?q=1&q=2&e=", "X-A: 1\r\n"))
    assert seen == [({b"q": [b"1", b"2"], b"e": [b""]}, b"abc", ["1"])]
    assert b"\r\nX-B: 2\r\n" in reply
    assert reply.count(b"\r\nDate: ") == 1
    assert b"Server" not in reply
    assert reply.endswith(b"4\r\ndone\r\n0\r\n\r\n")
    assert (edge.codes, edge.finished[0].sentLength) == ([200], 4)


def test_a_klein_route_streams_chunk_by_chunk(edge: Edge) -> None:
    done: Deferred[None] = Deferred()

    def handle(request: EdgeRequest) -> Deferred[None]:
        request.write(b"one")
        return done

    edge.klein = handle
    end = edge.connect()
    end.send(get("/klein") + get())
    assert end.take().endswith(b"\r\n\r\n3\r\none\r\n")
    edge.requests[0].write(b"two")
    assert end.take() == b"3\r\ntwo\r\n"
    done.callback(None)
    assert end.take() == b"0\r\n\r\n" + PLAIN


def test_a_client_that_leaves_cancels_a_klein_route(edge: Edge) -> None:
    cancelled: list[Deferred[None]] = []
    edge.klein = lambda _: Deferred(cancelled.append)
    end = edge.connect()
    end.send(get("/klein"))
    end.close()
    assert len(cancelled) == 1
    assert edge.codes == [499]


def test_a_klein_route_that_fails_is_logged_and_answered(edge: Edge, logged_failures: LoggedFailures) -> None:
    def fail(_request: EdgeRequest) -> None:
        raise ZeroDivisionError

    edge.klein = fail
    assert edge.ask(get("/klein")).startswith(b"HTTP/1.1 500 ")
    assert len(logged_failures.flush(ZeroDivisionError)) == 1


def test_old_clients_get_klein_routes_without_chunks(edge: Edge) -> None:
    end = edge.connect()
    end.send(b"GET /klein HTTP/1.0\r\n\r\n")
    reply = end.take()
    assert reply.startswith(b"HTTP/1.0 200 OK\r\n")
    assert reply.endswith(b"\r\n\r\nklein")
    assert end.is_dropped


def test_closing_is_announced_by_klein_routes(edge: Edge) -> None:
    assert b"\r\nConnection: close\r\n" in edge.ask(get("/klein", "Connection: close\r\n"))


def test_producers_of_klein_routes_are_told_when_the_client_is_slow(edge: Edge) -> None:
    class Producer:
        states: list[str] = []  # noqa: RUF012

        def pauseProducing(self) -> None:
            self.states.append("paused")

        def resumeProducing(self) -> None:
            self.states.append("producing")

    def handle(request: Any) -> Deferred[None]:
        request.registerProducer(Producer(), True)
        return Deferred(lambda _: None)

    edge.klein = handle
    end = edge.connect()
    end.send(get("/klein"))
    end.transport.producer.pauseProducing()
    end.transport.producer.resumeProducing()
    assert Producer.states == ["paused", "producing"]
    request: Any = edge.requests[0]
    request.unregisterProducer()
    request.channel.pauseProducing()
    assert Producer.states == ["paused", "producing"]
    request.registerProducer(Producer(), True)
    assert Producer.states == ["paused", "producing", "paused"], "the client is slow already"
    with pytest.raises(ValueError, match="push"):
        request.channel.registerProducer(Producer(), False)
    end.close()


def test_a_query_may_hold_any_bytes(edge: Edge) -> None:
    seen: list[Any] = []

    def handle(request: Any) -> bytes:
        seen.append(request.args)
        return b"done"

    edge.klein = handle
    assert b"done" in edge.ask(get("/klein?%C2%B0=%FF&x;=&&=&y"))
    assert seen == [{b"\xc2\xb0": [b"\xff"], b"": [b"", b""]}]
