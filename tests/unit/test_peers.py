"""Models of peers: their names, what a peer gets of a request, and how its connections live."""

from __future__ import annotations

import json
from typing import Any

import pytest
from twisted.internet import error
from twisted.python.failure import Failure

from llamaswap.config.schema import Filters, ModelConfig, Peer, Selector, Timeouts
from llamaswap.core.values import ModelId
from llamaswap.errors import ModelNotFoundError, PeerError
from llamaswap.proxy.peers import Peers
from tests.deferreds import no_result, success_of
from tests.unit.web_stack import End, Stack, config_of, response_of

CHAT = "/v1/chat/completions"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
LOCAL = ModelConfig(ModelId("both"))
P1 = Peer(
    "p1",
    "http://far.example:8090/base",
    ("remote-m", "org/remote2", "both"),
    api_key="peer-secret",
    filters=Filters(
        strip_params=("top_k",),
        set_params={"peerset": True},
        set_params_by_id={"org/remote2": {"by": "bare"}, "p1/org/remote2": {"by": "full"}},
    ),
)
P2 = Peer("p2", "http://127.0.0.1:8091", ("remote-m", "m"))
PEERS = {"p1": P1, "p2": P2}


@pytest.fixture
def stack() -> Stack:
    return Stack(config_of(LOCAL, peers=PEERS))


def sent(stack: Stack) -> tuple[str, dict[str, str], Any]:
    """Take what the peer got: request line, header fields, JSON body."""
    return parted(stack.accept().take())


def parted(data: bytes) -> tuple[str, dict[str, str], Any]:
    head, _, body = data.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    fields = dict(line.split(": ", 1) for line in lines)
    assert len(fields) == len(lines)
    return first, fields, json.loads(body) if body.startswith(b"{") else body


def refuse(stack: Stack) -> None:
    _, _, factory, _, _ = stack.reactor.tcpClients.pop()
    factory.clientConnectionFailed(None, Failure(error.ConnectionRefusedError()))


def message_of(client: End) -> tuple[int, str, str]:
    answer = response_of(client.take())
    error = answer.document["error"]
    return answer.status, error["code"], error["message"]


# --------------------------------------------------------------------------- names, and what a peer gets


def test_a_peer_gets_its_own_name_for_the_model_its_key_and_nothing_of_the_way_to_us(stack: Stack) -> None:
    stack.post_json(
        CHAT + "?x=%2F",
        {"model": "p1/remote-m", "top_k": 3},
        Authorization="Bearer c",
        Cookie="a=b",
        **{"X-Forwarded-For": "1.1.1.1", "x-forwarded-host": "h", "X-Forwarded-Proto": "https", "Forwarded": "for=a"},
        **{"X-API-Key": "mine", "X-Real-IP": "2.2.2.2", "Accept-Encoding": "br, gzip"},
    )
    assert [client[:2] for client in stack.reactor.tcpClients] == [("far.example", 8090)]
    first, fields, body = sent(stack)
    assert first == f"POST /base{CHAT}?x=%2F HTTP/1.1"
    assert body == {"model": "remote-m", "peerset": True}
    request_id = fields.pop("X-Request-ID")
    assert request_id
    assert fields == {
        "Host": "far.example:8090",
        "Content-Type": "application/json",
        "Cookie": "a=b",
        "X-Real-IP": "2.2.2.2",
        "Accept-Encoding": "gzip",
        "Authorization": "Bearer peer-secret",
        "x-api-key": "peer-secret",
        "Content-Length": str(len(json.dumps(body, separators=(",", ":")))),
    }


@pytest.mark.parametrize(
    ("name", "body"),
    [
        ("org/remote2", {"model": "org/remote2", "peerset": True, "by": "bare"}),
        ("p1/org/remote2", {"model": "org/remote2", "peerset": True, "by": "full"}),
    ],
)
def test_filters_go_by_the_name_as_requested(stack: Stack, name: str, body: Any) -> None:
    stack.post_json(CHAT, {"model": name})
    assert sent(stack)[2] == body


