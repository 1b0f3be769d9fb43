"""Looking after the daemon over HTTP."""

from __future__ import annotations

from typing import Any

import pytest

import llamaswap
from llamaswap.config.schema import Config, ModelConfig
from llamaswap.core.values import ModelId, ProcessState, RequestId, StopReason, SwapReason
from llamaswap.errors import ConcurrencyLimitError, LlamaSwapError, UpstreamStartError
from llamaswap.proxy.hop import HopPool
from llamaswap.web.in_flight import entry_of, phase_of
from tests.unit.web_stack import NOW, Stack, config_of, response_of

ALPHA = ModelConfig(ModelId("alpha"), aliases=("gpt-x",))
BETA = ModelConfig(
    ModelId("beta"),
    cmd="tiny-upstream --port 5803\n--name beta",
    proxy="http://localhost:5803",
    ttl_seconds=300,
    name="B",
    description="second",
)
GAMMA = ModelConfig(ModelId("author/gamma"))


@pytest.fixture
def stack() -> Stack:
    return Stack(config_of(ALPHA, BETA, GAMMA))


# --------------------------------------------------------------------------- health and version


@pytest.mark.parametrize("path", ["/health", "/wol-health"])
def test_health(stack: Stack, path: str) -> None:
    answer = stack.ask("GET", path)
    assert (answer.status, answer.body) == (200, b"OK")
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"


def test_only_health_is_in_the_access_log(stack: Stack) -> None:
    stack.ask("GET", "/wol-health")
    stack.ask("GET", "/health")
    assert len(stack.access_lines) == 1


def test_version(stack: Stack) -> None:
    assert stack.ask("GET", "/api/version").document == {
        "build_date": "unknown",
        "commit": "abcd1234",
        "version": llamaswap.__version__,
    }


# --------------------------------------------------------------------------- model list


@pytest.mark.parametrize("path", ["/v1/models", "/models"])
def test_model_list(stack: Stack, path: str) -> None:
    stack.router.states["beta"] = ProcessState.STARTING
    answer = stack.ask("GET", path)
    document = answer.document
    assert document["object"] == "list"
    assert [(m["id"], m["created"], m["status"]["value"]) for m in document["data"]] == [
        ("alpha", int(NOW), "unloaded"),
        ("author/gamma", int(NOW), "unloaded"),
        ("beta", int(NOW), "loaded"),
    ]
    assert "access-control-allow-origin" not in answer.headers


def test_model_list_is_open_to_other_origins(stack: Stack) -> None:
    answer = stack.ask("GET", "/v1/models", headers={"Origin": "http://ui.example"})
    assert answer.headers["access-control-allow-origin"] == "http://ui.example"


def test_metadata_of_any_frozen_shape_is_shown() -> None:
    from types import MappingProxyType

    metadata = MappingProxyType({"nested": MappingProxyType({"a": (1, MappingProxyType({"b": None}))})})
    stack = Stack(config_of(ModelConfig(ModelId("m"), metadata=metadata)))
    meta = stack.ask("GET", "/v1/models").document["data"][0]["meta"]["llamaswap"]
    assert meta == {"nested": {"a": [1, {"b": None}]}, "type": "model"}


def test_list_follows_the_configuration_in_force(stack: Stack) -> None:
    stack.daemon.config = Config()
    assert stack.ask("GET", "/v1/models").document == {"data": [], "object": "list"}
    assert stack.ask("GET", "/upstream/alpha/x").status == 404


# --------------------------------------------------------------------------- running


def test_nothing_runs(stack: Stack) -> None:
    assert stack.ask("GET", "/running").document == {"running": []}


def test_running(stack: Stack) -> None:
    stack.router.states.update({"beta": ProcessState.READY, "author/gamma": ProcessState.STOPPING})
    running = stack.ask("GET", "/running").document["running"]
    assert running[1] == {
        "model": "beta",
        "state": "ready",
        "cmd": "tiny-upstream --port 5803\n--name beta",
        "proxy": "http://localhost:5803",
        "ttl": 300,
        "name": "B",
        "description": "second",
    }
    assert [(r["model"], r["state"]) for r in running] == [("author/gamma", "stopping"), ("beta", "ready")]


