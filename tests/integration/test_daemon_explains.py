"""The whole daemon says what it does, while it does it and afterwards."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from tests.integration.daemon import DEMO, PATIENCE_SECONDS, Daemon, chat_body, events
from tests.integration.test_daemon_events import Follower

MODELS = f"""
macros: {{demo: {json.dumps(DEMO)}}}
models:
  a: {{cmd: "${{demo}} --load 0.6 --rate 200"}}
  b: {{cmd: "${{demo}} --load 0.3 --rate 200"}}
  slow: {{cmd: "${{demo}} --load 60", unloadTimeout: 2, aliases: [snail]}}
"""


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    """Models of which one runs at a time."""
    with Daemon(tmp_path, MODELS) as daemon:
        yield daemon


def until(daemon: Daemon, path: str, is_met: Callable[[Any], object]) -> Any:
    """Ask until the answer is as wanted, and give it."""
    end_mono = time.monotonic() + PATIENCE_SECONDS
    document: Any = None
    while time.monotonic() < end_mono:
        document = daemon.ask("GET", path).json()
        if is_met(document):
            return document
        time.sleep(0.02)
    raise AssertionError(document)


def lasted_seconds(span: Any) -> float:
    return (datetime.fromisoformat(span["to"]) - datetime.fromisoformat(span["from"])).total_seconds()


def test_a_swap_is_explained_while_it_happens(daemon: Daemon) -> None:
    follower = Follower(daemon, "?topics=swaps,queue")
    stream = daemon.stream("a", 200)
    response = stream.getresponse()
    with ThreadPoolExecutor(1) as clients:
        waiting = clients.submit(daemon.ask, "POST", "/v1/chat/completions", chat_body("b"), {"X-Request-ID": "mine"})
        [entry] = until(daemon, "/api/queue", lambda d: d["queue"])["queue"]
        plan = daemon.ask("GET", "/api/plan?model=b").json()
        assert (entry["model"], entry["position"], entry["request_id"]) == ("b", 1, "mine")
        assert entry["waiting_for"] == {"why": "busy", "models": ["a"], "text": "a has 1 running request"}
        assert (plan["decision"], plan["evict"]) == ("evict", [{"model": "a", "cost": 1}])
        assert plan["blocked_by"] == [{"model": "a", "in_flight": 1}]
        assert daemon.running() == ["a"], "asking changes nothing"
        assert list(events(response))[-1] == "[DONE]"
        loading = until(daemon, "/api/queue", lambda d: d["queue"] and d["queue"][0]["position"] is None)["queue"]
        assert loading[0]["waiting_for"]["text"] in {"unloading a", "loading b"}
        assert daemon.ask("GET", "/api/swaps?limit=1").json()["swaps"][0]["outcome"] is None
        assert waiting.result(PATIENCE_SECONDS).status == 200
    stream.close()
    follower.wait(lambda: len(follower.of("swap")) >= 4)
    told = [(record["model"], record["outcome"]) for record in follower.of("swap")]
    assert told == [("a", None), ("a", "ready"), ("b", None), ("b", "ready")]
    follower.wait(lambda: len(follower.of("queue")) >= 3)
    assert follower.of("queue")[0] == {"queue": [], "fences": []}


def test_swaps_are_explained_afterwards(daemon: Daemon) -> None:
    for model in ("a", "b", "a"):
        assert (
            daemon.ask("POST", "/v1/chat/completions", chat_body(model), {"X-Request-ID": f"r-{model}"}).status == 200
        )
    swaps = daemon.ask("GET", "/api/swaps").json()["swaps"]
    assert [(s["swap_id"], s["model"], s["outcome"], [e["model"] for e in s["evicted"]]) for s in swaps] == [
        (3, "a", "ready", ["b"]),
        (2, "b", "ready", ["a"]),
        (1, "a", "ready", []),
    ]
    swap = swaps[1]
    assert (swap["request_id"], [w["request_id"] for w in swap["waiters"]]) == ("r-b", ["r-b"])
    assert swap["waiters"][0]["waited_ms"] >= swap["load_ms"] >= 300
    assert "a must go" in swap["explanation"]

    found = daemon.ask("GET", "/api/timeline").json()
    spans = found["spans"]
    assert [(s["model"], s["state"], s["reason"], s["by"], s["swap_id"]) for s in spans] == [
        ("a", "starting", None, None, 1),
        ("a", "ready", "swap", "b", 2),
        ("a", "stopping", "swap", "b", 2),
        ("b", "starting", None, None, 2),
        ("b", "ready", "swap", "a", 3),
        ("b", "stopping", "swap", "a", 3),
        ("a", "starting", None, None, 3),
        ("a", "ready", None, None, None),
    ]
    assert [s["requests"] for s in spans if s["state"] == "ready"] == [1, 1, 1]
    assert lasted_seconds(spans[0]) >= 0.5
    assert spans[-1]["to"] is None
    assert [w["request_id"] for w in found["waits"]] == ["r-a", "r-b", "r-a"]
    assert ("a", 1) in [(step["model"], step["in_flight"]) for step in found["busy"]]


def test_an_ordered_load_is_cancelled_and_its_process_is_gone(daemon: Daemon) -> None:
    answer = daemon.ask("POST", "/api/models/load/snail")
    load = answer.json()
    assert (answer.status, load["model"], load["state"]) == (202, "slow", "starting")
    [entry] = until(daemon, "/api/queue", lambda d: d["queue"] and d["queue"][0]["waiting_for"]["why"] == "loading")[
        "queue"
    ]
    assert entry["id"] == load["id"]
    until(daemon, "/running", lambda d: daemon.pids())
    assert daemon.ask("POST", f"/api/inflight/{load['id']}/cancel").json() == {"msg": "ok"}
    until(daemon, "/running", lambda d: not d["running"])
    assert not daemon.pids()
    [swap] = daemon.ask("GET", "/api/swaps").json()["swaps"]
    assert (swap["reason"], swap["outcome"]) == ("user", "cancelled")
    [span] = daemon.ask("GET", "/api/timeline").json()["spans"][:1]
    assert (span["state"], span["reason"]) == ("starting", "user")


def test_records_outlive_the_daemon(tmp_path: Path) -> None:
    config = f"{MODELS}\nstore: {{path: {json.dumps(str(tmp_path / 'store.db'))}}}\n"
    with Daemon(tmp_path, config) as daemon:
        assert daemon.ask("POST", "/api/models/load/b?wait=1").status == 200
    with Daemon(tmp_path, config, port=daemon.port) as daemon:
        assert daemon.chat("b").status == 200
        swaps = daemon.ask("GET", "/api/swaps").json()["swaps"]
        assert [(s["swap_id"], s["reason"]) for s in swaps] == [(2, "request"), (1, "user")]
        rows = until(daemon, "/api/metrics/activity", lambda d: d["data"])["data"]
        assert [row["swap_id"] for row in rows] == [2]
