from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from klein import Klein
from treq.testing import StubTreq
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IPushProducer
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.logger import LogLevel
from twisted.python.failure import Failure
from twisted.web.iweb import UNKNOWN_LENGTH
from twisted.web.server import Request
from twisted.web.test.requesthelper import DummyChannel
from zope.interface.verify import verifyObject

from llamaswap.config.schema import Config, ModelConfig
from llamaswap.core.values import ModelId
from llamaswap.errors import BadRequestError
from llamaswap.telemetry.logs import Logs
from llamaswap.web import paths
from llamaswap.web.dispatch import DirectResource
from llamaswap.web.logs import STREAM_PATH, LogRoutes, LogStream
from llamaswap.web.site import EdgeSite
from tests.deferreds import no_result, success_of
from tests.unit.marks import assert_accounts_for, dropped_bytes

A, B = ModelId("a"), ModelId("org/b")
CONFIG = Config(models={A: ModelConfig(A), B: ModelConfig(B)}, aliases={"nick/name": B})
KIB = 1024


@dataclass
class Daemon:
    clock: Clock
    config: Config = CONFIG
    logs: Logs = field(init=False)

    def __post_init__(self) -> None:
        self.logs = Logs(self.config, self.clock, print, lambda _: None)


def make_app(daemon: Daemon) -> Klein:
    """Give the routes in a Klein of their own, with the one error that they raise."""

    def refuse(request: Any, failure: Any) -> bytes:
        request.setResponseCode(400)
        return str(failure.value).encode()

    klein, routes = Klein(), LogRoutes(daemon)
    klein.route("/logs", methods=["GET"])(routes.history)
    klein.route(STREAM_PATH, methods=["GET"], branch=True, endpoint=STREAM_PATH)(routes.stream)
    klein.route(STREAM_PATH + "/", methods=["GET"], endpoint=STREAM_PATH + "/")(routes.stream)
    klein.handle_errors(BadRequestError)(refuse)
    return klein


@pytest.fixture
def daemon() -> Daemon:
    return Daemon(Clock())


@pytest.fixture
def client(daemon: Daemon) -> Any:
    return StubTreq(make_app(daemon).resource())


class Follower:
    """A client that reads a stream as it comes."""

    def __init__(self, daemon: Daemon, client: Any, path: str) -> None:
        self._daemon, self._client = daemon, client
        self.pieces: list[bytes] = []
        self.response = success_of(client.get(f"http://host{path}"))
        self.done = client_collect(self.response, self.pieces.append)

    def text(self) -> bytes:
        """Let everything arrive that was written, and give it."""
        self._daemon.clock.advance(1)
        self._client.flush()
        return b"".join(self.pieces)

    def header(self, name: str) -> list[str] | None:
        values: list[str] | None = self.response.headers.getRawHeaders(name)
        return values


def client_collect(response: Any, collector: Any) -> Deferred[None]:
    import treq

    done: Deferred[None] = treq.collect(response, collector)
    return done


def get_text(client: Any, path: str, **options: Any) -> tuple[Any, bytes]:
    response = success_of(client.get(f"http://host{path}", **options))
    return response, success_of(response.content())


def test_the_history_of_the_combined_log(daemon: Daemon, client: Any) -> None:
    daemon.logs.line(LogLevel.info, "own")
    daemon.logs.model(A).write(b"not routed\n")
    response, text = get_text(client, "/logs")
    assert (response.code, text) == (200, b"[INFO] own\n")
    assert response.headers.getRawHeaders("content-type") == ["text/plain"]
    assert response.length == len(text)


def test_a_browser_is_sent_to_the_ui(client: Any) -> None:
    response, text = get_text(client, "/logs", headers={"accept": "text/html,*/*"}, allow_redirects=False)
    assert (response.code, text) == (302, b"")
    assert response.headers.getRawHeaders("location") == ["/ui/"]


