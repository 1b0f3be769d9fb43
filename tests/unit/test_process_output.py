"""The pipe that a child prints to."""

from __future__ import annotations

import os

from llamaswap.process.output import OutputPipe
from tests.fakes import FakeProcessReactor


def make_pipe() -> tuple[FakeProcessReactor, OutputPipe, list[bytes]]:
    reactor = FakeProcessReactor()
    pieces: list[bytes] = []
    return reactor, OutputPipe(reactor, pieces.append), pieces


def test_reads_until_the_end() -> None:
    reactor, pipe, pieces = make_pipe()
    os.write(pipe.write_end, b"one ")
    reactor.read()
    os.write(pipe.write_end, b"two")
    pipe.close_write_end()
    reactor.read()
    assert b"".join(pieces) == b"one two"
    assert not reactor.readers


def test_news_without_data_is_no_end() -> None:
    reactor, pipe, pieces = make_pipe()
    assert pipe.doRead() is None
    assert pieces == []
    pipe.close_write_end()
    reactor.read()


def test_event_of_the_one_who_had_the_descriptor_before() -> None:
    """The reactor may have a writable connection's event in hand when that closes, and we get its number."""
    reactor, pipe, pieces = make_pipe()
    pipe.doWrite()
    os.write(pipe.write_end, b"on")
    reactor.read()
    assert pieces == [b"on"]
    pipe.close_write_end()
    reactor.read()


def test_drain_reads_what_is_there_now() -> None:
    reactor, pipe, pieces = make_pipe()
    os.write(pipe.write_end, b"x" * 60_000)
    pipe.drain()
    assert sum(map(len, pieces)) == 60_000
    pipe.close_write_end()
    pipe.drain()
    reactor.read()
    pipe.drain()


def test_drain_of_an_endless_printer_ends() -> None:
    reactor, pipe, pieces = make_pipe()

    def print_again(data: bytes) -> None:
        pieces.append(data)
        os.write(pipe.write_end, data)

    pipe._on_output = print_again
    os.write(pipe.write_end, b"again\n")
    pipe.drain()
    assert len(pieces) == 16
    pipe.close_write_end()
    pipe.close()
    assert not reactor.readers


def test_closed_within_a_time_although_somebody_holds_it() -> None:
    reactor, pipe, _ = make_pipe()
    pipe.close_within(1)
    pipe.close_within(5)
    reactor.advance(0.9)
    assert reactor.readers
    reactor.advance(0.2)
    assert not reactor.readers
    pipe.close_write_end()


def test_end_before_that_time_leaves_no_timer() -> None:
    reactor, pipe, _ = make_pipe()
    pipe.close_within(1)
    pipe.close_write_end()
    reactor.read()
    assert not reactor.getDelayedCalls()
    pipe.close()
    pipe.close_within(1)
    assert not reactor.getDelayedCalls()
