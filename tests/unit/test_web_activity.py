"""Metered requests, from the client's bytes to what ``/api/metrics`` and ``/api/captures`` say of them."""

from __future__ import annotations

import base64
import csv
import gzip
import json
import sqlite3
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import pytest
from twisted.internet.interfaces import IPushProducer
from twisted.web.server import Request
from zope.interface.verify import verifyObject

from llamaswap.config.schema import Config, Filters, ModelConfig, SchedulerConfig, UIConfig
from llamaswap.core.news import RowAdded, StateChanged
from llamaswap.core.values import Generation, ModelId, ProcessState, SwapReason
from llamaswap.errors import ConcurrencyLimitError, ConfigError
from llamaswap.telemetry.export import CSV_COLUMNS
from llamaswap.telemetry.schema import StoreError
from llamaswap.web.observers import Observers
from llamaswap.web.outflow import Outflow
from tests.conftest import LoggedFailures
from tests.deferreds import success_of
from tests.fakes import InlineWorker
from tests.unit.web_stack import End, Stack, config_of, response_of

CHAT = "/v1/chat/completions"
A = ModelConfig(ModelId("a"), aliases=("gpt-x",), filters=Filters(set_params={"seed": 42}))
USAGE = {"usage": {"prompt_tokens": 10, "completion_tokens": 5}}
ZEROS = {
    "cache_tokens": 0,
    "draft_tokens": 0,
    "draft_acc_tokens": 0,
    "input_tokens": 0,
    "output_tokens": 0,
    "prompt_per_second": 0,
    "tokens_per_second": 0,
}
KNOWN = {**dict.fromkeys(ZEROS, -1), "input_tokens": 10, "output_tokens": 5}


def stack_of(**settings: Any) -> Stack:
    stack = Stack(config_of(A, **settings))
    stack.be_ready("a")
    return stack


@pytest.fixture
def stack() -> Stack:
    return stack_of()


def answer(body: bytes = json.dumps(USAGE).encode(), status: str = "200 OK", **fields: str) -> bytes:
    head = f"HTTP/1.1 {status}\r\n" + "".join(f"{n.replace('_', '-')}: {v}\r\n" for n, v in fields.items())
    return f"{head}Connection: close\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


def chat(stack: Stack, data: bytes = b"", path: str = CHAT, headers: Mapping[str, str] | None = None) -> End:
    """Have a request answered; give its client."""
    client = stack.post_json(path, {"model": "gpt-x"}, **(headers or {}))
    stack.accept().send(data or answer(Content_Type="application/json"))
    return client


def rows(stack: Stack, query: str = "") -> list[dict[str, Any]]:
    return cast("list[dict[str, Any]]", stack.ask("GET", f"/api/metrics/activity{query}").document["data"])


def row(stack: Stack) -> dict[str, Any]:
    [only] = rows(stack)
    return only


def capture(stack: Stack, row_id: int = 1) -> dict[str, Any]:
    return cast("dict[str, Any]", stack.ask("GET", f"/api/captures/{row_id}").document)


# --------------------------------------------------------------------------- rows


def test_a_row_says_what_was_asked_and_answered(stack: Stack) -> None:
    chat(stack)
    found = row(stack)
    assert found.pop("timestamp")[:2] == "20"
    assert found.pop("request_id")
    assert found == {
        "id": 1,
        "model": "a",
        "req_path": CHAT,
        "resp_content_type": "application/json",
        "resp_status_code": 200,
        "tokens": KNOWN,
        "duration_ms": 0,
        "has_capture": True,
        "metadata": {"fifo_priority": "0"},
        "session_id": None,
        "swap_id": None,
        "receive_ms": 0,
        "queue_ms": 0,
        "load_ms": 0,
        "ttfb_ms": 0,
        "stream_ms": 0,
    }


def test_the_request_id_is_that_of_the_answer(stack: Stack) -> None:
    client = chat(stack, headers={"X-Request-ID": "mine"})
    assert row(stack)["request_id"] == "mine"
    assert b"mine" in client.take()