def test_a_bare_name_without_filters_is_forwarded_byte_for_byte(stack: Stack) -> None:
    stack.post_json(CHAT, b' {"model":  "m"}')
    assert stack.accept().take().endswith(b'\r\n\r\n {"model":  "m"}')


def test_a_bare_name_that_two_peers_have_leads_nowhere(stack: Stack) -> None:
    client = stack.post_json(CHAT, {"model": "remote-m"})
    assert message_of(client) == (404, "model_not_found", "no router for requested model: remote-m")


def test_a_local_name_wins_over_a_bare_one(stack: Stack) -> None:
    stack.post_json(CHAT, {"model": "both"})
    assert stack.router.models == ["both"]
    stack.post_json(CHAT, {"model": "p1/both"})
    assert sent(stack)[2]["model"] == "both"
    assert len(stack.router.models) == 1, "peers are no business of the router"


def test_forms_and_queries_get_the_peers_name(stack: Stack) -> None:
    stack.begin("POST", CHAT, b"b=1&model=p2/m", {"Content-Type": "application/x-www-form-urlencoded"})
    assert sent(stack)[2] == b"b=1&model=m"
    stack.begin("GET", "/props?z=1&model=p2/m&a=2")
    assert sent(stack)[0] == "GET /props?a=2&model=m&z=1 HTTP/1.1"
    form = b'--b\r\nContent-Disposition: form-data; name="model"\r\n\r\n%b\r\n--b--\r\n'
    stack.begin("POST", CHAT, form % b"p2/m", {"Content-Type": "multipart/form-data; boundary=b"})
    assert sent(stack)[2] == form % b"m"


def test_a_selector_and_a_prefix_lead_to_a_peer() -> None:
    selectors = {"sel": Selector("sel", "spillover", ("both", "p2/m"))}
    stack = Stack(config_of(LOCAL, peers=PEERS, selectors=selectors))
    stack.post_json(CHAT, {"model": "sel"})
    stack.post_json("/v/chat/completions", {"model": "sel"})
    assert stack.router.models == ["both"]
    first, _, body = sent(stack)
    assert (first, body) == ("POST /chat/completions HTTP/1.1", {"model": "m"})


def test_below_upstream_a_peer_gets_the_rest_of_the_path(stack: Stack) -> None:
    stack.begin("GET", "/upstream/p1/org/remote2/a%2Fb/app.js?z=1")
    assert sent(stack)[0] == "GET /base/a%2Fb/app.js?z=1 HTTP/1.1"
    stack.begin("GET", "/upstream/m/x")
    assert sent(stack)[0] == "GET /x HTTP/1.1"


# --------------------------------------------------------------------------- credentials


@pytest.mark.parametrize(
    ("peer", "authorization", "key"),
    [
        (Peer("p", "http://127.0.0.1:1", ("m",)), None, "theirs"),
        (Peer("p", "http://127.0.0.1:1", ("m",), forward_api_key=True), "Bearer ours", "theirs"),
        (Peer("p", "http://127.0.0.1:1", ("m",), api_key="k", forward_api_key=True), "Bearer k", "k"),
    ],
)
def test_d7_the_key_to_our_door_stays_here(peer: Peer, authorization: str | None, key: str) -> None:
    stack = Stack(config_of(peers={"p": peer}, api_keys=("ours",)))
    stack.post_json(CHAT, {"model": "m"}, Authorization="Bearer ours", **{"x-api-key": "theirs"})
    fields = sent(stack)[1]
    assert (fields.get("Authorization"), fields["x-api-key"]) == (authorization, key)


def test_without_keys_of_ours_a_client_shows_its_own(stack: Stack) -> None:
    stack.post_json(CHAT, {"model": "m"}, Authorization="Bearer c")
    assert sent(stack)[1]["Authorization"] == "Bearer c"


