"""Real sockets without a reactor: what Twisted's transports keep to themselves must stay as it is."""

from __future__ import annotations

import select
import socket
import struct
from collections.abc import Iterator
from typing import Any

import pytest
from twisted.internet import tcp
from twisted.internet.protocol import Protocol
from twisted.internet.testing import MemoryReactorClock, StringTransport

from llamaswap.proxy.wire import eager_writer, has_hung_up, is_broken, is_idle, tune, unsent_bytes


class Pair:
    """A transport of Twisted's on one end of a connection, a plain socket on the other."""

    def __init__(self) -> None:
        listener = socket.socket()
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        self.far = socket.create_connection(listener.getsockname())
        near, _ = listener.accept()
        listener.close()
        self.reactor: Any = MemoryReactorClock()
        self.transport = tcp.Connection(near, Protocol(), self.reactor)
        self.transport.connected = 1
        self.write = eager_writer(self.transport)

    @property
    def is_waiting_to_write(self) -> bool:
        return self.transport in self.reactor.getWriters()

    def fill(self) -> int:
        """Write until the kernel takes no more; give how much was written."""
        written = 0
        while not self.is_waiting_to_write:
            self.write(b"x" * 65536)
            written += 65536
        return written

    def read(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            self.transport.doWrite()
            data += self.far.recv(size - len(data))
        return data


@pytest.fixture
def pair() -> Iterator[Pair]:
    made = Pair()
    yield made
    made.far.close()
    if hasattr(made.transport, "socket"):
        made.transport.socket.close()


def test_the_private_attributes_are_there() -> None:
    """If this fails, Twisted has changed: look at everything in ``proxy/wire.py``."""
    made = Pair()
    transport = made.transport
    assert transport._tempDataBuffer == []
    assert transport.dataBuffer == b""
    assert transport.disconnecting == 0
    assert transport.TLS is False
    transport.write(b"queued")
    assert transport._tempDataBuffer == [b"queued"]
    made.far.close()
    transport.socket.close()


def test_bytes_leave_at_once(pair: Pair) -> None:
    pair.write(b"abc")
    assert pair.far.recv(10) == b"abc"
    assert not pair.is_waiting_to_write


def test_order_is_kept_behind_what_is_queued(pair: Pair) -> None:
    pair.transport.write(b"first")
    pair.write(b"second")
    assert pair.is_waiting_to_write
    assert pair.read(11) == b"firstsecond"
    pair.write(b"third")
    assert pair.far.recv(10) == b"third"


def test_what_does_not_fit_is_queued(pair: Pair) -> None:
    written = pair.fill()
    pair.write(b"end")
    assert pair.read(written + 3) == b"x" * written + b"end"
    assert not pair.is_waiting_to_write


def test_a_full_queue_pauses_the_producer(pair: Pair) -> None:
    class Producer:
        state = "producing"

        def pauseProducing(self) -> None:
            self.state = "paused"

        def resumeProducing(self) -> None:
            self.state = "producing"

        def stopProducing(self) -> None:
            raise NotImplementedError

    producer = Producer()
    pair.transport.registerProducer(producer, streaming=True)
    written = pair.fill()
    pair.write(b"x" * 70_000)
    assert producer.state == "paused"
    pair.read(written + 70_000)
    assert producer.state == "producing"


def test_an_error_is_left_for_the_reactor_to_find(pair: Pair) -> None:
    pair.far.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
    pair.far.close()
    for _ in range(3):
        pair.write(b"abc")
    assert pair.is_waiting_to_write
    assert pair.transport.doWrite() is not None


def test_nothing_is_written_after_the_end(pair: Pair) -> None:
    pair.transport.loseConnection()
    pair.write(b"late")
    pair.transport.connected = 0
    pair.write(b"later")
    pair.far.setblocking(False)
    with pytest.raises(BlockingIOError):
        pair.far.recv(10)


def test_other_transports_are_written_to_as_usual() -> None:
    transport = StringTransport()
    eager_writer(transport)(b"abc")
    assert transport.value() == b"abc"
    assert is_idle(transport)
    tune(transport, 5)


def test_tls_is_never_written_past(pair: Pair) -> None:
    pair.transport.TLS = True
    assert eager_writer(pair.transport) == pair.transport.write
    assert is_idle(pair.transport)


def test_an_open_silent_connection_is_idle(pair: Pair) -> None:
    assert is_idle(pair.transport)


def test_a_closed_connection_is_not_idle(pair: Pair) -> None:
    pair.far.close()
    assert not is_idle(pair.transport)


def test_a_connection_with_unasked_bytes_is_not_idle_and_keeps_them(pair: Pair) -> None:
    pair.far.send(b"x")
    assert not is_idle(pair.transport)
    assert pair.transport.socket.recv(5) == b"x"


def test_a_reset_connection_is_not_idle(pair: Pair) -> None:
    pair.far.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
    pair.far.close()
    assert not is_idle(pair.transport)


@pytest.mark.skipif(not hasattr(select, "POLLRDHUP"), reason="this system cannot tell")
def test_a_client_that_hung_up_is_noticed_behind_what_it_sent(pair: Pair) -> None:
    assert not has_hung_up(pair.transport)
    pair.far.send(b"unread")
    assert not has_hung_up(pair.transport)
    pair.far.close()
    assert has_hung_up(pair.transport)
    assert not has_hung_up(StringTransport())


@pytest.mark.skipif(not hasattr(select, "poll"), reason="this system cannot tell")
def test_a_connection_is_broken_when_it_was_reset_not_when_it_was_closed(pair: Pair) -> None:
    pair.far.send(b"unread")
    pair.far.shutdown(socket.SHUT_WR)
    assert not is_broken(pair.transport), "what it sent can still be read"
    pair.far.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    pair.far.close()
    assert is_broken(pair.transport)
    assert not is_broken(StringTransport())


@pytest.mark.parametrize("seconds", [0, 7])
def test_connections_are_tuned(pair: Pair, seconds: int) -> None:
    tune(pair.transport, seconds)
    near = pair.transport.socket
    assert near.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
    assert bool(near.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)) == bool(seconds)
    if seconds and hasattr(socket, "TCP_KEEPIDLE"):
        assert near.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == seconds


def test_what_is_queued_is_counted(pair: Pair) -> None:
    assert unsent_bytes(pair.transport) == 0
    pair.write(b"at once")
    assert unsent_bytes(pair.transport) == 0
    written = pair.fill() + len(b"at once")
    pair.write(b"y" * 1000)
    pair.write(b"z" * 1000)
    before = unsent_bytes(pair.transport)
    assert 2000 < before <= written + 2000
    pair.read(written // 2)
    assert unsent_bytes(pair.transport) < before
    pair.read(written - written // 2 + 2000)
    assert unsent_bytes(pair.transport) == 0


def test_what_is_queued_elsewhere_is_unknown() -> None:
    transport = StringTransport()
    transport.write(b"abc")
    assert unsent_bytes(transport) == 0
