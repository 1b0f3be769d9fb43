"""``/upstream``: which model, which path, and what starts it."""

from __future__ import annotations

import pytest

from llamaswap.config.schema import Filters, ModelConfig
from llamaswap.core.values import ModelId, ProcessState, RequestId
from llamaswap.errors import ConcurrencyLimitError, ModelUnloadedError
from tests.unit.web_stack import Stack, config_of, response_of

ALPHA = ModelConfig(
    ModelId("alpha"),
    aliases=("gpt-x",),
    use_model_name="real",
    filters=Filters(strip_params=("temperature",)),
)
GAMMA = ModelConfig(ModelId("author/gamma"))
GAMMA_2 = ModelConfig(ModelId("author/gamma/v2"))
COLON = ModelConfig(ModelId("a:b c"))


@pytest.fixture
def stack() -> Stack:
    stack = Stack(config_of(ALPHA, GAMMA, GAMMA_2, COLON))
    stack.be_ready("alpha", "author/gamma", "author/gamma/v2", "a:b c")
    return stack


def request_line(stack: Stack) -> str:
    return stack.accept().take().partition(b"\r\n")[0].decode()


@pytest.mark.parametrize(
    ("path", "model", "sent"),
    [
        ("/upstream/alpha/", "alpha", "/"),
        ("/upstream/alpha/a%2Fb/c%20d?z=1%2F2", "alpha", "/a%2Fb/c%20d?z=1%2F2"),
        ("/upstream/alpha/%FF/\xff?x", "alpha", "/%FF/\xff?x"),
        ("/upstream/gpt-x/v1/x", "alpha", "/v1/x"),
        ("/upstream/author/gamma/x", "author/gamma", "/x"),
        ("/upstream/author/gamma/v2/x", "author/gamma/v2", "/x"),
        ("/upstream/author%2Fgamma%2Fv2/zz%2Fq", "author/gamma/v2", "/zz%2Fq"),
        ("/upstream/author%2Fgamma/v2/", "author/gamma/v2", "/"),
        ("/upstream/a%3Ab%20c/metrics", "a:b c", "/metrics"),
        ("/upstream/a:b%20c/metrics", "a:b c", "/metrics"),
    ],
)
def test_longest_name_is_the_model_and_the_rest_is_kept(stack: Stack, path: str, model: str, sent: str) -> None:
    stack.begin("GET", path)
    assert stack.router.models == [model]
    assert stack.accept().take().partition(b"\r\n")[0].decode("latin-1") == f"GET {sent} HTTP/1.1"


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "PROPFIND"])
def test_any_method_passes(stack: Stack, method: str) -> None:
    stack.begin(method, "/upstream/alpha/x")
    assert request_line(stack) == f"{method} /x HTTP/1.1"


@pytest.mark.parametrize("path", ["nope/x", "author/x", "author", "ALPHA/", "", "%FF/x"])
def test_unknown_models(stack: Stack, path: str) -> None:
    answer = stack.ask("GET", f"/upstream/{path}")
    assert answer.status == 404
    assert answer.document["error"]["message"] == "model not found"
    assert answer.document["error"]["code"] == "not_found"


@pytest.mark.parametrize(
    ("method", "target", "status", "location"),
    [
        ("GET", "/upstream/alpha?x=1", 301, "/upstream/alpha/?x=1"),
        ("HEAD", "/upstream/alpha", 301, "/upstream/alpha/"),
        ("POST", "/upstream/gpt-x", 308, "/upstream/gpt-x/"),
        ("GET", "/upstream/author%2Fgamma", 301, "/upstream/author/gamma/"),
        ("GET", "/upstream/a%3Ab%20c", 301, "/upstream/a:b%20c/"),
    ],
)
def test_missing_slash_is_added_by_a_redirect(
    stack: Stack,
    method: str,
    target: str,
    status: int,
    location: str,
) -> None:
    answer = stack.ask(method, target)
    assert (answer.status, answer.headers["location"]) == (status, location)
    assert not stack.router.entered


@pytest.mark.parametrize("state", [ProcessState.STOPPED, ProcessState.STARTING, ProcessState.STOPPING])
@pytest.mark.parametrize("path", ["app.js", "assets/a%2Ejs"])
def test_assets_start_nothing(stack: Stack, state: ProcessState, path: str) -> None:
    stack.router.states["alpha"] = state
    answer = stack.ask("GET", f"/upstream/gpt-x/{path}")
    assert answer.status == 409
    assert answer.document["error"]["message"] == "model alpha is not loaded; path matches upstream.ignorePaths"
    assert not stack.router.entered


def test_assets_of_a_ready_model_pass(stack: Stack) -> None:
    stack.begin("GET", "/upstream/alpha/app.js?x=1")
    assert request_line(stack) == "GET /app.js?x=1 HTTP/1.1"


def test_query_does_not_make_an_asset(stack: Stack) -> None:
    stack.router.states.clear()
    stack.begin("GET", "/upstream/alpha/?_=app.js")
    assert stack.router.models == ["alpha"]


def test_body_is_not_looked_at(stack: Stack) -> None:
    body = b'{"model":"zzz","temperature":1, damaged'
    stack.begin("POST", "/upstream/alpha/v1/chat/completions", body, {"Content-Type": "application/json"})
    assert stack.accept().take().endswith(b"\r\n\r\n" + body)


def test_encodings_pass_as_the_client_asked(stack: Stack) -> None:
    stack.begin("GET", "/upstream/alpha/x", headers={"Accept-Encoding": "br, zstd"})
    assert b"\r\nAccept-Encoding: br, zstd\r\n" in stack.accept().take()


def test_body_is_passed_on_while_it_arrives(stack: Stack) -> None:
    client = stack.connect()
    client.send(b"PUT /upstream/alpha/file HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n01234")
    upstream = stack.accept()
    head, _, body = upstream.take().partition(b"\r\n\r\n")
    assert head.startswith(b"PUT /file HTTP/1.1\r\n")
    assert b"\r\nContent-Length: 10" in head
    assert body == b"01234"
    client.send(b"567")
    assert upstream.take() == b"567"
    client.send(b"89")
    assert upstream.take() == b"89"
    upstream.send(b"HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n")
    assert response_of(client.take()).status == 201
    assert stack.router.ended == [RequestId(1)]


def test_answer_may_come_before_the_body_is_there(stack: Stack) -> None:
    client = stack.connect()
    client.send(b"POST /upstream/alpha/x HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
    upstream = stack.accept()
    upstream.send(b"HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\nno")
    answer = response_of(client.take())
    assert (answer.status, answer.body) == (413, b"no")


def test_limit_counts_here_too(stack: Stack) -> None:
    stack.router.error = ConcurrencyLimitError()
    answer = stack.ask("GET", "/upstream/alpha/x", headers={"Accept": "text/html"})
    assert (answer.status, answer.headers["retry-after"]) == (429, "1")
    assert answer.document["error"]["code"] == "concurrency_limit"


def test_refusal_while_the_body_arrives(stack: Stack) -> None:
    stack.router.pool = None
    client = stack.connect()
    client.send(b"PUT /upstream/alpha/file HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n01234")
    stack.router.waiter.refused(ModelUnloadedError("model unloaded"))
    assert client.take().startswith(b"HTTP/1.1 503 ")
    assert stack.router.ended == [RequestId(1)]


def test_h60_client_that_leaves_during_the_body_leaves_the_router(stack: Stack) -> None:
    client = stack.connect()
    client.send(b"PUT /upstream/alpha/file HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n01234")
    upstream = stack.accept()
    client.leave()
    assert upstream.is_closed
    assert stack.router.ended == [RequestId(1)]
