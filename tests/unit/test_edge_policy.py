from __future__ import annotations

import pytest

from llamaswap.config.schema import HTTPConfig, ModelConfig
from llamaswap.core.values import ModelId
from llamaswap.web.policy import Policy
from tests.unit.edge_stack import Edge, get
from tests.unit.web_stack import Response, Stack, config_of, response_of

CHAT = "/v1/chat/completions"
CROSS = {"Sec-Fetch-Site": "cross-site"}


def stack_of(limits: HTTPConfig) -> Stack:
    stack = Stack(config_of(ModelConfig(ModelId("p"), cmd="c", proxy="http://127.0.0.1:5800"), http=limits))
    stack.site.change_limits(limits)
    stack.be_ready("p")
    return stack


def proxied(stack: Stack, answer: bytes, **headers: str) -> Response:
    """Let a model answer."""
    client = stack.post_json(CHAT, {"model": "p"}, **headers)
    stack.accept().send(answer)
    return response_of(client.take())


# --------------------------------------------------------------------------- http.hosts


@pytest.mark.parametrize(
    "host",
    [
        "ai.example",
        "AI.Example:8080",
        "ai.example.",
        "localhost",
        "LocalHost:1",
        "127.0.0.1:8080",
        "192.168.1.7",
        "[::1]:8080",
        "[fe80::1]",
    ],
)
@pytest.mark.parametrize("path", ["/health", "/upstream/x"])
def test_d18_listed_hosts_and_addresses_may_come_in(host: str, path: str) -> None:
    answer = stack_of(HTTPConfig(hosts=("ai.example",))).ask("GET", path, headers={"Host": host})
    assert answer.status in {200, 404}


@pytest.mark.parametrize("host", ["evil.example", "ai.example.evil.example", "", "[zz]", "127.0.0.1.evil.example"])
@pytest.mark.parametrize(("method", "path"), [("GET", "/health"), ("OPTIONS", "/x"), ("GET", "/none"), ("GET", "//")])
def test_d18_other_hosts_may_not(host: str, method: str, path: str) -> None:
    answer = stack_of(HTTPConfig(hosts=("ai.example",))).ask(method, path, headers={"Host": host})
    assert answer.status == 403
    assert answer.document["error"] == {
        "message": "host not allowed",
        "type": "authentication_error",
        "param": None,
        "code": "forbidden",
    }


def test_d18_the_body_of_a_host_that_may_not_is_not_waited_for() -> None:
    stack = stack_of(HTTPConfig(hosts=("ai.example",)))
    client = stack.begin("POST", CHAT, headers={"Host": "evil", "Content-Length": "9999"})
    assert response_of(client.take()).status == 403
    assert stack.access_lines[0].startswith('Request 192.168.1.1 "POST /v1/chat/completions HTTP/1.1" 403 ')


def test_d18_the_host_of_an_absolute_target_is_the_one_that_counts() -> None:
    edge = Edge(HTTPConfig(hosts=("ai.example",)))
    assert edge.ask(b"GET http://evil/direct HTTP/1.1\r\nHost: ai.example\r\n\r\n").startswith(b"HTTP/1.1 403 ")
    assert edge.ask(b"GET http://ai.example/direct HTTP/1.1\r\nHost: evil\r\n\r\n").startswith(b"HTTP/1.1 200 ")
    assert (b"Host", b"ai.example") in edge.requests[0].fields


def test_who_names_no_host_is_no_browser() -> None:
    assert Edge(HTTPConfig(hosts=("a",))).ask(b"GET /direct HTTP/1.0\r\n\r\n").startswith(b"HTTP/1.1 200 ")


# --------------------------------------------------------------------------- pages of other sites


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/api/models/unload"),
        ("POST", "/api/models/load/p"),
        ("post", "/api/models/unload"),
        ("PUT", "/api/profiles/active"),
        ("GET", "/unload"),
        ("HEAD", "/unload"),
    ],
)
def test_d18_pages_of_other_sites_change_nothing(method: str, path: str) -> None:
    stack = stack_of(HTTPConfig(cors=("https://good.example", "*")))
    for origin in ({}, {"Origin": "https://evil.example"}, {"Origin": "null"}):
        client = stack.begin(method, path, headers={**CROSS, **origin})
        assert client.take().startswith(b"HTTP/1.1 403 ")
    assert stack.router.unloads == []


def test_d18_what_a_refused_page_is_told() -> None:
    answer = stack_of(HTTPConfig()).ask("GET", "/unload", headers=CROSS)
    assert answer.document["error"]["message"] == "cross-site request refused"


@pytest.mark.parametrize("headers", [{}, {"Sec-Fetch-Site": "same-origin"}, {"Sec-Fetch-Site": "none"}])
def test_d18_others_may_change_things(headers: dict[str, str]) -> None:
    stack = stack_of(HTTPConfig())
    stack.begin("POST", "/api/models/unload", headers=headers)
    assert len(stack.router.unloads) == 1


def test_d18_pages_of_listed_sites_may_change_things() -> None:
    stack = stack_of(HTTPConfig(cors=("https://Good.example",)))
    stack.begin("POST", "/api/models/unload", headers={**CROSS, "Origin": "https://good.example"})
    assert len(stack.router.unloads) == 1


def test_d18_reading_is_no_change() -> None:
    assert stack_of(HTTPConfig()).ask("GET", "/running", headers=CROSS).status == 200


# --------------------------------------------------------------------------- http.cors


