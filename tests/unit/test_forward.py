from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.interfaces import IPushProducer
from zope.interface.verify import verifyObject

from llamaswap.errors import (
    LlamaSwapError,
    NotReadyError,
    RequestCancelledError,
    UpstreamDisconnectedError,
    UpstreamUnreachableError,
)
from llamaswap.proxy.connection import StreamedBody
from llamaswap.proxy.forward import Forwarding
from llamaswap.proxy.headers import Fields, ResponseHead
from tests.unit.ends import CHUNKED, SMALL, STREAM, End, Upstream

EVENT = b'data: {"error":{}}\n\n'


class FakeClient:
    """The client's side; what it is told, in order."""

    client_host = b"127.0.0.1"
    request_id = "r-1"
    upgrade = b""

    def __init__(self, *, is_modern: bool = True, keeps_alive: bool = True) -> None:
        self.is_modern = is_modern
        self.keeps_alive = keeps_alive
        self.wire = b""
        self.status: int | None = None
        self.story: list[Any] = []
        self.taker: Forwarding | None = None
        self.relay: Callable[[bytes], None] = self._relay

    def taken_over(self, taker: Forwarding) -> None:
        self.taker = taker

    def answer_fields(self, head: ResponseHead) -> Fields:
        return []

    def relay_head(self, status: int, data: bytes) -> None:
        assert self.status is None
        self.status = status
        self._relay(data)

    def _relay(self, data: bytes) -> None:
        self.wire += data

    def tunnel(self) -> StreamedBody:
        raise AssertionError("nobody wants one here")

    def end(self, payload_bytes: int) -> None:
        self.story.append(("whole", payload_bytes))

    def cut(self, payload_bytes: int, error: LlamaSwapError, *, at_once: bool) -> None:
        self.story.append(("cut at once" if at_once else "cut", payload_bytes, type(error)))

    def refuse(self, error: LlamaSwapError) -> None:
        assert self.status is None
        self.story.append(error)

    def error_event(self, error: LlamaSwapError) -> bytes:
        return EVENT

    @property
    def body(self) -> bytes:
        return self.wire.partition(b"\r\n\r\n")[2]


class Way:
    """A forwarding between a client and an upstream in memory."""

    def __init__(self, client: FakeClient | None = None, method: bytes = b"POST") -> None:
        self.client = client or FakeClient()
        self.upstream = Upstream("http://127.0.0.1:5800/base")
        self.forwarding = Forwarding(
            self.client,
            method=method,
            target=b"/v1/x?a=1",
            headers=[(b"Host", b"h"), (b"Accept-Encoding", b"br, gzip")],
            body=b"body",
            on_end=self.client.story.append,
            is_metered=True,
        )

    def go(self) -> End:
        self.forwarding.granted(self.upstream.pool)
        return self.upstream.accept()

    @property
    def story(self) -> list[Any]:
        """What happened at the end: first the router is told, once, then the client."""
        story = self.client.story
        if story:
            assert story[0] is self.forwarding
            assert self.forwarding not in story[1:]
        return story[1:]


def test_the_waiter_is_a_producer_and_known_to_its_client() -> None:
    way = Way()
    verifyObject(IPushProducer, way.forwarding)
    assert way.client.taker is way.forwarding


def test_what_the_upstream_gets() -> None:
    end = Way().go()
    assert end.take() == (
        b"POST /base/v1/x?a=1 HTTP/1.1\r\nHost: h\r\nX-Forwarded-For: 127.0.0.1\r\nAccept-Encoding: gzip\r\n"
        b"X-Request-ID: r-1\r\nContent-Length: 4\r\n\r\nbody"
    )


def test_a_small_answer_is_one_write() -> None:
    way = Way()
    way.go().send(SMALL)
    assert way.client.wire == SMALL
    assert way.client.status == 200
    assert way.story == [("whole", 2)]


def test_chunks_pass_as_they_come_and_none_waits_for_the_next() -> None:
    way = Way()
    end = way.go()
    end.send(CHUNKED)
    assert way.client.wire == CHUNKED
    for piece in (b"5;x\r\nhe", b"llo\r", b"\n"):
        end.send(piece)
        assert way.client.wire.endswith(piece)
    end.send(b"0\r\nT: 1\r\n\r\n")
    assert way.client.body == b"5;x\r\nhello\r\n0\r\nT: 1\r\n\r\n"
    assert way.story == [("whole", 5)]


