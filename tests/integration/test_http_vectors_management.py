"""The HTTP vectors 41 to 69: passthrough, management, keys, life of the daemon. A test's name holds its row."""

from __future__ import annotations

import base64
import json
import signal
import socket
from collections.abc import Iterator
from http.client import HTTPResponse
from pathlib import Path
from typing import Any, Final

import pytest

from tests.integration.daemon import Daemon
from tests.integration.vector_world import CHAT, ONE_MODEL, Asker, Reply, eventually, payloads

TEXT: Final = b"raw bytes \x00\xff of any kind"
FIRST_EVENTS: Final = ["logData", "logData", "modelStatus", "uiConfig", "profileChanged", "inflight"]


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Asker]:
    """Run a daemon that a test may end, with one model that is loaded."""
    with Daemon(tmp_path, ONE_MODEL) as daemon:
        asker = Asker(daemon)
        assert asker.chat({"model": "alpha"}).status == 200
        yield asker


def tunnel(asker: Asker, path: str) -> tuple[int, bytes]:
    """Ask for a websocket, send bytes, and give the status and what comes back."""
    head = f"GET {path} HTTP/1.1\r\nHost: h\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n\r\n"
    with socket.create_connection(("127.0.0.1", asker.daemon.port), 10) as connection:
        connection.sendall(head.encode())
        response = HTTPResponse(connection)
        response.begin()
        if response.status != 101:
            return response.status, response.read()
        connection.sendall(TEXT)
        received = b""
        while len(received) < len(TEXT):
            received += connection.recv(1000)
        return response.status, received


def read_events(response: HTTPResponse, count: int) -> list[dict[str, Any]]:
    """Read so many messages of the stream of events."""
    found: list[dict[str, Any]] = []
    while len(found) < count:
        line = response.readline().decode()
        assert line, f"the stream ended after {found}"
        found += [json.loads(payload) for payload in payloads([line.rstrip("\n")])]
    return found


# --------------------------------------------------------------------- passthrough


def test_v41_a_model_without_a_slash(a: Asker) -> None:
    reply = a.get("/upstream/alpha?x=1")
    assert (reply.status, reply.headers["location"]) == (301, "/upstream/alpha/?x=1")
    reply = a.ask("POST", "/upstream/alpha", "x")
    assert (reply.status, reply.headers["location"]) == (308, "/upstream/alpha/")


def test_v42_escapes_stay(a: Asker) -> None:
    assert a.get("/upstream/alpha/a%2Fb/c%20d?z=1%2F2").json()["path"] == "/a%2Fb/c%20d?z=1%2F2"


def test_v43_the_longest_name_wins(a: Asker) -> None:
    reply = a.get("/upstream/author%2Fgamma%2Fv2/zz%2Fq")
    assert (reply.json()["upstream"], reply.json()["path"]) == ("gammav2", "/zz%2Fq")


def test_v44_a_body_that_passes_untouched_is_metered(a: Asker) -> None:
    last = a.last_id()
    reply = a.ask("POST", f"/upstream/gpt-x{CHAT}", '{"model":"zzz","temperature":1}')
    assert reply.json()["body"] == '{"model":"zzz","temperature":1}'
    row = a.rows_after(last, 1)[0]
    assert (row["model"], row["req_path"]) == ("alpha", CHAT)
    assert row["tokens"]["input_tokens"] == 10


def test_v45_names_that_lead_nowhere(a: Asker) -> None:
    for name in ("nope", "sel-pin"):
        reply = a.get(f"/upstream/{name}/x")
        assert (reply.status, reply.error()["message"]) == (404, "model not found")


def test_v46_files_load_nothing(a: Asker) -> None:
    a.stop("s1")
    reply = a.get("/upstream/s1/app.js")
    assert reply.status == 409
    assert reply.error()["message"] == "model s1 is not loaded; path matches upstream.ignorePaths"


def test_v47_comfyui(a: Asker) -> None:
    a.stop("comfyui_auto")
    reply = a.get("/comfyui/api/x")
    assert reply.status == 409
    assert reply.error()["message"] == "model comfyui_auto is not loaded; only /comfyui/ can start it"
    assert a.get("/comfyui/?a=1").json()["path"] == "/?a=1"
    assert a.get("/comfyui/api/x").json()["path"] == "/api/x"
    reply = a.get("/comfyui?x=1")
    assert (reply.status, reply.headers["location"]) == (301, "/comfyui/?x=1")


