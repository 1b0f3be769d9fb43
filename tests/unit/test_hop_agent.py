from __future__ import annotations

from collections.abc import Callable
from io import BytesIO
from typing import Any

import pytest
import treq
from treq.client import HTTPClient
from twisted.internet.defer import CancelledError
from twisted.internet.interfaces import IPushProducer
from twisted.internet.protocol import Protocol
from twisted.internet.task import Cooperator
from twisted.internet.testing import MemoryReactorClock
from twisted.python.failure import Failure
from twisted.web.client import FileBodyProducer, ResponseDone, ResponseFailed
from twisted.web.http import PotentialDataLoss
from twisted.web.http_headers import Headers
from twisted.web.iweb import UNKNOWN_LENGTH, IAgent, IClientRequest, IResponse
from zope.interface.verify import verifyObject

from llamaswap.errors import UpstreamUnreachableError
from llamaswap.proxy.agent import CONNECT_SECONDS, HopAgent
from tests.deferreds import failure_of, no_result, success_of
from tests.unit.ends import CHUNKED, SMALL, End

URL = b"http://127.0.0.1:5800/health?x=1"


class Net:
    def __init__(self) -> None:
        self.reactor: Any = MemoryReactorClock()
        self.agent = HopAgent(self.reactor)

    def accept(self) -> End:
        return End(self.reactor.tcpClients.pop()[2].buildProtocol(None))


@pytest.fixture
def net() -> Net:
    return Net()


class Reader(Protocol):
    def __init__(self) -> None:
        self.data = b""
        self.reason: Failure | None = None

    def dataReceived(self, data: bytes) -> None:
        self.data += data

    def connectionLost(self, reason: Failure = Failure(ResponseDone())) -> None:  # noqa: B008
        self.reason = reason


def test_what_it_provides(net: Net) -> None:
    verifyObject(IAgent, net.agent)
    asked = net.agent.request(b"GET", URL)
    net.accept().send(SMALL)
    response = success_of(asked)
    verifyObject(IResponse, response)
    verifyObject(IClientRequest, response.request)
    reader = Reader()
    response.deliverBody(reader)
    assert reader.transport is not None
    verifyObject(IPushProducer, reader.transport)
    response.setPreviousResponse(response)
    assert response.previousResponse is response


def test_request_and_response(net: Net) -> None:
    asked = net.agent.request(b"GET", URL, Headers({b"X-A": [b"1", b"2"], b"Host": [b"h"]}))
    assert net.reactor.tcpClients[0][3] == CONNECT_SECONDS
    end = net.accept()
    assert end.take() == b"GET /health?x=1 HTTP/1.1\r\nHost: h\r\nConnection: close\r\nX-A: 1\r\nX-A: 2\r\n\r\n"
    end.send(SMALL)
    response = success_of(asked)
    assert (response.code, response.phrase, response.length) == (200, b"OK", 2)
    assert response.request.absoluteURI == URL
    assert success_of(treq.content(response)) == b"ok"
    assert end.is_dropped, "no probe shall find the process of yesterday"
    assert net.reactor.getDelayedCalls() == []


def test_the_host_defaults_to_that_of_the_address(net: Net) -> None:
    net.agent.request(b"GET", b"http://u:p@up.example:81")
    assert net.accept().take().startswith(b"GET / HTTP/1.1\r\nHost: up.example:81\r\n")


class Soon:
    """Runs the steps of a cooperative task when the test says so."""

    def __init__(self) -> None:
        self._steps: list[Callable[[], None]] = []
        schedule: Any = self._steps.append
        self._cooperator = Cooperator(scheduler=schedule)

    def body(self, data: bytes) -> FileBodyProducer:
        return FileBodyProducer(BytesIO(data), self._cooperator)

    def run(self) -> None:
        while self._steps:
            self._steps.pop(0)()


