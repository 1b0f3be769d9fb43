from __future__ import annotations

import gc
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.interfaces import IPushProducer, ITCPTransport
from zope.interface import directlyProvides
from zope.interface.verify import verifyObject

from llamaswap.config.schema import HTTPConfig
from llamaswap.errors import LlamaSwapError, NotFoundError
from llamaswap.proxy.call import HopCall
from llamaswap.proxy.forward import Forwarding
from llamaswap.proxy.framing import chunk
from llamaswap.web import channel
from llamaswap.web.bodies import PassingBody, WholeBody
from llamaswap.web.edge import EdgeRequest
from tests.unit.edge_stack import PLAIN, Edge, answer, get, post
from tests.unit.ends import CHUNKED, End, Upstream

CHUNKED_HEAD = b"POST /upstream/m/x HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"


class Sink:
    """Takes a body that passes by."""

    def __init__(self) -> None:
        self.data = b""
        self.ends = 0

    def body_received(self, data: bytes) -> None:
        assert not self.ends
        self.data += data

    def body_ended(self) -> None:
        self.ends += 1

    def body_failed(self, error: LlamaSwapError) -> None:
        raise error


class Source:
    is_held_up = False

    def hold_up(self) -> None:
        self.is_held_up = True

    def read_on(self) -> None:
        self.is_held_up = False


def hold(_request: EdgeRequest) -> None:
    """Answer later."""


def passing(edge: Edge) -> Any:
    body = edge.requests[-1].body
    assert isinstance(body, PassingBody)
    return body


@pytest.fixture
def edge() -> Edge:
    return Edge(handle=hold)


# --------------------------------------------------------------------------- gathered


@given(st.lists(st.binary(min_size=1, max_size=20), max_size=5), st.booleans(), st.integers(1, 9))
def test_a_gathered_body_is_its_payload(payload: list[bytes], is_chunked: bool, size: int) -> None:  # noqa: FBT001
    content = b"".join(payload)
    wire = b"".join(map(chunk, payload)) + b"0\r\n\r\n" if is_chunked else content
    body = WholeBody(None if is_chunked else len(content))
    ends = [body.feed(wire[i : i + size]) for i in range(0, len(wire), size)]
    assert body.content() == content
    if wire:
        assert ends[-1] >= 0
        assert set(ends[:-1]) <= {-1}


def test_what_follows_a_gathered_body_is_not_taken() -> None:
    body = WholeBody(3)
    assert body.feed(b"abcdef") == 3
    assert body.content() == b"abc"


# --------------------------------------------------------------------------- passing by


def test_a_streamed_request_begins_before_its_body(edge: Edge) -> None:
    end = edge.connect()
    end.send(post(b"abcdef", "/upstream/m/x")[:-4])
    body = passing(edge)
    verifyObject(IPushProducer, body)
    assert body.length == 6
    sink = Sink()
    body.attach(sink)
    assert sink.data == b"ab"
    end.send(b"cd")
    end.send(b"efGET")
    assert (sink.data, sink.ends) == (b"abcdef", 1)
    answer(edge.requests[0])
    assert end.take() == PLAIN
    end.send(b" /direct HTTP/1.1\r\nHost: h\r\n\r\n")
    assert edge.requests[1].path == b"/direct"


def test_a_streamed_request_whose_body_is_there_has_it(edge: Edge) -> None:
    end = edge.connect()
    end.send(post(b"abc", "/upstream/m/x"))
    end.send(get("/upstream/m/x"))
    assert edge.bodies == [b"abc"]


def test_chunks_of_a_streamed_body_pass_as_they_come(edge: Edge) -> None:
    end = edge.connect()
    end.send(CHUNKED_HEAD + b"3;x\r\nab")
    body = passing(edge)
    assert body.length is None
    sink = Sink()
    body.attach(sink)
    end.send(b"c\r\n0\r\nT: 1\r\n\r\n")
    assert (sink.data, sink.ends) == (b"3;x\r\nabc\r\n0\r\nT: 1\r\n\r\n", 1)


def test_a_body_that_nobody_takes_yet_makes_its_client_wait(edge: Edge) -> None:
    end = edge.connect()
    end.send(post(b"x" * 900_000, "/upstream/m/x")[:600_000])
    assert end.transport.producerState == "paused"
    sink = Sink()
    passing(edge).attach(sink)
    assert end.transport.producerState == "producing"
    assert 590_000 < len(sink.data) < 600_000
    end.send(b"x" * 10)
    assert end.transport.producerState == "producing", "who takes it says when it is too much"