def test_only_posts_to_models_have_rows(stack: Stack) -> None:
    stack.begin("GET", "/props?model=a")
    stack.accept().send(answer())
    stack.ask("GET", "/v1/models")
    stack.ask("POST", CHAT, b"{}", {"Content-Type": "application/json"})
    stack.ask("POST", CHAT, b"{", {"Content-Type": "application/json"})
    assert rows(stack) == []


def test_a_short_path_is_shown_as_the_upstream_sees_it(stack: Stack) -> None:
    chat(stack, path="/v/chat/completions?key=secret")
    assert row(stack)["req_path"] == "/chat/completions"


def test_h96_what_we_do_ourselves_is_not_activity(stack: Stack) -> None:
    success_of(stack.router.borrow(ModelId("a"), SwapReason.PRELOAD).ready)  # as preloading does
    stack.begin("POST", "/api/models/unload/a")
    assert rows(stack) == []


def test_news_are_told_of_the_newest_row(stack: Stack) -> None:
    news: list[RowAdded] = []
    stack.daemon.observers.bus.subscribe(RowAdded, news.append)
    chat(stack)
    chat(stack)
    assert news == []
    stack.reactor.advance(0.1)
    assert news == [RowAdded(2)]


@pytest.mark.parametrize(
    ("headers", "session"),
    [
        ({"X-Session-ID": "one"}, "one"),
        ({"X-Litellm-Session-Id": " two "}, "two"),
        ({"X-Session-ID": " ", "x-litellm-session-id": "two"}, "two"),
        ({"X-Session-ID": "x" * 999}, "x" * 256),
        ({}, None),
    ],
)
def test_a_session_is_the_first_header_that_names_one(stack: Stack, headers: dict[str, str], session: str) -> None:
    chat(stack, headers=headers)
    assert row(stack)["session_id"] == session


def test_a_name_that_somebody_made_up_does_not_fill_the_store(stack: Stack) -> None:
    stack.post_json(CHAT, {"model": "n" * 100_000})
    assert row(stack)["model"] == "n" * 200


def test_sessions_can_be_left_out() -> None:
    stack = stack_of(ui=UIConfig(session_id_headers=()))
    chat(stack, headers={"X-Session-ID": "one"})
    assert row(stack)["session_id"] is None


# --------------------------------------------------------------------------- how it ended


def test_a_model_nobody_knows_has_a_row(stack: Stack) -> None:
    client = stack.post_json(CHAT, {"model": "nope"}, Accept="text/plain")
    assert response_of(client.take()).status == 404
    found = row(stack)
    assert (found["model"], found["resp_status_code"]) == ("nope", 404)
    assert found["error_msg"] == "no router for requested model: nope"
    assert "metadata" not in found
    kept = capture(stack)
    assert base64.b64decode(kept["req_body"]) == b'{"model": "nope"}'
    assert kept["resp_headers"] == {"Content-Type": "text/plain"}
    assert kept["resp_body"] is None


def test_a_request_that_is_too_many_has_a_row(stack: Stack) -> None:
    stack.router.error = ConcurrencyLimitError()
    stack.post_json(CHAT, {"model": "a"})
    found = row(stack)
    assert (found["resp_status_code"], found["error_msg"]) == (429, "Too many requests")
    assert found["resp_content_type"] == "application/json"
    assert "metadata" not in found, "it was never granted"
    assert found["tokens"] == ZEROS


def test_a_client_that_leaves_before_the_answer_has_a_row(stack: Stack) -> None:
    client = stack.post_json(CHAT, {"model": "a"})
    client.leave()
    found = row(stack)
    assert (found["resp_status_code"], found["error_msg"]) == (502, "502 Bad Gateway")


def test_a_client_that_leaves_in_the_queue_has_a_row(stack: Stack) -> None:
    stack.router.pool = None
    client = stack.post_json(CHAT, {"model": "a"})
    stack.reactor.advance(2)
    client.leave()
    found = row(stack)
    assert (found["queue_ms"], found["ttfb_ms"], found["duration_ms"]) == (2000, 0, 2000)
    assert "metadata" not in found


