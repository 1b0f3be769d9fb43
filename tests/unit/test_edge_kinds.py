"""What clients may send, kind by kind, and what RFC 9112 and our own strictness (http-api.md, D-18) make of it."""

from __future__ import annotations

import re
from typing import Any

import pytest

from llamaswap.config.schema import HTTPConfig
from llamaswap.errors import FramingError
from llamaswap.web.head import read_head
from tests.unit.edge_stack import Edge, answer

GET = b"GET /direct HTTP/1.1\r\nHost: h\r\n"
POST = b"POST /direct HTTP/1.1\r\nHost: h\r\n"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"
END = b"\r\n"
SMALL = HTTPConfig(max_header_bytes=1000)

MALFORMED_HEADS = {
    "no target": b"GET\r\nHost: h",
    "no version": b"GET /direct\r\nHost: h",
    "nothing but a version": b"HTTP/1.1\r\nHost: h",
    "no method": b" /direct HTTP/1.1\r\nHost: h",
    "method with a byte above ASCII": b"G\xe9T /direct HTTP/1.1\r\nHost: h",
    "method with a delimiter": b"GE(T /direct HTTP/1.1\r\nHost: h",
    "method with a null byte": b"G\x00T /direct HTTP/1.1\r\nHost: h",
    "two blanks in the request line": b"GET  /direct HTTP/1.1\r\nHost: h",
    "blank behind the version": b"GET /direct HTTP/1.1 \r\nHost: h",
    "blank in front of the method": b" GET /direct HTTP/1.1\r\nHost: h",
    "tab in the request line": b"GET\t/direct HTTP/1.1\r\nHost: h",
    "tab in the target": b"GET /a\tb HTTP/1.1\r\nHost: h",
    "blank in the target": b"GET /a b HTTP/1.1\r\nHost: h",
    "control byte in the target": b"GET /\x01 HTTP/1.1\r\nHost: h",
    "version 2": b"GET /direct HTTP/2\r\nHost: h",
    "version 2.0": b"GET /direct HTTP/2.0\r\nHost: h",
    "version 0.9": b"GET /direct HTTP/0.9\r\nHost: h",
    "version with more digits": b"GET /direct HTTP/1.10\r\nHost: h",
    "version in lower case": b"GET /direct http/1.1\r\nHost: h",
    "version of another protocol": b"GET /direct RTSP/1.1\r\nHost: h",
    "target without a slash": b"GET direct HTTP/1.1\r\nHost: h",
    "target of another scheme": b"GET ftp://h/direct HTTP/1.1\r\nHost: h",
    "absolute target without a host": b"GET http:///direct HTTP/1.1\r\nHost: h",
    "absolute target with a user": b"GET http://u@h/direct HTTP/1.1\r\nHost: h",
    "authority as the target": b"CONNECT h:443 HTTP/1.1\r\nHost: h",
    "asterisk for anything but OPTIONS": b"GET * HTTP/1.1\r\nHost: h",
    "no Host": b"GET /direct HTTP/1.1",
    "no Host beside an absolute target": b"GET http://h/direct HTTP/1.1",
    "two Hosts": b"GET /direct HTTP/1.1\r\nHost: h\r\nHost: h",
    "two Hosts, spelt differently": b"GET /direct HTTP/1.1\r\nHost: h\r\nhOST: other",
    "Host with a blank": b"GET /direct HTTP/1.1\r\nHost: h h",
    "Host with a user": b"GET /direct HTTP/1.1\r\nHost: u@h",
    "Host with a path": b"GET /direct HTTP/1.1\r\nHost: h/",
    "Host with a byte above ASCII": b"GET /direct HTTP/1.1\r\nHost: \xff",
    "header without a colon": GET + b"X",
    "header without a name": GET + b": a",
    "blank in a name": GET + b"X Y: a",
    "blank before the colon": GET + b"X : a",
    "blank before the colon of Host": b"GET /direct HTTP/1.1\r\nHost : h",
    "control byte in a name": GET + b"X\x01: a",
    "byte above ASCII in a name": GET + b"X\xe9: a",
    "delimiter in a name": GET + b"X(Y): a",
    "control byte in a value": GET + b"X: a\x01",
    "null byte in a value": GET + b"X: a\x00b",
    "delete in a value": GET + b"X: a\x7f",
    "bare CR in a value": GET + b"X: a\rb",
    "bare LF between headers": GET + b"X: a\nY: b",
    "bare LF behind the request line": b"GET /direct HTTP/1.1\nHost: h",
    "folded line": GET + b"X: a\r\n b",
    "first header folded": b"GET /direct HTTP/1.1\r\n Host: h",
    "Content-Length twice": POST + b"Content-Length: 1\r\nContent-Length: 1",
    "two Content-Lengths": POST + b"Content-Length: 1\r\nContent-Length: 2",
    "Content-Length as a list": POST + b"Content-Length: 5, 5",
    "Content-Length with a plus": POST + b"Content-Length: +1",
    "negative Content-Length": POST + b"Content-Length: -1",
    "hexadecimal Content-Length": POST + b"Content-Length: 0x1",
    "Content-Length with a fraction": POST + b"Content-Length: 1.0",
    "Content-Length with a blank": POST + b"Content-Length: 1 0",
    "Content-Length in other digits": POST + b"Content-Length: \xd9\xa1",
    "empty Content-Length": POST + b"Content-Length:",
    "overflowing Content-Length": POST + b"Content-Length: 9999999999999999999",
    "Content-Length beside chunks": POST + b"Content-Length: 1\r\nTransfer-Encoding: chunked",
    "chunks beside Content-Length": POST + b"Transfer-Encoding: chunked\r\nContent-Length: 1",
    "another coding before chunks": POST + b"Transfer-Encoding: gzip, chunked",
    "another coding behind chunks": POST + b"Transfer-Encoding: chunked, gzip",
    "another coding": POST + b"Transfer-Encoding: gzip",
    "coding of a similar name": POST + b"Transfer-Encoding: xchunked",
    "identity as a coding": POST + b"Transfer-Encoding: identity",
    "empty coding": POST + b"Transfer-Encoding:",
    "coding with a parameter": POST + b"Transfer-Encoding: chunked;q=1",
    "chunks twice": POST + b"Transfer-Encoding: chunked, chunked",
    "two Transfer-Encodings": POST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
    "chunks in HTTP/1.0": b"POST /direct HTTP/1.0\r\nTransfer-Encoding: chunked",
}