def test_a_slow_upstream_makes_the_client_wait(edge: Edge) -> None:
    end = edge.connect()
    end.send(post(b"abcdef", "/upstream/m/x")[:-4])
    body = passing(edge)
    body.attach(Sink())
    body.pauseProducing()
    assert end.transport.producerState == "paused"
    body.resumeProducing()
    assert end.transport.producerState == "producing"
    body.stopProducing()


def test_an_upstream_that_is_slow_with_the_last_piece_does_not_hold_the_client_for_ever() -> None:
    source = Source()
    body = PassingBody(3, source)

    class Slow(Sink):
        def body_received(self, data: bytes) -> None:
            super().body_received(data)
            body.pauseProducing()

    sink = Slow()
    body.attach(sink)
    body.feed(b"ab")
    assert source.is_held_up
    body.feed(b"c")
    assert (sink.data, sink.ends) == (b"abc", 1)
    assert not source.is_held_up


def test_the_rest_of_an_unwanted_body_is_read_to_no_end(edge: Edge) -> None:
    end = edge.connect()
    end.send(post(b"x" * 1000, "/upstream/m/x", "Expect: 100-continue\r\n")[:-900])
    edge.requests[0].refuse(NotFoundError("no such model"))
    assert end.take().startswith(b"HTTP/1.1 404 ")
    assert not end.is_dropped
    end.send(b"x" * 900 + get())
    assert edge.requests[1].path == b"/direct"


def test_a_long_unwanted_body_ends_the_connection(edge: Edge) -> None:
    end = edge.connect()
    end.send(post(b"x" * 2_000_000, "/upstream/m/x")[:600_000])
    assert end.transport.producerState == "paused"
    edge.requests[0].refuse(NotFoundError("no such model"))
    assert end.transport.producerState == "producing"
    end.send(b"x" * 200_000)
    assert not end.is_dropped
    end.send(b"x" * 200_000)
    assert end.is_dropped


def test_a_client_that_is_still_sending_can_read_the_last_answer(edge: Edge) -> None:
    halves: list[End] = []
    end = edge.connect()
    directlyProvides(end.transport, ITCPTransport)
    end.transport.loseWriteConnection = lambda: halves.append(end)
    end.send(post(b"abc", "/upstream/m/x", "Connection: close\r\n")[:-1])
    edge.requests[0].refuse(NotFoundError("no such model"))
    assert halves == [end]
    assert not end.is_dropped
    end.send(b"c" + get())
    assert len(edge.requests) == 1
    assert overdue(edge, end, 4)
    assert end.is_aborted


def test_a_malformed_streamed_body_disconnects_who_has_a_part_of_it(edge: Edge) -> None:
    left: list[int] = []

    class Taker:
        payload_bytes = 0

        def client_left(self) -> None:
            left.append(1)

    taker: Any = Taker()
    for has_begun in (False, True):
        end = edge.connect()
        end.send(CHUNKED_HEAD)
        edge.requests[-1].taken_over(taker)
        if has_begun:
            edge.requests[-1].relay_head(200, b"HTTP/1.1 200 OK\r\n\r\n")
        end.send(b"nonsense\r\n")
        assert end.is_dropped
        assert end.is_aborted is has_begun
        assert end.take().startswith(b"HTTP/1.1 200 " if has_begun else b"HTTP/1.1 400 ")
    assert left == [1, 1]


# --------------------------------------------------------------------------- deadlines


def overdue(edge: Edge, end: End, seconds: float) -> bool:
    """Let time pass; tell whether the client was hung up on."""
    for _ in range(int(seconds * 2)):
        edge.reactor.advance(0.5)
    return end.is_dropped


def test_a_head_must_come_in_time(edge: Edge) -> None:
    end = edge.connect()
    end.send(b"GET /")
    assert not overdue(edge, end, 29)
    end.send(b"direct")
    assert overdue(edge, end, 3), "further pieces gain no time"
    assert end.take().startswith(b"HTTP/1.1 408 Request Timeout\r\n")


def test_a_connection_must_say_something_in_time(edge: Edge) -> None:
    assert overdue(edge, edge.connect(), 31)


def test_a_kept_connection_may_rest_for_ever(edge: Edge) -> None:
    edge.handle = answer
    end = edge.connect()
    end.send(get())
    assert not overdue(edge, end, 100_000)
    end.send(b"GET")
    assert overdue(edge, end, 31)


def test_a_request_may_wait_and_stream_for_ever(edge: Edge) -> None:
    end = edge.connect()
    end.send(post(b"abc"))
    assert not overdue(edge, end, 100_000)
    edge.requests[0].relay_head(200, b"HTTP/1.1 200 OK\r\n\r\n")
    assert not overdue(edge, end, 100_000)


