from __future__ import annotations

from typing import Any

import pytest

from llamaswap.errors import FramingError
from llamaswap.proxy.framing import ChunkedBody, OpenBody, SizedBody
from llamaswap.proxy.headers import Fields, answer_head, metered_encodings, request_head, response_head, split_head

HOST = (b"Host", b"llama.example")


def upstream_lines(fields: Fields, **settings: Any) -> list[bytes]:
    values: dict[str, Any] = {
        "client_host": b"127.0.0.1",
        "default_host": b"up:1",
        "body_length": 0,
        "is_metered": False,
        **settings,
    }
    head = request_head(b"POST", b"/p?q=1", [HOST, *fields], **values)
    assert head.startswith(b"POST /p?q=1 HTTP/1.1\r\nHost: llama.example\r\n")
    assert head.endswith(b"\r\n\r\n")
    return head[:-4].split(b"\r\n")[2:]


def test_everything_else_passes_as_it_was_written() -> None:
    fields = [
        (b"authorization", b"Bearer x"),
        (b"X-API-Key", b"k"),
        (b"Cookie", b"a=1"),
        (b"Origin", b"http://o"),
        (b"Expect", b"100-continue"),
        (b"X-Forwarded-Proto", b"https"),
        (b"X-Real-Ip", b"1.2.3.4"),
        (b"Forwarded", b"for=1"),
        (b"Accept", b"a"),
        (b"Accept", b"b"),
    ]
    assert upstream_lines(fields)[:-1] == [b"%b: %b" % field for field in fields]


def test_fields_of_the_connection_stay_on_it() -> None:
    fields = [
        (b"Connection", b"close, X-Mine, te"),
        (b"Connection", b"x-second"),
        (b"Keep-Alive", b"timeout=5"),
        (b"Proxy-Connection", b"x"),
        (b"Proxy-Authorization", b"x"),
        (b"Proxy-Authenticate", b"x"),
        (b"Trailer", b"x"),
        (b"Upgrade", b"h2c"),
        (b"x-mine", b"1"),
        (b"X-Second", b"2"),
        (b"X-Third", b"3"),
    ]
    assert upstream_lines(fields) == [b"X-Third: 3", b"X-Forwarded-For: 127.0.0.1"]


def test_only_trailers_are_kept_of_te() -> None:
    assert b"TE: trailers" in upstream_lines([(b"TE", b"gzip, trailers")])
    assert not any(line.startswith(b"TE") for line in upstream_lines([(b"TE", b"gzip")]))


def test_the_client_is_appended_to_forwarded_for() -> None:
    lines = upstream_lines([(b"X-Forwarded-For", b"9.9.9.9"), (b"x-forwarded-for", b"8.8.8.8")])
    assert lines == [b"X-Forwarded-For: 9.9.9.9, 8.8.8.8, 127.0.0.1"]


def test_a_request_without_host_gets_the_upstreams() -> None:
    head = request_head(b"GET", b"/", [], client_host=b"1.1.1.1", default_host=b"up:1", body_length=0, is_metered=False)
    assert b"\r\nHost: up:1\r\n" in head


@pytest.mark.parametrize(
    ("fields", "length", "expected"),
    [
        ([(b"Content-Length", b"9")], 3, b"Content-Length: 3"),
        ([(b"Transfer-Encoding", b"chunked")], 3, b"Content-Length: 3"),
        ([(b"Content-Length", b"0")], 0, b"Content-Length: 0"),
        ([(b"Transfer-Encoding", b"chunked")], None, b"Transfer-Encoding: chunked"),
        ([], 0, None),
    ],
)
def test_h67_the_length_is_that_of_what_is_sent(fields: Fields, length: int | None, expected: bytes | None) -> None:
    lines = upstream_lines(fields, body_length=length)
    assert [line for line in lines if line.startswith((b"Content-Length", b"Transfer"))] == (
        [expected] if expected else []
    )


@pytest.mark.parametrize(
    ("asked", "kept"),
    [
        (b"br, gzip;q=0.8, zstd", b"gzip;q=0.8"),
        (b"GZIP , deflate ; q=0.5", b"GZIP, deflate ; q=0.5"),
        (b"br, zstd, *", b""),
        (b"identity", b""),
        (b"", b""),
    ],
)
def test_encodings_of_metered_requests_are_those_that_can_be_read(asked: bytes, kept: bytes) -> None:
    assert metered_encodings(asked) == kept
    lines = upstream_lines([(b"accept-encoding", asked)], is_metered=True)
    assert [line for line in lines if line.startswith(b"Accept")] == ([b"Accept-Encoding: " + kept] if kept else [])


def test_encodings_of_other_requests_pass() -> None:
    assert b"Accept-Encoding: br, zstd" in upstream_lines([(b"Accept-Encoding", b"br, zstd")])