def test_a_cancelled_request_has_a_row(stack: Stack) -> None:
    stack.post_json(CHAT, {"model": "a"})
    [exchange] = stack.daemon.observers.ledger.exchanges()
    exchange.cancel()
    found = row(stack)
    assert (found["resp_status_code"], found["error_msg"]) == (502, "request cancelled")


def test_d2_an_answer_that_is_cut_has_a_row_that_says_so(stack: Stack) -> None:
    stack.post_json(CHAT, {"model": "a"})
    server = stack.accept()
    server.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
    server.send(b"5\r\ndata:\r\n")
    server.leave()
    found = row(stack)
    assert found["resp_status_code"] == 200
    assert found["error_msg"].startswith("the upstream went away in mid-answer")
    assert found["tokens"] == ZEROS


@pytest.mark.parametrize(
    ("status", "body", "message"),
    [
        ("500 Oh No", b'{"error":{"message":"out of memory"}}', "out of memory"),
        ("500 Oh No", b"<html>", "500 Oh No"),
        ("503 ", b"", "503 Service Unavailable"),
        ("400 Bad Request", json.dumps({"detail": "ä" * 400}).encode(), "ä" * 250 + "..."),
        ("500 Oh No", b'{"error":"' + b"x" * 70_000 + b'"}', "500 Oh No"),
    ],
)
def test_an_error_of_the_upstream_is_quoted(stack: Stack, status: str, body: bytes, message: str) -> None:
    chat(stack, answer(body, status))
    found = row(stack)
    assert (found["error_msg"], found["tokens"]) == (message, ZEROS)
    assert capture(stack)["resp_body"] is None


def test_an_empty_answer_has_zeros_and_no_capture(stack: Stack) -> None:
    chat(stack, answer(b""))
    found = row(stack)
    assert (found["tokens"], found["has_capture"]) == (ZEROS, False)
    assert "error_msg" not in found


# --------------------------------------------------------------------------- token figures


def chunked(*payloads: bytes) -> bytes:
    return b"".join(b"%x\r\n%b\r\n" % (len(p), p) for p in payloads) + b"0\r\n\r\n"


EVENTS = (
    b'data: {"choices":[{"delta":{"content":"a"}}]}\n\n',
    b'data: {"usage":{"prompt_tokens":10,"completion_tokens":5}}\n\n',
    b"data: [DONE]\n\n",
)
STREAM_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize("step", [1, 3, 50, 120, 10_000])
def test_a_chunked_stream_is_read_wherever_it_is_cut(stack: Stack, step: int) -> None:
    stack.post_json(CHAT, {"model": "a", "stream": True})
    data, server = STREAM_HEAD + chunked(*EVENTS), stack.accept()
    for at in range(0, len(data), step):
        server.send(data[at : at + step])
    assert row(stack)["tokens"] == KNOWN
    assert base64.b64decode(capture(stack)["resp_body"]) == b"".join(EVENTS)


def test_a_stream_without_chunks_is_read(stack: Stack) -> None:
    stack.post_json(CHAT, {"model": "a"})
    server = stack.accept()
    server.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n")
    for event in EVENTS:
        server.send(event)
    server.leave()
    assert row(stack)["tokens"] == KNOWN


def test_d8_a_long_stream_is_read_in_batches_and_not_held(stack: Stack) -> None:
    stack = stack_of(capture_buffer_mib=0)
    stack.post_json(CHAT, {"model": "a"})
    server = stack.accept()
    server.send(STREAM_HEAD)
    [exchange] = stack.daemon.observers.ledger.exchanges()
    for _ in range(2000):
        server.send(chunked(b"data: " + b"x" * 200 + b"\n\n")[:-5])
        assert sum(map(len, cast("Any", exchange.tee).__self__._held)) < 20_000
    server.send(chunked(*EVENTS))
    found = row(stack)
    assert (found["tokens"], found["has_capture"]) == (KNOWN, False)