@pytest.mark.parametrize(
    ("cors", "origin", "allowed", "vary"),
    [
        ((), "https://a.example", None, None),
        (("*",), "https://a.example", "*", None),
        (("*",), None, "*", None),
        (("https://a.example",), "https://a.example", "https://a.example", "Origin"),
        (("https://a.example",), "https://b.example", None, "Origin"),
        (("https://a.example",), None, None, "Origin"),
    ],
)
def test_d15_answers_allow_the_pages_that_are_listed(
    cors: tuple[str, ...], origin: str | None, allowed: str | None, vary: str | None
) -> None:
    stack = stack_of(HTTPConfig(cors=cors))
    headers = {"Origin": origin} if origin else {}
    plain = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
    for answer in (stack.ask("GET", "/running", headers=headers), proxied(stack, plain, **headers)):
        assert answer.headers.get("access-control-allow-origin") == allowed
        assert answer.headers.get("vary") == vary


def test_d15_errors_allow_them_too() -> None:
    stack = stack_of(HTTPConfig(cors=("https://a.example",)))
    answer = stack.ask("POST", CHAT, headers={"Origin": "https://a.example"})
    assert (answer.status, answer.headers["access-control-allow-origin"]) == (404, "https://a.example")


def test_d15_what_the_upstream_allows_is_not_said_again() -> None:
    stack = stack_of(HTTPConfig(cors=("*",)))
    head = b"HTTP/1.1 200 OK\r\nAccess-Control-Allow-Origin: https://x\r\nVary: Accept\r\nContent-Length: 0\r\n\r\n"
    answer = proxied(stack, head, Origin="https://a.example")
    assert answer.headers["access-control-allow-origin"] == "https://x"
    assert answer.headers["vary"] == "Accept"


def test_d15_the_model_list_allows_whoever_asks_as_ever() -> None:
    answer = stack_of(HTTPConfig(cors=("*",))).ask("GET", "/v1/models", headers={"Origin": "https://b.example"})
    assert answer.headers["access-control-allow-origin"] == "https://b.example"


# --------------------------------------------------------------------------- http.trustedProxies

TRUSTED = HTTPConfig(trusted_proxies=("10.0.0.0/8", "192.168.1.1", "fd00::/8"))


@pytest.mark.parametrize(
    ("peer", "forwarded", "real", "address"),
    [
        ("10.0.0.1", b"6.6.6.6, 9.9.9.9", None, "9.9.9.9"),
        ("10.0.0.1", b"6.6.6.6, 9.9.9.9, 10.1.1.1", None, "9.9.9.9"),
        ("10.0.0.1", b"10.2.2.2, 10.1.1.1", None, "10.2.2.2"),
        ("10.0.0.1", None, b"9.9.9.9", "9.9.9.9"),
        ("10.0.0.1", b"9.9.9.9", b"8.8.8.8", "9.9.9.9"),
        ("10.0.0.1", None, None, "10.0.0.1"),
        ("10.0.0.1", b"9.9.9.9:4711", None, "9.9.9.9"),
        ("10.0.0.1", b"[2001:db8::1]:4711", None, "2001:db8::1"),
        ("10.0.0.1", b"2001:db8::1", None, "2001:db8::1"),
        ("10.0.0.1", b"9.9.9.9, lies\xff, 10.1.1.1", None, "10.1.1.1"),
        ("10.0.0.1", b"", None, "10.0.0.1"),
        ("fd00::1", b"9.9.9.9", None, "9.9.9.9"),
        ("::ffff:10.0.0.1", b"9.9.9.9", None, "9.9.9.9"),
        ("7.7.7.7", b"9.9.9.9", b"9.9.9.9", "7.7.7.7"),
        ("", b"9.9.9.9", None, ""),
    ],
)
def test_d17_only_trusted_proxies_say_who_asks(
    peer: str, forwarded: bytes | None, real: bytes | None, address: str
) -> None:
    assert Policy(TRUSTED).client_address(peer, forwarded, real) == address


def test_d17_the_access_log_believes_them() -> None:
    edge = Edge(TRUSTED)
    edge.ask(get(headers="X-Forwarded-For: 6.6.6.6\r\nX-Forwarded-For: 9.9.9.9\r\n"))
    edge.site.change_limits(HTTPConfig(trusted_proxies=("1.1.1.1",)))
    edge.ask(get(headers="X-Forwarded-For: 9.9.9.9\r\n"))
    assert [line.split()[1] for line in edge.log.lines] == ["9.9.9.9", "192.168.1.1"]


# --------------------------------------------------------------------------- http.maxBody


@pytest.mark.parametrize(
    ("mib", "kind", "is_streamed", "most"),
    [
        (0, b"application/json", False, 1 << 62),
        (2, b"application/json", False, 2 << 20),
        (0, b"Application/X-WWW-Form-urlencoded; a=b", False, 10 << 20),
        (2, b"application/x-www-form-urlencoded", False, 2 << 20),
        (20, b"application/x-www-form-urlencoded", False, 10 << 20),
        (20, b"application/x-www-form-urlencoded", True, 20 << 20),
    ],
)
def test_d9_how_long_a_body_may_be(mib: int, kind: bytes, is_streamed: bool, most: int) -> None:  # noqa: FBT001
    policy = Policy(HTTPConfig(max_body_mib=mib))
    assert policy.most_bytes({b"content-type": kind}, is_streamed=is_streamed) == most