def test_treq_works_with_it(net: Net) -> None:
    soon = Soon()
    client = HTTPClient(net.agent, data_to_body_producer=soon.body)
    asked = client.post("http://127.0.0.1:5800/x", json={"a": 1})
    soon.run()
    end = net.accept()
    sent = end.take()
    assert sent.endswith(b'Content-Length: 7\r\n\r\n{"a":1}')
    end.send(CHUNKED + b"5\r\nhello\r\n")
    response = success_of(asked)
    seen: list[bytes] = []
    collected = treq.collect(response, seen.append)
    end.send(b"6\r\n world\r\n")
    no_result(collected)
    end.send(b"0\r\n\r\n")
    success_of(collected)
    assert seen == [b"hello", b" world"]


def test_a_body_from_a_producer_is_gathered(net: Net) -> None:
    soon = Soon()
    net.agent.request(b"PUT", URL, bodyProducer=soon.body(b"abc"))
    assert net.reactor.tcpClients == []
    soon.run()
    assert net.accept().take().endswith(b"Content-Length: 3\r\n\r\nabc")


def test_the_body_waits_for_its_reader(net: Net) -> None:
    asked = net.agent.request(b"GET", URL)
    end = net.accept()
    end.send(CHUNKED + b"1\r\na\r\n")
    response: Any = success_of(asked)
    assert response.length is UNKNOWN_LENGTH
    assert end.transport.producerState == "paused"
    reader = Reader()
    response.deliverBody(reader)
    assert end.transport.producerState == "producing"
    assert reader.data == b"a"
    reader.transport.pauseProducing()  # type: ignore[union-attr]
    assert end.transport.producerState == "paused"
    reader.transport.resumeProducing()  # type: ignore[union-attr]
    assert end.transport.producerState == "producing"
    end.send(b"1\r\nb\r\n0\r\n\r\n")
    assert reader.data == b"ab"
    assert reader.reason is not None
    assert reader.reason.check(ResponseDone)


def test_nothing_is_decoded_followed_or_kept(net: Net) -> None:
    asked = net.agent.request(b"GET", URL)
    net.accept().send(
        b"HTTP/1.1 302 Found\r\nLocation: /y\r\nSet-Cookie: a=1\r\nContent-Encoding: gzip\r\nContent-Length: 1\r\n\r\nz"
    )
    response = success_of(asked)
    assert response.code == 302
    assert success_of(treq.content(response)) == b"z"
    assert net.reactor.tcpClients == []


def test_an_open_body_may_be_short(net: Net) -> None:
    asked = net.agent.request(b"GET", URL)
    end = net.accept()
    end.send(b"HTTP/1.0 200 OK\r\n\r\nabc")
    reader = Reader()
    success_of(asked).deliverBody(reader)
    end.close()
    assert reader.reason is not None
    assert reader.reason.check(PotentialDataLoss)


def test_a_body_that_breaks_off_fails(net: Net) -> None:
    asked = net.agent.request(b"GET", URL)
    end = net.accept()
    end.send(CHUNKED + b"1\r\na\r\n")
    reader = Reader()
    success_of(asked).deliverBody(reader)
    end.close()
    assert reader.reason is not None
    assert reader.reason.check(ResponseFailed)


def test_interim_answers_are_skipped(net: Net) -> None:
    asked = net.agent.request(b"GET", URL)
    net.accept().send(b"HTTP/1.1 103 Early Hints\r\n\r\n" + SMALL)
    assert success_of(asked).code == 200


def test_a_refused_connection_fails_the_request(net: Net) -> None:
    asked = net.agent.request(b"GET", URL)
    net.accept().close()
    assert failure_of(asked).check(UpstreamUnreachableError)


def test_cancelling_breaks_off(net: Net) -> None:
    asked = net.agent.request(b"GET", URL)
    end = net.accept()
    asked.cancel()
    assert end.is_aborted
    assert failure_of(asked).check(CancelledError)


def test_a_reader_that_has_enough_breaks_off(net: Net) -> None:
    asked = net.agent.request(b"GET", URL)
    end = net.accept()
    end.send(CHUNKED + b"1\r\na\r\n")
    reader = Reader()
    success_of(asked).deliverBody(reader)
    reader.transport.loseConnection()  # type: ignore[union-attr]
    assert end.is_aborted
    assert reader.reason is not None
    assert reader.reason.check(ResponseFailed)