def test_a_client_cannot_talk_the_peers_key_away(stack: Stack) -> None:
    stack.post_json(CHAT, {"model": "p1/both"}, Connection="authorization, x-api-key")
    assert sent(stack)[1]["Authorization"] == "Bearer peer-secret"


# --------------------------------------------------------------------------- answers and failures


def test_the_answer_comes_through(stack: Stack) -> None:
    client = stack.post_json(CHAT, {"model": "m"})
    stack.accept().send(OK)
    assert response_of(client.take()).body == b"ok"
    assert stack.router.ended == []


def test_a_peer_that_cannot_be_reached(stack: Stack) -> None:
    client = stack.post_json(CHAT, {"model": "m"})
    refuse(stack)
    status, code, message = message_of(client)
    assert (status, code) == (502, "bad_gateway")
    assert message.startswith("peer proxy error: cannot connect to the upstream: Connection was refused")


def test_a_peer_that_does_not_answer_in_time() -> None:
    peer = Peer("p", "http://127.0.0.1:1", ("m",), timeouts=Timeouts(response_header_seconds=60))
    stack = Stack(config_of(peers={"p": peer}))
    client = stack.post_json(CHAT, {"model": "m"})
    stack.accept()
    stack.reactor.advance(59.9)
    assert client.take() == b""
    stack.reactor.advance(0.2)
    assert message_of(client) == (502, "bad_gateway", "peer proxy error: the upstream did not answer in time")


def test_the_limit_for_the_head_does_not_limit_the_stream() -> None:
    peer = Peer("p", "http://127.0.0.1:1", ("m",), timeouts=Timeouts(response_header_seconds=60))
    stack = Stack(config_of(peers={"p": peer}))
    client = stack.post_json(CHAT, {"model": "m"})
    server = stack.accept()
    server.send(OK[:-2])
    stack.reactor.advance(600)
    server.send(OK[-2:])
    assert response_of(client.take()).body == b"ok"


def test_d2_a_peer_that_is_lost_in_mid_answer(stack: Stack) -> None:
    client = stack.post_json(CHAT, {"model": "m"})
    server = stack.accept()
    server.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: 1\n\n")
    stack.daemon.peers.close()
    assert b'"code":"upstream_disconnected"' in client.take()
    assert client.is_closed


def test_a_client_that_leaves_ends_the_peers_work(stack: Stack) -> None:
    client = stack.post_json(CHAT, {"model": "m"})
    server = stack.accept()
    client.leave()
    assert server.is_closed
    assert stack.daemon.observers.ledger.exchanges() == []


@pytest.mark.parametrize("url", ["far.example:80", "ftp://far.example", "http://a..b", "https://my_host", "http://h:x"])
def test_an_address_that_leads_nowhere(url: str) -> None:
    stack = Stack(config_of(peers={"p": Peer("p", url, ("m",))}))
    status, code, message = message_of(stack.post_json(CHAT, {"model": "m"}))
    assert (status, code) == (502, "bad_gateway")
    assert message.startswith("peer proxy error: ")
    assert stack.daemon.observers.ledger.exchanges() == []


def test_a_key_that_would_break_the_head_is_not_sent() -> None:
    stack = Stack(config_of(peers={"p": Peer("p", P2.proxy, ("m",), api_key="one\nX-Other: two\n")}))
    client = stack.post_json(CHAT, {"model": "m"})
    assert message_of(client) == (502, "bad_gateway", "peer proxy error: the apiKey of p cannot be sent")
    assert not stack.reactor.tcpClients


# --------------------------------------------------------------------------- reload, idleness and the end


def idle_connection(stack: Stack) -> End:
    """Have a connection to a peer that rests."""
    stack.post_json(CHAT, {"model": "m"})
    server = stack.accept()
    server.send(OK)
    server.take()
    return server


