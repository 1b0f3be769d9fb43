"""Two ends of connections in memory, for tests of the data path: an upstream's, and a client's."""

from __future__ import annotations

from typing import Any

from twisted.internet import error
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.python.failure import Failure

from llamaswap.config.schema import Timeouts
from llamaswap.errors import LlamaSwapError
from llamaswap.proxy.call import HopCall
from llamaswap.proxy.connection import StreamedBody
from llamaswap.proxy.headers import ResponseHead
from llamaswap.proxy.hop import HopPool

TIMEOUTS = Timeouts()
HEAD = b"POST /x HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\n\r\n"
REQUEST = HEAD + b"body"
SMALL = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
STREAM = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"


class End:
    """The far end of a connection in memory."""

    def __init__(self, protocol: Any) -> None:
        self.transport: Any = StringTransport()
        self._protocol = protocol
        protocol.makeConnection(self.transport)

    def send(self, data: bytes) -> None:
        self._protocol.dataReceived(data)

    def close(self) -> None:
        self._protocol.connectionLost(Failure(error.ConnectionDone()))

    def reset(self) -> None:
        self._protocol.connectionLost(Failure(error.ConnectionLost()))

    def take(self) -> bytes:
        """Give what has arrived since the last time."""
        data: bytes = self.transport.value()
        self.transport.clear()
        return data

    @property
    def is_dropped(self) -> bool:
        return bool(self.transport.disconnecting)

    @property
    def is_aborted(self) -> bool:
        return bool(self.transport.disconnected)


class Upstream:
    """Accepts or refuses the connections of a pool in memory."""

    def __init__(self, base_url: str = "http://127.0.0.1:5800", timeouts: Timeouts = TIMEOUTS) -> None:
        self.reactor: Any = MemoryReactorClock()
        self.pool = HopPool(self.reactor, base_url, timeouts)

    @property
    def hosts(self) -> list[str]:
        """Where connections were tried that nobody accepted or refused yet."""
        return [host for host, *_ in self.reactor.tcpClients]

    def accept(self) -> End:
        [(_, _, factory, _, _)] = self.reactor.tcpClients
        self.reactor.tcpClients.clear()
        return End(factory.buildProtocol(None))

    def refuse(self) -> None:
        [(_, _, factory, _, _)] = self.reactor.tcpClients
        self.reactor.tcpClients.clear()
        factory.clientConnectionFailed(None, Failure(error.ConnectionRefusedError()))


class Taker:
    """Takes an answer, and writes down what it is told."""

    def __init__(self) -> None:
        self.head: ResponseHead | None = None
        self.interims: list[int] = []
        self.pieces: list[bytes] = []
        self.ends = 0
        self.error: LlamaSwapError | None = None
        self.call: HopCall

    def interim(self, head: ResponseHead) -> None:
        self.interims.append(head.status)

    def started(self, head: ResponseHead, data: bytes, *, is_whole: bool) -> None:
        assert self.head is None
        self.head = head
        self.went_on(data, is_whole=is_whole)

    def went_on(self, data: bytes, *, is_whole: bool) -> None:
        assert not self.is_over
        self.pieces.append(data)
        self.ends += is_whole

    def failed(self, error: LlamaSwapError) -> None:
        assert not self.is_over
        self.error = error

    @property
    def is_over(self) -> bool:
        return self.ends > 0 or self.error is not None

    @property
    def body(self) -> bytes:
        return b"".join(self.pieces)


def ask(
    pool: HopPool,
    method: bytes = b"POST",
    head: bytes = HEAD,
    body: bytes | StreamedBody = b"body",
    taker: Taker | None = None,
) -> Taker:
    """Send a request over a pool."""
    taker = taker or Taker()
    taker.call = HopCall(pool, taker, method, head, body)
    taker.call.start()
    return taker


def answered_once(upstream: Upstream) -> End:
    """Give a connection that has served a request and is idle."""
    taker = ask(upstream.pool)
    end = upstream.accept()
    end.send(SMALL)
    assert taker.ends == 1
    end.take()
    return end
