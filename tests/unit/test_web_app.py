"""What holds for every path."""

from __future__ import annotations

import pytest

from llamaswap.config.schema import ModelConfig
from llamaswap.core.values import ModelId
from tests.unit.web_stack import Stack, config_of

ALPHA = ModelConfig(ModelId("alpha"))
GAMMA = ModelConfig(ModelId("author/gamma"))

GET_PATHS = (
    "/",
    "/v1/models",
    "/models",
    "/running",
    "/health",
    "/wol-health",
    "/api/version",
    "/upstream",
    "/logs",
)


@pytest.fixture
def stack() -> Stack:
    return Stack(config_of(ALPHA, GAMMA))


@pytest.mark.parametrize("path", ["/nope", "/v1/chat/completions", "/upstream/alpha/x", "//unclean", "/health"])
def test_options_is_answered_for_any_path(stack: Stack, path: str) -> None:
    stack.be_ready("alpha")
    answer = stack.ask("OPTIONS", path)
    assert answer.status == 204
    assert answer.body == b""
    assert "content-length" not in answer.headers
    assert answer.headers["access-control-allow-origin"] == "*"
    assert answer.headers["access-control-allow-methods"] == "GET, POST, PUT, PATCH, DELETE, OPTIONS"
    assert answer.headers["access-control-allow-headers"] == "Content-Type, Authorization, Accept, X-Requested-With"
    assert answer.headers["access-control-max-age"] == "86400"
    assert not stack.router.entered


def test_options_allows_the_headers_that_are_asked_for(stack: Stack) -> None:
    headers = {"Access-Control-Request-Headers": "X-Foo, bad header, Authorization,"}
    answer = stack.ask("OPTIONS", "/nope", headers=headers)
    assert answer.headers["access-control-allow-headers"] == "X-Foo, Authorization"


@pytest.mark.parametrize(
    ("target", "location"),
    [
        ("//v1//models?x=1", "/v1/models?x=1"),
        ("/v1/./models?a=//b", "/v1/models?a=//b"),
        ("/upstream/alpha//a%2Fb", "/upstream/alpha/a%2Fb"),
        ("/upstream/../health", "/health"),
        ("/ui", "/ui/"),
        ("/ui?x=1", "/ui/?x=1"),
    ],
)
def test_unclean_paths_are_redirected(stack: Stack, target: str, location: str) -> None:
    stack.be_ready("alpha")
    answer = stack.ask("GET", target)
    assert (answer.status, answer.headers["location"]) == (307, location)
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert not stack.router.entered


def test_redirects_escape_what_they_show(stack: Stack) -> None:
    assert b'"><' not in stack.ask("GET", '//"><script>').body


@pytest.mark.parametrize(
    "path",
    [
        "/nope",
        "/v1/models/",
        "/logs/",
        "/health/",
        "/v1/chat/completions/",
        "/%FF",
        "/v1/models/alpha",
        "/v/infill",
        "/ui/missing.js",
        "/favicon.ico",
    ],
)
def test_unknown_paths(stack: Stack, path: str) -> None:
    answer = stack.ask("GET", path)
    assert (answer.status, answer.body) == (404, b"404 page not found\n")
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert answer.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("POST", "/health", "GET, HEAD"),
        ("DELETE", "/v1/models", "GET, HEAD"),
        ("GET", "/v1/chat/completions", "POST"),
        ("PUT", "/v1/audio/voices", "GET, HEAD, POST"),
        ("GET", "/api/models/unload", "POST"),
        ("GET", "/api/models/unload/alpha", "POST"),
    ],
)
def test_wrong_methods(stack: Stack, method: str, path: str, allowed: str) -> None:
    answer = stack.ask(method, path)
    assert (answer.status, answer.body) == (405, b"Method Not Allowed\n")
    assert answer.headers["allow"] == allowed
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert answer.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize("path", ["/%zz", "/upstream/alpha/%2", "/v1/chat/%"])
def test_bad_escapes_are_refused_and_the_connection_is_closed(stack: Stack, path: str) -> None:
    stack.be_ready("alpha")
    client = stack.begin("GET", path)
    data = client.take()
    assert data.startswith(b"HTTP/1.1 400 ")
    assert b"\r\nconnection: close\r\n" in data.lower()
    assert client.is_closed
    assert not stack.router.entered


@pytest.mark.parametrize("path", GET_PATHS)
def test_head_has_the_headers_of_get_and_no_body(stack: Stack, path: str) -> None:
    got, asked = stack.ask("GET", path), stack.ask("HEAD", path)
    for answer in (got, asked):
        del answer.headers["date"], answer.headers["x-request-id"]
    assert asked.body == b""
    assert (asked.status, asked.headers) == (got.status, got.headers)
    assert got.headers["content-length"] == str(len(got.body))


@pytest.mark.parametrize(("path", "location"), [("/", "/ui"), ("/upstream", "/ui/models")])
def test_where_browsers_begin(stack: Stack, path: str, location: str) -> None:
    answer = stack.ask("GET", path)
    assert (answer.status, answer.headers["location"]) == (302, location)


def test_connection_serves_one_request_after_the_other(stack: Stack) -> None:
    client = stack.connect()
    for _ in range(2):
        client.send(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
        assert client.take().endswith(b"\r\n\r\nOK")
    assert not client.is_closed


def test_every_request_is_reported_once(stack: Stack) -> None:
    for path in ("/health", "/nope", "//x", "/props"):
        stack.ask("GET", path)
    stack.ask("OPTIONS", "/health")
    shown = [line.partition('"')[2].partition(' "-"')[0].split(" ") for line in stack.access_lines]
    assert [(words[1], words[3]) for words in shown] == [
        ("/health", "200"),
        ("/nope", "404"),
        ("//x", "307"),
        ("/props", "404"),
        ("/health", "204"),
    ]


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ("/logs/stream", b"own\n"),
        ("/logs/stream/", b"own\n"),
        ("/logs/stream/proxy", b"own\n"),
        ("/logs/stream/upstream", b"theirs\n"),
        ("/logs/stream/author%2Fgamma", b"theirs\n"),
        ("/logs/stream/author/gamma", b"theirs\n"),
    ],
)
def test_log_streams_are_mounted(stack: Stack, path: str, line: bytes) -> None:
    stack.daemon.logs.proxy.write(b"own\n")
    stack.daemon.logs.model(GAMMA.id).write(b"theirs\n")
    client = stack.begin("GET", path)
    data = client.take()
    assert data.startswith(b"HTTP/1.1 200 ")
    assert line in data
    client.leave()


def test_unknown_log(stack: Stack) -> None:
    answer = stack.ask("GET", "/logs/stream/nope")
    assert (answer.status, answer.document["error"]["message"]) == (
        400,
        "invalid logger. Use 'proxy', 'upstream' or a model's ID",
    )
