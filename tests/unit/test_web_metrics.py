"""What Prometheus sees."""

from __future__ import annotations

from typing import Any

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families

from llamaswap.config.schema import ModelConfig, PerformanceConfig
from llamaswap.core.messages import Fenced
from llamaswap.core.values import ModelId, ProcessState
from llamaswap.web.metrics import wants_openmetrics
from tests.unit.web_stack import End, Stack, config_of, response_of

A = ModelConfig(ModelId("a"), aliases=("x",))
B = ModelConfig(ModelId("org/b"))
ODD = ModelConfig(ModelId("a/metrics"))
OFF = PerformanceConfig(disabled=True)
CHAT = "/v1/chat/completions"
LABELS = ("model", "endpoint", "state", "phase", "code")
TEXT = "text/plain; version=0.0.4; charset=utf-8"
OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"


@pytest.fixture
def stack() -> Stack:
    return Stack(config_of(A, B))


def values(stack: Stack, family: str) -> dict[tuple[str, ...], float]:
    """Give what one family says, without what is 0."""
    text = stack.ask("GET", "/metrics").body.decode()
    [found] = [each for each in text_string_to_metric_families(text) if each.name == family]
    return {
        tuple(sample.labels[name] for name in LABELS if name in sample.labels): sample.value
        for sample in found.samples
        if sample.value
    }


# ----------------------------------------------------------------- /metrics


def test_text_by_default_and_openmetrics_for_those_who_ask(stack: Stack) -> None:
    answer = stack.ask("GET", "/metrics")
    assert (answer.status, answer.headers["content-type"]) == (200, TEXT)
    assert {family.name for family in text_string_to_metric_families(answer.body.decode())} >= {
        "llamaswap_build_info",
        "llamaswap_model_state",
        "process_open_fds",
        "python_gc_collections",
    }
    answer = stack.ask("GET", "/metrics", headers={"Accept": "application/openmetrics-text;version=1.0.0,*/*;q=0.1"})
    assert answer.headers["content-type"] == OPENMETRICS
    assert [*parse_openmetrics(answer.body.decode())]


@pytest.mark.parametrize(
    ("accept", "wants"),
    [
        (b"", False),
        (b"*/*", False),
        (b"text/plain;version=0.0.4", False),
        (b"application/openmetrics-text", True),
        (b"Application/OpenMetrics-Text; Version=1.0.0; escaping=allow-utf-8;q=0.6,text/plain;q=0.3", True),
        (b"application/openmetrics-text;version=0.0.1;q=0.5,text/plain", False),
        (b"application/openmetrics-text;version=x", False),
        (b"application/openmetrics-text;q=0", False),
        (b"text/plain, application/openmetrics-text;;", True),
    ],
)
def test_who_asks_for_openmetrics(accept: bytes, wants: bool) -> None:  # noqa: FBT001 - a parameter of the test
    assert wants_openmetrics(accept) is wants


@pytest.mark.parametrize(
    ("performance", "enabled", "status"),
    [(OFF, None, 503), (OFF, True, 200), (PerformanceConfig(), False, 503), (PerformanceConfig(), None, 200)],
)
def test_whether_there_are_metrics(performance: PerformanceConfig, enabled: bool | None, status: int) -> None:  # noqa: FBT001
    stack = Stack(config_of(A, performance=performance, metrics_enabled=enabled))
    answer = stack.ask("GET", "/metrics")
    assert answer.status == status
    if status == 503:
        assert answer.body == b"# performance monitor not available\n"
    else:
        assert b"llamaswap_model_state" in answer.body


def test_states_of_models(stack: Stack) -> None:
    stack.router.states["a"] = ProcessState.STARTING
    assert values(stack, "llamaswap_model_state") == {("a", "starting"): 1, ("org/b", "stopped"): 1}


def chat(stack: Stack, **headers: str) -> End:
    return stack.post_json(CHAT, {"model": "x"}, **headers)