def test_an_encoded_answer_is_metered_and_passed_on_as_it_is(stack: Stack) -> None:
    packed = gzip.compress(json.dumps(USAGE).encode())
    client = chat(stack, answer(packed, Content_Encoding="gzip"), headers={"Accept-Encoding": "gzip"})
    assert client.take().endswith(packed)
    assert row(stack)["tokens"] == KNOWN
    kept = capture(stack)
    assert json.loads(base64.b64decode(kept["resp_body"])) == USAGE
    assert "Content-Encoding" not in kept["resp_headers"]


@pytest.mark.parametrize(
    ("status", "encoding", "message"),
    [
        ("200 OK", "gzip", "response decompression failed: Error -3 while"),
        ("200 OK", "lzw", "response decompression failed: unknown encoding 'lzw'"),
        ("500 Oh", "gzip", "response decode failed: "),
    ],
)
def test_an_answer_that_cannot_be_decoded_has_zeros_and_no_capture(
    stack: Stack, status: str, encoding: str, message: str
) -> None:
    chat(stack, answer(b"this is not packed at all", status, Content_Encoding=encoding))
    found = row(stack)
    assert found["error_msg"].startswith(message)
    assert (found["tokens"], found["has_capture"]) == (ZEROS, False)


def test_an_encoded_answer_that_is_cut_short_is_told(stack: Stack) -> None:
    chat(stack, answer(gzip.compress(b"x" * 999)[:-8], Content_Encoding="gzip"))
    assert row(stack)["error_msg"] == "response decompression failed: unexpected end"


def test_the_upstreams_own_time_is_the_least_duration(stack: Stack) -> None:
    chat(stack, answer(b'{"timings":{"prompt_ms":1000,"predicted_ms":500.4}}'))
    assert row(stack)["duration_ms"] == 1500


# --------------------------------------------------------------------------- where the time went


def test_the_parts_of_the_time_add_up(stack: Stack) -> None:
    bus, router = stack.daemon.observers.bus, stack.router
    pool, router.pool = router.pool, None

    def become(old: ProcessState, new: ProcessState) -> None:
        now = stack.reactor.seconds()
        bus.publish(StateChanged(ModelId("a"), Generation(1), old, new, None, now))

    stack.post_json(CHAT, {"model": "a"})
    stack.reactor.advance(0.25)
    become(ProcessState.STOPPED, ProcessState.STARTING)
    stack.reactor.advance(2)
    become(ProcessState.STARTING, ProcessState.READY)
    stack.reactor.advance(0.5)
    assert pool is not None
    router.waiter.granted(pool)
    stack.reactor.advance(0.125)
    server = stack.accept()
    server.send(STREAM_HEAD)
    stack.reactor.advance(0.125)
    server.send(chunked(EVENTS[0])[:-5])
    stack.reactor.advance(3)
    server.send(b"0\r\n\r\n")
    found = row(stack)
    parts = [found[f"{name}_ms"] for name in ("queue", "load", "ttfb", "stream")]
    assert parts == [750, 2000, 250, 3000]
    assert found["duration_ms"] == sum(parts)


def test_a_load_that_still_goes_on_counts(stack: Stack) -> None:
    stack.router.pool = None
    starting = StateChanged(ModelId("a"), Generation(1), ProcessState.STOPPED, ProcessState.STARTING, None, 0.0)
    stack.daemon.observers.bus.publish(starting)
    stack.reactor.advance(1)
    client = stack.post_json(CHAT, {"model": "a"})
    stack.reactor.advance(1)
    client.leave()
    found = row(stack)
    assert (found["queue_ms"], found["load_ms"]) == (0, 1000)


def test_the_priority_is_shown_once_granted() -> None:
    stack = stack_of(scheduler=SchedulerConfig(priority={ModelId("a"): 7}))
    chat(stack)
    assert row(stack)["metadata"] == {"fifo_priority": "7"}


# --------------------------------------------------------------------------- captures