@pytest.mark.parametrize(("masks", "shown"), [(False, "s --api-key sesame"), (True, "s --api-key [REDACTED]")])
def test_d14_secrets_of_command_lines_are_masked_where_that_is_asked_for(masks: bool, shown: str) -> None:  # noqa: FBT001
    model = ModelConfig(ModelId("m"), cmd="s --api-key sesame", proxy="http://localhost:1")
    stack = Stack(config_of(model, mask_secrets=masks))
    stack.router.states["m"] = ProcessState.READY
    assert stack.ask("GET", "/running").document["running"][0]["cmd"] == shown


# --------------------------------------------------------------------------- unload


def test_unload_answers_when_all_are_stopped(stack: Stack) -> None:
    client = stack.begin("GET", "/unload")
    assert client.take() == b""
    [(models, reason, done)] = stack.router.unloads
    assert (models, reason) == ({"alpha", "beta", "author/gamma"}, StopReason.USER)
    done.callback(None)
    answer = response_of(client.take())
    assert (answer.status, answer.body) == (200, b"OK")
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert answer.headers["cache-control"] == "no-store"


def test_a_removed_model_that_is_still_there_is_shown_and_unloaded(stack: Stack) -> None:
    stack.router.states["beta"] = ProcessState.READY
    stack.daemon.config = config_of()
    [shown] = stack.ask("GET", "/running").document["running"]
    assert (shown["model"], shown["ttl"]) == ("beta", 300)
    stack.begin("GET", "/unload")
    [(models, _, _)] = stack.router.unloads
    assert "beta" in models


def test_head_unloads_nothing(stack: Stack) -> None:
    answer = stack.ask("HEAD", "/unload")
    assert (answer.status, answer.body) == (200, b"")
    assert answer.headers["cache-control"] == "no-store"
    assert not stack.router.unloads


def test_post_unloads_everything(stack: Stack) -> None:
    client = stack.begin("POST", "/api/models/unload", b"whatever")
    [(models, _, done)] = stack.router.unloads
    assert models == {"alpha", "beta", "author/gamma"}
    done.callback(None)
    assert response_of(client.take()).document == {"msg": "ok"}


@pytest.mark.parametrize(
    ("name", "model"),
    [
        ("alpha", "alpha"),
        ("gpt-x", "alpha"),
        ("author/gamma", "author/gamma"),
        ("author%2Fgamma", "author/gamma"),
        ("%61lpha?x=1", "alpha"),
    ],
)
def test_post_unloads_one(stack: Stack, name: str, model: str) -> None:
    client = stack.begin("POST", f"/api/models/unload/{name}")
    [(models, reason, done)] = stack.router.unloads
    assert (models, reason) == ({model}, StopReason.USER)
    done.callback(None)
    answer = response_of(client.take())
    assert (answer.status, answer.body) == (200, b"OK")


@pytest.mark.parametrize("action", ["unload", "load"])
@pytest.mark.parametrize("name", ["nope", "alpha/x", "author", "p1%2Fremote"])
def test_unknown_models(stack: Stack, action: str, name: str) -> None:
    answer = stack.ask("POST", f"/api/models/{action}/{name}")
    assert (answer.status, answer.document["error"]["message"]) == (404, "model not found")
    assert not stack.router.unloads
    assert not stack.router.entered


@pytest.mark.parametrize(("method", "path"), [("GET", "/unload"), ("POST", "/api/models/unload/alpha")])
def test_unload_goes_on_when_the_client_leaves(stack: Stack, method: str, path: str) -> None:
    client = stack.begin(method, path)
    [(_, _, done)] = stack.router.unloads
    client.leave()
    done.callback(None)  # nobody listens, nothing is logged


# --------------------------------------------------------------------------- load


def loaded(document: Any, state: str, number: str = "1") -> bool:
    return bool(document == {"id": number, "model": "alpha", "state": state})


def test_load_of_a_ready_model(stack: Stack) -> None:
    stack.be_ready("alpha")
    answer = stack.ask("POST", "/api/models/load/gpt-x")
    assert (answer.status, answer.headers["cache-control"]) == (200, "no-store")
    assert loaded(answer.document, "ready")
    assert [(model, reason) for model, _, reason in stack.router.entered.values()] == [("alpha", SwapReason.USER)]
    assert stack.router.ended == [RequestId(1)]