def changed(**changes: Any) -> dict[str, Peer]:
    settings = {"id": "p2", "proxy": P2.proxy, "models": P2.models, **changes}
    return {"p1": P1, "p2": Peer(**settings)}


def test_connections_are_used_again_and_rest_as_long_as_is_configured(stack: Stack) -> None:
    server = idle_connection(stack)
    stack.reactor.advance(89)
    stack.post_json(CHAT, {"model": "m"})
    assert server.take()
    server.send(OK)
    stack.reactor.advance(89)
    assert not server.is_closed
    stack.reactor.advance(2)
    assert server.is_closed


def test_connections_rest_for_ever_where_that_is_configured() -> None:
    stack = Stack(config_of(peers=changed(timeouts=Timeouts(idle_connection_seconds=0))))
    server = idle_connection(stack)
    stack.reactor.advance(1e6)
    stack.post_json(CHAT, {"model": "m"})
    assert server.take()


def test_d12_a_reload_keeps_the_connections_of_a_peer_that_is_reached_as_before(stack: Stack) -> None:
    server = idle_connection(stack)
    stack.daemon.peers.apply(changed(models=("m", "new"), filters=Filters(strip_params=("x",))))
    stack.post_json(CHAT, {"model": "m"})
    assert server.take()


@pytest.mark.parametrize("peers", [{"p1": P1}, changed(api_key="k"), changed(proxy="http://127.0.0.1:8092")])
def test_d12_a_reload_lets_answers_of_another_peer_end(stack: Stack, peers: dict[str, Peer]) -> None:
    idle = idle_connection(stack)
    client = stack.post_json(CHAT, {"model": "m"})
    busy = idle
    other_client = stack.post_json(CHAT, {"model": "m"})
    other = stack.accept()
    stack.daemon.peers.apply(peers)
    busy.send(OK)
    assert response_of(client.take()).body == b"ok"
    assert not other.is_closed
    other.send(OK)
    assert response_of(other_client.take()).body == b"ok"
    assert busy.is_closed
    assert other.is_closed


def test_a_reload_closes_what_is_idle_at_once(stack: Stack) -> None:
    server = idle_connection(stack)
    stack.daemon.peers.apply({})
    assert server.is_closed


def test_a_peer_that_is_not_there_any_more(stack: Stack) -> None:
    peers = Peers(stack.reactor, PEERS)
    peers.apply({})
    with pytest.raises(ModelNotFoundError, match="no peer found for requested model"):
        peers.pool("p1")


def test_the_end_of_the_daemon_waits_for_answers_of_peers(stack: Stack) -> None:
    client = stack.post_json(CHAT, {"model": "m"})
    server = stack.accept()
    stack.daemon.peers.refuse()
    drained = stack.daemon.observers.ledger.drained()
    late = stack.post_json(CHAT, {"model": "m"})
    answer = response_of(late.take())
    assert (answer.status, answer.headers["retry-after"]) == (503, "1")
    assert answer.document["error"] == {
        "message": "peer proxy is shutting down",
        "type": "server_error",
        "param": None,
        "code": "shutting_down",
    }
    no_result(drained)
    server.send(OK)
    assert response_of(client.take()).body == b"ok"
    success_of(drained)
    success_of(stack.daemon.observers.ledger.drained())


def test_the_end_of_the_daemon_cuts_what_it_cannot_wait_for(stack: Stack) -> None:
    client = stack.post_json(CHAT, {"model": "m"})
    server = stack.accept()
    cancelled = stack.daemon.observers.ledger.drained()
    cancelled.addErrback(lambda _: None)
    cancelled.cancel()
    stack.daemon.peers.close()
    assert message_of(client)[0] == 502
    assert server.is_closed
    stack.daemon.peers.close()


def test_a_pool_says_what_it_cannot_reach(stack: Stack) -> None:
    with pytest.raises(PeerError, match="ftp://x is no http or https URL"):
        Peers(stack.reactor, {"p": Peer("p", "ftp://x", ("m",))}).pool("p")
