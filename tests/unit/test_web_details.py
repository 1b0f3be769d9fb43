"""All there is to say about one model."""

from __future__ import annotations

import pytest
from twisted.internet.defer import Deferred

from llamaswap.config.schema import ModelConfig
from llamaswap.core.snapshot import LoadError, LoadErrorKind, UpstreamSnapshot
from llamaswap.core.values import LoadTimes, ModelId, ProcessState
from tests.unit.web_stack import Stack, config_of, response_of

A = ModelConfig(
    ModelId("a"),
    cmd="llama-server --port 5801 --api-key s3",
    env=("CUDA_VISIBLE_DEVICES=0", "HF_TOKEN=s3"),
    proxy="http://me:s3@localhost:5801",
    port=5801,
    aliases=("x",),
    ttl_seconds=300,
)
B = ModelConfig(ModelId("org/b"))


@pytest.fixture
def stack() -> Stack:
    return Stack(config_of(A, B))


@pytest.mark.parametrize("name", ["org/b", "org%2Fb"])
def test_model_that_never_ran(stack: Stack, name: str) -> None:
    answer = stack.ask("GET", f"/api/models/{name}")
    assert answer.status == 200
    assert answer.headers["cache-control"] == "no-store"
    assert answer.document == {
        "id": "org/b",
        "name": "",
        "description": "",
        "aliases": [],
        "state": "stopped",
        "queued": 0,
        "in_flight": 0,
        "limit": 10,
        "generation": 1,
        "cmd": "",
        "env": [],
        "cwd": None,
        "proxy": "",
        "port": None,
        "launcher": "local",
        "launched": {},
        "pid": None,
        "group": "",
        "matrix_sets": [],
        "ttl": 0,
        "ttl_deadline": None,
        "unload_timeout": 10,
        "started_at": None,
        "ready_at": None,
        "starts": 0,
        "crashes": 0,
        "load_ms": {"last": None, "mean": None, "count": 0},
        "resident_bytes": None,
        "device_bytes": {},
        "filters": {},
        "capabilities": {},
        "metadata": {},
        "last_error": None,
    }


def test_model_that_runs_shows_no_secret(stack: Stack) -> None:
    stack.router.counts["a"] = (1, 2)
    stack.router.details["a"] = UpstreamSnapshot(
        ModelId("a"),
        ProcessState.READY,
        3,
        pid=42,
        started_at=1795165973.9,
        ready_at=1795165974.0,
        load=LoadTimes(3, 2.1, 2.2004),
        launched={"pid": 42},
        expires_at=1795165980.0,
        cwd="/srv",
    )
    answer = stack.ask("GET", "/api/models/x")
    assert b"s3" not in answer.body
    shown = answer.document
    assert shown["cmd"] == "llama-server --port 5801 --api-key [REDACTED]"
    assert shown["proxy"] == "http://[REDACTED]@localhost:5801"
    assert shown["env"] == ["CUDA_VISIBLE_DEVICES", "HF_TOKEN"]
    assert (shown["state"], shown["queued"], shown["in_flight"], shown["pid"]) == ("ready", 1, 2, 42)
    assert shown["launched"] == {"pid": 42}
    assert shown["started_at"] == "2026-11-20T09:12:53.900Z"
    assert shown["load_ms"] == {"last": 2100, "mean": 2200, "count": 3}
    assert shown["ttl_deadline"] is None, "it is in use"
    del stack.router.counts["a"]
    assert stack.ask("GET", "/api/models/a").document["ttl_deadline"] == "2026-11-20T09:13:00.000Z"


def test_memory_of_its_process(stack: Stack) -> None:
    memory: Deferred[int | None] = Deferred()
    stack.router.memory["a"] = memory
    stack.router.details["a"] = UpstreamSnapshot(ModelId("a"), ProcessState.READY, 1)
    client = stack.begin("GET", "/api/models/a")
    stack.router.details["a"] = UpstreamSnapshot(ModelId("a"))
    assert client.take() == b""
    memory.callback(5 << 30)
    shown = response_of(client.take()).document
    assert (shown["state"], shown["resident_bytes"]) == ("ready", 5368709120), "both of the moment of the question"


def test_client_that_leaves_ends_the_measuring(stack: Stack) -> None:
    ends: list[str] = []
    stack.router.memory["a"] = Deferred(lambda _: ends.append("cancelled"))
    client = stack.begin("GET", "/api/models/a")
    client.leave()
    assert ends == ["cancelled"]


def test_last_error(stack: Stack) -> None:
    error = LoadError(1795165973.9, LoadErrorKind.EXITED, "failed: --api-key s3", 3, None, ("no such file", "KEY=s3"))
    stack.router.details["a"] = UpstreamSnapshot(ModelId("a"), last_error=error)
    assert stack.ask("GET", "/api/models/a").document["last_error"] == {
        "at": "2026-11-20T09:12:53.900Z",
        "kind": "exited",
        "message": "failed: --api-key [REDACTED]",
        "exit_code": 3,
        "signal": None,
        "log_tail": ["no such file", "KEY=[REDACTED]"],
    }


@pytest.mark.parametrize("name", ["nobody", "nobody/metrics", "x/y"])
def test_unknown_model(stack: Stack, name: str) -> None:
    answer = stack.ask("GET", f"/api/models/{name}")
    assert answer.status == 404
    assert answer.document["error"]["message"] == "model not found"
