"""The whole daemon, and clients that follow what it does."""

from __future__ import annotations

import http.client
import json
import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

from tests.integration.daemon import DEMO, PATIENCE_SECONDS, Daemon, events

A: Final = f"a: {{cmd: {json.dumps(DEMO + ' --load 0.5 --rate 5')}, unloadTimeout: 2}}"
SLOW: Final = f"slow: {{cmd: {json.dumps(DEMO + ' --load 20')}, unloadTimeout: 2}}"
CONFIG: Final = f"models: {{{A}, {SLOW}}}\n"
Message = tuple[str, Any]


class Follower:
    """A client of the event stream.

    Attributes:
        messages: What came so far.
        has_ended: Whether the stream has ended as it should.
    """

    def __init__(self, daemon: Daemon, query: str = "") -> None:
        self._connection = daemon.connect()
        self._connection.request("GET", f"/api/events{query}")
        self._response = self._connection.getresponse()
        assert self._response.status == 200
        self.messages: list[Message] = []
        self.has_ended = False
        self._news = threading.Condition()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        for raw in self._response:
            line = raw.decode().rstrip("\n")
            if line.startswith("data:"):
                envelope = json.loads(line.removeprefix("data:"))
                with self._news:
                    self.messages.append((envelope["type"], json.loads(envelope["data"])))
                    self._news.notify_all()
        self._connection.close()
        with self._news:
            self.has_ended = True
            self._news.notify_all()

    def wait(self, is_met: Callable[[], object]) -> None:
        """Wait until something holds."""
        with self._news:
            assert self._news.wait_for(is_met, PATIENCE_SECONDS), self.messages[-5:]

    def of(self, kind: str) -> list[Any]:
        """Give the data of all messages of a kind so far."""
        return [data for found, data in self.messages if found == kind]

    def states(self, model: str) -> list[str]:
        """Give the states that a model had, one after the other."""
        states = [entry["state"] for data in self.of("modelStatus") for entry in data if entry["id"] == model]
        return [state for number, state in enumerate(states) if state not in states[number - 1 : number]]

    def requests(self, operation: str) -> list[Any]:
        """Give what was told of requests in flight in this manner."""
        return [data for data in self.of("inflight") if data["operation"] == operation]

    def phases(self) -> set[str]:
        """Give the phases of all requests that were told of."""
        return {data["request"]["phase"] for data in self.requests("upsert")}

    def logged(self, source: str) -> str:
        """Give what was told of a log."""
        return "".join(data["data"] for data in self.of("logData") if data["source"] == source)


def cancel(daemon: Daemon, number: str) -> int:
    return daemon.ask("POST", f"/api/inflight/{number}/cancel").status


def test_a_follower_sees_a_load_a_stream_and_a_cancellation(tmp_path: Path) -> None:
    with Daemon(tmp_path, CONFIG) as daemon:
        follower = Follower(daemon)
        follower.wait(lambda: len(follower.messages) >= 6)
        order = ["logData", "logData", "modelStatus", "uiConfig", "profileChanged", "inflight"]
        assert [kind for kind, _ in follower.messages[:6]] == order
        assert follower.of("inflight") == [{"operation": "snapshot", "requests": [], "total": 0}]
        stream = daemon.stream("a", 100_000)
        payloads = events(stream.getresponse())
        next(payloads)
        follower.wait(lambda: "stream" in follower.phases())
        assert follower.states("a") == ["stopped", "starting", "ready"]
        assert "load" in follower.phases()
        assert follower.logged("upstream") != ""
        received = {data["request"]["resp_bytes"] for data in follower.requests("upsert")}
        follower.wait(lambda: {data["request"]["resp_bytes"] for data in follower.requests("upsert")} - received)
        entry = follower.requests("upsert")[-1]["request"]
        assert (entry["id"], entry["model"], entry["method"]) == ("1", "a", "POST")
        assert entry["resp_headers"]["Content-Type"].startswith("text/event-stream")
        assert cancel(daemon, "999") == 404
        assert cancel(daemon, entry["id"]) == 200
        assert '"code":"request_cancelled"' in list(payloads)[-1]
        stream.close()
        follower.wait(lambda: follower.requests("remove"))
        assert follower.requests("remove") == [{"operation": "remove", "id": "1", "total": 0}]


def test_d3_a_request_that_waits_for_its_model_is_cancelled(tmp_path: Path) -> None:
    with Daemon(tmp_path, CONFIG) as daemon, ThreadPoolExecutor(1) as clients:
        follower = Follower(daemon, "?topics=inflight,models")
        waiting = clients.submit(daemon.chat, "slow")
        follower.wait(lambda: "load" in follower.phases())
        assert cancel(daemon, "1") == 200
        answer = waiting.result(PATIENCE_SECONDS)
        assert (answer.status, answer.json()["error"]["code"]) == (502, "request_cancelled")
        follower.wait(lambda: follower.requests("remove"))


def test_d12_the_stream_stays_at_a_reload(tmp_path: Path) -> None:
    with Daemon(tmp_path, CONFIG) as daemon:
        follower, other = Follower(daemon), Follower(daemon, "?topics=config")
        follower.wait(lambda: len(follower.messages) >= 6)
        daemon.reload(f"models: {{{A}}}\nui: {{activity: {{session_id: [X-Chat]}}}}\n")
        follower.wait(lambda: [entry["id"] for entry in follower.of("modelStatus")[-1]] == ["a"])
        other.wait(lambda: len(other.of("reload")) >= 2)
        assert [report["status"] for report in other.of("reload")] == ["running", "ok"]
        assert other.of("reload")[1]["removed"] == ["slow"]
        assert other.of("uiConfig")[-1] == {"activity": {"session_id": ["X-Chat"]}}
        daemon.write("models: {a: {cmd: 5}}\n")
        daemon.process.send_signal(signal.SIGHUP)
        other.wait(lambda: [report["status"] for report in other.of("reload")][2:] == ["running", "failed"])
        assert daemon.chat("a").status == 200
        follower.wait(lambda: follower.states("a")[-2:] == ["starting", "ready"])


def test_h82_streams_end_at_once_while_a_request_is_finished(tmp_path: Path) -> None:
    with Daemon(tmp_path, CONFIG) as daemon, ThreadPoolExecutor(1) as clients:
        assert daemon.chat("a").status == 200
        follower = Follower(daemon)
        log = daemon.connect()
        log.request("GET", "/logs/stream")
        log_response: http.client.HTTPResponse = log.getresponse()
        last = clients.submit(daemon.chat, "a", max_tokens=8)
        follower.wait(lambda: follower.requests("upsert"))
        began_mono = time.monotonic()
        daemon.process.send_signal(signal.SIGTERM)
        follower.wait(lambda: follower.has_ended)
        assert log_response.read() != b""
        assert time.monotonic() - began_mono < 1
        assert last.result(PATIENCE_SECONDS).status == 200
        assert daemon.process.wait(PATIENCE_SECONDS) == 0
        log.close()