def test_a_capture_shows_what_the_upstream_got_and_nothing_secret(stack: Stack) -> None:
    chat(
        stack,
        answer(Content_Type="application/json", Set_Cookie="a=b", X_Custom="1"),
        headers={"authorization": "Bearer x", "cookie": "c"},
    )
    kept = capture(stack)
    assert json.loads(base64.b64decode(kept["req_body"])) == {"model": "gpt-x", "seed": 42}
    assert kept["req_headers"]["Authorization"] == kept["req_headers"]["Cookie"] == "[REDACTED]"
    assert "Host" not in kept["req_headers"]
    assert kept["resp_headers"]["Set-Cookie"] == "[REDACTED]"
    assert kept["resp_headers"]["X-Custom"] == "1"
    assert (kept["id"], kept["req_path"]) == (1, CHAT)
    assert json.loads(base64.b64decode(kept["resp_body"])) == USAGE


@pytest.mark.parametrize(
    ("path", "request_body", "response_body"),
    [
        ("/v1/audio/speech", True, False),
        ("/v1/images/generations", True, False),
        ("/sdapi/v1/txt2img", True, False),
        ("/v1/audio/transcriptions", False, True),
        ("/v1/audio/voices", False, True),
        ("/v1/images/edits", False, False),
        ("/sdapi/v1/img2img", False, False),
        ("/v1/embeddings", True, True),
    ],
)
def test_files_are_left_out(stack: Stack, path: str, *, request_body: bool, response_body: bool) -> None:
    chat(stack, path=path)
    kept = capture(stack)
    assert [kept["req_body"] is not None, kept["resp_body"] is not None] == [request_body, response_body]


def test_a_body_beyond_the_buffer_is_not_kept() -> None:
    stack = stack_of(capture_buffer_mib=1)
    stack.post_json(CHAT, {"model": "a", "x": "y" * 1_100_000})
    stack.accept().send(answer(b"z" * 1_100_000))
    kept = capture(stack)
    assert (kept["req_body"], kept["resp_body"]) == (None, None)


def test_long_bodies_of_requests_under_way_are_held_up_to_a_share_of_the_room() -> None:
    stack = stack_of(capture_buffer_mib=1)
    asked = {"model": "a", "text": "x" * 900_000}

    def answered(count: int) -> None:
        for _ in range(count):
            stack.post_json(CHAT, asked)
        for _ in range(count):
            stack.accept().send(answer(Content_Type="application/json"))

    answered(6)
    assert sum(capture(stack, number)["req_body"] is not None for number in range(1, 7)) == 4
    answered(1)
    assert capture(stack, 7)["req_body"] is not None, "those that ended hold nothing any more"


def test_d8_a_long_body_is_let_go_when_it_is_sent(stack: Stack) -> None:
    stack.post_json(CHAT, {"model": "a", "x": "y" * 70_000})
    [exchange] = stack.daemon.observers.ledger.exchanges()
    assert exchange.passage.body == b""


def test_captures_can_be_switched_off() -> None:
    stack = stack_of(capture_buffer_mib=0)
    chat(stack)
    assert row(stack)["has_capture"] is False
    assert stack.ask("GET", "/api/captures/1").status == 404


@pytest.mark.parametrize(
    ("name", "status", "message"),
    [("999", 404, "capture not found"), ("-1", 404, "capture not found"), ("abc", 400, "invalid capture ID")],
)
def test_a_capture_that_is_not_there(stack: Stack, name: str, status: int, message: str) -> None:
    response = stack.ask("GET", f"/api/captures/{name}")
    assert (response.status, response.document["error"]["message"]) == (status, message)


# --------------------------------------------------------------------------- the list


def test_pages(stack: Stack) -> None:
    for _ in range(3):
        chat(stack)
    found = stack.ask("GET", "/api/metrics/activity?limit=2&page=2").document
    assert [r["id"] for r in found.pop("data")] == [1]
    assert found == {"page": 2, "limit": 2, "total": 3, "total_pages": 2}
    assert [r["id"] for r in rows(stack, "?sort=id&order=ASC")] == [1, 2, 3]
    assert rows(stack, "?page=9&unknown=1&limit=") == []