def test_d6_the_head_of_a_silent_log_comes_at_once(daemon: Daemon, client: Any) -> None:
    follower = Follower(daemon, client, "/logs/stream/a")
    assert follower.response.code == 200
    assert follower.header("content-type") == ["text/plain"]
    assert follower.header("x-content-type-options") == ["nosniff"]
    assert follower.header("x-accel-buffering") == ["no"]
    assert follower.response.length is UNKNOWN_LENGTH
    assert follower.text() == b""
    daemon.logs.end_readers()


def test_history_then_live_until_the_daemon_ends(daemon: Daemon, client: Any) -> None:
    daemon.logs.model(A).write(b"one\n")
    follower = Follower(daemon, client, "/logs/stream/a")
    assert follower.text() == b"one\n"
    daemon.logs.model(A).write(b"two\n")
    assert follower.text() == b"one\ntwo\n"
    no_result(follower.done)
    daemon.logs.model(A).write(b"three\n")
    daemon.logs.end_readers()
    assert follower.text() == b"one\ntwo\nthree\n"
    assert success_of(follower.done) is None


@pytest.mark.parametrize("query", ["no-history", "no-history=", "no-history=0", "x=1&no-history"])
def test_a_stream_without_history(daemon: Daemon, client: Any, query: str) -> None:
    daemon.logs.model(A).write(b"old\n")
    follower = Follower(daemon, client, f"/logs/stream/a?{query}")
    daemon.logs.model(A).write(b"new\n")
    assert follower.text() == b"new\n"
    daemon.logs.end_readers()


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/logs/stream", b"[INFO] own\n"),
        ("/logs/stream/", b"[INFO] own\n"),
        ("/logs/stream/proxy", b"[INFO] own\n"),
        ("/logs/stream/upstream", b"from a\nfrom b\n"),
        ("/logs/stream/a", b"from a\n"),
        ("/logs/stream/a/some/more", b"from a\n"),
        ("/logs/stream/org/b", b"from b\n"),
        ("/logs/stream/org%2Fb", b"from b\n"),
        ("/logs/stream/org%2fb/more", b"from b\n"),
        ("/logs/stream/nick/name", b"from b\n"),
    ],
)
def test_h92_each_name_has_its_log(daemon: Daemon, client: Any, path: str, expected: bytes) -> None:
    daemon.logs.line(LogLevel.info, "own")
    daemon.logs.model(A).write(b"from a\n")
    daemon.logs.model(B).write(b"from b\n")
    follower = Follower(daemon, client, path)
    assert follower.text() == expected
    daemon.logs.end_readers()


@pytest.mark.parametrize("name", ["nope", "org", "proxy/a", "b"])
def test_an_unknown_name_is_refused(client: Any, name: str) -> None:
    response, text = get_text(client, f"/logs/stream/{name}")
    assert (response.code, text) == (400, b"invalid logger. Use 'proxy', 'upstream' or a model's ID")


