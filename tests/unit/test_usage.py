from __future__ import annotations

import json
from math import nan
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llamaswap.core.figures import Report, Tokens
from llamaswap.core.usage import DocumentUsage, EventUsage, UsageReader, error_text

TIMINGS = {
    "cache_n": 3,
    "prompt_n": 9,
    "prompt_ms": 20,
    "prompt_per_second": 450,
    "predicted_n": 2,
    "predicted_ms": 40,
    "predicted_per_second": 50,
    "draft_n": 8,
    "draft_n_accepted": 5,
}
LLAMA = [
    {"choices": [{"delta": {"content": "usage"}}], "usage": None},
    {
        "usage": {"prompt_tokens": 12, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": 3}},
        "timings": TIMINGS,
    },
    "[DONE]",
]
ANTHROPIC = [
    {"type": "message_start", "message": {"usage": {"input_tokens": 25, "cache_read_input_tokens": 4}}},
    {"type": "message_delta", "delta": {}, "usage": {"output_tokens": 15, "input_tokens": 0}},
]
RESPONSES = [
    {"type": "response.created", "response": {"usage": None}},
    {
        "type": "response.completed",
        "response": {
            "usage": {"input_tokens": 11, "input_tokens_details": {"cached_tokens": 6}, "output_tokens": 22},
        },
    },
]
VLLM = {
    "usage": {"prompt_tokens": 100, "completion_tokens": 50, "prompt_tokens_details": {"cached_tokens": 20}},
    "metrics": {
        "time_to_first_token_ms": 200,
        "mean_itl_ms": 10,
        "speculative_decoding": {"num_draft_tokens": 40, "num_accepted_draft_tokens": 30},
    },
}
INFILL = [
    {"content": "a", "timings": {"prompt_n": 1}},
    {"content": "b", "timings": {"prompt_n": 5, "predicted_n": 6, "prompt_per_second": 50, "predicted_per_second": 60}},
]


def read(reader: UsageReader, data: bytes, step: int = 1 << 16) -> Report:
    for at in range(0, len(data), step):
        reader.feed(data[at : at + step])
    return reader.report()


def document(value: Any, step: int = 1 << 16) -> Tokens:
    data = value if isinstance(value, bytes) else json.dumps(value).encode()
    return read(DocumentUsage(), data, step).tokens


def stream(*events: object, end: str = "\n") -> bytes:
    lines = [event if isinstance(event, str) else json.dumps(event) for event in events]
    return "".join(f"event: x{end}data: {line}{end}{end}" for line in lines).encode()


def tokens_of(data: bytes, step: int = 1 << 16) -> Tokens:
    return read(EventUsage(), data, step).tokens


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({"usage": {"prompt_tokens": 10, "completion_tokens": 5}}, (-1, -1, -1, 10, 5, -1, -1)),
        ({"usage": {"prompt_tokens": 9, "total_tokens": 9}}, (-1, -1, -1, 9, 0, -1, -1)),
        ({"usage": {"input_tokens": 7, "output_tokens": 3}, "type": "message"}, (-1, -1, -1, 7, 3, -1, -1)),
        ({"usage": {}}, (-1, -1, -1, 0, 0, -1, -1)),
        ({"timings": {}}, (-1, -1, -1, 0, 0, 0, 0)),
        (VLLM, (20, 40, 30, 100, 50, 400, 100)),
        (INFILL, (-1, -1, -1, 5, 6, 50, 60)),
        ({"metrics": {"mean_itl_ms": 20}}, (-1, -1, -1, 0, 0, -1, 50)),
        ({"metrics": {"speculative_decoding": {"num_draft_tokens": 4}}}, (-1, -1, -1, 0, 0, -1, -1)),
        ({"usage": {"prompt_tokens": 9}, "metrics": {"time_to_first_token_ms": 90}}, (-1, -1, -1, 9, 0, 100, -1)),
        ({"timings": {"draft_n": 4}}, (-1, -1, -1, 0, 0, 0, 0)),
        (
            {"usage": {"prompt_tokens": 9}, "metrics": {"time_to_first_token_ms": 1e-320, "mean_itl_ms": 1e-320}},
            (-1, -1, -1, 9, 0, 0, 0),
        ),
    ],
)
def test_figures_of_a_document(value: Any, expected: Any) -> None:
    assert document(value) == expected
    assert document(value, step=3) == expected


@pytest.mark.parametrize(
    "value",
    [
        {"usage": None},
        {"usage": "10"},
        {"choices": [{"usage": {"prompt_tokens": 1}}]},
        {"response": {"usage": {"input_tokens": 1}}},
        [],
        "usage",
        b'{"usage":{"prompt_tokens":1}',
        b'RIFF\x00\x01"usage"\xff',
        b"",
        b"[" * 100_000 + b'"usage"',
        b'{"usage":' * 5000,
    ],
)
def test_what_has_no_figures_has_zeros(value: Any) -> None:
    assert document(value) == (0, 0, 0, 0, 0, 0, 0)


def test_absurd_numbers_do_no_harm() -> None:
    usage = {"prompt_tokens": -5, "completion_tokens": 10**30, "cache_read_input_tokens": True}
    assert document({"usage": usage}) == (0, -1, -1, 0, 0, -1, -1)
    assert document({"usage": {"prompt_tokens": 10.0, "completion_tokens": "x"}})[3:5] == (10, 0)