def test_load_answers_at_once_and_goes_on(stack: Stack) -> None:
    stack.router.states["alpha"] = ProcessState.STARTING
    client = stack.begin("POST", "/api/models/load/alpha")
    answer = response_of(client.take())
    assert answer.status == 202
    assert loaded(answer.document, "starting")
    client.leave()
    assert not stack.router.ended
    stack.router.waiter.granted(_no_pool())
    assert stack.router.ended == [RequestId(1)]


def test_failure_of_a_load_that_nobody_waits_for(stack: Stack) -> None:
    assert stack.ask("POST", "/api/models/load/alpha?wait=0").status == 202
    stack.router.waiter.moved(1)
    stack.router.waiter.refused(UpstreamStartError("upstream command exited prematurely"))
    assert stack.router.ended == [RequestId(1)]


def test_load_that_is_waited_for(stack: Stack) -> None:
    client = stack.begin("POST", "/api/models/load/alpha?wait=1")
    assert client.take() == b""
    stack.router.states["alpha"] = ProcessState.READY
    stack.router.waiter.granted(_no_pool())
    answer = response_of(client.take())
    assert answer.status == 200
    assert loaded(answer.document, "ready")
    assert stack.router.ended == [RequestId(1)]


def test_failure_of_a_load_that_is_waited_for(stack: Stack) -> None:
    client = stack.begin("POST", "/api/models/load/alpha?wait=1")
    stack.router.waiter.refused(UpstreamStartError("upstream command exited prematurely"))
    answer = response_of(client.take())
    assert (answer.status, answer.document["error"]["code"]) == (502, "upstream_start_failed")
    assert stack.router.ended == [RequestId(1)]


@pytest.mark.parametrize("target", ["/api/models/load/alpha", "/api/models/load/alpha?wait=1"])
def test_load_beyond_the_limit(stack: Stack, target: str) -> None:
    error: LlamaSwapError = ConcurrencyLimitError()
    stack.router.error = error
    answer = stack.ask("POST", target)
    assert (answer.status, answer.headers["retry-after"]) == (429, "1")
    assert stack.router.ended == [RequestId(1)]


def test_a_load_is_in_flight_until_it_is_over(stack: Stack) -> None:
    stack.ask("POST", "/api/models/load/gpt-x")
    ledger = stack.daemon.observers.ledger
    [exchange] = ledger.listed()
    assert (exchange.path, exchange.passage.model, exchange.passage.is_metered) == (
        "/api/models/load/gpt-x",
        "alpha",
        False,
    )
    shown = entry_of(exchange, phase_of(exchange, stack.router.state), 0.0)
    assert (shown["id"], shown["method"], shown["phase"], shown["remote_ip"]) == ("1", "POST", "queue", "192.168.1.1")
    stack.router.waiter.granted(_no_pool())
    assert not ledger.exchanges()
    assert exchange.error is None


def test_a_load_is_cancelled_where_it_is_shown(stack: Stack) -> None:
    stack.ask("POST", "/api/models/load/alpha")
    assert stack.ask("POST", "/api/inflight/1/cancel").document == {"msg": "ok"}
    assert stack.router.ended == [RequestId(1)]
    assert not stack.daemon.observers.ledger.exchanges()
    assert stack.ask("POST", "/api/inflight/1/cancel").status == 404


def test_who_waits_for_a_load_is_told_that_it_was_cancelled(stack: Stack) -> None:
    client = stack.begin("POST", "/api/models/load/alpha?wait=1")
    stack.ask("POST", "/api/inflight/1/cancel")
    answer = response_of(client.take())
    assert (answer.status, answer.document["error"]["code"]) == (502, "request_cancelled")
    assert stack.router.ended == [RequestId(1)]


def test_h44_client_that_leaves_gives_up_the_load_it_waits_for(stack: Stack) -> None:
    client = stack.begin("POST", "/api/models/load/alpha?wait=1")
    [exchange] = stack.daemon.observers.ledger.listed()
    client.leave()
    assert stack.router.ended == [RequestId(1)]
    assert exchange.has_left


def _no_pool() -> HopPool:
    """Stand for the connections that nobody uses."""
    return None  # type: ignore[return-value]  # as the docstring says


def test_the_last_reload_is_shown() -> None:
    answer = Stack(config_of()).ask("GET", "/api/reload")
    assert answer.document == {"serial": 1}
    assert answer.headers["cache-control"] == "no-store"
