from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.interfaces import IPushProducer
from twisted.web.iweb import IRequest
from zope.interface.verify import verifyObject

from llamaswap.errors import ConcurrencyLimitError, NotFoundError
from llamaswap.proxy.forward import Forwarding
from llamaswap.web.edge import EdgeRequest
from tests.conftest import LoggedFailures
from tests.unit.edge_stack import PLAIN, Edge, answer, get, post


@pytest.fixture
def edge() -> Edge:
    return Edge()


def hold(_request: EdgeRequest) -> None:
    """Answer later."""


# --------------------------------------------------------------------------- requests and their bodies


def test_a_request_in_one_piece(edge: Edge) -> None:
    assert edge.ask(post(b"abc")) == PLAIN
    assert edge.bodies == [b"abc"]
    [request] = edge.requests
    verifyObject(IRequest, request)
    assert request.getHeader(b"Content-Length") == b"3"
    assert request.getHeader("content-length") == "3"
    assert request.getHeader(b"x-none") is None
    assert request.getHeader("x-none") is None
    assert request.client_host == b"192.168.1.1"


@given(st.lists(st.integers(min_value=0), max_size=10), st.booleans())
def test_requests_are_the_same_wherever_they_are_cut(places: list[int], is_chunked: bool) -> None:  # noqa: FBT001 - hypothesis
    edge = Edge()
    wire = post(b"abcdef")
    if is_chunked:
        wire = b"POST /direct HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
        wire += b"3\r\nabc\r\n3;x\r\ndef\r\n0\r\nT: t\r\n\r\n"
    wire = wire + get() + b"\r\n" + post(b"x")
    end = edge.connect()
    marks = [0, *sorted({p % len(wire) for p in places}), len(wire)]
    for a, b in pairwise(marks):
        end.send(wire[a:b])
    assert edge.bodies == [b"abcdef", b"", b"x"]
    assert end.take() == PLAIN * 3
    assert not end.is_dropped


def test_a_body_is_whole_before_its_handler_begins(edge: Edge) -> None:
    end = edge.connect()
    end.send(post(b"abc")[:-1])
    assert edge.requests == []
    end.send(b"c")
    assert edge.bodies == [b"abc"]


def test_pipelined_requests_are_answered_in_order_one_at_a_time(edge: Edge) -> None:
    edge.handle = hold
    end = edge.connect()
    end.send(get() + post(b"abc"))
    assert len(edge.requests) == 1
    answer(edge.requests[0])
    assert len(edge.requests) == 2
    assert end.take() == PLAIN
    answer(edge.requests[1])
    assert end.take() == PLAIN


def test_many_pipelined_requests_do_not_recurse(edge: Edge) -> None:
    assert edge.ask(get() * 3000) == PLAIN * 3000


def test_h74_a_client_that_sends_too_far_ahead_has_to_wait(edge: Edge) -> None:
    edge.handle = hold
    end = edge.connect()
    end.send(get())
    end.send(b"GET /direct HTTP/1.1\r\nHost: h\r\nX: " + b"x" * 17_000)
    assert end.transport.producerState == "paused"
    answer(edge.requests[0])
    assert end.transport.producerState == "producing"
    end.send(b"\r\n\r\n")
    assert len(edge.requests) == 2


def test_a_client_that_does_not_read_its_answers_gets_no_more_of_them(edge: Edge) -> None:
    end = edge.connect()
    channel = end.transport.producer
    verifyObject(IPushProducer, channel)
    channel.pauseProducing()  # the transport's buffer is full
    end.send(get())
    assert edge.requests == []
    channel.resumeProducing()
    assert len(edge.requests) == 1
    channel.stopProducing()


def test_continue_is_said_when_the_body_is_waited_for(edge: Edge) -> None:
    end = edge.connect()
    whole = post(b"abc", headers="Expect: 100-Continue\r\n")
    end.send(whole[:-3])
    assert end.take() == b"HTTP/1.1 100 Continue\r\n\r\n"
    end.send(b"abc")
    assert end.take() == PLAIN
    assert edge.ask(whole) == PLAIN, "not when it is there"


def test_a_direct_handlers_error_is_rendered(edge: Edge) -> None:
    def refuse(_request: EdgeRequest) -> None:
        raise NotFoundError("no such model")

    edge.handle = refuse
    reply = edge.ask(get(headers="Accept: text/plain\r\n"))
    assert reply.startswith(b"HTTP/1.1 404 Not Found\r\n")
    assert reply.endswith(b"\r\n\r\nllama-swap: no such model")
    assert edge.codes == [404]


def test_a_direct_handlers_bug_is_logged_and_answered(edge: Edge, logged_failures: LoggedFailures) -> None:
    def fail(_request: EdgeRequest) -> None:
        raise ZeroDivisionError

    edge.handle = fail
    assert edge.ask(get()).startswith(b"HTTP/1.1 500 Internal Server Error\r\n")
    assert len(logged_failures.flush(ZeroDivisionError)) == 1