FILL = ["x" * 40] * 20_000
USAGE = {"prompt_tokens": 9, "prompt_tokens_details": {"cached_tokens": 2}}


@pytest.mark.parametrize(
    "value",
    [
        {"usage": USAGE, "data": FILL},
        {"object": "list", "usage": USAGE, "data": FILL},
        {"data": FILL, "usage": USAGE},
        {"data": FILL, "usage": USAGE, "other": {"usage": {"prompt_tokens": 1}}, "last": [1]},
        {"data": FILL, "usage": USAGE, "list": ["usage"]},
    ],
)
def test_a_long_document_is_read_at_its_ends(value: Any) -> None:
    assert document(value) == (2, -1, -1, 9, 0, -1, -1)


@pytest.mark.parametrize(
    "value",
    [
        {"a": {"usage": USAGE, "data": FILL}},
        {"data": FILL, "last": {"usage": USAGE}},
        {"data": [*FILL, {"usage": USAGE}]},
        {"text": '"usage":{"prompt_tokens":1}', "data": FILL},
        {"data": FILL, "last": [{"usage": USAGE}] * 100},
        {"usage": {"details": FILL}},
        {"usage": {"prompt_tokens": nan}, "data": FILL},
    ],
)
def test_what_stands_deeper_in_a_long_document_does_not_count(value: Any) -> None:
    assert document(value) == Tokens()


def test_the_last_element_of_a_long_list_counts() -> None:
    assert document([{"data": FILL}, INFILL[1]]) == (-1, -1, -1, 5, 6, 50, 60)
    assert document([{"data": FILL}, {"x": INFILL[1]}]) == Tokens()


def test_little_of_a_long_document_is_held() -> None:
    reader = DocumentUsage()
    for _ in range(500):
        reader.feed(b"[" + b"x" * 65535)
    assert len(reader._ends.first()) + len(reader._ends.last()) <= 512 * 1024


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize(
    ("events", "expected"),
    [
        (LLAMA, (3, 8, 5, 9, 2, 450, 50)),
        (ANTHROPIC, (4, -1, -1, 25, 15, -1, -1)),
        (RESPONSES, (6, -1, -1, 11, 22, -1, -1)),
        ([VLLM], (20, 40, 30, 100, 50, 400, 100)),
        ([{"choices": []}, "[DONE]"], (0, 0, 0, 0, 0, 0, 0)),
        (['{"usage":'], (0, 0, 0, 0, 0, 0, 0)),
        ([{"response": {"usage": None}}, {"message": {"usage": 5}}], (0, 0, 0, 0, 0, 0, 0)),
    ],
    ids=["llama-server", "anthropic", "responses", "vllm", "none", "cut", "empty"],
)
def test_figures_of_a_stream(events: list[Any], expected: tuple[float, ...], end: str) -> None:
    data = stream(*events, end=end)
    for step in (1, 2, 100, 10_000):
        assert tokens_of(data, step) == expected


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 700), max_size=6))
def test_a_stream_may_be_cut_anywhere(cuts: list[int]) -> None:
    data = stream(*LLAMA, *ANTHROPIC)
    reader, last = EventUsage(), 0
    for cut in [*sorted(cuts), len(data)]:
        reader.feed(data[last:cut])
        last = max(cut, last)
    assert reader.report() == read(EventUsage(), data)


def test_a_stream_without_a_last_line_end_counts_whole() -> None:
    assert tokens_of(b'data: {"usage":{"prompt_tokens":4}}')[3] == 4


def test_a_very_long_line_that_is_no_document_has_no_figures() -> None:
    assert tokens_of(b"data: usage " + b"x" * 1_000_000 + b"\n") == Tokens()


def test_only_data_lines_count() -> None:
    assert tokens_of(b': {"usage":{"prompt_tokens":4}}\nid: {"usage":{}}\n\n') == Tokens()


def test_upstreams_own_time_is_reported() -> None:
    assert read(EventUsage(), stream(*LLAMA)).upstream_ms == 60
    assert read(DocumentUsage(), b'{"usage":{}}').upstream_ms == 0


@pytest.mark.parametrize("step", [1000, 1 << 16, 1 << 30])
def test_a_very_long_line_is_read_at_its_ends(step: int) -> None:
    image = {"type": "image_generation.completed", "b64_json": "x" * 600_000, "usage": {"input_tokens": 8}}
    data = stream({"usage": {"output_tokens": 6}}, image, {"usage": {"output_tokens": 7}})
    assert tokens_of(data, step)[3:5] == (8, 7)
    assert tokens_of(stream(image).rstrip(), step)[3:5] == (8, 0)


def test_little_of_a_very_long_line_is_held() -> None:
    reader = EventUsage()
    for _ in range(200):
        reader.feed(b"x" * 65536)
    assert reader._rest == b""
    assert reader._long is not None
    assert len(reader._long.first()) + len(reader._long.last()) < 1 << 20


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b'{"error":{"message":"no such"},"message":"other"}', "no such"),
        (b'{"error":{"message":" "},"message":"other"}', "other"),
        (b'{"error":"plain"}', "plain"),
        (b'{"detail":"not found"}', "not found"),
        (b'{"detail":[{"msg":"x"}]}', ""),
        (b'{"error":{"message":5}}', ""),
        (b"[1]", ""),
        (b"gone", ""),
        (b'{"a":"\xff"}', ""),
        (b"", ""),
    ],
)
def test_what_an_error_says(body: bytes, text: str) -> None:
    assert error_text(body) == text
