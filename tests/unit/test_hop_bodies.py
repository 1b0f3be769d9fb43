from __future__ import annotations

from twisted.internet.interfaces import IPullProducer
from zope.interface.verify import verifyObject

from llamaswap.config.schema import Timeouts
from llamaswap.errors import UpstreamUnreachableError
from llamaswap.proxy.connection import BodySink
from tests.unit.ends import HEAD, SMALL, Upstream, answered_once, ask


def test_a_long_body_goes_out_in_slices() -> None:
    upstream = Upstream()
    body = bytes(range(256)) * 4096
    taker = ask(upstream.pool, body=body)
    end = upstream.accept()
    sent = end.take()
    assert sent == HEAD
    verifyObject(IPullProducer, end.transport.producer)
    largest = 0
    while end.transport.producer is not None:
        assert not end.transport.streaming
        end.transport.producer.resumeProducing()
        piece = end.take()
        largest = max(largest, len(piece))
        sent += piece
    assert sent == HEAD + body
    assert largest <= 256 * 1024
    end.send(SMALL)
    assert taker.ends == 1
    assert not end.is_dropped


def test_an_answer_before_the_end_of_a_long_body_ends_the_connection() -> None:
    upstream = Upstream()
    taker = ask(upstream.pool, body=b"x" * 1_000_000)
    end = upstream.accept()
    end.send(SMALL)
    assert taker.ends == 1
    assert end.is_aborted
    assert end.transport.producer is None


class Passing:
    """A body that the test sends piece by piece."""

    can_repeat = False
    length: int | None = 6

    def __init__(self) -> None:
        self.sink: BodySink | None = None
        self.is_detached = False

    def attach(self, sink: BodySink) -> None:
        self.sink = sink

    def detach(self) -> None:
        self.is_detached = True

    def pauseProducing(self) -> None:
        raise NotImplementedError

    resumeProducing = stopProducing = pauseProducing


def test_the_limit_for_the_head_begins_when_the_body_is_sent() -> None:
    upstream = Upstream(timeouts=Timeouts(response_header_seconds=5))
    body = Passing()
    taker = ask(upstream.pool, body=body)
    upstream.accept()
    assert body.sink is not None
    body.sink.body_received(b"abc")
    upstream.reactor.advance(600)
    body.sink.body_received(b"def")
    body.sink.body_ended()
    upstream.reactor.advance(4.9)
    assert taker.error is None
    upstream.reactor.advance(0.2)
    assert str(taker.error) == "the upstream did not answer in time"


def test_a_passing_body_is_sent_as_it_comes_on_a_fresh_connection() -> None:
    upstream = Upstream()
    old = answered_once(upstream)
    body = Passing()
    taker = ask(upstream.pool, body=body)
    assert [body.sink] == [None], "nobody takes it before the connection is there"
    end = upstream.accept()
    assert body.sink is not None
    assert (end.transport.producer, end.transport.streaming) == (body, True)
    body.sink.body_received(b"abc")
    assert end.take() == HEAD + b"abc"
    body.sink.body_received(b"def")
    body.sink.body_ended()
    assert end.transport.producer is None
    end.send(SMALL)
    assert taker.ends == 1
    assert not end.is_dropped
    assert not old.is_dropped


def test_an_answer_before_the_end_of_a_passing_body_lets_go_of_it() -> None:
    upstream = Upstream()
    body = Passing()
    taker = ask(upstream.pool, body=body)
    end = upstream.accept()
    end.send(SMALL)
    assert taker.ends == 1
    assert body.is_detached
    assert end.is_aborted


def test_a_passing_body_is_never_sent_twice() -> None:
    upstream = Upstream()
    taker = ask(upstream.pool, body=Passing())
    upstream.accept().close()
    assert isinstance(taker.error, UpstreamUnreachableError)
