"""What clients see of errors."""

from __future__ import annotations

import json
from typing import Any

import pytest

from llamaswap.errors import (
    ConcurrencyLimitError,
    LlamaSwapError,
    ModelNotFoundError,
    NotFoundError,
    ShuttingDownError,
    UpstreamDisconnectedError,
    UpstreamStartError,
)
from llamaswap.web.errors import error_body, error_event, render_error

LIMIT = ConcurrencyLimitError()


class FakeRequest:
    path = b"/"
    keeps_alive = True
    code = 200

    def __init__(self) -> None:
        self.answered: dict[bytes, bytes] = {}

    def getHeader(self, key: bytes) -> bytes | None:
        return None

    def setHeader(self, name: bytes, value: bytes) -> None:
        self.answered[name] = value

    def setResponseCode(self, code: int) -> None:
        self.code = code


def document(error: LlamaSwapError, path: bytes = b"/v1/chat/completions") -> Any:
    body = error_body(error, b"*/*", path)
    assert body.media_type == b"application/json"
    return json.loads(body.content)


def test_envelope_has_its_members_in_order() -> None:
    assert error_body(NotFoundError("gone & lost"), b"", b"/").content == (
        b'{"src":"llama-swap","error":'
        b'{"message":"gone & lost","type":"invalid_request_error","param":null,"code":"not_found"}}'
    )


def test_unknown_model_names_the_parameter() -> None:
    assert document(ModelNotFoundError("no router for requested model: x"))["error"] == {
        "message": "no router for requested model: x",
        "type": "invalid_request_error",
        "param": "model",
        "code": "model_not_found",
    }


@pytest.mark.parametrize("accept", [b"text/plain", b"text/html, text/plain;q=0.5"])
def test_plain_text_wins(accept: bytes) -> None:
    assert error_body(NotFoundError("a<b"), accept, b"/") == (b"text/plain", b"llama-swap: a<b")


def test_html_is_escaped() -> None:
    expected = b"<html><body><h1>llama-swap</h1><p>a&lt;b</p></body></html>"
    assert error_body(NotFoundError("a<b"), b"text/html,application/xml", b"/") == (b"text/html", expected)


@pytest.mark.parametrize("accept", [b"text/plain", b"text/html"])
def test_limit_is_always_json(accept: bytes) -> None:
    assert error_body(LIMIT, accept, b"/").media_type == b"application/json"


@pytest.mark.parametrize("path", [b"/v1/messages", b"/v1/messages/count_tokens", b"/v/messages"])
def test_anthropic_routes_get_a_superset(path: bytes) -> None:
    assert document(LIMIT, path) == {
        "type": "error",
        "src": "llama-swap",
        "error": {
            "message": "Too many requests",
            "type": "rate_limit_error",
            "param": None,
            "code": "concurrency_limit",
        },
    }


class _StatusError(LlamaSwapError):
    def __init__(self, status: int) -> None:
        super().__init__("x")
        type(self).status = status


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, "invalid_request_error"),
        (401, "authentication_error"),
        (404, "not_found_error"),
        (409, "invalid_request_error"),
        (413, "invalid_request_error"),
        (500, "api_error"),
        (502, "api_error"),
        (503, "overloaded_error"),
        (504, "api_error"),
    ],
)
def test_anthropic_types(status: int, kind: str) -> None:
    assert document(_StatusError(status), b"/v1/messages")["error"]["type"] == kind


@pytest.mark.parametrize(
    ("error", "status", "retry_after"),
    [
        (LIMIT, 429, b"1"),
        (ShuttingDownError("shutting down"), 503, b"1"),
        (UpstreamStartError("empty command"), 502, b"1"),
        (NotFoundError("x"), 404, None),
    ],
)
def test_status_and_headers(error: LlamaSwapError, status: int, retry_after: bytes | None) -> None:
    request = FakeRequest()
    body = render_error(request, error)
    assert request.code == status
    assert request.answered.get(b"retry-after") == retry_after
    assert request.answered[b"content-length"] == b"%d" % len(body)
    assert request.answered[b"content-type"] == b"application/json"
    assert request.keeps_alive is not isinstance(error, ShuttingDownError)
    assert (b"connection" in request.answered) is isinstance(error, ShuttingDownError)


def test_event_for_openai_clients() -> None:
    assert error_event(UpstreamDisconnectedError("it died"), b"/v1/chat/completions") == (
        b'\n\ndata: {"src":"llama-swap","error":'
        b'{"message":"it died","type":"server_error","param":null,"code":"upstream_disconnected"}}\n\n'
    )


def test_event_for_anthropic_clients() -> None:
    assert error_event(UpstreamDisconnectedError("it died"), b"/v1/messages?beta=true") == (
        b'\n\nevent: error\ndata: {"type":"error","src":"llama-swap","error":'
        b'{"message":"it died","type":"api_error","param":null,"code":"upstream_disconnected"}}\n\n'
    )