def test_h71_nothing_is_followed_decoded_or_kept() -> None:
    way = Way()
    answer = b"HTTP/1.1 302 Found\r\nLocation: /y\r\nSet-Cookie: a=1\r\nContent-Encoding: gzip\r\n"
    answer += b"Content-Length: 3\r\n\r\n\x1f\x8bx"
    way.go().send(answer)
    assert way.client.wire == answer


def test_interim_answers_pass() -> None:
    way = Way()
    way.go().send(b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" + SMALL)
    assert way.client.wire == b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" + SMALL
    assert way.client.status == 200


def test_old_clients_get_no_interim_answers() -> None:
    way = Way(FakeClient(is_modern=False, keeps_alive=False))
    way.go().send(b"HTTP/1.1 103 Early Hints\r\n\r\n" + SMALL)
    assert way.client.wire.startswith(b"HTTP/1.1 200 OK\r\n")


def test_an_answer_to_head_keeps_its_length_and_has_no_body() -> None:
    way = Way(method=b"HEAD")
    way.go().send(b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n")
    assert way.client.wire == b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n"
    assert way.story == [("whole", 0)]


def test_a_body_without_end_gets_chunks_so_that_the_client_knows_its_end() -> None:
    way = Way()
    end = way.go()
    end.send(b"HTTP/1.0 200 OK\r\nX: y\r\n\r\nabc")
    assert way.client.wire == b"HTTP/1.1 200 OK\r\nX: y\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n"
    end.send(b"de")
    end.close()
    assert way.client.body == b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"
    assert way.story == [("whole", 5)]


@given(st.lists(st.integers(min_value=0), max_size=6))
def test_old_clients_get_bodies_without_chunks(places: list[int]) -> None:
    way = Way(FakeClient(is_modern=False, keeps_alive=False))
    end = way.go()
    wire = b"3\r\nabc\r\n2;x\r\nde\r\n0\r\nT: t\r\n\r\n"
    end.send(CHUNKED)
    marks = [0, *sorted({p % len(wire) for p in places}), len(wire)]
    for a, b in pairwise(marks):
        end.send(wire[a:b])
    assert way.client.wire == b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nabcde"
    assert way.story == [("whole", 5)]


def test_a_client_that_wants_to_close_is_told_that_we_do() -> None:
    way = Way(FakeClient(keeps_alive=False))
    way.go().send(SMALL)
    assert b"\r\nConnection: close\r\n" in way.client.wire


# --------------------------------------------------------------------------- H40: one end, whatever it is


def test_h40_refused() -> None:
    way = Way()
    error = NotReadyError("m")
    way.forwarding.refused(error)
    way.forwarding.refused(error)
    way.forwarding.client_left()
    assert way.story == [error]


def test_h39_a_grant_to_a_client_that_left_is_not_taken() -> None:
    way = Way()
    way.forwarding.client_left()
    assert way.forwarding.is_ended
    way.forwarding.granted(way.upstream.pool)
    assert way.upstream.hosts == []
    assert way.story == []


def test_h60_client_leaves_while_connecting() -> None:
    way = Way()
    way.forwarding.granted(way.upstream.pool)
    way.forwarding.client_left()
    assert way.upstream.reactor.connectors[-1]._disconnected
    assert way.story == []


@pytest.mark.parametrize("seen", [b"", b"HTTP/1.1 200", CHUNKED, CHUNKED + b"3\r\nabc\r\n"])
def test_h60_client_leaves_while_the_upstream_works(seen: bytes) -> None:
    way = Way()
    end = way.go()
    if seen:
        end.send(seen)
    way.forwarding.client_left()
    assert end.is_aborted, "in the same turn"
    end.reset()
    way.forwarding.client_left()
    assert way.story == []


def test_upstream_refuses() -> None:
    way = Way()
    way.forwarding.granted(way.upstream.pool)
    way.upstream.refuse()
    [error] = way.story
    assert isinstance(error, UpstreamUnreachableError)
    assert error.status == 502


@pytest.mark.parametrize("seen", [b"", b"HTTP/1.1 200 OK\r\nContent-"])
def test_upstream_dies_before_its_head(seen: bytes) -> None:
    way = Way()
    end = way.go()
    if seen:
        end.send(seen)
    end.close()
    [error] = way.story
    assert isinstance(error, UpstreamUnreachableError)
    assert way.client.wire == b""


@pytest.mark.parametrize("head", [CHUNKED, b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n"])
def test_h63_upstream_dies_in_its_body(head: bytes) -> None:
    way = Way()
    end = way.go()
    end.send(head + b"3\r\nabc")
    end.close()
    assert way.client.wire.endswith(b"\r\n\r\n3\r\nabc"), "no last chunk, nothing of ours"
    assert way.story == [("cut", 3 if head is CHUNKED else 6, UpstreamDisconnectedError)]


def test_h63_old_clients_can_only_be_told_by_a_reset() -> None:
    way = Way(FakeClient(is_modern=False, keeps_alive=False))
    end = way.go()
    end.send(CHUNKED + b"3\r\nabc\r\n")
    end.close()
    assert way.story == [("cut at once", 3, UpstreamDisconnectedError)]


@pytest.mark.parametrize(
    ("seen", "added"),
    [
        (b"", b"14\r\n" + EVENT + b"\r\n"),
        (b"3\r\nabc\r\n", b"14\r\n" + EVENT + b"\r\n"),
        (b"3\r\nabc", b"\r\n14\r\n" + EVENT + b"\r\n"),
        (b"5\r\nabc", EVENT[:2] + b"\r\n12\r\n" + EVENT[2:] + b"\r\n"),
        (b"5", b""),
    ],
)
def test_an_event_stream_that_breaks_off_says_so_in_an_event(seen: bytes, added: bytes) -> None:
    way = Way()
    end = way.go()
    end.send(STREAM + seen)
    end.close()
    assert way.client.body == seen + added
    assert way.story[0][0] == "cut"


def test_an_event_stream_without_chunks_says_so_too() -> None:
    way = Way()
    end = way.go()
    end.send(b"HTTP/1.0 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: x\n\n")
    end.reset()
    assert way.client.body.endswith(b"\r\n14\r\n" + EVENT + b"\r\n")
    old = Way(FakeClient(is_modern=False, keeps_alive=False))
    end = old.go()
    end.send(STREAM + b"3\r\nabc\r\n")
    end.close()
    assert old.client.body == b"abc" + EVENT


def test_an_event_stream_of_known_length_has_no_room_for_more() -> None:
    way = Way()
    end = way.go()
    end.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: 50\r\n\r\ndata: x\n\n")
    end.close()
    assert way.client.body == b"data: x\n\n"


def test_the_pool_closes_under_a_stream() -> None:
    way = Way()
    end = way.go()
    end.send(STREAM)
    way.upstream.pool.close()
    assert end.is_aborted
    assert way.client.body == b"14\r\n" + EVENT + b"\r\n"
    assert way.story == [("cut", 0, UpstreamDisconnectedError)]


@pytest.mark.parametrize("stage", ["waiting", "connecting", "sent"])
def test_cancelled_by_us_before_the_answer(stage: str) -> None:
    way = Way()
    end = None
    if stage == "connecting":
        way.forwarding.granted(way.upstream.pool)
    elif stage == "sent":
        end = way.go()
    error = RequestCancelledError("request cancelled")
    way.forwarding.cancel(error)
    way.forwarding.cancel(error)
    assert way.story == [error]
    assert end is None or end.is_aborted


def test_cancelled_by_us_in_the_answer() -> None:
    way = Way()
    end = way.go()
    end.send(CHUNKED + b"1\r\na\r\n")
    way.forwarding.cancel(RequestCancelledError("request cancelled"))
    assert end.is_aborted
    assert way.story == [("cut", 1, RequestCancelledError)]


def test_nothing_is_told_of_places_in_the_queue() -> None:
    way = Way()
    way.forwarding.moved(1)
    assert way.client.wire == b""
    assert not way.forwarding.is_ended


# --------------------------------------------------------------------------- back-pressure


def test_h70_a_slow_client_pauses_the_upstream() -> None:
    way = Way()
    end = way.go()
    end.send(CHUNKED)
    way.forwarding.pauseProducing()
    assert end.transport.producerState == "paused"
    way.forwarding.resumeProducing()
    assert end.transport.producerState == "producing"
    way.forwarding.stopProducing()
    assert not way.forwarding.is_ended, "the client's departure is told by client_left"


def test_h70_a_client_that_was_slow_before_the_grant() -> None:
    way = Way()
    way.forwarding.pauseProducing()
    end = way.go()
    assert end.transport.producerState == "paused"
    way.forwarding.resumeProducing()
    assert end.transport.producerState == "producing"