def test_an_endless_name_is_not_tried_piece_by_piece(
    daemon: Daemon, client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries: list[object] = []

    class Models(dict[ModelId, ModelConfig]):
        def get(self, key: Any, default: Any = None) -> Any:
            tries.append(key)
            return super().get(key, default)

    def decoded(written: bytes) -> str:
        tries.append(written)
        return written.decode()

    daemon.config = replace(CONFIG, models=Models(CONFIG.models))
    monkeypatch.setattr(paths, "decoded", decoded)
    response, _ = get_text(client, "/logs/stream/" + "c/" * 2000)
    assert response.code == 400
    assert len(tries) <= 2, "the longest name there is has two parts"


@pytest.mark.parametrize("path", ["/logs", "/logs/stream", "/logs/stream/a"])
def test_head_answers_with_headers_only_and_ends(daemon: Daemon, client: Any, path: str) -> None:
    daemon.logs.line(LogLevel.info, "own")
    response = success_of(client.head(f"http://host{path}"))
    assert response.code == 200
    assert response.headers.getRawHeaders("content-type") == ["text/plain"]
    assert success_of(response.content()) == b""


class Connection:
    """A connection to the routes whose flow the test controls."""

    def __init__(self, daemon: Daemon, request: bytes) -> None:
        self.daemon = daemon
        self.transport = StringTransport()
        resource = DirectResource(make_app(daemon), lambda _request, _error: b"")
        site = EdgeSite(resource, Clock(), daemon.logs)
        self.channel = site.buildProtocol(None)
        self.channel.makeConnection(self.transport)
        self.channel.dataReceived(request)
        assert b" 200 OK\r\n" in self.transport.value()
        self.producer: Any = self.transport.producer

    def body(self) -> bytes:
        """Take the chunks written so far apart."""
        _, _, rest = self.transport.value().partition(b"\r\n\r\n")
        body = b""
        while rest:
            size, _, rest = rest.partition(b"\r\n")
            body += rest[: int(size, 16)]
            rest = rest[int(size, 16) + 2 :]
        return body

    def write(self, data: bytes) -> None:
        self.daemon.logs.model(A).write(data)
        self.daemon.clock.advance(1)


@pytest.fixture
def connection(daemon: Daemon) -> Connection:
    return Connection(daemon, b"GET /logs/stream/a HTTP/1.1\r\nHost: h\r\n\r\n")


def test_a_stream_is_a_push_producer() -> None:
    assert verifyObject(IPushProducer, LogStream(Request(DummyChannel(), False)))


def test_h29_a_reader_that_never_reads_costs_bounded_memory_and_is_told(connection: Connection) -> None:
    connection.producer.pauseProducing()
    written = b""
    for number in range(400):
        piece = b"%d %s\n" % (number, b"x" * 2000)
        connection.write(piece)
        written += piece
    assert connection.body() == b""
    connection.producer.resumeProducing()
    got = connection.body()
    assert 250 * KIB < len(got) < 257 * KIB
    assert got.startswith("\n— ".encode())
    assert_accounts_for(got, written)
    connection.write(b"live\n")
    assert connection.body().endswith(b"399 " + b"x" * 2000 + b"\nlive\n")
    connection.daemon.logs.end_readers()


def test_a_short_pause_loses_nothing(connection: Connection) -> None:
    connection.producer.pauseProducing()
    for _ in range(10):
        connection.write(b"line\n")
    connection.producer.resumeProducing()
    assert connection.body() == b"line\n" * 10
    assert dropped_bytes(connection.body()) == 0
    connection.producer.resumeProducing()
    connection.daemon.logs.end_readers()


def test_a_paused_reader_still_ends_cleanly(connection: Connection) -> None:
    connection.producer.pauseProducing()
    connection.write(b"line\n")
    connection.daemon.logs.end_readers()
    assert connection.body() == b"line\n"
    assert connection.transport.value().endswith(b"\r\n0\r\n\r\n")


def test_a_client_that_left_is_forgotten(connection: Connection) -> None:
    connection.write(b"line\n")
    connection.channel.connectionLost(Failure(ConnectionError()))
    connection.write(b"more\n")
    assert connection.daemon.clock.getDelayedCalls() == []
    assert connection.body() == b"line\n"


def test_a_client_that_left_while_paused_is_forgotten(connection: Connection) -> None:
    connection.producer.pauseProducing()
    connection.write(b"line\n")
    connection.channel.connectionLost(Failure(ConnectionError()))
    connection.write(b"more\n")
    assert connection.daemon.clock.getDelayedCalls() == []


def test_an_old_client_gets_an_unframed_stream_and_a_closed_connection(daemon: Daemon) -> None:
    connection = Connection(daemon, b"GET /logs/stream/a HTTP/1.0\r\n\r\n")
    connection.write(b"line\n")
    daemon.logs.end_readers()
    assert connection.transport.value().endswith(b"\r\n\r\nline\n")
    assert connection.transport.disconnecting