def test_v48_a_websocket(a: Asker) -> None:
    assert tunnel(a, "/upstream/alpha/ws") == (101, TEXT)


def test_v49_a_websocket_that_counts_for_nothing(a: Asker) -> None:
    a.stop("wsign")
    status, body = tunnel(a, "/upstream/wsign/ws")
    assert status == 409
    assert b"model wsign is not loaded; ignored websocket requests cannot start it" in body
    assert a.get("/upstream/wsign/").status == 200
    assert tunnel(a, "/upstream/wsign/ws") == (101, TEXT)


# --------------------------------------------------------------------- management


def test_v50_a_profile(a: Asker) -> None:
    assert a.ask("PUT", "/api/profiles/active", {"name": "coding"}).json() == {"active": "coding"}
    assert a.chat({"model": "code"}).json()["upstream"] == "alpha"
    reply = a.chat({"model": "off"})
    assert (reply.status, reply.error()["message"]) == (404, "no model id could be identified")
    assert a.get("/upstream/alpha/q").json()["upstream"] == "beta"
    kinds = {e["id"]: e["meta"]["llamaswap"]["type"] for e in a.get("/v1/models").json()["data"]}
    assert [name for name, kind in kinds.items() if kind == "profile"] == ["code", "gone"]


def test_v51_choosing_a_profile(a: Asker) -> None:
    for body, status, message in (
        ({"name": "nope"}, 404, 'profile "nope" not found'),
        ({}, 400, "profile name is required"),
        ({"name": 5}, 400, "profile name must be a string or null"),
        ("x", 400, "invalid profile request"),
    ):
        reply = a.ask("PUT", "/api/profiles/active", body)
        assert (reply.status, reply.error()["message"]) == (status, message)
    assert a.ask("PUT", "/api/profiles/active", {"name": None}).json() == {"active": None}


def test_v52_unloading(a: Asker) -> None:
    reply = a.ask("POST", "/api/models/unload/author%2Fgamma")
    assert (reply.status, reply.text) == (200, "OK")
    reply = a.ask("POST", "/api/models/unload/p1/remote-m")
    assert (reply.status, reply.error()["message"]) == (404, "model not found")
    assert a.ask("POST", "/api/models/unload").json() == {"msg": "ok"}


def test_v53_d16_head_unloads_nothing(a: Asker) -> None:
    a.stop()
    assert a.chat({"model": "alpha"}).status == 200
    reply = a.ask("HEAD", "/unload")
    assert (reply.status, reply.headers["cache-control"]) == (200, "no-store")
    assert a.daemon.running() == ["alpha"]
    reply = a.get("/unload")
    assert (reply.status, reply.text, reply.headers["cache-control"]) == (200, "OK", "no-store")
    assert a.daemon.running() == []


def test_v54_cancelling_what_is_not_there(a: Asker) -> None:
    reply = a.ask("POST", "/api/inflight/999999/cancel")
    assert (reply.status, reply.error()["message"]) == (404, "inflight request not found")


def test_v55_logs(a: Asker) -> None:
    reply = a.get("/logs", {"Accept": "text/html"})
    assert (reply.status, reply.headers["location"]) == (302, "/ui/")
    reply = a.get("/logs/stream/nope")
    assert reply.status == 400
    assert reply.error()["message"] == "invalid logger. Use 'proxy', 'upstream' or a model's ID"


def test_v56_d6_a_silent_log_has_its_head_at_once(a: Asker) -> None:
    connection = a.open("GET", "/logs/stream/s2?no-history")
    assert connection.sock is not None
    connection.sock.settimeout(1)
    response = connection.getresponse()
    assert response.status == 200
    response.close()
    connection.close()


