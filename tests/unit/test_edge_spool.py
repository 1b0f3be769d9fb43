"""Long bodies go by way of a file; nothing is read or written on the reactor's thread."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IPushProducer
from twisted.python.failure import Failure
from zope.interface.verify import verifyObject

from llamaswap.config.schema import HTTPConfig, ModelConfig
from llamaswap.core.values import ModelId
from llamaswap.errors import LlamaSwapError
from llamaswap.web.spool import Span, Spool, SpooledBody
from tests.unit.web_stack import End, Stack, config_of, response_of

MIB = 1024 * 1024
AUDIO = "/v1/audio/transcriptions"
SMALL = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
FORM = "multipart/form-data; boundary=b"
HEAD = (
    b'--b\r\nContent-Disposition: form-data; name="model"\r\n\r\nalias\r\n'
    b'--b\r\nContent-Disposition: form-data; name="file"; filename="x.wav"\r\nContent-Type: audio/wav\r\n\r\n'
)
TAIL = b'\r\n--b\r\nContent-Disposition: form-data; name="model"\r\n\r\nagain\r\n--b--\r\n'


class Threads:
    """Does the work when told to."""

    def __init__(self) -> None:
        self.waiting: list[tuple[Callable[[], Any], Deferred[Any]]] = []
        self.done = 0

    def __call__(self, work: Callable[[], Any]) -> Deferred[Any]:
        done: Deferred[Any] = Deferred()
        self.waiting.append((work, done))
        return done

    def step(self, error: Exception | None = None) -> None:
        work, done = self.waiting.pop(0)
        self.done += 1
        try:
            result = Failure(error) if error is not None else work()
        except OSError:
            result = Failure()
        done.callback(result)

    def run(self) -> None:
        while self.waiting:
            self.step()


class World:
    def __init__(self, **model: Any) -> None:
        limits = HTTPConfig()
        alpha = ModelConfig(ModelId("p"), cmd="c", proxy="http://127.0.0.1:5800", aliases=("alias",), **model)
        self.stack = Stack(config_of(alpha))
        self.stack.site.change_limits(limits)
        self.stack.be_ready("p")
        self.threads = Threads()
        self.stack.site.in_thread = self.threads

    def post(self, body: bytes, kind: str = FORM, path: str = AUDIO) -> End:
        client = self.stack.connect()
        client.send(head_of(kind, path, f"Content-Length: {len(body)}"))
        self.feed(client, body)
        return client

    def feed(self, client: End, body: bytes) -> None:
        """Send as a client does that stops when it is told to."""
        for start in range(0, len(body), 65536):
            while client.transport.producerState == "paused":
                self.threads.step()
            client.send(body[start : start + 65536])

    def upstream(self) -> End:
        self.threads.run()
        return self.stack.accept()

    def read(self, upstream: End) -> bytes:
        """Read what the upstream gets."""
        while self.threads.waiting:
            self.threads.step()
        return upstream.take()


def head_of(kind: str, path: str, framing: str) -> bytes:
    return f"POST {path} HTTP/1.1\r\nHost: h\r\nContent-Type: {kind}\r\n{framing}\r\n\r\n".encode()


def nameless_files() -> int:
    """Count the files without a name that are open."""
    folder = Path("/proc/self/fd")
    links = []
    for entry in folder.iterdir():
        with contextlib.suppress(FileNotFoundError):
            links.append(entry.readlink())
    return sum(str(link).endswith("(deleted)") for link in links)


@pytest.fixture
def descriptors() -> Iterator[None]:
    """See that no file stays open."""
    before = nameless_files()
    yield
    assert nameless_files() == before


pytestmark = pytest.mark.usefixtures("descriptors")


def test_d9_a_long_form_is_streamed_from_a_file() -> None:
    world = World(use_model_name="real-name")
    body = HEAD + os.urandom(5 * MIB) + TAIL
    client = world.post(body)
    assert world.threads.done >= 4, "the client had to wait while it was written"
    upstream = world.upstream()
    got = world.read(upstream)
    head, _, payload = got.partition(b"\r\n\r\n")
    expected = body.replace(b"\r\nalias\r\n", b"\r\nreal-name\r\n").replace(b"\r\nagain\r\n", b"\r\nreal-name\r\n")
    assert b"Content-Length: %d\r\n" % len(expected) in head + b"\r\n"
    assert payload == expected
    upstream.send(SMALL)
    assert response_of(client.take()).status == 200
    world.threads.run()
    assert world.stack.router.ended


def test_d9_a_long_form_without_a_new_name_goes_on_byte_for_byte() -> None:
    world = World()
    body = HEAD + os.urandom(5 * MIB) + TAIL
    world.post(body)
    upstream = world.upstream()
    assert world.read(upstream).endswith(b"\r\n\r\n" + body)
    upstream.send(SMALL)
    world.threads.run()


def test_d9_chunks_are_taken_away_before_the_file() -> None:
    world = World()
    body = HEAD + bytes(2 * MIB) + TAIL
    client = world.stack.connect()
    client.send(head_of(FORM, AUDIO, "Transfer-Encoding: chunked"))
    world.feed(client, b"".join(b"%x\r\n%b\r\n" % (len(p), p) for p in pieces(body, 40_000)) + b"0\r\n\r\n")
    upstream = world.upstream()
    got = world.read(upstream)
    assert b"\r\nContent-Length: %d\r\n" % len(body) in got
    assert got.endswith(b"\r\n\r\n" + body)
    upstream.send(SMALL)
    world.threads.run()


def pieces(body: bytes, size: int) -> list[bytes]:
    return [body[start : start + size] for start in range(0, len(body), size)]


def test_a_short_body_in_chunks_needs_no_file() -> None:
    world = World()
    client = world.stack.connect()
    body = HEAD + TAIL
    client.send(head_of(FORM, AUDIO, "Transfer-Encoding: chunked") + b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body))
    assert world.threads.waiting == []
    upstream = world.stack.accept()
    assert upstream.take().endswith(body)


def test_long_json_stays_in_memory() -> None:
    world = World()
    client = world.stack.connect()
    body = b'{"model":"p","x":"' + b"x" * 6 * MIB + b'"}'
    client.send(head_of("application/json", "/v1/chat/completions", f"Content-Length: {len(body)}") + body[:-1])
    client.send(body[-1:])
    assert world.threads.waiting == []
    upstream = world.stack.accept()
    assert upstream.transport.producer is not None


def test_other_long_bodies_go_by_the_query() -> None:
    world = World()
    body = os.urandom(5 * MIB)
    world.post(body, "application/octet-stream", AUDIO + "?model=alias")
    upstream = world.upstream()
    assert world.read(upstream).endswith(b"\r\n\r\n" + body)
    upstream.send(SMALL)
    world.threads.run()


@pytest.mark.parametrize(
    ("kind", "body", "status", "message"),
    [
        (FORM, HEAD + bytes(5 * MIB), 400, "could not parse multipart form"),
        ("multipart/form-data", HEAD + bytes(5 * MIB) + TAIL, 400, "could not parse multipart form"),
        (FORM, HEAD.replace(b"alias", b"other") + bytes(5 * MIB) + TAIL, 404, "no router for requested model: other"),
        ("image/png", bytes(5 * MIB), 404, "no model id could be identified"),
    ],
)
def test_d9_long_bodies_that_lead_nowhere(kind: str, body: bytes, status: int, message: str) -> None:
    world = World()
    client = world.post(body, kind)
    world.threads.run()
    reply = response_of(client.take())
    assert (reply.status, reply.document["error"]["message"]) == (status, message)
    assert not client.is_closed


def test_d9_fields_that_are_too_long_are_refused_before_their_end() -> None:
    world = World()
    client = world.stack.connect()
    client.send(head_of(FORM, AUDIO, f"Content-Length: {90 * MIB}"))
    client.send(b"--b\r\nContent-Disposition: form-data; name=a\r\n\r\n")
    for _ in range(42):
        world.feed(client, bytes(MIB))
    assert client.take() == b""
    while client.transport.producerState == "paused":
        world.threads.step()
    client.send(bytes(65536))
    assert response_of(client.take()).status == 413
    world.threads.run()


def test_the_client_leaves_while_its_body_is_written() -> None:
    world = World()
    client = world.stack.connect()
    client.send(head_of(FORM, AUDIO, f"Content-Length: {9 * MIB}"))
    client.send(HEAD + bytes(2 * MIB))
    assert len(world.threads.waiting) == 1
    client.leave()
    world.threads.run()
    assert world.stack.router.entered == {}


def test_the_client_leaves_before_the_last_piece_is_written() -> None:
    world = World()
    body = HEAD + bytes(4 * MIB + 1000) + TAIL
    client = world.post(body)
    assert len(world.threads.waiting) == 1
    client.leave()
    world.threads.run()
    assert world.stack.router.entered == {}


def test_a_disk_that_is_full_is_said() -> None:
    world = World()
    client = world.stack.connect()
    client.send(head_of(FORM, AUDIO, f"Content-Length: {9 * MIB}"))
    client.send(HEAD + bytes(2 * MIB))
    assert client.transport.producerState == "paused"
    world.threads.step(OSError(28, "No space left on device"))
    assert client.transport.producerState == "producing"  # what stays unread resets the connection
    reply = response_of(client.take())
    assert reply.status == 507
    assert "No space left" in reply.document["error"]["message"]
    assert client.is_closed
    world.threads.run()


def test_a_file_that_cannot_be_read_is_said() -> None:
    world = World()
    client = world.post(HEAD + bytes(5 * MIB) + TAIL)
    upstream = world.upstream()
    world.threads.step(OSError(5, "Input/output error"))
    assert response_of(client.take()).status == 507
    assert upstream.is_closed
    world.threads.run()


def test_an_answer_before_the_body_was_sent_ends_its_sending() -> None:
    world = World()
    client = world.post(HEAD + bytes(5 * MIB) + TAIL)
    upstream = world.upstream()
    world.threads.step()
    assert len(world.threads.waiting) == 1
    upstream.send(SMALL)
    assert response_of(client.take()).status == 200
    before = len(upstream.take())
    world.threads.run()
    assert len(upstream.take()) == 0 < before
    assert upstream.is_closed, "the rest of the body was not sent"


def test_a_slow_upstream_is_waited_for() -> None:
    world = World()
    world.post(HEAD + bytes(5 * MIB) + TAIL)
    upstream = world.upstream()
    producer: Any = upstream.transport.producer
    verifyObject(IPushProducer, producer)
    producer.pauseProducing()
    world.threads.run()
    first = len(upstream.take())
    assert first < 2 * MIB
    producer.resumeProducing()
    world.threads.run()
    assert first + len(upstream.take()) > 5 * MIB
    upstream.send(SMALL)
    world.threads.run()


def test_a_stale_connection_does_not_lose_the_body() -> None:
    world = World()
    body = HEAD + os.urandom(5 * MIB) + TAIL
    world.stack.post_json("/v1/chat/completions", {"model": "p"})
    stale = world.stack.accept()
    stale.send(SMALL)
    stale.take()
    world.post(body)
    world.threads.step()
    world.threads.step()
    assert stale.take() != b"", "it was taken for good"
    stale.leave()
    upstream = world.upstream()
    assert world.read(upstream).endswith(b"\r\n\r\n" + body)
    upstream.send(SMALL)
    world.threads.run()


def test_a_file_that_lost_its_end_is_an_error() -> None:
    threads = Threads()
    spool = Spool(threads)
    written = spool.write(b"abc")
    threads.run()
    assert written.called
    errors: list[LlamaSwapError] = []

    class Sink:
        data = b""

        def body_received(self, data: bytes) -> None:
            self.data += data

        def body_ended(self) -> None:
            raise AssertionError

        def body_failed(self, error: LlamaSwapError) -> None:
            errors.append(error)

    sink = Sink()
    SpooledBody(spool, [b"x", Span(0, 5)]).attach(sink)
    threads.run()
    assert sink.data == b"xabc"
    assert [error.status for error in errors] == [507]
    spool.close()
    threads.run()
