"""Requests in flight: how they are shown, and how they are cancelled."""

from __future__ import annotations

import json
from typing import Any

import pytest

from llamaswap.config.schema import ModelConfig
from llamaswap.core.values import ModelId, ProcessState
from llamaswap.web.exchange import Exchange
from llamaswap.web.in_flight import entry_of, phase_of
from llamaswap.web.shown_headers import _canonical, shown_headers
from tests.unit.web_stack import End, Stack, config_of, response_of

ALPHA = ModelConfig(ModelId("alpha"), aliases=("gpt-x",))
CHAT = "/v1/chat/completions"
STREAM_HEAD = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nset-cookie: a=b\r\nX-Twice: 1\r\nX-Twice: 2\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n"
)


@pytest.fixture
def stack() -> Stack:
    return Stack(config_of(ALPHA))


def ask(stack: Stack, **headers: str) -> End:
    """Ask ``alpha`` by its other name."""
    return stack.post_json(CHAT, {"model": "gpt-x", "stream": True}, **headers)


def only(stack: Stack) -> Exchange:
    """Give the only request in flight."""
    [exchange] = stack.daemon.observers.ledger.listed()
    return exchange


def shown(stack: Stack) -> Any:
    """Show the only request in flight."""
    exchange = only(stack)
    phase = phase_of(exchange, stack.router.state)
    return json.loads(json.dumps(entry_of(exchange, phase, stack.reactor.seconds())))


def cancel(stack: Stack, name: str) -> Any:
    return stack.ask("POST", f"/api/inflight/{name}/cancel")


def test_an_entry_of_a_request_that_waits(stack: Stack) -> None:
    ask(
        stack,
        **{"x-SESSION-id": "abc", "cookie": "c", "authorization": "Bearer k", "x-forwarded-for": "9.9.9.9, 1.1.1.1"},
    )
    only(stack).resolved_at = 1795165973.9
    only(stack).request.request_id = "r-31"
    stack.reactor.advance(0.253)
    assert shown(stack) == {
        "id": "1",
        "timestamp": "2026-11-20T09:12:53.900000Z",
        "model": "alpha",
        "req_path": CHAT,
        "method": "POST",
        "req_headers": {
            "Authorization": "[REDACTED]",
            "Content-Length": "34",
            "Content-Type": "application/json",
            "Cookie": "[REDACTED]",
            "X-Forwarded-For": "9.9.9.9, 1.1.1.1",
            "X-Session-Id": "abc",
        },
        "remote_ip": "9.9.9.9",
        "resp_headers": {},
        "resp_bytes": 0,
        "elapsed_ms": 253,
        "phase": "queue",
        "request_id": "r-31",
    }


def test_an_entry_follows_its_request(stack: Stack) -> None:
    stack.router.states["alpha"] = ProcessState.STARTING
    ask(stack)
    assert shown(stack)["phase"] == "load"
    stack.be_ready("alpha")
    stack.router.waiter.granted(stack.router.pool)  # type: ignore[arg-type]  # is_ready made one
    server = stack.accept()
    assert shown(stack)["phase"] == "ttfb"
    server.send(STREAM_HEAD)
    entry = shown(stack)
    assert (entry["phase"], entry["resp_bytes"]) == ("ttfb", 0)
    assert entry["resp_headers"] == {
        "Content-Type": "text/event-stream",
        "Set-Cookie": "[REDACTED]",
        "X-Accel-Buffering": "no",
        "X-Twice": "1",
    }
    server.send(b"5\r\nhello\r\n")
    entry = shown(stack)
    assert (entry["phase"], entry["resp_bytes"]) == ("stream", 5)
    server.send(b"0\r\n\r\n")
    assert stack.daemon.observers.ledger.listed() == []


def test_a_request_that_waits_is_cancelled(stack: Stack) -> None:
    client = ask(stack)
    answer = cancel(stack, "1")
    assert (answer.status, answer.document) == (200, {"msg": "ok"})
    refusal = response_of(client.take())
    assert refusal.status == 502
    assert refusal.document["error"]["code"] == "request_cancelled"
    assert len(stack.router.ended) == 1
    assert cancel(stack, "1").status == 404


def test_d3_an_answer_under_way_that_is_cancelled_is_cut_with_an_error_event(stack: Stack) -> None:
    stack.be_ready("alpha")
    client = ask(stack)
    server = stack.accept()
    server.send(STREAM_HEAD + b"5\r\nhello\r\n")
    client.take()
    assert cancel(stack, "1").status == 200
    assert b'"code":"request_cancelled"' in client.take()
    assert client.is_closed
    assert server.is_closed


@pytest.mark.parametrize("name", ["999", "0", "-1", "x", "1x", "%D9%A1", "9" * 30])
def test_what_is_not_in_flight_cannot_be_cancelled(stack: Stack, name: str) -> None:
    stack.begin("GET", "/upstream/alpha/private")  # not listed
    answer = stack.ask("POST", f"/api/inflight/{name}/cancel")
    assert answer.status == 404
    assert answer.document["error"]["message"] == "inflight request not found"


def test_ids_of_listed_requests_follow_each_other(stack: Stack) -> None:
    ask(stack)
    stack.begin("GET", "/upstream/alpha/private")
    ask(stack)
    assert [exchange.id for exchange in stack.daemon.observers.ledger.listed()] == [1, 2]
    assert len(stack.daemon.observers.ledger.exchanges()) == 3


def test_cancelling_is_a_post(stack: Stack) -> None:
    assert stack.ask("GET", "/api/inflight/1/cancel").status == 405


def test_long_names_of_headers_are_shown_and_not_kept() -> None:
    before = _canonical.cache_info()
    long = b"x-" + b"y" * 63
    assert shown_headers([(long, b"1")]) == {"X-Y" + "y" * 62: "1"}
    assert _canonical.cache_info() == before
    assert shown_headers([(b"x-session-id", b"1")]) == {"X-Session-Id": "1"}
    assert _canonical.cache_info() != before
