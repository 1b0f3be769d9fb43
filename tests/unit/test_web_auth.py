"""API keys: who comes in, and what goes on to the models."""

from __future__ import annotations

import re
from base64 import b64encode
from dataclasses import dataclass
from typing import Any

import pytest

from llamaswap.config.schema import Config, ModelConfig
from llamaswap.core.values import ModelId
from llamaswap.web.app import App
from llamaswap.web.auth import Door
from tests.unit.web_stack import Stack, response_of

KEYS = ("key1", "key:2")


def basic(text: str) -> str:
    """Write a Basic header."""
    return "Basic " + b64encode(text.encode()).decode()


@pytest.fixture
def guarded() -> Stack:
    """A daemon with keys."""
    alpha = ModelConfig(id=ModelId("alpha"))
    keeps = ModelConfig(id=ModelId("keeps"), forward_api_key=True)
    return Stack(Config(models={alpha.id: alpha, keeps.id: keeps}, api_keys=KEYS))


@pytest.mark.parametrize(
    "headers",
    [
        {"Authorization": basic("any:key:2")},
        {"Authorization": basic(":key1")},
        {"Authorization": "Bearer key1"},
        {"Authorization": "bearer key1"},
        {"x-api-key": "key1"},
        {"Authorization": "Basic !!!", "x-api-key": "key1"},
        {"Authorization": "Bearer ", "x-api-key": "key1"},
    ],
)
def test_a_known_key_comes_in(guarded: Stack, headers: dict[str, str]) -> None:
    assert guarded.ask("GET", "/v1/models", headers=headers).status == 200


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": "Bearer bad", "x-api-key": "key1"},
        {"Authorization": "Bearer  key1"},
        {"Authorization": basic("key1:wrong")},
        {"x-api-key": "key"},
        {"Cookie": "key1"},
    ],
)
def test_nobody_else_does(guarded: Stack, headers: dict[str, str]) -> None:
    answer = guarded.ask("GET", "/v1/models?api_key=key1", headers=headers)
    assert answer.status == 401
    assert answer.headers["www-authenticate"] == 'Basic realm="llama-swap"'
    error = answer.document["error"]
    assert (error["type"], error["code"]) == ("authentication_error", "unauthorized")


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/running"),
        ("GET", "/unload"),
        ("GET", "/logs"),
        ("GET", "/logs/stream"),
        ("GET", "/upstream/alpha/"),
        ("GET", "/api/models/alpha"),
        ("POST", "/api/models/unload"),
        ("POST", "/api/models/load/alpha"),
        ("POST", "/v1/chat/completions"),
        ("GET", "/props?model=alpha"),
        ("GET", "/api/version"),
        ("GET", "/mod%65ls"),
        ("GET", "/v1%2fmodels"),
        ("GET", "/%2fmodels"),
        ("GET", "/%2e/models"),
        ("GET", "/u%6eload"),
        ("get", "/unload"),
        ("HEAD", "/running"),
        ("POST", "/api%2fmodels/unload"),
        ("POST", "/v/chat/c%6fmpletions"),
        ("POST", "/%72erank"),
        ("GET", "/%75pstream/alpha/"),
        ("get", "/upstream/alpha/"),
    ],
)
def test_every_other_route_is_guarded(guarded: Stack, method: str, path: str) -> None:
    body = b'{"model":"alpha"}' if method.upper() == "POST" else b""
    status = guarded.ask(method, path, body, {"Content-Type": "application/json"}).status
    assert status == 401 or ("%" in path and status == 404)
    assert not guarded.router.entered
    assert not guarded.router.unloads


def test_no_route_is_open_that_is_not_meant_to_be(guarded: Stack) -> None:
    rules = list(App(guarded.daemon).klein.url_map.iter_rules())
    asked = {(method, re.sub("<.*>", "alpha", rule.rule)) for rule in rules for method in rule.methods or ()}
    assert len(asked) > 50
    open_paths = {path for method, path in asked if guarded.ask(method, path).status != 401}
    assert open_paths == {"/", "/favicon.ico", "/health", "/wol-health", "/upstream", "/api/ready"}


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/api/models/unload", "/upstream/alpha/"])
def test_nobody_else_may_send_us_a_long_body(guarded: Stack, path: str) -> None:
    client = guarded.begin("POST", path, b"", {"Content-Length": "1000000"})
    assert response_of(client.take()).status == 401
    client.send(bytes(200_000))
    assert not client.is_closed
    client.send(bytes(200_000))
    assert client.is_closed


def test_nobody_else_is_asked_for_a_body(guarded: Stack) -> None:
    fields = {"Content-Length": "9", "Expect": "100-continue"}
    client = guarded.begin("POST", "/v1/chat/completions", b"", fields)
    answer = response_of(client.take())
    assert (answer.status, answer.headers["connection"]) == (401, "close")
    assert client.is_closed
    client = guarded.begin("POST", "/v1/chat/completions", b"", {**fields, "x-api-key": "key1"})
    assert client.take() == b"HTTP/1.1 100 Continue\r\n\r\n"


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/health", 200),
        ("GET", "/wol-health", 200),
        ("GET", "/", 302),
        ("GET", "/upstream", 302),
        ("GET", "/ui", 307),
        ("OPTIONS", "/v1/models", 204),
        ("GET", "/no/such/path", 404),
    ],
)
def test_open_paths_need_no_key(guarded: Stack, method: str, path: str, status: int) -> None:
    assert guarded.ask(method, path).status == status


@dataclass
class Keys:
    """A daemon of which only the keys matter."""

    config: Config


def test_the_key_that_opened_our_door_goes_no_further() -> None:
    door = Door(Keys(Config(api_keys=KEYS)))
    fields = [
        (b"Authorization", b"bearer key1"),
        (b"X-Api-Key", b"key1"),
        (b"Accept", b"*/*"),
    ]
    assert door.without_key(fields) == [(b"Accept", b"*/*")]


def test_other_credentials_pass() -> None:
    fields = [(b"Authorization", b"Bearer theirs"), (b"x-api-key", b"theirs")]
    assert Door(Keys(Config(api_keys=KEYS))).without_key(fields) == fields
    assert Door(Keys(Config())).without_key(fields) == fields


@pytest.mark.parametrize(("model", "passes"), [("alpha", False), ("keeps", True)])
def test_a_model_gets_the_key_only_if_it_shall(guarded: Stack, model: str, *, passes: bool) -> None:
    guarded.post_json("/v1/chat/completions", {"model": model}, Authorization="Bearer key1")
    waiter: Any = guarded.router.waiter
    assert ((b"Authorization", b"Bearer key1") in waiter._headers) is passes
