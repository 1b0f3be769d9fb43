from __future__ import annotations

import time

import pytest

from llamaswap.config.schema import HTTPConfig
from llamaswap.web.head import read_head
from tests.unit.edge_stack import PLAIN, Edge, get


@pytest.fixture
def edge() -> Edge:
    return Edge()


def test_what_a_request_says() -> None:
    head = read_head(b"POST /a%2Fb?x=1 HTTP/1.1\r\nHost: h\r\nX-A: 1\r\nx-a: 2\r\nContent-Length: 5")
    assert (head.method, head.uri, head.path, head.version) == (b"POST", b"/a%2Fb?x=1", b"/a%2Fb", b"HTTP/1.1")
    assert head.fields == [(b"Host", b"h"), (b"X-A", b"1"), (b"x-a", b"2"), (b"Content-Length", b"5")]
    assert head.named == {b"host": b"h", b"x-a": b"1, 2", b"content-length": b"5"}
    assert (head.length, head.is_modern, head.keeps_alive, head.expects_continue) == (5, True, True, False)


@pytest.mark.parametrize(
    ("lines", "keeps"),
    [
        (b"GET / HTTP/1.1\r\nHost: h", True),
        (b"GET / HTTP/1.1\r\nHost: h\r\nConnection: keep-alive, Close", False),
        (b"GET / HTTP/1.0", False),
        (b"GET / HTTP/1.0\r\nConnection: keep-alive", False),
    ],
)
def test_which_connections_are_kept(lines: bytes, keeps: bool) -> None:  # noqa: FBT001
    assert read_head(lines).keeps_alive is keeps


@pytest.mark.parametrize(
    ("uri", "path"),
    [(b"http://h/x?y", b"/x"), (b"HTTPS://h:1", b"/"), (b"http://h?q", b"/"), (b"/x", b"/x"), (b"//x", b"//x")],
)
def test_addresses_as_proxies_get_them_are_taken(uri: bytes, path: bytes) -> None:
    assert read_head(b"GET " + uri + b" HTTP/1.1\r\nHost: h").path == path


@pytest.mark.parametrize("host", [b"", b"h:1", b"[::1]:80", b"a..b", b".", b"x" * 300])
def test_hosts_that_no_resolver_would_take_are_nothing_to_us(edge: Edge, host: bytes) -> None:
    assert edge.ask(b"GET /klein HTTP/1.1\r\nHost: %b\r\n\r\n" % host).startswith(b"HTTP/1.1 200 ")


def test_a_malformed_chunk_is_refused(edge: Edge) -> None:
    end = edge.connect()
    end.send(b"POST /direct HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n")
    assert end.take().startswith(b"HTTP/1.1 400 ")
    assert edge.requests == []
    assert edge.codes == [400]
    assert edge.log.lines == ['Request 192.168.1.1 "POST /direct HTTP/1.1" 400 32 "" 0µs']


@pytest.mark.parametrize("tail", [b"", b"\r\n\r\n"])
def test_a_head_above_the_limit_is_refused(tail: bytes) -> None:
    edge = Edge(HTTPConfig(max_header_bytes=1000))
    end = edge.connect()
    end.send(b"GET / HTTP/1.1\r\nHost: h\r\nX: " + b"x" * 1000 + tail)
    assert end.take().startswith(b"HTTP/1.1 431 Request Header Fields Too Large\r\n")
    assert end.is_dropped


def test_a_head_of_a_megabyte_is_taken(edge: Edge) -> None:
    assert edge.ask(get(headers="X: " + "x" * 1_000_000 + "\r\n")) == PLAIN


def test_d18_a_head_that_repeats_one_field_many_times_is_read_in_one_go() -> None:
    lines = b"\r\na:b" * 200_000
    began = time.process_time()
    head = read_head(b"GET / HTTP/1.1\r\nHost: h" + lines)
    assert head.named[b"a"] == b", ".join([b"b"] * 200_000)
    assert time.process_time() - began < 0.7  # to join them one by one took 1.8 s


def test_d18_many_empty_lines_before_a_request_cost_one_copy(edge: Edge) -> None:
    end = edge.connect()
    began = time.process_time()
    for _ in range(32):
        end.send(b"\r\n" * 32_768)
    end.send(get())
    assert end.take() == PLAIN
    assert time.process_time() - began < 0.3  # a copy for each of them took 0.8 s and more


def test_d18_a_head_of_very_many_lines_is_refused(edge: Edge) -> None:
    assert edge.ask(get(headers="a:b\r\n" * 9_000)) == PLAIN
    assert edge.ask(get(headers="a:b\r\n" * 11_000)).startswith(b"HTTP/1.1 431 ")


def test_d18_a_long_head_that_trickles_in_is_searched_once(edge: Edge) -> None:
    end = edge.connect()
    end.send(get(headers="X: " + "x" * 1_000_000 + "\r\n")[:-4])
    began = time.process_time()
    for _ in range(1000):
        end.send(b"y")
    assert time.process_time() - began < 0.3  # from its beginning again and again it took 0.5 s and more
    for byte in (b"\r", b"\n", b"\r", b"\n"):
        end.send(byte)
    end.send(get())
    assert end.take() == PLAIN * 2


def test_d18_nobody_opens_a_tunnel_by_connect(edge: Edge) -> None:
    for target in (b"/upstream/m/x", b"h:80", b"http://h/upstream/m/x"):
        reply = edge.ask(b"CONNECT %b HTTP/1.1\r\nHost: h\r\n\r\n" % target)
        assert reply.startswith(b"HTTP/1.1 400 ")
    assert edge.requests == []