def test_an_empty_list(stack: Stack) -> None:
    response = stack.ask("GET", "/api/metrics/activity")
    assert response.document == {"data": [], "page": 1, "limit": 25, "total": 0, "total_pages": 0}
    assert response.headers["cache-control"] == "no-store"


def test_filters_of_the_list(stack: Stack) -> None:
    chat(stack)
    chat(stack, answer(b"x", "502 Bad Gateway"))
    stack.post_json(CHAT, {"model": "nope"})
    for query, ids in {
        "?model=a&model=%20": [2, 1],
        "?model=a&model=nope": [3, 2, 1],
        "?status=5xx&status=404": [3, 2],
        "?status=200": [1],
        "?error=BAD": [2],
        f"?path={CHAT}&min_id=2&max_id=2": [2],
        "?session=s": [],
        "?min_duration_ms=0&start=2001-01-01T00:00:00Z": [3, 2, 1],
        "?end=2001-01-01T00:00:00%2B01:00": [],
    }.items():
        assert [r["id"] for r in rows(stack, query)] == ids, query


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("limit=1000", "limit must be between 1 and 999"),
        ("limit=0", "limit must be between 1 and 999"),
        ("limit=x", "invalid limit"),
        ("page=0", "page must be >= 1"),
        ("page=1_0", "page must be >= 1"),
        ("sort=x", "invalid sort column"),
        ("order=up", "order must be asc or desc"),
        ("min_id=0", "min_id must be >= 1"),
        ("max_id=0", "max_id must be >= 1"),
        ("min_id=5&max_id=2", "min_id must be <= max_id"),
        ("start=yesterday", "invalid 'start' timestamp, use RFC3339 format"),
        ("end=2026-13-01T00:00:00Z", "invalid 'end' timestamp, use RFC3339 format"),
        ("start=2026-01-02T00:00:00Z&end=2026-01-01T00:00:00Z", "start must be before end"),
        ("status=6xx", "status must be like 502 or 5xx"),
        ("min_duration_ms=-1", "min_duration_ms must be >= 0"),
        ("format=xml", "format must be one of json, csv, jsonl"),
        ("&".join(["model=m"] + [f"model={n}" for n in range(1000)]), "too many models"),
    ],
)
def test_wrong_queries_are_refused(stack: Stack, query: str, message: str) -> None:
    response = stack.ask("GET", f"/api/metrics/activity?{query}")
    assert (response.status, response.document["error"]["message"]) == (400, message)


def test_figures_over_the_rows(stack: Stack) -> None:
    chat(stack)
    chat(stack, answer(b'{"timings":{"prompt_n":3,"prompt_per_second":50}}'))
    found = stack.ask("GET", "/api/metrics/stats?model=a").document
    assert (found["total_requests"], found["total_input_tokens"], found["gen_histogram"]) == (2, 13, None)
    assert found["prompt_histogram"]["bins"] == [1]
    assert stack.ask("GET", "/api/metrics/stats?model=b").document["total_requests"] == 0
    assert stack.ask("GET", "/api/metrics/stats?start=x").status == 400


def test_d11_the_old_form_is_an_array_with_the_oldest_first(stack: Stack) -> None:
    chat(stack)
    chat(stack)
    found = stack.ask("GET", "/api/metrics").document
    assert [r["id"] for r in found] == [1, 2]
    assert found == rows(stack)[::-1]


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("/api/metrics/activity", "failed to get activity"),
        ("/api/metrics/stats", "failed to get activity stats"),
        ("/api/metrics", "failed to get activity"),
    ],
)
def test_a_store_that_cannot_be_read(stack: Stack, path: str, message: str) -> None:
    worker_of(stack).error = StoreError("disk gone")
    response = stack.ask("GET", path)
    assert (response.status, response.document["error"]["message"]) == (500, message)


def worker_of(stack: Stack) -> InlineWorker:
    return cast("InlineWorker", stack.daemon.observers.activity._store._worker)


# --------------------------------------------------------------------------- downloads