@pytest.mark.parametrize("path", ["/direct", "/upstream/m/x"])
def test_a_body_must_go_on_coming(edge: Edge, path: str) -> None:
    end = edge.connect()
    end.send(post(b"abc", path)[:-2])
    assert not overdue(edge, end, 59)
    end.send(b"b")
    assert not overdue(edge, end, 59), "each piece gains time"
    assert overdue(edge, end, 3)
    assert end.take().startswith(b"HTTP/1.1 408 ")
    assert edge.codes == [408]


def test_a_body_that_we_paused_may_take_its_time(edge: Edge) -> None:
    end = edge.connect()
    end.send(post(b"x" * 600_000, "/upstream/m/x")[:-10])
    assert end.transport.producerState == "paused"
    assert not overdue(edge, end, 1000)
    passing(edge).attach(Sink())
    assert overdue(edge, end, 62)


@pytest.mark.parametrize("data", [b"", b"GET", post(b"abc")[:-1]])
def test_deadlines_can_be_off(data: bytes) -> None:
    edge = Edge(HTTPConfig(header_timeout_seconds=0, body_timeout_seconds=0), hold)
    end = edge.connect()
    end.send(data)
    assert not overdue(edge, end, 1000)
    assert edge.reactor.getDelayedCalls() == []


def test_one_timer_serves_all_and_stops_when_nothing_is_due(edge: Edge) -> None:
    edge.handle = answer
    ends = [edge.connect() for _ in range(5)]
    assert len(edge.reactor.getDelayedCalls()) == 1
    for end in ends:
        end.send(get())
    edge.reactor.advance(1)
    assert edge.reactor.getDelayedCalls() == []
    edge.connect().close()
    site: Any = edge.site
    site.doStart()
    site.doStop()
    assert edge.reactor.getDelayedCalls() == []


# --------------------------------------------------------------------------- those who wait and leave


@pytest.mark.parametrize("ahead", [post(b"x" * 600_000, "/upstream/m/x")[:-10], get() + b"x" * 20_000])
def test_h74_a_client_that_we_make_wait_is_looked_after(
    edge: Edge, monkeypatch: pytest.MonkeyPatch, ahead: bytes
) -> None:
    end = edge.connect()
    end.send(ahead)
    assert end.transport.producerState == "paused"
    edge.reactor.advance(1)
    assert not end.is_dropped
    monkeypatch.setattr(channel, "has_hung_up", lambda _: True)
    edge.reactor.advance(1)
    assert end.is_aborted
    end.reset()
    assert edge.codes == [499], "nothing goes on for it"
    edge.reactor.advance(1)
    assert edge.reactor.getDelayedCalls() == []


def test_a_client_that_may_go_on_is_left_alone(edge: Edge, monkeypatch: pytest.MonkeyPatch) -> None:
    end = edge.connect()
    end.send(post(b"x" * 600_000, "/upstream/m/x")[:-10])
    monkeypatch.setattr(channel, "has_hung_up", lambda _: True)
    passing(edge).attach(Sink())
    edge.reactor.advance(1)
    assert not end.is_dropped


def test_a_finished_request_leaves_nothing_for_the_collector() -> None:
    upstream = Upstream()

    def forward(request: EdgeRequest) -> None:
        forwarding = Forwarding(
            request,
            method=request.method,
            target=request.uri,
            headers=request.fields,
            body=request.body,
            on_end=lambda _: None,
        )
        forwarding.granted(upstream.pool)

    edge = Edge(handle=forward)
    gc.collect()
    gc.disable()
    try:
        client = edge.connect()
        client.send(post(b"abc"))
        end = upstream.accept()
        end.send(CHUNKED)
        assert alive() == [EdgeRequest, Forwarding, HopCall]
        end.send(b"0\r\n\r\n")
        edge.requests.clear()
        edge.finished.clear()
        assert alive() == []
    finally:
        gc.enable()


def alive() -> list[type]:
    kinds = (EdgeRequest, Forwarding, HopCall)
    return sorted((type(each) for each in gc.get_objects() if type(each) in kinds), key=lambda kind: kind.__name__)


def test_other_limits_hold_for_what_comes_next() -> None:
    edge = Edge()
    edge.site.change_limits(HTTPConfig(header_timeout_seconds=5, max_header_bytes=100))
    end = edge.connect()
    assert not overdue(edge, end, 4)
    assert overdue(edge, end, 3)
