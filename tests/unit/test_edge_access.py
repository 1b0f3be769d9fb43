from __future__ import annotations

import pytest

from llamaswap.core.duration import duration
from llamaswap.web.edge import EdgeRequest
from tests.unit.edge_stack import Edge, answer, get, post


def test_the_line_of_a_request() -> None:
    edge = Edge()
    edge.ask(post(b"{}", headers="User-Agent: bench/1\r\n"))
    assert edge.log.lines == ['Request 192.168.1.1 "POST /direct HTTP/1.1" 200 2 "bench/1" 0µs']


def test_the_line_comes_when_the_answer_has_ended() -> None:
    edge = Edge(handle=lambda _: None)
    end = edge.connect()
    end.send(get())
    edge.reactor.advance(1.25)
    assert edge.log.lines == []
    answer(edge.requests[0])
    assert edge.log.lines == ['Request 192.168.1.1 "GET /direct HTTP/1.1" 200 2 "" 1.25s']


def test_the_line_of_a_client_that_left() -> None:
    edge = Edge(handle=lambda _: None)
    end = edge.connect()
    end.send(get())
    end.close()
    assert edge.log.lines == ['Request 192.168.1.1 "GET /direct HTTP/1.1" 499 0 "" 0µs']


def test_one_request_does_not_fill_a_log() -> None:
    edge = Edge()
    edge.ask(get("/" + "p" * 9999, f"User-Agent: {'u' * 9999}\r\nX-Forwarded-For: {'f' * 9999}\r\n"))
    edge.ask(b"M" * 9999 + b" / HTTP/1.1\r\nHost: h\r\n\r\n")
    assert [len(line) < 3200 for line in edge.log.lines] == [True, True]


def test_the_path_is_decoded_and_has_no_query() -> None:
    edge = Edge()
    edge.klein = lambda _: b"abc"
    edge.ask(get("/kl%65in?key=secret"))
    assert edge.log.lines == ['Request 192.168.1.1 "GET /klein HTTP/1.1" 200 3 "" 0µs']


@pytest.mark.parametrize(
    ("headers", "address"),
    [
        ("X-Forwarded-For: 9.9.9.9, 8.8.8.8\r\n", "9.9.9.9"),
        ("X-Forwarded-For: 9.9.9.9\r\nX-Real-IP: 7.7.7.7\r\n", "9.9.9.9"),
        ("X-Real-IP: 7.7.7.7\r\n", "7.7.7.7"),
        ("X-Forwarded-For: \r\n", "192.168.1.1"),
    ],
)
def test_the_address_is_the_one_in_front_of_proxies(headers: str, address: str) -> None:
    edge = Edge()
    edge.ask(get(headers=headers))
    assert edge.log.lines[0].startswith(f"Request {address} ")


@pytest.mark.parametrize("path", ["/wol-health", "/api/performance", "/api/performance?after=1", "/metrics"])
def test_paths_that_are_asked_all_the_time_have_no_line(path: str) -> None:
    edge = Edge()
    edge.ask(get(path))
    assert edge.log.lines == []
    assert edge.codes == [404]


def test_what_is_no_utf_8_is_shown_all_the_same() -> None:
    edge = Edge()
    edge.ask(b"GET /direct HTTP/1.1\r\nHost: h\r\nUser-Agent: \xff\r\n\r\n")
    assert edge.log.lines == ['Request 192.168.1.1 "GET /direct HTTP/1.1" 200 2 "\ufffd" 0µs']


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0µs"),
        (-0.5, "0µs"),
        (0.00085, "850µs"),
        (0.001, "1ms"),
        (0.0012504, "1.25ms"),
        (0.999, "999ms"),
        (1, "1s"),
        (2.5, "2.5s"),
        (59.999999, "59.999999s"),
        (60, "1m0s"),
        (63.5, "1m3.5s"),
        (3600, "1h0m0s"),
        (7325.25, "2h2m5.25s"),
    ],
)
def test_durations_are_written_as_go_does(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_direct_routes_are_found_by_method_and_exact_path() -> None:
    edge = Edge()

    def is_direct(method: bytes, path: bytes) -> bool:
        request = EdgeRequest.__new__(EdgeRequest)
        request.method, request.path = method, path
        return edge.site.resource.find(request) is not None

    assert is_direct(b"GET", b"/direct")
    assert is_direct(b"HEAD", b"/direct")
    assert is_direct(b"POST", b"/direct")
    for method, path in ((b"PUT", b"/direct"), (b"GET", b"/direct/"), (b"GET", b"/Direct"), (b"GET", b"/klein")):
        assert not is_direct(method, path)


def test_a_method_that_no_route_has_goes_kleins_way() -> None:
    edge = Edge()
    assert edge.ask(get().replace(b"GET", b"PUT")).startswith(b"HTTP/1.1 405 Method Not Allowed\r\n")
    assert edge.requests == []