def test_a_request_is_counted_once_it_has_ended(stack: Stack) -> None:
    client = chat(stack)
    assert values(stack, "llamaswap_requests_in_flight") == {("a", "queue"): 1}
    assert values(stack, "llamaswap_requests") == {}
    client.leave()
    assert values(stack, "llamaswap_requests_in_flight") == {}
    assert values(stack, "llamaswap_requests") == {("a", CHAT, "499"): 1}
    stack.be_ready("a")
    for _ in range(2):
        chat(stack)
        stack.accept().send(b"HTTP/1.1 418 Teapot\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
    assert values(stack, "llamaswap_requests") == {("a", CHAT, "418"): 2, ("a", CHAT, "499"): 1}


def test_a_request_without_an_answer_counts_with_the_error_that_its_client_sees(stack: Stack) -> None:
    stack.be_ready("a")
    client = chat(stack)
    stack.accept().leave()
    assert response_of(client.take()).status == 502
    assert values(stack, "llamaswap_requests") == {("a", CHAT, "502"): 1}


def test_what_clients_write_makes_no_new_series(stack: Stack) -> None:
    stack.be_ready("a")
    before = len(stack.ask("GET", "/metrics").body.splitlines())
    for number in range(50):
        stack.post_json(CHAT, {"model": f"unknown-{number}"})
        stack.ask("GET", f"/unknown/{number}")
        stack.begin("GET", f"/upstream/a/path-{number}")
        stack.accept().send(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
    assert values(stack, "llamaswap_requests") == {("a", "/upstream", "200"): 50}
    assert len(stack.ask("GET", "/metrics").body.splitlines()) == before + 1


def test_a_model_that_a_reload_took_away_is_forgotten(stack: Stack) -> None:
    chat(stack).leave()
    stack.daemon.config = config_of(B)
    assert values(stack, "llamaswap_requests") == {}
    assert values(stack, "llamaswap_model_state") == {("org/b", "stopped"): 1}


def test_who_waits(stack: Stack) -> None:
    assert b'llamaswap_queue_depth{model="a"} 0.0' in stack.ask("GET", "/metrics").body
    chat(stack)
    stack.reactor.advance(2.0)
    client = chat(stack)
    stack.reactor.advance(1.0)
    assert values(stack, "llamaswap_queue_depth") == {("a",): 2}
    assert values(stack, "llamaswap_queue_oldest_seconds") == {("a",): 3}
    client.leave()
    assert values(stack, "llamaswap_queue_depth") == {("a",): 1}
    stack.daemon.config = config_of(B)
    assert values(stack, "llamaswap_queue_depth") == {("a",): 1}, "it waits still, although a reload took its model"


def test_who_is_served_does_not_wait(stack: Stack) -> None:
    stack.be_ready("a")
    chat(stack)
    assert values(stack, "llamaswap_queue_depth") == values(stack, "llamaswap_queue_oldest_seconds") == {}


def test_f7_fences_are_counted_when_they_rise(stack: Stack) -> None:
    publish = stack.daemon.observers.bus.publish
    assert b'llamaswap_fences_total{model="a"} 0.0' in stack.ask("GET", "/metrics").body
    for is_raised in (True, False, True):
        publish(Fenced(A.id, 300.0, frozenset({B.id}), is_raised))
    assert values(stack, "llamaswap_fences") == {("a",): 2}
    stack.daemon.config = config_of(B)
    assert values(stack, "llamaswap_fences") == {}


# ----------------------------------------------------------------- those of models' servers


def ask_model(stack: Stack, path: str = "/api/models/x/metrics", **headers: str) -> End:
    return stack.begin("GET", path, headers=headers)


def test_metrics_of_a_model_that_is_up(stack: Stack) -> None:
    stack.be_ready("a")
    client = ask_model(stack, Accept="text/plain;version=0.0.4", Cookie="c=1")
    server = stack.accept()
    head = server.take()
    assert head.startswith(b"GET /metrics HTTP/1.1\r\nHost: 127.0.0.1:5800\r\n")
    assert b"Accept: text/plain;version=0.0.4\r\n" in head
    assert b"Cookie" not in head
    server.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4\r\nContent-Length: 4\r\n\r\nup ")
    assert client.take() == b""
    server.send(b"1")
    answer = response_of(client.take())
    assert (answer.status, answer.body) == (200, b"up 1")
    assert answer.headers["content-type"] == "text/plain; version=0.0.4"
    assert answer.headers["cache-control"] == "no-store"


def test_metrics_of_a_model_leave_no_trace(stack: Stack) -> None:
    stack.be_ready("a")
    ask_model(stack)
    assert stack.router.entered == {}
    assert stack.daemon.observers.ledger.exchanges() == []
    stack.accept().send(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
    assert values(stack, "llamaswap_requests") == {}
    assert stack.router.entered == {}


@pytest.mark.parametrize("state", [ProcessState.STOPPED, ProcessState.STARTING, ProcessState.STOPPING])
def test_metrics_of_a_model_that_is_not_up_start_nothing(stack: Stack, state: ProcessState) -> None:
    stack.be_ready("org/b")
    stack.router.states["a"] = state
    answer = response_of(ask_model(stack).take())
    assert (answer.status, answer.body) == (204, b"")
    assert (stack.router.entered, stack.reactor.tcpClients) == ({}, [])


def test_a_server_that_refuses_is_quoted(stack: Stack) -> None:
    stack.be_ready("a")
    client = ask_model(stack)
    stack.accept().send(b"HTTP/1.1 501 Not Implemented\r\nContent-Length: 3\r\n\r\nno\n")
    answer = response_of(client.take())
    assert (answer.status, answer.body) == (501, b"no\n")
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"


def test_a_server_that_is_not_there(stack: Stack) -> None:
    stack.be_ready("a")
    client = ask_model(stack)
    stack.accept().leave()
    assert response_of(client.take()).status == 502


def test_a_server_that_says_nothing(stack: Stack) -> None:
    stack.be_ready("a")
    client = ask_model(stack)
    server = stack.accept()
    stack.reactor.advance(9)
    assert client.take() == b""
    stack.reactor.advance(1)
    answer = response_of(client.take())
    assert answer.status == 502
    assert "longer than 10 s" in answer.document["error"]["message"]
    assert server.is_closed


@pytest.mark.parametrize("piece", [b"", b"x"])
def test_a_server_that_breaks_off(stack: Stack, piece: bytes) -> None:
    stack.be_ready("a")
    client = ask_model(stack)
    server = stack.accept()
    server.send(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n" + piece)
    server.leave()
    assert response_of(client.take()).document["error"]["code"] == "upstream_disconnected"


def test_an_answer_without_end(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llamaswap.proxy.fetch.MOST_BYTES", 10)
    stack.be_ready("a")
    client = ask_model(stack)
    server = stack.accept()
    server.send(b"HTTP/1.1 200 OK\r\n\r\n0123456789")
    assert client.take() == b""
    server.send(b"0")
    assert "too long" in response_of(client.take()).document["error"]["message"]
    assert server.is_closed


@pytest.mark.parametrize("head", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n"])
def test_a_scraper_that_leaves(stack: Stack, head: bytes) -> None:
    stack.be_ready("a")
    client = ask_model(stack)
    server = stack.accept()
    if head:
        server.send(head)
    client.leave()
    assert server.is_closed
    assert all("too_late" not in str(call) for call in stack.reactor.getDelayedCalls())


@pytest.mark.parametrize(("keeps", "count"), [(False, 0), (True, 1)])
def test_our_key_goes_on_only_where_that_is_wanted(keeps: bool, count: int) -> None:  # noqa: FBT001
    stack = Stack(config_of(ModelConfig(ModelId("a"), forward_api_key=keeps), api_keys=("k",)))
    stack.be_ready("a")
    ask_model(stack, "/api/models/a/metrics", Authorization="Bearer k")
    assert stack.accept().take().count(b"Authorization: Bearer k") == count


def test_a_name_that_ends_in_metrics_wins() -> None:
    stack = Stack(config_of(A, ODD, api_keys=("k",), metrics_public=True))
    key = {"X-Api-Key": "k"}
    assert stack.ask("GET", "/api/models/a/metrics", headers=key).document["id"] == "a/metrics"
    assert stack.ask("GET", "/api/models/a/metrics").status == 401
    assert stack.ask("GET", "/api/models/a/metrics/metrics").status == 204


@pytest.mark.parametrize("name", ["nobody", "unload/a", "load/a", ""])
def test_metrics_of_nobody(stack: Stack, name: str) -> None:
    assert stack.ask("GET", f"/api/models/{name}/metrics").status in {307, 404, 405}


@pytest.mark.parametrize("path", ["/api/models/org/b/metrics", "/api/models/org%2Fb/metrics"])
def test_slashes_in_names(stack: Stack, path: str) -> None:
    assert stack.ask("GET", path).status == 204


# ----------------------------------------------------------------- targets, keys


def test_targets_are_the_models_that_are_up(stack: Stack) -> None:
    assert stack.ask("GET", "/api/prometheus/targets").document == []
    stack.be_ready("org/b")
    answer = stack.ask("GET", "/api/prometheus/targets", headers={"Host": "box:8080"})
    assert answer.headers["cache-control"] == "no-store"
    labels = {"__metrics_path__": "/api/models/org/b/metrics", "model": "org/b"}
    assert answer.document == [{"targets": ["box:8080"], "labels": labels}]


@pytest.mark.parametrize("public", [False, True])
@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/metrics", 200),
        ("/api/models/a/metrics", 204),
        ("/api/models/x/metrics", 204),
        ("/api/prometheus/targets", 200),
    ],
)
def test_what_scrapers_without_key_may_see(public: bool, path: str, status: int) -> None:  # noqa: FBT001
    stack = Stack(config_of(A, api_keys=("k",), metrics_public=public))
    assert stack.ask("GET", path).status == (status if public else 401)
    assert stack.ask("GET", path, headers={"Authorization": "Basic dTpr"}).status == status


@pytest.mark.parametrize("path", ["/api/models/a", "/api/models/nobody/metrics", "/api/performance", "/metricsx"])
def test_everything_else_needs_the_key_all_the_same(path: str) -> None:
    stack = Stack(config_of(A, api_keys=("k",), metrics_public=True))
    assert stack.ask("GET", path).status == 401


def test_the_registry_is_the_daemons_own() -> None:
    first, second = Stack(config_of(A)), Stack(config_of(B))
    families: list[Any] = [values(each, "llamaswap_model_state") for each in (first, second)]
    assert families == [{("a", "stopped"): 1}, {("org/b", "stopped"): 1}]