def test_v57_d11_d13_events_begin_with_what_is_the_case(a: Asker) -> None:
    connection = a.open("GET", "/api/events")
    response = connection.getresponse()
    assert response.getheader("content-type") == "text/event-stream"
    lines = [response.readline().decode() for _ in range(3)]
    assert lines[0] == "event:message\n"
    assert lines[1].startswith('data:{"')
    assert lines[2] == "\n"
    first = json.loads(lines[1].removeprefix("data:"))
    events = [first, *read_events(response, len(FIRST_EVENTS) - 1)]
    response.close()
    connection.close()
    assert [event["type"] for event in events] == FIRST_EVENTS
    inflight = json.loads(events[-1]["data"])
    assert inflight["operation"] == "snapshot"
    assert inflight["requests"] == []
    assert inflight["total"] == 0


def test_v58_token_figures_of_every_engine(a: Asker) -> None:
    last = a.last_id()
    for path, mode in (
        ("/v1/messages", "anth"),
        ("/v1/responses", "resp"),
        (CHAT, "vllm"),
        ("/v1/embeddings", "emb"),
        ("/infill", "infill"),
    ):
        assert a.ask("POST", f"{path}?mode={mode}", {"model": "alpha"}).status == 200
        a.rows_after(last, 1)
        last = a.last_id()
    rows = a.get("/api/metrics/activity?limit=5").json()["data"]
    names = ("input_tokens", "output_tokens", "cache_tokens", "prompt_per_second", "tokens_per_second")
    assert [[row["tokens"][name] for name in names] for row in rows] == [
        [5, 6, -1, 50, 60],
        [9, 0, -1, -1, -1],
        [100, 50, 20, 400, 100],
        [11, 22, 6, -1, -1],
        [25, 15, 4, -1, -1],
    ]


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("limit=1000", "limit must be between 1 and 999"),
        ("limit=x", "invalid limit"),
        ("page=0", "page must be >= 1"),
        ("sort=x", "invalid sort column"),
        ("order=up", "order must be asc or desc"),
        ("min_id=5&max_id=2", "min_id must be <= max_id"),
        ("min_id=0", "min_id must be >= 1"),
        ("start=x", "invalid 'start' timestamp, use RFC3339 format"),
        ("start=2026-01-02T00:00:00Z&end=2026-01-01T00:00:00Z", "start must be before end"),
    ],
)
def test_v59_wrong_questions_about_the_activity(a: Asker, query: str, message: str) -> None:
    reply = a.get(f"/api/metrics/activity?{query}")
    assert (reply.status, reply.error()["message"]) == (400, message)


def test_v60_a_capture(a: Asker) -> None:
    last = a.last_id()
    body = '{"model":"alpha","temperature":1,"top_p":0.5,"seed":1}'
    a.chat(body, {"Authorization": "Bearer abc", "X-Mine": "yes"})
    row = a.rows_after(last, 1)[0]
    assert row["has_capture"]
    capture = a.get(f"/api/captures/{row['id']}").json()
    assert capture["req_headers"]["Authorization"] == "[REDACTED]"
    assert capture["req_headers"]["X-Mine"] == "yes"
    assert capture["resp_headers"]["Set-Cookie"] == "[REDACTED]"
    assert base64.b64decode(capture["req_body"]) == b'{"model":"alpha","seed":42,"nested":{"a":1}}'
    assert json.loads(base64.b64decode(capture["resp_body"]))["upstream"] == "alpha"
    reply = a.get("/api/captures/999999")
    assert (reply.status, reply.error()["message"]) == (404, "capture not found")
    reply = a.get("/api/captures/abc")
    assert (reply.status, reply.error()["message"]) == (400, "invalid capture ID")


def test_v61_performance(a: Asker, b: Asker) -> None:
    reply = a.get("/api/performance?after=x")
    assert (reply.status, reply.error()["message"]) == (400, "invalid 'after' timestamp, use RFC3339 format")
    reply = b.get("/api/performance", {"X-API-Key": "key1"})
    assert (reply.status, reply.json()) == (503, {"enabled": False})


# --------------------------------------------------------------------- keys


def test_v62_no_key(b: Asker) -> None:
    reply = b.get("/v1/models")
    assert (reply.status, reply.headers["www-authenticate"]) == (401, 'Basic realm="llama-swap"')
    assert (reply.error()["type"], reply.error()["code"]) == ("authentication_error", "unauthorized")