MALFORMED_BODIES = {
    "chunk size that is none": b"xyz\r\n",
    "empty chunk size": b"\r\n",
    "negative chunk size": b"-1\r\n",
    "chunk size with a plus": b"+1\r\na\r\n0\r\n\r\n",
    "chunk size with 0x": b"0x1\r\na\r\n0\r\n\r\n",
    "blank before the chunk size": b" 1\r\na\r\n0\r\n\r\n",
    "overflowing chunk size": b"ffffffffffffffff\r\n",
    "chunk longer than its size": b"1\r\nab\r\n0\r\n\r\n",
    "no line end behind a chunk": b"1\r\na0\r\n\r\n",
    "bare LF behind the chunk size": b"1\na\r\n0\r\n\r\n",
    "bare LF in an extension": b"1;a\nb\r\na\r\n0\r\n\r\n",
    "control byte in an extension": b"1;\x01\r\na\r\n0\r\n\r\n",
    "line of the trailer that is none": b"0\r\nwhat\r\n\r\n",
    "folded line of the trailer": b"0\r\nA: b\r\n c\r\n\r\n",
    "control byte in the trailer": b"0\r\nA: \x01\r\n\r\n",
    "extension without end": b"1;" + b"x" * 20_000,
}

TAKEN: dict[str, tuple[bytes, list[bytes]]] = {
    "plain": (GET + END, [b""]),
    "lower-case name": (b"GET /direct HTTP/1.1\r\nhost: h\r\n\r\n", [b""]),
    "no blank behind the colon": (b"GET /direct HTTP/1.1\r\nHost:h\r\n\r\n", [b""]),
    "blanks round a value": (GET + b"X: \t a \t\r\n\r\n", [b""]),
    "empty value": (GET + b"X:\r\n\r\n", [b""]),
    "bytes above ASCII in a value": (GET + b"X: \xe4\r\n\r\n", [b""]),
    "empty Host": (b"GET /direct HTTP/1.1\r\nHost:\r\n\r\n", [b""]),
    "absolute target": (b"GET http://h/direct HTTP/1.1\r\nHost: h\r\n\r\n", [b""]),
    "absolute target, upper-case scheme": (b"GET HTTPS://h/direct HTTP/1.1\r\nHost: h\r\n\r\n", [b""]),
    "no Host in HTTP/1.0": (b"GET /direct HTTP/1.0\r\n\r\n", [b""]),
    "empty lines in front": (b"\r\n\r\n" + GET + END, [b""]),
    "body with a length": (POST + b"Content-Length: 3\r\n\r\nabc", [b"abc"]),
    "length with leading zeros": (POST + b"Content-Length: 003\r\n\r\nabc", [b"abc"]),
    "body of a GET": (GET + b"Content-Length: 3\r\n\r\nabc", [b"abc"]),
    "no length at all": (POST + END, [b""]),
    "chunks": (CHUNKED + b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n", [b"abcde"]),
    "chunks in capitals": (POST + b"Transfer-Encoding: Chunked\r\n\r\nA\r\n0123456789\r\n0\r\n\r\n", [b"0123456789"]),
    "chunk size with leading zeros": (CHUNKED + b"0003\r\nabc\r\n000\r\n\r\n", [b"abc"]),
    "chunk extensions": (CHUNKED + b'3;a=b;c="d e"\r\nabc\r\n0;x\r\n\r\n', [b"abc"]),
    "blank behind the chunk size": (CHUNKED + b"3 \r\nabc\r\n0\r\n\r\n", [b"abc"]),
    "trailer": (CHUNKED + b"3\r\nabc\r\n0\r\nA: b\r\nC: d\r\n\r\n", [b"abc"]),
    "line ends inside a chunk": (CHUNKED + b"4\r\n\r\n\r\n\r\n0\r\n\r\n", [b"\r\n\r\n"]),
    "pipelined": (GET + END + POST + b"Content-Length: 1\r\n\r\na" + CHUNKED + b"0\r\n\r\n", [b"", b"a", b""]),
    "body that looks like a request": (POST + b"Content-Length: 33\r\n\r\n" + GET + b"\r\n", [GET + b"\r\n"]),
}


@pytest.mark.parametrize("kind", MALFORMED_HEADS)
def test_d18_what_could_be_understood_in_two_ways_is_refused(kind: str) -> None:
    head = MALFORMED_HEADS[kind]
    with pytest.raises(FramingError):
        read_head(head)
    edge = Edge()
    end = edge.connect()
    end.send(head + b"\r\n\r\n" + GET + END)
    reply = end.take()
    assert reply.startswith(b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain")
    assert b"\r\nConnection: close\r\n" in reply
    assert reply.count(b"HTTP/1.1 4") + reply.count(b"HTTP/1.1 2") == 1, "nothing behind it is looked at"
    assert end.is_dropped
    end.send(GET + END)
    assert end.take() == b""
    assert edge.requests == []


@pytest.mark.parametrize("kind", MALFORMED_BODIES)
@pytest.mark.parametrize("path", [b"/direct", b"/upstream/m/x"])
def test_d18_a_malformed_body_is_refused(kind: str, path: bytes) -> None:
    edge = Edge(handle=lambda _: None)
    end = edge.connect()
    end.send(CHUNKED.replace(b"/direct", path) + MALFORMED_BODIES[kind] + GET + END)
    reply = end.take()
    assert reply.startswith(b"HTTP/1.1 400 ")
    assert reply.count(b"HTTP/1.1 ") == 1
    assert end.is_dropped
    assert len(edge.requests) == (path != b"/direct"), "nobody sees one that is to be whole first"
    assert edge.codes == [400]


@pytest.mark.parametrize("kind", TAKEN)
@pytest.mark.parametrize("step", [None, 1, 7])
def test_what_is_right_is_taken(kind: str, step: int | None) -> None:
    wire, bodies = TAKEN[kind]
    edge = Edge()
    end = edge.connect()
    for start in range(0, len(wire), step or len(wire)):
        end.send(wire[start : start + (step or len(wire))])
    assert edge.bodies == bodies
    assert len(re.findall(rb"HTTP/1\.1 200 OK\r\n", end.take())) == len(bodies)
    assert end.is_dropped is (b"HTTP/1.0" in wire)


@pytest.mark.parametrize(
    "wire",
    [b"GET /" + b"x" * 2000 + b" HTTP/1.1\r\nHost: h\r\n\r\n", GET + b"X: " + b"x" * 2000 + END + END, b"x" * 2000],
    ids=["long target", "long header", "no end"],
)
def test_d18_heads_that_are_too_long(wire: bytes) -> None:
    edge = Edge(SMALL)
    end = edge.connect()
    end.send(wire)
    assert end.take().startswith(b"HTTP/1.1 431 Request Header Fields Too Large\r\n")
    assert end.is_dropped


def test_a_client_that_asks_to_go_on_is_told_once() -> None:
    edge = Edge()
    end = edge.connect()
    end.send(POST + b"Expect: 100-continue\r\nContent-Length: 2\r\n\r\n")
    assert end.take() == b"HTTP/1.1 100 Continue\r\n\r\n"
    end.send(b"a")
    assert end.take() == b""
    end.send(b"b")
    assert edge.bodies == [b"ab"]


def test_a_client_of_http_1_0_is_not_told_to_go_on() -> None:
    edge = Edge()
    end = edge.connect()
    end.send(b"POST /direct HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n")
    assert end.take() == b""


@pytest.mark.parametrize("option", [b"", b"Connection: keep-alive\r\n"])
def test_http_1_0_has_one_request_to_a_connection(option: bytes) -> None:
    end = Edge().connect()
    end.send(b"GET /direct HTTP/1.0\r\n" + option + END)
    assert end.take().startswith(b"HTTP/1.1 200 ")
    assert end.is_dropped


def test_close_is_followed_by_nothing() -> None:
    edge = Edge()
    end = edge.connect()
    end.send(GET + b"Connection: close\r\n\r\n" + GET + END)
    assert end.take().count(b"HTTP/1.1 200 ") == 1
    assert end.is_dropped
    assert len(edge.requests) == 1


def test_methods_are_told_apart_by_their_case() -> None:
    held: list[Any] = []

    def keep(request: Any) -> None:
        held.append(request.method)
        answer(request)

    edge = Edge(handle=keep)
    assert edge.ask(GET.replace(b"GET", b"get") + END).startswith(b"HTTP/1.1 501 ")
    assert held == []
    edge.ask(GET.replace(b"GET /direct", b"get /upstream/m/x") + END)
    assert held == [b"get"], "what is passed through is the upstream's matter"
