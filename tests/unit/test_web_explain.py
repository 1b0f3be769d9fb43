"""The routes by which the daemon explains itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from twisted.internet.defer import Deferred

from llamaswap.config.schema import ModelConfig, RouterConfig
from llamaswap.core.fences import Fence
from llamaswap.core.news import StateChanged, SwapNoted
from llamaswap.core.records import Choice, SwapRecord, Waiting, WhatIf, Why
from llamaswap.core.snapshot import UpstreamSnapshot
from llamaswap.core.values import (
    Generation,
    LoadTimes,
    ModelId,
    OutcomeKind,
    ProcessState,
    RequestId,
    SwapId,
    SwapReason,
)
from llamaswap.errors import UpstreamStartError
from tests.deferreds import success_of
from tests.unit.web_stack import Stack, config_of, response_of

A, B = ModelId("alpha"), ModelId("beta")
CHAT = "/v1/chat/completions"
PATHS = ("/api/queue", "/api/swaps", "/api/timeline", "/api/plan?model=alpha", "/api/planner")


@pytest.fixture
def stack() -> Stack:
    stack = Stack(config_of(ModelConfig(A, aliases=("gpt-x",)), ModelConfig(B)))
    ledger = stack.daemon.observers.ledger
    ledger._wall = lambda: 1795165000.0 + ledger.now()
    stack.reactor.advance(1.0)
    return stack


def ask(stack: Stack, target: str) -> Any:
    return stack.ask("GET", target).document


def waits(request: int, model: ModelId, why: Why, *models: ModelId, position: int | None = 1) -> Waiting:
    return Waiting(RequestId(request), model, position, 5, 0.5, why, models, "in words")


@pytest.mark.parametrize("path", PATHS)
def test_nothing_is_kept_by_others(stack: Stack, path: str) -> None:
    answer = stack.ask("GET", path)
    assert (answer.status, answer.headers["cache-control"]) == (200, "no-store")


# --------------------------------------------------------------------------- queue


def test_nobody_waits(stack: Stack) -> None:
    assert ask(stack, "/api/queue") == {"queue": [], "fences": []}


def test_who_waits_is_shown_with_both_names(stack: Stack) -> None:
    stack.post_json(CHAT, {"model": "alpha"}, **{"X-Request-ID": "mine"})
    stack.router.waits = [waits(1, A, Why.BUSY, B)]
    assert ask(stack, "/api/queue")["queue"] == [
        {
            "id": "1",
            "request_id": "mine",
            "model": "alpha",
            "position": 1,
            "priority": 5,
            "since": "2026-11-20T08:56:40.500Z",
            "waiting_for": {"why": "busy", "models": ["beta"], "text": "in words"},
            "eta_ms": None,
        },
    ]


def test_what_the_daemon_waits_for_itself_has_no_name(stack: Stack) -> None:
    stack.router.waits = [waits(77, A, Why.LOADING, A, position=None)]
    [entry] = ask(stack, "/api/queue")["queue"]
    assert (entry["id"], entry["request_id"], entry["position"]) == (None, None, None)


@pytest.mark.parametrize(
    ("why", "other", "count", "eta_ms"),
    [
        (Why.LOADING, A, 3, 1500),  # of 2 s, half of one is over
        (Why.LOADING, A, 2, None),
        (Why.SWAP, B, 3, 5500),
        (Why.SWAP, ModelId("gone"), 3, None),
        (Why.BUSY, B, 3, None),
        (Why.PLANNER, B, 3, None),
        (Why.UNLOADING, B, 3, 1500),
    ],
)
def test_how_long_it_will_take_is_guessed_from_three_loads(
    stack: Stack, why: Why, other: ModelId, count: int, eta_ms: int | None
) -> None:
    now = 1795165001.0
    starting, stopped = ProcessState.STARTING, ProcessState.STOPPED
    stack.router.details = {
        "alpha": UpstreamSnapshot(A, starting, started_at=now - 0.5, load=LoadTimes(count, ewma=2.0)),
        "beta": UpstreamSnapshot(B, stopped, started_at=now - 99, load=LoadTimes(3, ewma=4.0)),
    }
    stack.router.waits = [waits(1, A, why, other)]
    assert ask(stack, "/api/queue")["queue"][0]["eta_ms"] == eta_ms


# --------------------------------------------------------------------------- swaps and timeline


def note(
    stack: Stack, number: int, request: int, since_mono: float, model: ModelId = A, outcome: OutcomeKind | None = None
) -> None:
    why = SwapReason.REQUEST
    record = SwapRecord(SwapId(number), model, "group", why, "", RequestId(request), (), (), (), since_mono)
    stack.daemon.observers.bus.publish(SwapNoted(replace(record, outcome=outcome), since_mono))


def test_swaps_are_shown_and_can_be_chosen(stack: Stack) -> None:
    stack.post_json(CHAT, {"model": "alpha"}, **{"X-Request-ID": "mine"})
    note(stack, 1, 1, 1.0)
    note(stack, 2, 9, 2.0, B)
    first, second = ask(stack, "/api/swaps")["swaps"]
    assert (first["swap_id"], first["request_id"], second["request_id"]) == (2, None, "mine")

    def ids(query: str) -> list[int]:
        return [row["swap_id"] for row in ask(stack, f"/api/swaps?{query}")["swaps"]]

    assert ids("limit=1") == [2]
    assert ids("model=gpt-x") == [1]
    assert ids("model=removed") == []
    assert ids("model=%20&after=&limit=") == [2, 1]
    assert ids("after=2026-11-20T08:56:41.000Z") == [2], "exclusive"
    assert ids("before=2026-11-20T09:56:42.000%2B01:00") == [1], "exclusive"


def test_swaps_of_an_earlier_daemon_come_from_the_store(tmp_path: Path) -> None:
    def started() -> Stack:
        return Stack(config_of(ModelConfig(A), ModelConfig(B), store_path=str(tmp_path / "s.db")))

    before = started()
    assert before.daemon.observers.swap_numbers.last == 0
    for number, model in ((1, A), (2, B), (3, A)):
        note(before, number, 1, 1.0, model, OutcomeKind.READY)
    note(before, 4, 1, 1.0, A)  # does not end any more
    success_of(Deferred.fromCoroutine(before.daemon.observers.stop()))
    note(before, 4, 1, 1.0, A, OutcomeKind.CANCELLED)  # too late, and no reason to fail

    after = started()
    assert after.daemon.observers.swap_numbers.last == 3
    assert [s["swap_id"] for s in ask(after, "/api/swaps")["swaps"]] == [3, 2, 1]
    note(after, 4, 1, 1.0, B, OutcomeKind.READY)
    assert [s["swap_id"] for s in ask(after, "/api/swaps")["swaps"]] == [4, 3, 2, 1]
    assert [s["swap_id"] for s in ask(after, "/api/swaps?limit=2")["swaps"]] == [4, 3]
    assert [s["swap_id"] for s in ask(after, "/api/swaps?model=beta")["swaps"]] == [4, 2]
    assert ask(after, "/api/swaps?before=2001-01-01T00:00:00Z")["swaps"] == []


def test_a_request_knows_the_swap_that_it_waited_for(stack: Stack) -> None:
    note(stack, 1, 9, 0.5)
    stack.post_json(CHAT, {"model": "alpha"})
    [exchange] = stack.daemon.observers.ledger.listed()
    stack.reactor.advance(1.0)
    note(stack, 2, 1, 2.0, A, OutcomeKind.READY)
    stack.be_ready("alpha")
    assert stack.router.pool is not None
    stack.router.waiter.granted(stack.router.pool)
    assert exchange.swap_id == 2
    stack.post_json(CHAT, {"model": "alpha"})
    assert stack.daemon.observers.ledger.listed()[1].swap_id is None


def test_a_request_knows_the_swap_that_failed_for_it_at_once(stack: Stack) -> None:
    stack.post_json(CHAT, {"model": "alpha"})
    [exchange] = stack.daemon.observers.ledger.listed()
    note(stack, 2, 1, 1.0, A, OutcomeKind.FAILED)
    stack.router.waiter.refused(UpstreamStartError("no such file"))
    assert exchange.swap_id == 2
    assert ask(stack, "/api/timeline")["waits"] == [], "too short to be called a wait"


@pytest.mark.parametrize("since_mono", [1.0, 1.0004, 1.0006, 1.7139])
def test_what_is_shown_of_a_swap_is_enough_to_ask_for_later_ones(stack: Stack, since_mono: float) -> None:
    note(stack, 1, 1, since_mono)
    [row] = ask(stack, "/api/swaps")["swaps"]
    assert ask(stack, f"/api/swaps?after={row['at']}")["swaps"] == []
    assert ask(stack, f"/api/swaps?before={row['at']}")["swaps"] == []


@pytest.mark.parametrize("path", ["/api/swaps", "/api/timeline"])
def test_a_plus_that_nobody_escaped_is_understood(stack: Stack, path: str) -> None:
    assert stack.ask("GET", f"{path}?after=2026-11-20T09:15:00.000000001+01:00").status == 200


@pytest.mark.parametrize("path", ["/api/swaps", "/api/timeline"])
@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("after=soon", "invalid 'after' timestamp, use RFC3339 format"),
        ("before=2026-11-20", "invalid 'before' timestamp, use RFC3339 format"),
        ("before=2026-11-20T09:15:00", "invalid 'before' timestamp, use RFC3339 format"),
        ("before=2026-13-20T09:15:00Z", "invalid 'before' timestamp, use RFC3339 format"),
        ("after=2026-11-20T09:15:01Z&before=2026-11-20T09:15:00Z", "after must be before before"),
    ],
)
def test_wrong_windows(stack: Stack, path: str, query: str, message: str) -> None:
    answer = stack.ask("GET", f"{path}?{query}")
    assert (answer.status, answer.document["error"]["message"]) == (400, message)


@pytest.mark.parametrize(
    ("limit", "message"),
    [
        ("x", "invalid limit"),
        ("1.5", "invalid limit"),
        ("9" * 5000, "invalid limit"),
        ("0", "limit must be between 1 and 1000"),
        ("1001", "limit must be between 1 and 1000"),
        ("-1", "limit must be between 1 and 1000"),
    ],
)
def test_wrong_limits(stack: Stack, limit: str, message: str) -> None:
    answer = stack.ask("GET", f"/api/swaps?limit={limit}")
    assert (answer.status, answer.document["error"]["message"]) == (400, message)


def test_the_timeline_tells_of_processes_and_of_requests(stack: Stack) -> None:
    stack.post_json(CHAT, {"model": "alpha"}, **{"X-Request-ID": "first"})
    stack.reactor.advance(0.5)
    state = StateChanged(A, Generation(1), ProcessState.STARTING, ProcessState.READY, None, stack.reactor.seconds())
    stack.daemon.observers.bus.publish(state)
    stack.be_ready("alpha")
    assert stack.router.pool is not None
    stack.router.waiter.granted(stack.router.pool)
    stack.reactor.advance(0.5)
    stack.post_json(CHAT, {"model": "alpha"}, **{"X-Request-ID": "second"})
    stack.router.pool = None
    stack.post_json(CHAT, {"model": "beta"}, **{"X-Request-ID": "third"})
    client = stack.post_json(CHAT, {"model": "beta"}, **{"X-Request-ID": "fourth"})
    stack.reactor.advance(0.5)
    client.leave()
    found = ask(stack, "/api/timeline")
    assert [(s["model"], s["state"], s["to"], s["requests"]) for s in found["spans"]] == [("alpha", "ready", None, 2)]
    assert [(s["in_flight"], s["to"]) for s in found["busy"]] == [(1, "2026-11-20T08:56:42.000Z"), (2, None)]
    assert [(w["request_id"], w["from"], w["to"]) for w in found["waits"]] == [
        ("first", "2026-11-20T08:56:41.000Z", "2026-11-20T08:56:41.500Z"),
        ("fourth", "2026-11-20T08:56:42.000Z", "2026-11-20T08:56:42.500Z"),
        ("third", "2026-11-20T08:56:42.000Z", None),
    ]
    assert found["now"] == "2026-11-20T08:56:42.500Z"
    assert ask(stack, "/api/timeline?after=2026-11-20T08:56:42.500Z")["waits"] == found["waits"][2:]


def test_a_long_timeline_is_written_on_another_thread(stack: Stack) -> None:
    works: list[Callable[[], object]] = []
    done: Deferred[Any] = Deferred()

    def later(work: Callable[[], object]) -> Deferred[Any]:
        works.append(work)
        return done

    stack.site.in_thread = later
    client = stack.begin("GET", "/api/timeline")
    assert client.take() == b""
    [work] = works
    done.callback(work())
    assert response_of(client.take()).document["spans"] == []


def test_a_request_that_ends_leaves_its_model_free(stack: Stack) -> None:
    stack.be_ready("alpha")
    client = stack.post_json(CHAT, {"model": "alpha"})
    stack.reactor.advance(1.0)
    client.leave()
    [step] = ask(stack, "/api/timeline")["busy"]
    assert (step["from"], step["to"]) == ("2026-11-20T08:56:41.000Z", "2026-11-20T08:56:42.000Z")


# --------------------------------------------------------------------------- plan and planner


def test_a_plan_is_asked_for_and_shown(stack: Stack) -> None:
    stack.router.answer = WhatIf(
        Choice.EVICT,
        ((B, 1.0),),
        ((frozenset({B, A}), 2.5),),
        "b must go",
        3,
        ((B, 2),),
    )
    assert ask(stack, "/api/plan?model=gpt-x") == {
        "model": "alpha",
        "planner": "group",
        "decision": "evict",
        "evict": [{"model": "beta", "cost": 1}],
        "candidates": [{"evict": ["alpha", "beta"], "cost": 2.5}],
        "explanation": "b must go",
        "retry_after": 3,
        "blocked_by": [{"model": "beta", "in_flight": 2}],
    }
    assert stack.router.asked == ["alpha"]
    assert not stack.router.entered


@pytest.mark.parametrize(
    ("query", "status", "message"),
    [("", 400, "model is required"), ("?model=", 400, "model is required"), ("?model=ghost", 404, "model not found")],
)
def test_a_plan_for_nobody(stack: Stack, query: str, status: int, message: str) -> None:
    answer = stack.ask("GET", f"/api/plan{query}")
    assert (answer.status, answer.document["error"]["message"]) == (status, message)


def test_planners_are_listed_and_not_imported(stack: Stack) -> None:
    stack.daemon.config = config_of(router=RouterConfig(use="matrix"))
    entries = [
        EntryPoint("lru", "no.such.module:factory", "llamaswap.planners"),
        EntryPoint("group", "no.such.module:factory", "llamaswap.planners"),
    ]
    with mock.patch("llamaswap.registry.entry_points", return_value=entries):
        found = ask(stack, "/api/planner")
    active = found["active"]
    assert (active["name"], active["distribution"], active["api_version"]) == ("matrix", "llamaswap", "1.0")
    assert (active["status"], active["isolation"], active["fallback"]) == ("ok", "inline", "group")
    assert (active["faults"], active["last_fault"]) == ({}, None)
    shown = [(each["name"], each["status"], each["api_version"], "error" in each) for each in found["installed"]]
    assert shown == [
        ("group", "ok", "1.0", False),
        ("group", "broken", None, True),
        ("lru", "not_loaded", None, False),
        ("matrix", "ok", "1.0", False),
    ]


def test_fences_are_shown(stack: Stack) -> None:
    stack.router.waits = [waits(1, A, Why.FENCE, B)]
    stack.router.standing = [Fence(B, 0.0, frozenset({A}))]
    assert ask(stack, "/api/queue")["fences"] == [
        {"model": "beta", "since": "2026-11-20T08:56:40.000Z", "holds": ["alpha"]}
    ]
