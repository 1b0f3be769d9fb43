"""``/upstream``: which model, which path, and what starts it."""

from __future__ import annotations

import pytest

from llamaswap.config.schema import Filters, ModelConfig, Profile, Selector
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


def test_an_asset_does_not_wait_for_its_model(stack: Stack) -> None:
    """It is up, but somebody who has waited for too long comes first, or a reload has replaced it."""
    stack.router.pool = None
    answer = stack.ask("GET", "/upstream/alpha/app.js")
    assert answer.status == 409
    assert answer.document["error"]["message"] == "model alpha is not loaded; path matches upstream.ignorePaths"
    assert len(stack.router.ended) == 1
    stack.begin("GET", "/upstream/alpha/app")
    assert len(stack.router.ended) == 1


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


# --------------------------------------------------------------------------- profiles


@pytest.fixture
def pinned() -> Stack:
    pins = {"code": "author/gamma", "code/deep": "alpha", "alpha": "author/gamma/v2", "off": "", "pick": "sel"}
    profiles = {"coding": Profile("coding", "", pins), "none": Profile("none", "", {})}
    selectors = {"sel": Selector("sel", "pin", ("alpha",))}
    stack = Stack(config_of(ALPHA, GAMMA, GAMMA_2, profiles=profiles, selectors=selectors))
    stack.be_ready("alpha", "author/gamma", "author/gamma/v2")
    stack.daemon.observers.profiles.select("coding")
    return stack


@pytest.mark.parametrize(
    ("path", "model", "sent"),
    [
        ("/upstream/code/a%2Fb?x=1", "author/gamma", "/a%2Fb?x=1"),
        ("/upstream/code/deep/x", "alpha", "/x"),
        ("/upstream/code%2Fdeep/x", "alpha", "/x"),
        ("/upstream/alpha/x", "author/gamma/v2", "/x"),
        ("/upstream/code/v2/x", "author/gamma/v2", "/x"),
        ("/upstream/gpt-x/x", "alpha", "/x"),
        ("/upstream/author/gamma/x", "author/gamma", "/x"),
    ],
)
def test_v50_the_longest_pin_is_replaced_by_its_target(pinned: Stack, path: str, model: str, sent: str) -> None:
    pinned.begin("GET", path)
    assert pinned.router.models == [model]
    assert request_line(pinned) == f"GET {sent} HTTP/1.1"


@pytest.mark.parametrize("path", ["/upstream/off/x", "/upstream/off", "/upstream/pick/x", "/upstream/sel/x"])
def test_pins_to_nothing_and_selectors_have_no_server(pinned: Stack, path: str) -> None:
    answer = pinned.ask("GET", path)
    assert answer.status == 404
    assert answer.document["error"]["message"] == "model not found"


def test_the_redirect_shows_the_target(pinned: Stack) -> None:
    assert pinned.ask("GET", "/upstream/alpha?x=1").headers["location"] == "/upstream/author/gamma/v2/?x=1"


def test_a_profile_without_pins_changes_nothing(pinned: Stack) -> None:
    pinned.daemon.observers.profiles.select("none")
    pinned.begin("GET", "/upstream/alpha/x")
    assert pinned.router.models == ["alpha"]


# --------------------------------------------------------------------------- who sees it


@pytest.mark.parametrize(
    ("method", "path", "is_metered", "is_listed"),
    [
        ("POST", "/v1/chat/completions", True, True),
        ("POST", "/v/embeddings", True, True),
        ("POST", "/audioapi/v1/tasks/run", True, True),
        ("GET", "/props", False, True),
        ("POST", "/props", False, False),
        ("GET", "/v1/chat/completions", False, False),
        ("POST", "/v1/chat/completions/", False, False),
        ("POST", "/v1%2Fchat/completions", False, False),
        ("GET", "/", False, False),
    ],
)
def test_v44_requests_that_model_routes_have_are_metered_and_listed(
    stack: Stack,
    method: str,
    path: str,
    is_metered: bool,  # noqa: FBT001
    is_listed: bool,  # noqa: FBT001
) -> None:
    stack.begin(method, f"/upstream/alpha{path}?x=1", headers={"Accept-Encoding": "br, gzip"})
    [exchange] = stack.daemon.observers.ledger.exchanges()
    assert (exchange.passage.is_metered, exchange.passage.is_listed) == (is_metered, is_listed)
    assert exchange.path == path
    encodings = b"gzip" if is_metered else b"br, gzip"
    assert b"\r\nAccept-Encoding: %b\r\n" % encodings in stack.accept().take()


# --------------------------------------------------------------------------- 1xx and trailers


def test_interim_answers_and_trailers_pass(stack: Stack) -> None:
    client = stack.begin("GET", "/upstream/alpha/x", headers={"TE": "trailers, gzip"})
    server = stack.accept()
    assert b"\r\nTE: trailers\r\n" in server.take()
    server.send(b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\nHTTP/1.1 102 Processing\r\n\r\n")
    assert client.take() == b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\nHTTP/1.1 102 Processing\r\n\r\n"
    server.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\nX-Sum: 7\r\n\r\n")
    assert client.take().endswith(b"\r\n\r\n1\r\na\r\n0\r\nX-Sum: 7\r\n\r\n")


def test_trailers_of_a_request_pass(stack: Stack) -> None:
    client = stack.begin("POST", "/upstream/alpha/x", headers={"Transfer-Encoding": "chunked"})
    client.send(b"1\r\na\r\n0\r\nX-Sum: 7\r\n\r\n")
    assert stack.accept().take().endswith(b"\r\n\r\n1\r\na\r\n0\r\nX-Sum: 7\r\n\r\n")
