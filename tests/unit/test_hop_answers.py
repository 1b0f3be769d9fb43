from __future__ import annotations

import pytest

from llamaswap.errors import UpstreamDisconnectedError, UpstreamUnreachableError
from tests.unit.ends import CHUNKED, REQUEST, Upstream, ask


@pytest.fixture
def upstream() -> Upstream:
    return Upstream()


@pytest.mark.parametrize("size", [1, 5, 1000])
def test_any_cut_of_an_answer_gives_the_same_answer(upstream: Upstream, size: int) -> None:
    taker = ask(upstream.pool)
    end = upstream.accept()
    body = b"3\r\nabc\r\n10;x=y\r\n0123456789abcdef\r\n0\r\nTrailer: t\r\n\r\n"
    wire = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + CHUNKED + body
    for i in range(0, len(wire), size):
        end.send(wire[i : i + size])
    assert taker.interims == [103], "the client was told to continue by us"
    assert taker.body == body, "framing, extension and trailer as they came"
    assert taker.ends == 1
    end.take()
    ask(upstream.pool)
    assert end.take() == REQUEST


def test_a_paused_connection_is_resumed_before_it_is_pooled(upstream: Upstream) -> None:
    taker = ask(upstream.pool)
    end = upstream.accept()
    end.send(CHUNKED)
    taker.call.pause()
    assert end.transport.producerState == "paused"
    end.send(b"0\r\n\r\n")
    assert taker.ends == 1
    assert end.transport.producerState == "producing"
    taker.call.pause()
    assert end.transport.producerState == "producing", "the exchange is over: it has no say any more"


def test_a_pause_before_the_connection_is_there_holds(upstream: Upstream) -> None:
    taker = ask(upstream.pool)
    taker.call.pause()
    end = upstream.accept()
    assert end.transport.producerState == "paused"
    taker.call.resume()
    assert end.transport.producerState == "producing"


def test_an_answer_that_says_close_ends_its_connection(upstream: Upstream) -> None:
    taker = ask(upstream.pool)
    end = upstream.accept()
    end.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")
    assert taker.ends == 1
    assert end.is_dropped
    ask(upstream.pool)
    assert upstream.hosts == ["127.0.0.1"]


def test_the_end_of_the_connection_ends_an_open_body(upstream: Upstream) -> None:
    taker = ask(upstream.pool)
    end = upstream.accept()
    end.send(b"HTTP/1.0 200 OK\r\n\r\nabc")
    assert taker.ends == 0
    end.close()
    assert (taker.body, taker.ends) == (b"abc", 1)


def test_a_reset_does_not_end_an_open_body_well(upstream: Upstream) -> None:
    taker = ask(upstream.pool)
    end = upstream.accept()
    end.send(b"HTTP/1.0 200 OK\r\n\r\nabc")
    end.reset()
    assert isinstance(taker.error, UpstreamDisconnectedError)


@pytest.mark.parametrize("head", [CHUNKED + b"3\r\nab", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nab"])
def test_h63_an_answer_that_breaks_off_is_no_answer(upstream: Upstream, head: bytes) -> None:
    taker = ask(upstream.pool)
    end = upstream.accept()
    end.send(head)
    end.close()
    assert isinstance(taker.error, UpstreamDisconnectedError)
    assert taker.ends == 0


@pytest.mark.parametrize("wire", [b"garbage\r\n\r\n", b"HTTP/1.1 101 Switching Protocols\r\n\r\n", b"x" * 1_100_000])
def test_a_malformed_head_is_an_unreachable_upstream(upstream: Upstream, wire: bytes) -> None:
    taker = ask(upstream.pool)
    end = upstream.accept()
    end.send(wire)
    assert isinstance(taker.error, UpstreamUnreachableError)
    assert end.is_aborted


def test_a_malformed_chunk_breaks_the_answer_off(upstream: Upstream) -> None:
    taker = ask(upstream.pool)
    end = upstream.accept()
    end.send(CHUNKED)
    end.send(b"nonsense\r\n")
    assert isinstance(taker.error, UpstreamDisconnectedError)
    assert end.is_aborted