def body_of(data: bytes) -> bytes:
    """Take the chunks of an answer away."""
    head, _, rest = data.partition(b"\r\n\r\n")
    assert b"chunked" in head.lower()
    body = b""
    while rest:
        size, _, rest = rest.partition(b"\r\n")
        body, rest = body + rest[: int(size, 16)], rest[int(size, 16) + 2 :]
    return body


def test_the_list_as_csv(stack: Stack) -> None:
    chat(stack)
    stack.post_json(CHAT, {"model": 'no "such", model'})
    data = stack.begin("GET", "/api/metrics/activity?format=csv&limit=1").take()
    assert b'attachment; filename="activity.csv"' in data
    head, first, second = csv.reader(body_of(data).decode().splitlines())
    assert tuple(head) == CSV_COLUMNS
    named = dict(zip(head, first, strict=True))
    assert (named["id"], named["model"], named["input_tokens"], named["has_capture"]) == ("1", "a", "10", "true")
    assert named["metadata"] == '{"fifo_priority":"0"}'
    assert second[2] == 'no "such", model'


SWAP = {
    "swap_id": 1,
    "model": "a",
    "planner": "group",
    "reason": "request",
    "explanation": "",
    "request_id": "r",
    "waiters": [],
    "evicted": [{"model": "b", "cost": 1}],
    "candidates": [],
    "decision_ms": 0.1,
    "stop_ms": 140,
    "load_ms": 2100,
    "outcome": "ready",
    "error": None,
}


@pytest.mark.parametrize("name", ["=1+1", "+1", "-1", "@x", "\t=1"])
def test_a_spreadsheet_does_not_calculate_with_what_a_client_wrote(stack: Stack, name: str) -> None:
    stack.post_json(CHAT, {"model": name})
    data = stack.begin("GET", "/api/metrics/activity?format=csv").take()
    [found] = csv.DictReader(body_of(data).decode().splitlines())
    assert found["model"] == f"'{name}"
    assert found["cache_tokens"] == "0"


def test_many_swaps_are_exported_page_by_page(stack: Stack) -> None:
    from llamaswap.telemetry.swap_store import insert_swap

    def fill(connection: sqlite3.Connection) -> None:
        for number in range(1, 1203):
            model = "b" if number in {1, 1202} else "a"
            insert_swap(connection, {**SWAP, "swap_id": number, "model": model, "at": "2001-01-01T00:00:00.000Z"})

    success_of(stack.daemon.observers.activity.read(fill))
    trace = "/api/metrics/activity?format=jsonl"
    assert len(body_of(stack.begin("GET", trace).take()).splitlines()) == 1202
    assert len(body_of(stack.begin("GET", f"{trace}&model=b").take()).splitlines()) == 2


def test_the_list_as_a_trace(stack: Stack) -> None:
    from llamaswap.telemetry.swap_store import insert_swap

    chat(stack)
    stack.router.error = ConcurrencyLimitError()
    stack.post_json(CHAT, {"model": "a"})
    record = {**SWAP, "at": "2001-01-01T00:00:00.000Z"}
    success_of(stack.daemon.observers.activity.read(lambda c: insert_swap(c, record)))
    data = stack.begin("GET", "/api/metrics/activity?format=jsonl").take()
    one, two, swap = map(json.loads, body_of(data).splitlines())
    assert one.pop("arrived") > 0
    assert one == {
        "type": "request",
        "id": 1,
        "model": "a",
        "priority": 0,
        "wait_ms": 0,
        "service_ms": 0,
        "load_ms": 0,
        "outcome": "served",
    }
    assert two["outcome"] == "refused"
    assert swap == {
        "type": "swap",
        "target": "a",
        "evicted": ["b"],
        "stop_ms": 140,
        "load_ms": 2100,
        "started": 0,
        "outcome": "ready",
    }