def test_a_bug_in_the_middle_of_an_answer_cuts_it(edge: Edge, logged_failures: LoggedFailures) -> None:
    def fail(request: EdgeRequest) -> None:
        request.relay_head(200, b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n")
        raise ZeroDivisionError

    edge.handle = fail
    end = edge.connect()
    end.send(get())
    assert end.is_aborted
    assert len(logged_failures.flush(ZeroDivisionError)) == 1


def test_a_bug_behind_a_request_that_waits_takes_it_out_of_the_line(
    edge: Edge, logged_failures: LoggedFailures
) -> None:
    waiting: list[Forwarding] = []

    def fail(request: EdgeRequest) -> None:
        waiting.append(
            Forwarding(
                request,
                method=request.method,
                target=request.uri,
                headers=request.fields,
                body=request.body,
                on_end=waiting.remove,
            )
        )
        raise ZeroDivisionError

    edge.handle = fail
    end = edge.connect()
    end.send(get())
    assert end.take().startswith(b"HTTP/1.1 500 Internal Server Error\r\n")
    assert waiting == []
    assert edge.codes == [500]
    edge.handle = answer
    end.send(get())
    assert end.take() == PLAIN
    assert len(logged_failures.flush(ZeroDivisionError)) == 1


def test_refusals_have_their_headers(edge: Edge) -> None:
    edge.handle = hold
    end = edge.connect()
    end.send(get(headers="Connection: close\r\n"))
    edge.requests[0].refuse(ConcurrencyLimitError())
    reply = end.take()
    assert reply.startswith(b"HTTP/1.1 429 Too Many Requests\r\n")
    assert b"\r\nRetry-After: 1\r\n" in reply
    assert b"\r\nConnection: close\r\n" in reply
    assert end.is_dropped


def test_head_requests_are_refused_without_a_body(edge: Edge) -> None:
    edge.handle = hold
    end = edge.connect()
    end.send(get().replace(b"GET", b"HEAD"))
    edge.requests[0].refuse(NotFoundError("x"))
    assert end.take().endswith(b"\r\n\r\n")


def test_refusing_a_client_that_left_is_nothing(edge: Edge) -> None:
    edge.handle = hold
    end = edge.connect()
    end.send(get())
    end.close()
    edge.requests[0].refuse(NotFoundError("x"))
    assert end.take() == b""
    assert edge.codes == [499]


def test_a_cut_answer_ends_its_connection(edge: Edge) -> None:
    edge.handle = hold
    for at_once in (False, True):
        end = edge.connect()
        end.send(get())
        request = edge.requests.pop()
        request.relay_head(200, PLAIN[:-1])
        request.cut(1, NotFoundError("x"), at_once=at_once)
        assert end.is_dropped
        assert end.is_aborted is at_once
        assert request.sentLength == 1
        assert isinstance(request.error, NotFoundError)
    assert edge.codes == [200, 200]


def test_the_body_is_given_up_when_the_answer_begins(edge: Edge) -> None:
    edge.ask(post(b"abc"))
    assert edge.bodies == [b"abc"]
    assert edge.requests[0].body == b""


def test_a_request_that_is_unknown_says_so(edge: Edge) -> None:
    edge.ask(get())
    with pytest.raises(AttributeError, match="no_such_thing"):
        _ = edge.requests[0].no_such_thing


# --------------------------------------------------------------------------- the end of connections


def test_the_client_left_is_told_to_who_works_for_it(edge: Edge) -> None:
    class Taker:
        payload_bytes = 7
        has_left = 0

        def client_left(self) -> None:
            self.has_left += 1

    taker: Any = Taker()
    edge.handle = lambda request: request.taken_over(taker)
    end = edge.connect()
    end.send(get())
    edge.requests[0].relay_head(200, b"HTTP/1.1 200 OK\r\n\r\n")
    end.reset()
    assert taker.has_left == 1
    assert (edge.codes, edge.finished[0].sentLength) == ([200], 7)


def test_idle_connections_close_and_others_after_their_answer(edge: Edge) -> None:
    edge.handle = hold
    idle, busy = edge.connect(), edge.connect()
    busy.send(get())
    unread = edge.connect()
    unread.send(post(b"abc", "/upstream/m/x")[:-1])
    answer(edge.requests.pop())
    edge.site.close_idle()
    assert idle.is_dropped
    assert unread.is_dropped, "nobody wants the rest of its body"
    assert not busy.is_dropped
    assert not edge.requests[0].keeps_alive
    answer(edge.requests[0])
    assert busy.take() == PLAIN
    assert busy.is_dropped


def test_twisteds_log_timer_never_runs(edge: Edge) -> None:
    site: Any = edge.site
    site.doStart()
    assert edge.reactor.getDelayedCalls() == []
    site.doStop()
