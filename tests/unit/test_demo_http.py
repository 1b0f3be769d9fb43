from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncGenerator, Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from llamaswap.config.load import load
from llamaswap.demo.config import demo_configuration
from llamaswap.demo.generation import Engine
from llamaswap.demo.http import Answer, Connection, Request, event_stream
from llamaswap.demo.media import form_of
from llamaswap.demo.server import DemoServer

HEALTH = b"GET /health HTTP/1.1\r\nHost: h\r\n\r\n"


class Transport(asyncio.Transport):
    """Keeps what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.is_closed = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written += data

    def close(self) -> None:
        self.is_closed = True

    def abort(self) -> None:
        self.is_closed = True


def serve(*pieces: bytes, handle: Callable[[Request], Coroutine[Any, Any, Answer]] | None = None) -> Transport:
    """Feed a connection and let it answer until it has nothing to do."""
    transport = Transport()

    async def feed() -> None:
        connection = Connection(handle or DemoServer(Engine("toy", 0), 0).handle)
        connection.connection_made(transport)
        for piece in pieces:
            connection.data_received(piece)
        while tasks := asyncio.all_tasks() - {asyncio.current_task()}:
            await asyncio.wait(tasks)

    asyncio.run(feed())
    return transport


def post(path: str, payload: object) -> bytes:
    body = json.dumps(payload).encode()
    return b"POST %s HTTP/1.1\r\nContent-Length: %d\r\n\r\n%s" % (path.encode(), len(body), body)


def answer_to(*pieces: bytes) -> tuple[int, Any]:
    head, _, body = serve(*pieces).written.partition(b"\r\n\r\n")
    return int(head.split(b" ")[1]), json.loads(body)


async def echo(request: Request) -> Answer:
    return Answer(b"[%s]" % request.body, content_type="text/plain")


def test_two_requests_in_one_piece_are_answered_in_turn() -> None:
    transport = serve(HEALTH + HEALTH)
    assert transport.written.count(b'{"status": "ok"}') == 2
    assert not transport.is_closed


@pytest.mark.parametrize("size", [1, 7, 30])
def test_a_request_may_come_in_any_pieces(size: int) -> None:
    request = post("/", "body") + HEALTH
    pieces = [request[start : start + size] for start in range(0, len(request), size)]
    written = serve(*pieces, handle=echo).written
    assert written.endswith(b"[]")
    assert b'["body"]' in written


def test_a_chunked_body_is_put_together() -> None:
    head = b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"
    written = serve(head + b"3\r\nabc\r\n", b"2;x=y\r\nde\r\n0\r\n", b"\r\n" + HEALTH, handle=echo).written
    assert b"[abcde]" in written
    assert written.endswith(b"[]")


def test_a_client_that_waits_for_leave_gets_it_once() -> None:
    head = b"POST / HTTP/1.1\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n"
    written = serve(head, b"ab", b"cd", handle=echo).written
    assert written.count(b"100 Continue") == 1
    assert written.endswith(b"[abcd]")


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"nonsense\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: x\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: -1000\r\n\r\n",
        b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n-2\r\n",
        b"x" * 70_000,
    ],
)
def test_nonsense_is_refused_and_the_connection_closed(request_bytes: bytes) -> None:
    transport = serve(request_bytes)
    assert transport.written.startswith(b"HTTP/1.1 400 ")
    assert transport.is_closed


@pytest.mark.parametrize(
    "request_bytes", [b"GET /health HTTP/1.0\r\n\r\n", b"GET /health HTTP/1.1\r\nConnection: close\r\n\r\n"]
)
def test_a_connection_that_is_not_kept_is_closed_after_the_answer(request_bytes: bytes) -> None:
    transport = serve(request_bytes)
    assert transport.written.endswith(b'{"status": "ok"}')
    assert b"connection: close" in transport.written
    assert transport.is_closed


def test_head_has_no_body() -> None:
    written = serve(HEALTH.replace(b"GET", b"HEAD")).written
    assert b"content-length: 16\r\n" in written
    assert written.endswith(b"\r\n\r\n")


def test_an_old_client_gets_a_stream_without_chunks() -> None:
    async def pieces() -> AsyncGenerator[bytes]:
        yield b"ab"
        yield b"cd"

    async def stream(_: Request) -> Answer:
        return event_stream(pieces())

    assert serve(b"GET / HTTP/1.0\r\n\r\n", handle=stream).written.endswith(b"\r\n\r\nabcd")
    assert serve(HEALTH, handle=stream).written.endswith(b"\r\n\r\n2\r\nab\r\n2\r\ncd\r\n0\r\n\r\n")


async def turns(count: int = 1) -> None:
    """Let everything that is ready to run do so."""
    loop = asyncio.get_running_loop()
    for _ in range(count):
        turned = loop.create_future()
        loop.call_soon(turned.set_result, None)
        await turned


def test_a_stream_waits_while_the_client_is_slow_and_ends_when_it_leaves() -> None:
    produced = []

    async def pieces() -> AsyncGenerator[bytes]:
        try:
            while True:
                await turns()
                produced.append("x")
                yield b"x"
        finally:
            produced.append("end")

    async def stream(_: Request) -> Answer:
        return event_stream(pieces())

    async def play() -> None:
        connection = Connection(stream)
        connection.connection_made(Transport())
        connection.data_received(HEALTH)
        await turns(30)
        connection.pause_writing()
        await turns(30)
        before = len(produced)
        await turns(30)
        assert len(produced) == before > 0
        connection.resume_writing()
        await turns(30)
        assert len(produced) > before
        connection.connection_lost(None)
        await turns(3)
        assert produced[-1] == "end"
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(play())


def test_everything_answers_503_while_loading() -> None:
    handle = DemoServer(Engine("toy", 0), time.monotonic() + 100).handle
    for request in (HEALTH, post("/v1/completions", {"prompt": ""})):
        written = serve(request, handle=handle).written
        assert written.startswith(b"HTTP/1.1 503 ")
        assert b'"Loading model"' in written


@pytest.mark.parametrize(
    ("path", "payload", "status", "message"),
    [
        ("/v1/chat/completions", {}, 400, "'messages' is required"),
        ("/v1/chat/completions", {"messages": [{"role": "user"}], "max_tokens": "x"}, 400, "wrong type"),
        ("/v1/completions", ["x"], 400, "must be a JSON object"),
        ("/v1/embeddings", {}, 400, "'input' must be provided"),
        ("/v1/responses", {}, 400, "'input' is required"),
        ("/v1/nothing", {}, 404, "File Not Found"),
    ],
)
def test_errors_have_the_form_of_openai(path: str, payload: object, status: int, message: str) -> None:
    code, document = answer_to(post(path, payload))
    assert code == status
    assert document["error"]["code"] == status
    assert message in document["error"]["message"]


def test_errors_on_messages_have_the_form_of_anthropic() -> None:
    code, document = answer_to(post("/v1/messages", {}))
    assert (code, document["type"]) == (400, "error")
    assert document["error"] == {"message": "'messages' is required", "type": "invalid_request_error"}


def test_other_methods_and_bodies_are_refused() -> None:
    assert answer_to(b"PUT /health HTTP/1.1\r\n\r\n")[0] == 405
    assert answer_to(b"GET /nothing HTTP/1.1\r\n\r\n")[0] == 404
    assert answer_to(b"POST /completions HTTP/1.1\r\nContent-Length: 1\r\n\r\n{")[0] == 400


def test_llama_server_routes() -> None:
    assert answer_to(b"GET /props HTTP/1.1\r\n\r\n")[1]["model_alias"] == "toy"
    assert [slot["is_processing"] for slot in answer_to(b"GET /slots HTTP/1.1\r\n\r\n")[1]] == [False] * 4
    assert answer_to(b"GET /models HTTP/1.1\r\n\r\n")[1]["data"][0]["id"] == "toy"
    assert len(answer_to(post("/tokenize", {"content": "one two"}))[1]["tokens"]) == 2
    metrics = serve(b"GET /metrics HTTP/1.1\r\n\r\n").written
    assert b"\nllamacpp:requests_processing 0\n" in metrics


def test_the_leading_v1_is_optional() -> None:
    request = {"messages": [{"role": "user", "content": [{"type": "text", "text": "hi"}]}]}
    plain, prefixed = (answer_to(post(f"{prefix}/chat/completions", request))[1] for prefix in ("", "/v1"))
    assert plain["choices"] == prefixed["choices"]
    assert plain["usage"] == prefixed["usage"] == {**plain["usage"], "prompt_tokens": 3}


def test_the_configuration_names_the_interpreter_and_loads(tmp_path: Path) -> None:
    interpreter = "/opt/my py/bin/python3"
    path = tmp_path / "demo.yaml"
    path.write_text(demo_configuration(interpreter))
    config = load(str(path), None, {})
    assert config.warnings == ()
    assert list(config.models) == ["coder", "large", "small"]
    assert all(model.argv[:3] == (interpreter, "-m", "llamaswap.demo") for model in config.models.values())
    group = config.router.groups["one-at-a-time"]
    assert sorted(group.members) == ["coder", "large", "small"]


def test_a_form_may_bring_files() -> None:
    body = (
        b'--b\r\nContent-Disposition: form-data; name="prompt"\r\n\r\nx\r\n'
        b'--b\r\nContent-Disposition: form-data; name="image"; filename="name"\r\n\r\na\r\n--c\r\n--b--\r\n'
    )
    assert form_of(body, 'multipart/form-data; boundary="b"') == {"prompt": "x", "image": b"a\r\n--c"}


@pytest.mark.parametrize(
    ("path", "payload"),
    [
        ("/v1/images/generations", {}),
        ("/v1/images/edits", {"prompt": "x", "image": "no file"}),
        ("/v1/audio/speech", {"input": 5}),
        ("/v1/audio/transcriptions", {}),
    ],
)
def test_media_routes_refuse_what_lacks_its_matter(path: str, payload: object) -> None:
    assert answer_to(post(path, payload))[0] == 400


def test_the_voices() -> None:
    assert answer_to(b"GET /v1/audio/voices HTTP/1.1\r\n\r\n") == (200, {"voices": ["keeper", "baker"]})
