"""The whole daemon with the demo's servers: swapping as a client sees it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.integration.daemon import DEMO, JSON, PATIENCE_SECONDS, Daemon, chat_body, events

THREE = f"""
macros: {{demo: {json.dumps(DEMO)}}}
models:
  a: {{cmd: "${{demo}} --load 0.3 --rate 400", concurrencyLimit: 60}}
  b: {{cmd: "${{demo}} --load 0.3 --rate 400"}}
  c: {{cmd: "${{demo}} --load 0.3 --rate 400"}}
"""


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    """Three models of which one runs at a time."""
    with Daemon(tmp_path, THREE) as daemon:
        yield daemon


def test_fifty_concurrent_cold_requests_start_their_model_once(daemon: Daemon) -> None:
    with ThreadPoolExecutor(50) as clients:
        answers = list(clients.map(lambda _: daemon.chat("a"), range(50)))
    assert {answer.status for answer in answers} == {200}
    assert daemon.count("loading a") == 1


def test_abcabc_with_three_exclusive_models_swaps_three_times(daemon: Daemon) -> None:
    arrived = daemon.chat("a")
    assert arrived.status == 200
    daemon.ask("GET", "/unload")
    before = daemon.count(": loading ")
    # One connection each, opened in order; the daemon reads them in the order in which they were sent.
    connections = [daemon.connect() for _ in "abcabc"]
    for connection, model in zip(connections, "abcabc", strict=True):
        connection.request("POST", "/v1/chat/completions", chat_body(model), JSON)
        daemon.ask("GET", "/health")  # a round trip: the request before it was read
    statuses = []
    for connection in connections:
        response = connection.getresponse()
        response.read()
        statuses.append(response.status)
        connection.close()
    assert statuses == [200] * 6
    assert daemon.count(": loading ") - before == 3


def test_a_client_that_leaves_while_queued_never_loads_its_model(daemon: Daemon) -> None:
    busy = daemon.stream("a", 200)
    response = busy.getresponse()
    leaver = daemon.connect()
    leaver.request("POST", "/v1/chat/completions", chat_body("b"), JSON)
    daemon.ask("GET", "/health")
    leaver.close()
    daemon.wait_line(r'"POST /v1/chat/completions HTTP/1.1" 499')
    assert list(events(response))[-1] == "[DONE]"
    busy.close()
    assert daemon.chat("c").status == 200
    assert daemon.count("loading b") == 0


def test_a_swap_never_cuts_a_running_stream(daemon: Daemon) -> None:
    stream = daemon.stream("a", 300)
    response = stream.getresponse()
    payloads = events(response)
    received = [next(payloads)]
    with ThreadPoolExecutor(1) as clients:
        rival = clients.submit(daemon.chat, "b")
        received += payloads
        assert rival.result(PATIENCE_SECONDS).status == 200
    stream.close()
    assert received[-1] == "[DONE]"
    choices = [choice for payload in received[:-1] for choice in json.loads(payload)["choices"]]
    assert [choice["finish_reason"] for choice in choices if choice["finish_reason"]] != []
    assert daemon.running() == ["b"]


def test_the_first_token_of_a_stream_comes_before_its_end(daemon: Daemon) -> None:
    stream = daemon.stream("a", 400)
    response = stream.getresponse()
    assert response.getheader("X-Accel-Buffering") == "no"
    next(events(response))
    assert daemon.count('"POST /v1/chat/completions') == 0  # the access line is written at the end
    stream.close()
    daemon.wait_line('"POST /v1/chat/completions')


def test_h05_a_killed_model_comes_back_for_the_next_request(daemon: Daemon) -> None:
    assert daemon.chat("a").status == 200
    (child,) = daemon.tree()
    child.kill()
    daemon.wait_line("a: its process ended by itself")
    assert daemon.chat("a").status == 200
    assert [p.pid for p in daemon.tree()] != [child.pid]


def test_h60_a_client_that_leaves_its_stream_stops_the_generation(daemon: Daemon) -> None:
    stream = daemon.stream("a", 100_000)
    next(events(stream.getresponse()))
    stream.close()
    assert daemon.chat("b").status == 200  # would wait for ever if the stream still counted