def basic(user: str, password: str) -> dict[str, str]:
    """Write a user with password."""
    return {"Authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()}


@pytest.mark.parametrize(
    "headers", [basic("any", "key:2"), {"x-api-key": "key1"}, {"Authorization": "bearer key1"}], ids=str
)
def test_v63_keys_in_any_place(b: Asker, headers: dict[str, str]) -> None:
    assert b.get("/v1/models", headers).status == 200


@pytest.mark.parametrize(
    "headers",
    [{"Authorization": "Bearer bad", "x-api-key": "key1"}, {"Authorization": "Bearer  key1"}, basic("u", "bad")],
    ids=str,
)
def test_v64_wrong_keys(b: Asker, headers: dict[str, str]) -> None:
    assert b.get("/v1/models", headers).status == 401


@pytest.mark.parametrize("path", ["/health", "/wol-health", "/", "/upstream", "/favicon.ico"])
def test_v65_what_is_open(b: Asker, path: str) -> None:
    assert b.get(path).status in (200, 302, 404)


@pytest.mark.parametrize(
    "path",
    [
        *("/ui/", "/metrics", "/comfyui", "/comfyui/", "/logs", "/logs/stream", "/upstream/x/", "/running", "/unload"),
        *("/models", "/api/events", "/api/version", "/api/models/alpha", "/api/profiles", "/api/no/such/thing"),
        "/v1/audio/voices?model=alpha",
    ],
)
def test_v65_what_is_closed(b: Asker, path: str) -> None:
    assert b.get(path).status == 401


def test_v66_d7_a_key_of_ours_stays_with_us(b: Asker) -> None:
    reply = b.chat({"model": "alpha"}, {"authorization": "bearer key1", "X-Other": "1"})
    assert (reply.seen("authorization"), reply.seen("x-other")) == ([], ["1"])
    reply = b.chat({"model": "open"}, {"authorization": "bearer key1"})
    assert reply.seen("authorization") == ["bearer key1"]
    other = b.chat({"model": "alpha"}, {"authorization": "bearer key1", "x-api-key": "theirs"})
    assert other.seen("x-api-key") == ["theirs"]


def test_v67_metrics_of_a_daemon_that_measures_nothing(b: Asker) -> None:
    reply = b.get("/metrics", basic("u", "key1"))
    assert (reply.status, reply.text.strip()) == (503, "# performance monitor not available")


# --------------------------------------------------------------------- life of the daemon


def refuses(port: int) -> bool:
    """Say whether nobody listens any more."""
    try:
        socket.create_connection(("127.0.0.1", port), 5).close()
    except ConnectionRefusedError:
        return True
    return False


def test_v68_the_end_lets_requests_end(own: Asker) -> None:
    asked = own.open_chat({"model": "alpha"}, "?sleep=1.5")
    own.wait_in_flight("alpha", 1)
    streams = [own.open("GET", path) for path in ("/api/events", "/logs/stream")]
    responses = [stream.getresponse() for stream in streams]
    assert [response.status for response in responses] == [200, 200]
    own.daemon.process.send_signal(signal.SIGTERM)
    eventually(lambda: refuses(own.daemon.port))
    for response in responses:
        response.read()  # raises when it is cut
    reply = Reply(asked.getresponse())
    assert (reply.status, reply.headers["connection"]) == (200, "close")
    for connection in (asked, *streams):
        connection.close()
    assert own.daemon.process.wait(20) == 0


def test_v69_d12_a_reload_disturbs_nobody(own: Asker) -> None:
    events = own.open("GET", "/api/events")
    response = events.getresponse()
    read_events(response, len(FIRST_EVENTS))
    asked = own.open_chat({"model": "alpha"}, "?sleep=1")
    own.wait_in_flight("alpha", 1)
    report = own.daemon.reload()
    assert (report["status"], report["kept"]) == ("ok", ["alpha"])
    assert own.chat({"model": "alpha"}).status == 200
    assert Reply(asked.getresponse()).status == 200
    assert own.chat({"model": "alpha"}).status == 200
    eventually(lambda: any(event["type"] == "inflight" for event in read_events(response, 1)))
    for connection in (asked, events):
        connection.close()