@pytest.fixture
def long(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> Stack:
    """Give a stack with more rows than a page of a download."""
    monkeypatch.setattr("llamaswap.telemetry.export.PAGE_ROWS", 2)
    for _ in range(5):
        chat(stack)
    return stack


def slow_download(stack: Stack) -> tuple[End, Any]:
    """Begin a download whose client takes the first page only; give it with its connection."""
    worker = worker_of(stack)
    worker.is_held = True
    client = stack.begin("GET", "/api/metrics/activity?format=csv")
    channel: Any = client._protocol
    channel.pauseProducing()
    worker.let_go()
    return client, channel


def test_a_download_waits_for_its_client(long: Stack) -> None:
    client, channel = slow_download(long)
    assert client.take().count(b"\r\n1,") == 1
    assert client.take() == b""
    channel.resumeProducing()
    assert b"0\r\n\r\n" in client.take()


def test_a_download_whose_client_leaves_ends(long: Stack) -> None:
    client, _ = slow_download(long)
    client.leave()
    assert len(rows(long)) == 5


def test_a_download_that_breaks_off_does_not_look_whole(long: Stack) -> None:
    client, channel = slow_download(long)
    client.take()
    worker_of(long).error = StoreError("disk gone")
    channel.resumeProducing()
    assert client.is_closed
    assert client.take() == b""
    client.leave()


def test_an_outflow_is_a_producer() -> None:
    class Registering:
        def registerProducer(self, producer: object, *, streaming: bool) -> None:
            assert streaming

    verifyObject(IPushProducer, Outflow(cast("Request", Registering())))


# --------------------------------------------------------------------------- another configuration


def observers(path: str = "") -> Observers:
    from twisted.internet.task import Clock

    return Observers(Clock(), Config(store_path=path), {}, InlineWorker)


def test_a_store_that_cannot_be_opened_is_told_before_anything_starts(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"store\.path: .* cannot be used: unable to open"):
        observers(str(tmp_path / "none" / "s.db"))


def test_the_file_is_made_before_anything_starts(tmp_path: Path) -> None:
    observers(str(tmp_path / "s.db"))
    assert (tmp_path / "s.db").exists()


def test_a_reload_moves_activity_to_another_file(tmp_path: Path) -> None:
    watched = observers()
    path = str(tmp_path / "s.db")
    watched.apply(Config(store_path=path))
    assert watched.activity.store_path == path
    watched.apply(Config(store_path=str(tmp_path / "none" / "s.db")))
    assert watched.activity.store_path == path, "that cannot be opened"
    watched.apply(Config())
    assert watched.activity.store_path == ""


def test_swaps_go_on_behind_those_in_another_file(tmp_path: Path) -> None:
    from llamaswap.telemetry.schema import open_store
    from llamaswap.telemetry.swap_store import insert_swap

    path = str(tmp_path / "s.db")
    insert_swap(open_store(path), {**SWAP, "swap_id": 70, "at": "2026-11-20T09:15:03.300Z"})
    watched = observers()
    assert watched.swap_numbers.take() == 1
    watched.apply(Config(store_path=path))
    assert watched.swap_numbers.take() == 71
    watched.apply(Config(store_path=str(tmp_path / "empty.db")))
    assert watched.swap_numbers.take() == 72, "they do not go back"


def test_the_end_closes_the_store_once() -> None:
    from twisted.internet.defer import Deferred

    watched = observers()
    for _ in range(2):
        success_of(Deferred.fromCoroutine(watched.stop()))


def test_the_end_does_not_wait_for_ever_for_a_slow_disk(logged_failures: LoggedFailures) -> None:
    from twisted.internet.defer import Deferred

    watched = observers()
    worker = cast("InlineWorker", watched.activity._store._worker)
    worker.is_held = True
    end = Deferred.fromCoroutine(watched.stop())
    watched.reactor.advance(5)
    success_of(end)
    worker.let_go()


def test_a_reload_changes_what_is_kept(stack: Stack) -> None:
    chat(stack)
    assert row(stack)["has_capture"]
    stack.daemon.observers.apply(config_of(A, capture_buffer_mib=0, metrics_max_in_memory_rows=1))
    chat(stack)
    assert [(r["id"], r["has_capture"]) for r in rows(stack)] == [(2, False)]
