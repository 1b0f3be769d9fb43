"""Routes whose request names the model: from the client's bytes to the upstream's, and back."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llamaswap.config.schema import Filters, ModelConfig
from llamaswap.core.values import ModelId, RequestId, SwapReason
from llamaswap.errors import ConcurrencyLimitError, ModelUnloadedError, ShuttingDownError, UpstreamStartTimeoutError
from tests.unit.web_stack import End, Stack, config_of, response_of

CHAT = "/v1/chat/completions"
ALPHA = ModelConfig(
    ModelId("alpha"),
    aliases=("gpt-x", "alpha:think"),
    filters=Filters(
        strip_params=("temperature", "top_p"),
        set_params={"nested": {"a": 1}, "seed": 42},
        set_params_by_id={"alpha:think": {"seed": 7, "think": True}},
    ),
)
BETA = ModelConfig(ModelId("beta"), use_model_name="real-beta")
PLAIN = ModelConfig(ModelId("author/plain"), aliases=("p",))
MULTIPART = "multipart/form-data; boundary=b0"
URLENCODED = "application/x-www-form-urlencoded"


SAME_PATHS = (
    "/v1/chat/completions",
    "/v1/responses",
    "/v1/completions",
    "/v1/messages",
    "/v1/messages/count_tokens",
    "/v1/embeddings",
    "/v1/rerank",
    "/v1/reranking",
    "/rerank",
    "/reranking",
    "/infill",
    "/completion",
    "/v1/audio/speech",
    "/v1/audio/voices",
    "/v1/images/generations",
    "/sdapi/v1/txt2img",
    "/sdapi/v1/img2img",
    "/v1/audio/transcriptions",
    "/v1/images/edits",
)


@pytest.fixture
def stack() -> Stack:
    stack = Stack(config_of(ALPHA, BETA, PLAIN))
    stack.be_ready("alpha", "beta", "author/plain")
    return stack


def form(model: str) -> bytes:
    return (
        b'--b0\r\nContent-Disposition: form-data; name="file"; filename="x.wav"\r\nContent-Type: audio/wav\r\n\r\n'
        b"RIFF\x00\r\n--b0\r\n"
        b'Content-Disposition: form-data; name="model"\r\n\r\n%b\r\n--b0--\r\n' % model.encode()
    )


def received(stack: Stack) -> tuple[str, bytes]:
    """Take what the upstream got: request line, body."""
    head, _, body = stack.accept().take().partition(b"\r\n\r\n")
    lines = head.decode("latin-1").split("\r\n")
    lengths = [line for line in lines if line.lower().startswith("content-length")]
    assert lengths == ([f"Content-Length: {len(body)}"] if body else [])
    return lines[0], body


# --------------------------------------------------------------------------- where requests go


@pytest.mark.parametrize("path", SAME_PATHS)
def test_post_goes_to_the_same_path(stack: Stack, path: str) -> None:
    stack.post_json(f"{path}?beta=true&x=%2F", {"model": "p"})
    assert stack.router.models == ["author/plain"]
    assert received(stack) == (f"POST {path}?beta=true&x=%2F HTTP/1.1", b'{"model": "p"}')


@pytest.mark.parametrize(
    ("path", "sent"),
    [
        ("/v/chat/completions?x=1", "/chat/completions?x=1"),
        ("/v/responses", "/responses"),
        ("/v/completions", "/completions"),
        ("/v/messages", "/messages"),
        ("/v/messages/count_tokens", "/messages/count_tokens"),
        ("/v/embeddings", "/embeddings"),
        ("/v/rerank", "/rerank"),
        ("/v/reranking", "/reranking"),
        ("/audioapi/v1/tasks/run", "/v1/tasks/run"),
    ],
)
def test_prefixes_are_removed(stack: Stack, path: str, sent: str) -> None:
    stack.post_json(path, {"model": "p"})
    assert received(stack)[0] == f"POST {sent} HTTP/1.1"


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("path", ["/v1/audio/voices", "/sdapi/v1/loras", "/props"])
def test_get_is_found_by_its_query(stack: Stack, method: str, path: str) -> None:
    stack.begin(method, f"{path}?z=1&model=gpt-x&a=2")
    assert stack.router.models == ["alpha"]
    assert received(stack) == (f"{method} {path}?z=1&model=gpt-x&a=2 HTTP/1.1", b"")


def test_request_is_entered_on_behalf_of_its_client(stack: Stack) -> None:
    stack.post_json(CHAT, {"model": "p"})
    assert [reason for _, _, reason in stack.router.entered.values()] == [SwapReason.REQUEST]


# --------------------------------------------------------------------------- what is changed


def test_untouched_body_is_forwarded_byte_for_byte(stack: Stack) -> None:
    body = b' {"x" :1.0e5,"model":"p", "u":"\\u00e9\xc3\xa9", "temperature":1}\n'
    stack.post_json(CHAT, body)
    assert received(stack)[1] == body


@given(members=st.dictionaries(st.text(), st.integers() | st.text(), max_size=3), is_indented=st.booleans())
def test_any_body_without_filters_survives(*, members: dict[str, Any], is_indented: bool) -> None:
    stack = Stack(config_of(PLAIN))
    stack.be_ready("author/plain")
    body = json.dumps({**members, "model": "author/plain"}, indent=1 if is_indented else None).encode()
    stack.post_json(CHAT, body)
    assert received(stack)[1] == body


def test_filters_are_applied(stack: Stack) -> None:
    stack.post_json(CHAT, b'{"model":"alpha","temperature":1,"top_p":0.5,"seed":1}')
    assert received(stack)[1] == b'{"model":"alpha","seed":42,"nested":{"a":1}}'


def test_filters_of_the_requested_name(stack: Stack) -> None:
    stack.post_json(CHAT, b'{"model":"alpha:think"}')
    assert stack.router.models == ["alpha"]
    assert received(stack)[1] == b'{"model":"alpha:think","nested":{"a":1},"seed":7,"think":true}'


def test_model_name_in_json(stack: Stack) -> None:
    stack.post_json(CHAT, b'{"stream":true,"model":"beta","x":1}')
    assert received(stack)[1] == b'{"stream":true,"model":"real-beta","x":1}'


def test_model_name_in_a_form(stack: Stack) -> None:
    stack.begin("POST", "/v1/audio/transcriptions", form("beta"), {"Content-Type": MULTIPART})
    assert received(stack)[1] == form("real-beta")


def test_form_without_rename_is_forwarded_byte_for_byte(stack: Stack) -> None:
    stack.begin("POST", "/v1/audio/transcriptions", form("alpha"), {"Content-Type": MULTIPART})
    assert stack.router.models == ["alpha"]
    assert received(stack)[1] == form("alpha")


def test_query_wins_over_a_form(stack: Stack) -> None:
    stack.begin("POST", "/v1/audio/transcriptions?model=alpha", form("nope"), {"Content-Type": MULTIPART})
    assert stack.router.models == ["alpha"]


def test_urlencoded_body_is_not_filtered(stack: Stack) -> None:
    stack.begin("POST", CHAT, b"model=beta&temperature=1", {"Content-Type": URLENCODED})
    assert stack.router.models == ["beta"]
    assert received(stack)[1] == b"model=beta&temperature=1"


def test_any_other_body_may_name_its_model_by_query(stack: Stack) -> None:
    stack.begin("POST", f"{CHAT}?model=alpha", b'{"temperature":1}')
    assert received(stack)[1] == b'{"temperature":1}'


def test_chunked_body_goes_on_with_its_length(stack: Stack) -> None:
    client = stack.connect()
    client.send(
        b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\n"
        b"Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n",
    )
    client.send(b'3\r\n{"m\r\n')
    assert not stack.router.entered
    client.send(b'c\r\nodel":"beta"\r\n1\r\n}\r\n0\r\n\r\n')
    assert received(stack)[1] == b'{"model":"real-beta"}'


# --------------------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (b"{}", "application/json"),
        (b'{"model":null}', "application/json"),
        (b'{"model":""}', "application/json"),
        (b'[{"model":"alpha"}]', "application/json"),
        (b"", "application/json"),
        (b'{"model":"alpha"}', URLENCODED),
        (b'{"model":"alpha"}', "text/plain"),
        (b"--b0--", MULTIPART),
    ],
)
def test_no_model_is_named(stack: Stack, body: bytes, content_type: str) -> None:
    if content_type == MULTIPART:
        body = form("").replace(b'name="model"', b'name="x"')
    answer = stack.ask("POST", CHAT, body, {"Content-Type": content_type})
    assert answer.status == 404
    assert answer.document == {
        "src": "llama-swap",
        "error": {
            "message": "no model id could be identified",
            "type": "invalid_request_error",
            "param": None,
            "code": "not_found",
        },
    }


def test_query_does_not_count_beside_json(stack: Stack) -> None:
    answer = response_of(stack.post_json(f"{CHAT}?model=alpha", {}).take())
    assert answer.document["error"]["message"] == "no model id could be identified"


@pytest.mark.parametrize("model", ["nope", " alpha", "ALPHA", "alpha/x"])
def test_unknown_model(stack: Stack, model: str) -> None:
    answer = response_of(stack.post_json(CHAT, {"model": model}).take())
    assert answer.status == 404
    assert answer.document["error"] == {
        "message": f"no router for requested model: {model}",
        "type": "invalid_request_error",
        "param": "model",
        "code": "model_not_found",
    }
    assert not stack.router.entered


def test_long_name_is_cut_in_the_message(stack: Stack) -> None:
    answer = response_of(stack.post_json(CHAT, {"model": "x" * 5000}).take())
    assert len(answer.body) < 500


def test_unknown_model_in_plain_text(stack: Stack) -> None:
    answer = response_of(stack.post_json(CHAT, {"model": "nope"}, Accept="text/plain").take())
    assert answer.headers["content-type"] == "text/plain"
    assert answer.body == b"llama-swap: no router for requested model: nope"


@pytest.mark.parametrize(
    ("body", "content_type", "message"),
    [
        (b'{"model":"alpha", bad json', "application/json", "invalid JSON in request body"),
        (b'{"model":"p"', "application/json", "invalid JSON in request body"),
        (form("p")[:-10], MULTIPART, "could not parse multipart form"),
        (form("p"), "multipart/form-data", "could not parse multipart form"),
    ],
)
def test_damaged_bodies_are_never_forwarded(stack: Stack, body: bytes, content_type: str, message: str) -> None:
    answer = stack.ask("POST", CHAT, body, {"Content-Type": content_type})
    assert (answer.status, answer.document["error"]["message"]) == (400, message)
    assert not stack.router.entered


def test_filter_that_does_not_fit(stack: Stack) -> None:
    model = ModelConfig(ModelId("m"), filters=Filters(set_params={"list.x": 1}))
    other = Stack(config_of(model))
    answer = response_of(other.post_json(CHAT, {"model": "m", "list": []}).take())
    assert (answer.status, answer.document["error"]["message"]) == (500, "error setting parameter list.x in request")


def test_limit_is_json_whatever_is_accepted(stack: Stack) -> None:
    stack.router.error = ConcurrencyLimitError()
    answer = response_of(stack.post_json(CHAT, {"model": "p"}, Accept="text/plain").take())
    assert (answer.status, answer.headers["retry-after"]) == (429, "1")
    assert answer.document["error"]["code"] == "concurrency_limit"
    assert stack.router.ended == [RequestId(1)]


def test_anthropic_routes_answer_in_anthropic_form(stack: Stack) -> None:
    stack.router.error = ModelUnloadedError("model unloaded")
    answer = response_of(stack.post_json("/v1/messages?beta=true", {"model": "p"}).take())
    assert answer.status == 503
    assert answer.document["type"] == "error"
    assert answer.document["error"]["type"] == "overloaded_error"


def test_refusal_while_waiting(stack: Stack) -> None:
    stack.router.pool = None
    client = stack.post_json(CHAT, {"model": "p"})
    assert client.take() == b""
    stack.router.waiter.refused(UpstreamStartTimeoutError("health check timed out after 15s"))
    answer = response_of(client.take())
    assert (answer.status, answer.document["error"]["code"]) == (504, "upstream_start_timeout")
    assert stack.router.ended == [RequestId(1)]


def test_shutdown_closes_the_connection(stack: Stack) -> None:
    stack.router.error = ShuttingDownError("llama-swap is shutting down")
    client = stack.post_json(CHAT, {"model": "p"})
    answer = response_of(client.take())
    assert (answer.status, answer.headers["connection"]) == (503, "close")
    assert client.is_closed


# --------------------------------------------------------------------------- the way back


def test_answer_comes_back_as_it_is(stack: Stack) -> None:
    client = stack.post_json(CHAT, {"model": "p"})
    upstream = stack.accept()
    upstream.send(b"HTTP/1.1 418 Odd\r\nServer: x\r\nSet-Cookie: a=b\r\nDate: then\r\nContent-Length: 3\r\n\r\nhey")
    answer = response_of(client.take())
    assert (answer.status, answer.body) == (418, b"hey")
    assert answer.headers.pop("x-request-id")
    assert answer.headers == {"server": "x", "set-cookie": "a=b", "date": "then", "content-length": "3"}
    assert stack.router.ended == [RequestId(1)]


def test_stream_comes_back_piece_by_piece(stack: Stack) -> None:
    client = stack.post_json(CHAT, {"model": "p", "stream": True})
    upstream = stack.accept()
    upstream.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
    assert b"X-Accel-Buffering: no\r\n" in client.take()
    for piece in (b"7\r\ndata: 1\r\n", b"2\r\n\n\n\r\n"):
        upstream.send(piece)
        assert client.take() == piece
    assert not stack.router.ended
    upstream.send(b"0\r\n\r\n")
    assert client.take() == b"0\r\n\r\n"
    assert stack.router.ended == [RequestId(1)]
    assert not client.is_closed


def test_metered_routes_ask_for_what_can_be_read(stack: Stack) -> None:
    headers = {"Accept-Encoding": "br, gzip;q=0.8, zstd"}
    stack.begin("POST", CHAT, b'{"model":"p"}', {"Content-Type": "application/json", **headers})
    assert b"\r\nAccept-Encoding: gzip;q=0.8\r\n" in stack.accept().take()
    stack.begin("GET", "/props?model=p", headers=headers)
    assert b"\r\nAccept-Encoding: br, gzip;q=0.8, zstd\r\n" in stack.accept().take()


def leave_early(stack: Stack) -> End:
    stack.router.pool = None
    client = stack.post_json(CHAT, {"model": "p"})
    client.leave()
    return client


def test_h44_client_that_leaves_while_waiting_leaves_the_router(stack: Stack) -> None:
    leave_early(stack)
    assert stack.router.ended == [RequestId(1)]


def test_h40_end_is_told_once(stack: Stack) -> None:
    leave_early(stack)
    stack.router.waiter.refused(ModelUnloadedError("model unloaded"))
    assert stack.router.ended == [RequestId(1)]


def test_h60_client_that_leaves_takes_the_upstream_request_along(stack: Stack) -> None:
    client = stack.post_json(CHAT, {"model": "p"})
    upstream = stack.accept()
    upstream.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n")
    client.leave()
    assert upstream.is_closed
    assert stack.router.ended == [RequestId(1)]
