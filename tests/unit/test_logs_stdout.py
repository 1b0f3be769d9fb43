from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from twisted.internet.error import ConnectionLost
from twisted.internet.interfaces import IReactorFDSet, IReadDescriptor, IWriteDescriptor
from twisted.python.failure import Failure
from zope.interface import implementer
from zope.interface.verify import verifyObject

from llamaswap.telemetry.stdout import NonBlockingWriter
from tests.unit.marks import assert_accounts_for, dropped_bytes

LINE = b"a line of output that says little\n"


@implementer(IReactorFDSet)
class FakeFDSet:
    """Remembers who wants to write."""

    def __init__(self) -> None:
        self.writers: set[IWriteDescriptor] = set()

    def addReader(self, reader: IReadDescriptor) -> None:
        raise NotImplementedError

    def addWriter(self, writer: IWriteDescriptor) -> None:
        self.writers.add(writer)

    def removeReader(self, reader: IReadDescriptor) -> None:
        raise NotImplementedError

    def removeWriter(self, writer: IWriteDescriptor) -> None:
        self.writers.discard(writer)

    def removeAll(self) -> list[IReadDescriptor | IWriteDescriptor]:
        raise NotImplementedError

    def getReaders(self) -> list[IReadDescriptor]:
        return []

    def getWriters(self) -> list[IWriteDescriptor]:
        return list(self.writers)


class Pipe:
    """A pipe with a writer on it that nobody reads unless told to."""

    def __init__(self) -> None:
        self.reading_end, self.writing_end = os.pipe()
        os.set_blocking(self.reading_end, False)
        self.reactor = FakeFDSet()
        self.writer = NonBlockingWriter(self.reactor, self.writing_end)
        self.got = b""

    def read(self) -> bytes:
        """Read what is there, and let the writer write again, until nothing comes."""
        while True:
            try:
                piece = os.read(self.reading_end, 1 << 20)
            except BlockingIOError:
                return self.got
            self.got += piece
            for each in self.reactor.getWriters():
                each.doWrite()

    def close(self) -> None:
        self.writer.close()
        for end in (self.reading_end, self.writing_end):
            os.close(end)


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    made = Pipe()
    yield made
    made.close()


def test_it_is_what_a_reactor_wants(pipe: Pipe) -> None:
    assert verifyObject(IWriteDescriptor, pipe.writer)
    assert verifyObject(IReactorFDSet, pipe.reactor)
    assert pipe.writer.logPrefix() == "stdout"


def test_what_fits_is_written_at_once(pipe: Pipe) -> None:
    pipe.writer.write(LINE)
    assert os.read(pipe.reading_end, 1000) == LINE
    assert pipe.reactor.writers == set()


def test_the_shared_open_file_stays_blocking(pipe: Pipe) -> None:
    assert os.get_blocking(pipe.writing_end)
    assert not os.get_blocking(pipe.writer.fileno())


def test_h29_a_pipe_that_nobody_reads_never_blocks_and_tells_what_was_lost(pipe: Pipe) -> None:
    numbered = [b"%d %s" % (number, LINE) for number in range(20_000)]
    for line in numbered:
        pipe.writer.write(line)
    assert pipe.reactor.writers == {pipe.writer}
    pipe.read()
    assert pipe.reactor.writers == set()
    pipe.writer.write(b"after\n")
    got, written = pipe.read(), b"".join([*numbered, b"after\n"])
    assert dropped_bytes(got) > 0
    assert_accounts_for(got, written)
    assert got.endswith(b"19999 " + LINE + b"after\n")


def test_a_short_jam_loses_nothing(pipe: Pipe) -> None:
    for _ in range(3000):
        pipe.writer.write(LINE)
    assert pipe.reactor.writers == {pipe.writer}
    assert pipe.read() == LINE * 3000


def test_a_reader_that_left_is_no_error(pipe: Pipe) -> None:
    os.close(pipe.reading_end)
    pipe.writer.write(LINE)
    pipe.writer.write(LINE)
    assert pipe.reactor.writers == set()
    pipe.reading_end, spare = os.pipe()
    os.close(spare)


def test_nothing_is_written_after_the_reactor_lost_it(pipe: Pipe) -> None:
    for _ in range(3000):
        pipe.writer.write(LINE)
    pipe.writer.connectionLost(Failure(ConnectionLost()))
    assert pipe.reactor.writers == set()
    got = len(pipe.read())
    pipe.writer.write(LINE)
    assert len(pipe.read()) == got


def test_closing_writes_what_there_is_room_for(pipe: Pipe) -> None:
    for _ in range(3000):
        pipe.writer.write(LINE)
    first = os.read(pipe.reading_end, 1 << 20)
    pipe.writer.close()
    assert first + pipe.read() == LINE * 3000
    pipe.writer = NonBlockingWriter(pipe.reactor, pipe.writing_end)


def test_a_file_is_continued_where_it_is(tmp_path: Path) -> None:
    path = tmp_path / "log"
    with path.open("wb") as file:
        file.write(b"before\n")
        file.flush()
        writer = NonBlockingWriter(FakeFDSet(), file.fileno())
        writer.write(LINE)
        writer.close()
        file.write(b"after\n")
    assert path.read_bytes() == b"before\n" + LINE + b"after\n"


def test_a_full_disk_loses_lines_but_not_the_writer() -> None:
    descriptor = os.open("/dev/full", os.O_WRONLY)
    writer = NonBlockingWriter(FakeFDSet(), descriptor)
    writer.write(LINE)
    writer.write(LINE)
    writer.close()
    os.close(descriptor)


def test_a_socket_gets_its_flag_back() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        writer = NonBlockingWriter(FakeFDSet(), ours.fileno())
        assert not os.get_blocking(ours.fileno())
        writer.write(LINE)
        assert theirs.recv(1000) == LINE
        writer.close()
        assert os.get_blocking(ours.fileno())