@pytest.mark.parametrize(
    "head",
    [
        b"X\r\nA: a\x00b",
        b"X\r\nA: a\x7fb",
        b"X\r\nA: a\nB: b",
        b"X\r\nA: a\rb",
        b"X\r\nA: a\r\n folded",
        b"X\r\nA : a",
        b"X\r\nno colon",
        b"X\r\n: no name",
        b"X\r\nA\xe9: a",
    ],
)
def test_malformed_fields_are_refused(head: bytes) -> None:
    with pytest.raises(FramingError):
        split_head(head)


def test_fields_are_trimmed_and_in_order() -> None:
    first, fields = split_head(b"GET / HTTP/1.1\r\nB:\t 1 \r\na:\r\nB: 2")
    assert first == b"GET / HTTP/1.1"
    assert fields == [(b"B", b"1"), (b"a", b""), (b"B", b"2")]


@pytest.mark.parametrize(
    ("fields", "method", "kind"),
    [
        (b"Content-Length: 5", b"GET", SizedBody),
        (b"Content-Length: 5\r\nContent-Length: 5", b"GET", SizedBody),
        (b"Transfer-Encoding: Chunked", b"GET", ChunkedBody),
        (b"Transfer-Encoding: chunked\r\nContent-Length: 5", b"GET", ChunkedBody),
        (b"X: y", b"GET", OpenBody),
        (b"Content-Length: 5", b"HEAD", SizedBody),
    ],
)
def test_kind_of_body(fields: bytes, method: bytes, kind: type) -> None:
    head = response_head(b"HTTP/1.1 200 OK\r\n" + fields, method)
    assert isinstance(head.body, kind)
    assert (head.body.feed(b"") == 0) == (method == b"HEAD")
    assert head.is_open == (kind is OpenBody)
    assert head.is_chunked == (kind is ChunkedBody)


@pytest.mark.parametrize("status", [100, 103, 204, 304])
def test_answers_without_body(status: int) -> None:
    head = response_head(b"HTTP/1.1 %d X\r\nTransfer-Encoding: chunked" % status, b"GET")
    assert head.body.feed(b"rest") == 0
    assert head.is_interim == (status < 200)


@pytest.mark.parametrize(
    "head",
    [
        b"HTTP/2 200 OK",
        b"HTTP/1.1 20 OK",
        b"HTTP/1.1",
        b"ICY 200 OK",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6",
        b"HTTP/1.1 200 OK\r\nContent-Length: +5",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked",
        b"HTTP/1.1 000 X",
        b"HTTP/1.1 099 X",
        b"HTTP/1.1 2000 OK",
        b"HTTP/1.x 200 OK",
        b"HTTP/1.1 304 X\r\nContent-Length: x",
    ],
)
def test_malformed_answers_are_refused(head: bytes) -> None:
    with pytest.raises(FramingError):
        response_head(head, b"GET")


@pytest.mark.parametrize(
    ("head", "keeps"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 0", True),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: Close", False),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 0", False),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\nConnection: keep-alive", True),
        (b"HTTP/1.1 200 OK", False),
    ],
)
def test_what_keeps_a_connection(head: bytes, keeps: bool) -> None:  # noqa: FBT001
    assert response_head(head, b"GET").keeps_alive is keeps


def test_answer_passes_but_for_fields_of_the_connection() -> None:
    received = (
        b"HTTP/1.1 418 I'm a teapot\r\nServer: llama.cpp\r\nDate: now\r\nSet-Cookie: a\r\nset-cookie: b\r\n"
        b"Connection: keep-alive, X-Hop\r\nX-Hop: 1\r\nKeep-Alive: timeout=5\r\nContent-Length: 2\r\nLocation: /x\r\n"
        b"Trailer: T\r\nAccess-Control-Allow-Origin: *"
    )
    sent = answer_head(response_head(received, b"GET"), is_chunked=False, closes=False)
    assert sent == (
        b"HTTP/1.1 418 I'm a teapot\r\nServer: llama.cpp\r\nDate: now\r\nSet-Cookie: a\r\nset-cookie: b\r\n"
        b"Content-Length: 2\r\nLocation: /x\r\nAccess-Control-Allow-Origin: *\r\n\r\n"
    )


@pytest.mark.parametrize(
    "fields",
    [b"Content-Length: 2\r\nContent-Length: 2", b"Connection: content-length\r\nContent-Length: 2"],
)
def test_a_length_reaches_the_client_once(fields: bytes) -> None:
    head = response_head(b"HTTP/1.1 200 OK\r\n" + fields, b"GET")
    assert head.fields == [(b"Content-Length", b"2")]


def test_h68_event_streams_are_not_to_be_buffered_in_front_of_us() -> None:
    received = b"HTTP/1.1 200 OK\r\ncontent-type: Text/Event-Stream; charset=utf-8\r\nX-Accel-Buffering: yes"
    head = response_head(received, b"GET")
    assert head.is_event_stream
    assert [v for k, v in head.fields if k.lower() == b"x-accel-buffering"] == [b"no"]


def test_answer_head_says_what_the_client_must_know() -> None:
    head = response_head(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 3", b"GET")
    assert answer_head(head, is_chunked=True, closes=True) == (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
    )
