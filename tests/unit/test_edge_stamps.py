from __future__ import annotations

import re

import pytest

from llamaswap.config.schema import ModelConfig
from llamaswap.core.values import ModelId
from llamaswap.web.stamps import HTTPDate, RequestIds
from tests.unit.edge_stack import Edge, get
from tests.unit.web_stack import Stack, config_of, response_of

CHAT = "/v1/chat/completions"
OURS = re.compile(r"[0-9a-f]{10}-[0-9]+")


@pytest.fixture
def stack() -> Stack:
    stack = Stack(config_of(ModelConfig(ModelId("p"), cmd="c", proxy="http://127.0.0.1:5800")))
    stack.be_ready("p")
    return stack


@pytest.mark.parametrize("asked", ["a", "A-z_0.9:x", "x" * 128])
def test_d19_the_clients_id_is_taken(stack: Stack, asked: str) -> None:
    answer = stack.ask("GET", "/health", headers={"X-Request-ID": asked})
    assert answer.headers["x-request-id"] == asked


@pytest.mark.parametrize("asked", ["", "x" * 129, "a b", "a,b", "a/b", "\xe4"])
def test_d19_an_id_that_could_do_harm_is_not(stack: Stack, asked: str) -> None:
    given = stack.ask("GET", "/health", headers={"X-Request-ID": asked}).headers["x-request-id"]
    assert OURS.fullmatch(given)


def test_d19_ids_differ_over_requests_and_runs() -> None:
    one, other = RequestIds(), RequestIds()
    assert len({one({}), one({}), other({}), other({})}) == 4
    assert one({b"x-request-id": b"a, a"}) != "a, a", "sent twice"


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/health", 200),
        ("GET", "/v1/models", 200),
        ("OPTIONS", "/x", 204),
        ("GET", "/x", 404),
        ("DELETE", "/health", 405),
        ("GET", "//health", 307),
        ("GET", "/%zz", 400),
        ("POST", CHAT, 404),
        ("GET", "/upstream/x/", 404),
    ],
)
def test_d19_answers_of_ours_carry_it_and_a_date(stack: Stack, method: str, path: str, status: int) -> None:
    answer = stack.ask(method, path, headers={"X-Request-ID": "mine"})
    assert (answer.status, answer.headers["x-request-id"]) == (status, "mine")
    assert answer.headers["date"].endswith(" GMT")


def test_d19_answers_to_what_is_no_request_carry_one() -> None:
    reply = response_of(Edge().ask(b"what\r\n\r\n"))
    assert reply.status == 400
    assert OURS.fullmatch(reply.headers["x-request-id"])
    assert reply.headers["date"].endswith(" GMT")


def test_d19_the_upstream_gets_it_and_its_own_is_replaced(stack: Stack) -> None:
    client = stack.post_json(CHAT, {"model": "p"}, **{"x-request-id": "mine"})
    upstream = stack.accept()
    request = upstream.take()
    assert b"\r\nX-Request-ID: mine\r\n" in request
    assert request.lower().count(b"x-request-id") == 1
    upstream.send(b"HTTP/1.1 200 OK\r\nx-request-id: other\r\nContent-Length: 0\r\n\r\n")
    assert response_of(client.take()).headers["x-request-id"] == "mine"


def test_d19_the_upstream_gets_one_of_ours_where_the_client_sent_none(stack: Stack) -> None:
    client = stack.begin("GET", "/upstream/p/x")
    upstream = stack.accept()
    found = re.search(rb"\r\nX-Request-ID: (.*)\r\n", upstream.take())
    assert found is not None
    upstream.send(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
    assert response_of(client.take()).headers["x-request-id"] == found[1].decode()


def test_requests_know_their_id() -> None:
    edge = Edge()
    edge.ask(get(headers="X-Request-ID: mine\r\n"))
    assert edge.requests[0].request_id == "mine"


def test_a_date_is_added_where_the_upstream_gave_none(stack: Stack) -> None:
    client = stack.post_json(CHAT, {"model": "p"})
    stack.accept().send(b"HTTP/1.1 200 OK\r\nServer: x\r\nContent-Length: 0\r\n\r\n")
    answer = response_of(client.take())
    assert answer.headers["date"].endswith(" GMT")
    assert answer.headers["server"] == "x"


def test_the_date_is_worded_once_a_second() -> None:
    times = [0.0, 0.9, 1.0]
    date = HTTPDate(lambda: times.pop(0))
    first, again, later = date(), date(), date()
    assert first is again
    assert (first, later) == (b"Thu, 01 Jan 1970 00:00:00 GMT", b"Thu, 01 Jan 1970 00:00:01 GMT")
