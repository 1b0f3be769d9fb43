"""Programs that people use beside llama-swap make their calls, as their public sources show them."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import threading
import time
from http.client import HTTPResponse
from typing import Any, Final
from urllib.parse import quote, urlsplit

import pytest

from tests.integration.vector_world import CHAT, Asker, Reply, eventually

BEARER: Final = {"Authorization": "Bearer key1"}
SLASHED: Final = "author/gamma/v2"


def following(asker: Asker, path: str) -> Reply:
    """Ask as clients do that follow redirects."""
    reply = asker.get(path, BEARER)
    while reply.status in (301, 302, 307, 308):
        reply = asker.get(reply.headers["location"], BEARER)
    return reply


def read_event(response: HTTPResponse) -> Any:
    """Read a message as simple readers do: by its two lines, without a blank behind the colon."""
    kind = response.readline().decode()
    while kind.startswith(":") or kind == "\n":
        kind = response.readline().decode()
    data = response.readline().decode()
    assert (kind, data[:5], response.readline()) == ("event:message\n", "data:", b"\n")
    return json.loads(data.removeprefix("data:"))


# --------------------------------------------------------------------- Home Assistant


def test_home_assistant_polls(a: Asker) -> None:
    listed = a.get("/v1/models", BEARER).json()["data"]
    alpha = next(each for each in listed if each["id"] == "alpha")
    assert (alpha["name"], alpha["description"], alpha["context_length"]) == ("Alpha Model", "first", 4096)
    assert alpha["architecture"]["input_modalities"] == ["text", "image"]
    assert alpha["capabilities"]["vision"] is True
    assert alpha["supported_parameters"] == ["tools", "tool_choice"]
    assert alpha["status"]["value"] in ("loaded", "unloaded")
    assert alpha["meta"]["llamaswap"]["type"] == "model"
    assert set(alpha["meta"]["llamaswap"]["aliases"]) >= {"gpt-x"}
    assert isinstance(a.get("/api/version", BEARER).json()["version"], str)
    assert a.get("/api/profiles", BEARER).json()["active"] is None
    performance = eventually(lambda: (found := a.get("/api/performance", BEARER).json())["sys_stats"] and found)
    assert performance["enabled"] is True
    assert performance["sys_stats"][-1]["mem_total_mb"] > 0
    assert all(isinstance(each["id"], int) for each in performance["gpu_stats"])


def test_home_assistant_wants_to_know_that_its_key_is_wrong(b: Asker) -> None:
    for path in ("/v1/models", "/running", "/api/version", "/api/profiles", "/api/performance"):
        assert b.get(path, {"Authorization": "Bearer wrong"}).status == 401
        # 404 would mean an old server.
        assert b.get(path, BEARER).status in (200, 503)


def test_home_assistant_loads_and_unloads(a: Asker) -> None:
    a.stop()
    name = quote(SLASHED, safe="")
    assert following(a, f"/upstream/{name}/health").status == 200
    shown = next(each for each in a.get("/running", BEARER).json()["running"] if each["model"] == SLASHED)
    assert (shown["state"], shown["ttl"], shown["name"], shown["description"]) == ("ready", 0, "", "")
    port = re.search(r"--port (\d+)", shown["cmd"])
    assert port is not None
    assert int(port[1]) == urlsplit(shown["proxy"]).port
    # A 404 would make it unload everything.
    for _ in range(2):
        assert a.ask("POST", f"/api/models/unload/{name}", headers=BEARER).status == 200
    unknown = a.get("/upstream/no-such-model/health", BEARER)
    assert unknown.status == 404
    assert "model not found" in unknown.text.lower()


def test_home_assistant_chooses_profiles(a: Asker) -> None:
    assert a.ask("PUT", "/api/profiles/active", {"name": "coding"}, BEARER).status == 200
    profiles = a.get("/api/profiles", BEARER).json()
    assert profiles["active"] == "coding"
    assert profiles["profiles"] == [
        {
            "id": "coding",
            "description": "Coding",
            "pins": {"alpha": "beta", "code": "alpha", "gone": "sel-pin", "off": ""},
        }
    ]
    assert a.ask("PUT", "/api/profiles/active", {"name": None}, BEARER).json() == {"active": None}


# --------------------------------------------------------------------- others


def test_the_tray_sees_quickly_what_runs_and_unloads_all(a: Asker) -> None:
    a.stop()
    loading = a.open_chat({"model": "author/gamma"})
    a.wait_state("author%2Fgamma", "starting")
    began_mono = time.monotonic()
    running = a.get("/running").json()["running"]
    assert time.monotonic() - began_mono < 1.5
    assert [(each["model"], each["state"]) for each in running] == [("author/gamma", "starting")]
    assert a.get("/unload").status == 200
    assert a.get("/running").json() == {"running": []}
    assert Reply(loading.getresponse()).status == 503
    loading.close()
    assert following(a, "/ui").status in (200, 404)


def test_the_editor_shows_state_slots_and_events(a: Asker) -> None:
    assert a.ask("HEAD", "/api/performance").status == 200
    a.chat({"model": "alpha"})
    assert [each["model"] for each in a.get("/running").json()["running"] if each["state"] == "ready"]
    assert a.get("/upstream/alpha/slots").json()["path"] == "/slots"
    assert a.get("/api/metrics/stats").json()["total_requests"] > 0
    connection = a.open("GET", "/api/events", headers={"Accept": "text/event-stream", "Cache-Control": "no-cache"})
    with connection.getresponse() as response:
        assert response.status == 200
        assert "modelStatus" in [read_event(response)["type"] for _ in range(3)]
    connection.close()


def test_the_terminal_shows_requests_and_cancels_them(a: Asker) -> None:
    assert a.get(f"/upstream/alpha/?_={time.time_ns() // 1_000_000}").status == 200
    events = a.open("GET", "/api/events")
    with events.getresponse() as response:
        while read_event(response)["type"] != "inflight":
            pass
        asked = a.open_chat({"model": "alpha"}, "?sleep=20")
        message: dict[str, Any] = {"type": ""}
        while message["type"] != "inflight":
            message = read_event(response)
    entry = json.loads(message["data"])["request"]
    assert (entry["model"], entry["req_path"], entry["method"]) == ("alpha", CHAT, "POST")
    assert a.ask("POST", f"/api/inflight/{entry['id']}/cancel").json() == {"msg": "ok"}
    assert Reply(asked.getresponse()).status == 502
    for connection in (asked, events):
        connection.close()
    assert a.ask("POST", "/api/models/unload/alpha").status in (200, 204)


def test_the_terminal_shows_what_was(a: Asker) -> None:
    last = a.last_id()
    a.chat({"model": "alpha"})
    row = a.rows_after(last, 1)[0]
    page = a.get("/api/metrics/activity?page=1&limit=20&sort=id&order=desc").json()
    assert page["data"][0] == row
    assert page["total_pages"] == -(-page["total"] // 20)
    assert a.get(f"/api/captures/{row['id']}").json()["id"] == row["id"]
    assert a.get("/api/metrics/stats?model=alpha").json()["total_requests"] > 0
    assert a.get("/api/hardware").json()["schema_version"] == 1
    assert a.get("/api/performance").json()["enabled"] is True


def test_the_menu_bar_asks_ready_models_for_their_metrics(a: Asker) -> None:
    a.chat({"model": "alpha"})
    ready = [each["model"] for each in a.get("/running").json()["running"] if each["state"] == "ready"]
    assert "alpha" in ready
    # It writes colons with escapes.
    reply = a.get("/upstream/alpha%3Athink/metrics")
    assert (reply.status, reply.json()["path"]) == (200, "/metrics")


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
def test_scripts_follow_the_log_with_curl(a: Asker) -> None:
    url = f"http://127.0.0.1:{a.daemon.port}"
    words = ["curl", "-Ns", "--max-time", "20", f"{url}/logs/stream"]
    with subprocess.Popen(words, stdout=subprocess.PIPE) as curl:
        assert curl.stdout is not None
        speaking = threading.Timer(0.2, a.chat, [{"model": "alpha", "stream": True}])
        speaking.start()
        assert any(b"eval time" in line for line in curl.stdout)
        curl.kill()
        speaking.join()
    assert b"eval time" in subprocess.run(["curl", "-s", f"{url}/logs"], check=True, capture_output=True).stdout
    assert subprocess.run(["curl", "-s", f"{url}/unload"], check=True, capture_output=True).stdout == b"OK"


def test_claude_style_clients(b: Asker) -> None:
    key = {"x-api-key": "key1", "anthropic-version": "2023-06-01"}
    assert b.ask("HEAD", "/").status == 302
    reply = b.ask("POST", "/v1/messages?beta=true", {"model": "alpha"}, key)
    assert (reply.status, reply.json()["path"]) == (200, "/v1/messages?beta=true")
    assert reply.seen("anthropic-version") == ["2023-06-01"]
    assert reply.seen("x-api-key") == []
    reply = b.ask("POST", "/v1/messages/count_tokens?beta=true", {"model": "alpha"}, key)
    assert reply.json()["path"] == "/v1/messages/count_tokens?beta=true"
    refused = b.ask("POST", "/v1/messages?beta=true", {"model": "alpha"}, {"x-api-key": "wrong"})
    assert refused.status == 401
    assert refused.json()["type"] == "error"
    assert refused.error()["type"] == "authentication_error"
    stream = b.ask("POST", "/v1/messages?mode=anth", {"model": "alpha", "stream": True}, key)
    assert json.loads(stream.events()[0])["type"] == "message_start"


def test_open_webui_lists_and_chats(b: Asker) -> None:
    listed = b.get("/v1/models", BEARER).json()
    assert listed["object"] == "list"
    assert {each["id"]: each["status"]["value"] for each in listed["data"]}.keys() == {"alpha", "open"}
    assert all(isinstance(each["meta"], dict) for each in listed["data"])
    reply = b.chat({"model": "alpha", "stream": True, "stream_options": {"include_usage": True}}, BEARER)
    assert reply.events()[-1] == "[DONE]"
