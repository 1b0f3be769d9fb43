"""The HTTP vectors 1 to 40: basics, the list of models, rewriting, errors, peers. A test's name holds its row."""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Iterator
from typing import Any, Final

import pytest

from tests.integration.daemon import Daemon
from tests.integration.vector_world import CHAT, FORM, JSON, UPSTREAM, Asker, Reply, eventually, multipart

TRANSCRIPTIONS: Final = "/v1/audio/transcriptions"
BAR: Final = "\u2501" * 5


@pytest.fixture(scope="module", autouse=True)
def hopeless(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[tuple[Reply, float]]]:
    """Ask for a model that never gets healthy as soon as this module begins: that takes its 15 seconds."""
    config = f"healthCheckTimeout: 15\nmodels: {{never: {{cmd: {json.dumps(UPSTREAM + ' --name never --never')}}}}}\n"
    with Daemon(tmp_path_factory.mktemp("never"), config) as daemon:
        found: list[tuple[Reply, float]] = []

        def ask() -> None:
            began_mono = time.monotonic()
            reply = Asker(daemon).chat({"model": "never"})
            found.append((reply, time.monotonic() - began_mono))

        asking = threading.Thread(target=ask)
        asking.start()
        yield found
        asking.join()


def deltas(events: list[str], name: str) -> list[str]:
    """Give the texts of a kind in a stream."""
    documents = [json.loads(event) for event in events if event != "[DONE]"]
    found = [choice["delta"].get(name) for document in documents for choice in document.get("choices", [])]
    return [text for text in found if text]


# --------------------------------------------------------------------- basics


def test_v01_any_path_allows_what_a_page_asks_for(a: Asker) -> None:
    reply = a.ask("OPTIONS", "/nope", headers={"Access-Control-Request-Headers": "X-Foo, bad header, Authorization,"})
    assert reply.status == 204
    assert reply.headers["access-control-allow-headers"] == "X-Foo, Authorization"
    assert reply.headers["access-control-allow-origin"] == "*"
    assert reply.headers["access-control-max-age"] == "86400"


def test_v02_the_root_leads_to_the_ui(a: Asker) -> None:
    reply = a.get("/")
    assert (reply.status, reply.headers["location"]) == (302, "/ui")


def test_v03_the_ui_gets_its_slash_even_without_a_key(a: Asker, b: Asker) -> None:
    for daemon in (a, b):
        reply = daemon.get("/ui")
        assert (reply.status, reply.headers["location"]) == (307, "/ui/")


def test_v04_a_wrong_method_is_told_the_right_ones(a: Asker) -> None:
    reply = a.ask("POST", "/health")
    assert (reply.status, reply.headers["allow"], reply.text.strip()) == (405, "GET, HEAD", "Method Not Allowed")


def test_v05_a_slash_at_the_end_matters(a: Asker) -> None:
    reply = a.get("/v1/models/")
    assert (reply.status, reply.text.strip()) == (404, "404 page not found")


def test_v06_empty_segments_are_cleaned_away(a: Asker) -> None:
    reply = a.get("//v1//models?x=1")
    assert (reply.status, reply.headers["location"]) == (307, "/v1/models?x=1")


def test_v07_nothing_runs(a: Asker) -> None:
    a.stop()
    assert a.get("/running").json() == {"running": []}


def test_v08_head_of_the_performance(a: Asker) -> None:
    assert a.ask("HEAD", "/api/performance").status == 200


# --------------------------------------------------------------------- list of models


def test_v09_the_list_of_models(a: Asker) -> None:
    a.stop()
    reply = a.get("/v1/models", {"Origin": "http://ui.example"})
    assert reply.headers["access-control-allow-origin"] == "http://ui.example"
    entries = {entry["id"]: entry for entry in reply.json()["data"]}
    assert list(entries) == [
        *("alpha", "alpha-alias", "alpha:think", "author/gamma", "author/gamma/v2", "comfyui_auto", "dead", "gpt-x"),
        *("never", "nocmd", "p1/org/remote2", "p1/remote-m", "p2/deadpeer", "p2/remote-m"),
        *("s1", "s2", "sel-pin", "sel-spill", "sel-warm", "wsign"),
    ]
    ours = {"aliases": ["alpha-alias", "gpt-x", "alpha:think"], "size": 7, "tags": ["a", "b"], "type": "model"}
    assert entries["alpha"]["meta"] == {"llamaswap": ours, "n_ctx": 4096}
    assert entries["gpt-x"]["meta"]["llamaswap"]["type"] == "alias"
    assert entries["gpt-x"]["meta"]["llamaswap"]["modelID"] == "alpha"
    assert {entry["status"]["value"] for entry in entries.values()} == {"unloaded"}


def test_v10_what_is_loaded_says_so(a: Asker) -> None:
    a.stop()
    assert a.chat({"model": "alpha"}).status == 200
    assert a.loaded() == {"alpha", "alpha-alias", "alpha:think", "gpt-x", "sel-pin", "sel-warm"}
    connection = a.open_chat({"model": "author/gamma"})
    a.wait_state("author%2Fgamma", "starting")
    assert "author/gamma" in a.loaded()
    connection.close()


# --------------------------------------------------------------------- rewriting and forwarding


def test_v11_filters_and_headers(a: Asker) -> None:
    headers = {
        "Authorization": "Bearer abc",
        "X-Forwarded-For": "9.9.9.9",
        "Accept-Encoding": "br, gzip;q=0.8, zstd",
    }
    reply = a.chat('{"model":"alpha","temperature":1,"top_p":0.5,"seed":1}', headers)
    assert reply.json()["body"] == '{"model":"alpha","seed":42,"nested":{"a":1}}'
    assert reply.seen("authorization") == ["Bearer abc"]
    assert reply.seen("x-forwarded-for") == ["9.9.9.9, 127.0.0.1"]
    assert reply.seen("accept-encoding") == ["gzip;q=0.8"]
    assert reply.seen("host") == [f"127.0.0.1:{a.daemon.port}"]
    assert reply.headers["set-cookie"] == "c=1"
    assert reply.headers["x-custom"] == "yes"


def test_v12_parameters_of_a_name(a: Asker) -> None:
    body = json.loads(a.chat({"model": "alpha:think"}).json()["body"])
    assert body == {"model": "alpha:think", "seed": 7, "nested": {"a": 1}, "think": True}


def test_v13_a_stream_is_not_to_be_buffered(a: Asker) -> None:
    reply = a.chat({"model": "alpha", "stream": True}, query="?mode=chat")
    assert reply.headers["x-accel-buffering"] == "no"
    assert reply.events()[-1] == "[DONE]"
    assert len(reply.events()) == 4


def test_v14_routes_without_a_version(a: Asker) -> None:
    assert a.ask("POST", "/v/chat/completions", {"model": "gpt-x"}).json()["path"] == "/chat/completions"


def test_v15_the_route_of_audio_tasks(a: Asker) -> None:
    assert a.ask("POST", "/audioapi/v1/tasks/run", {"model": "gpt-x"}).json()["path"] == "/v1/tasks/run"


def test_v16_a_selector_in_a_query(a: Asker) -> None:
    assert a.get("/props?z=1&model=sel-pin&a=2").json()["path"] == "/props?a=2&model=alpha-alias&z=1"


def test_v17_d9_a_form_keeps_its_parts_and_their_types(a: Asker) -> None:
    body, kind = multipart(
        ("first", "", b"1"),
        ("model", "", b"beta"),
        ("file", '; filename="x.wav"\r\nContent-Type: audio/wav\r\nX-Part: kept', b"RIFF\x00\r\n--edg"),
        ("last", "", b"2"),
    )
    seen = a.ask("POST", TRANSCRIPTIONS, body, kind=kind).json()["body"]
    assert 'name="model"\r\n\r\nreal-beta\r\n' in seen
    assert seen == body.decode().replace("\r\n\r\nbeta\r\n", "\r\n\r\nreal-beta\r\n")


def test_v18_who_asks_for_no_encoding_gets_none(a: Asker) -> None:
    last = a.last_id()
    plain = a.chat({"model": "alpha"}, query="?mode=gzip")
    assert plain.headers["content-encoding"] is None
    assert plain.json()["ae"] in (None, "identity")
    zipped = a.chat({"model": "alpha"}, {"Accept-Encoding": "gzip"}, query="?mode=gzip")
    assert zipped.headers["content-encoding"] == "gzip"
    for row in a.rows_after(last, 2):
        assert (row["tokens"]["input_tokens"], row["tokens"]["output_tokens"]) == (7, 3)


# --------------------------------------------------------------------- finding the model


def test_v19_d4_a_model_that_nobody_has(a: Asker) -> None:
    reply = a.chat({"model": "nope"})
    assert reply.status == 404
    assert reply.error() == {
        "message": "no router for requested model: nope",
        "type": "invalid_request_error",
        "param": "model",
        "code": "model_not_found",
    }


def test_v20_an_error_as_text(a: Asker) -> None:
    reply = a.chat({"model": "nope"}, {"Accept": "text/plain"})
    assert reply.headers.get_content_type() == "text/plain"
    assert reply.text.startswith("llama-swap: no router for requested model")


def test_v21_no_model_at_all(a: Asker) -> None:
    for body in ("{}", '{"model":""}', '{"model":null}', "[]"):
        reply = a.chat(body)
        assert (reply.status, reply.error()["message"]) == (404, "no model id could be identified")


def test_v22_d1_broken_json_is_not_forwarded(a: Asker) -> None:
    reply = a.chat('{"model":"alpha", bad json')
    assert (reply.status, reply.error()["message"]) == (400, "invalid JSON in request body")


def test_v23_json_that_does_not_say_so(a: Asker) -> None:
    reply = a.ask("POST", CHAT, '{"model":"alpha"}', kind=FORM)
    assert (reply.status, reply.error()["message"]) == (404, "no model id could be identified")


def test_v24_an_urlencoded_form(a: Asker) -> None:
    assert a.ask("POST", CHAT, "model=alpha&x=1", kind=FORM).json()["body"] == "model=alpha&x=1"


def test_v25_d10_selectors_and_pins_in_urlencoded_forms(a: Asker) -> None:
    reply = a.ask("POST", CHAT, "model=sel-pin&x=1", kind=FORM)
    assert (reply.json()["upstream"], reply.json()["body"]) == ("alpha", "model=alpha-alias&x=1")
    assert a.ask("PUT", "/api/profiles/active", {"name": "coding"}).status == 200
    assert a.ask("POST", CHAT, "model=code&x=1", kind=FORM).json()["upstream"] == "alpha"


def test_d10_types_in_capitals(a: Asker) -> None:
    assert a.ask("POST", CHAT, {"model": "alpha"}, kind="Application/JSON").json()["upstream"] == "alpha"


def test_v26_the_query_names_the_model_unless_the_body_is_json(a: Asker) -> None:
    assert a.ask("POST", f"{CHAT}?model=alpha", "{}", kind=None).status == 200
    assert a.ask("POST", f"{CHAT}?model=alpha", "{}", kind=JSON).status == 404


def test_v27_the_query_wins_over_a_multipart_form(a: Asker) -> None:
    body, kind = multipart(("model", "", b"nope"), ("file", '; filename="x"', b"x"))
    reply = a.ask("POST", f"{TRANSCRIPTIONS}?model=alpha", body, kind=kind)
    assert reply.json()["upstream"] == "alpha"


# --------------------------------------------------------------------- errors of models


def test_v28_d3_a_command_that_does_not_exist(a: Asker) -> None:
    reply = a.chat({"model": "nocmd"})
    assert (reply.status, reply.error()["code"]) == (502, "upstream_start_failed")
    assert reply.error()["message"].startswith("unspecific error: failed to start command '")


def test_v29_d3_a_server_that_ends_while_it_loads(a: Asker) -> None:
    began_mono = time.monotonic()
    reply = a.chat({"model": "dead"})
    assert (reply.status, reply.error()["code"]) == (502, "upstream_start_failed")
    assert "upstream command exited prematurely" in reply.error()["message"]
    assert time.monotonic() - began_mono < 5


def test_v30_d3_a_server_that_never_gets_healthy(hopeless: list[tuple[Reply, float]]) -> None:
    eventually(lambda: hopeless)
    reply, seconds = hopeless[0]
    assert (reply.status, reply.error()["code"]) == (504, "upstream_start_timeout")
    assert "health check timed out after 15s" in reply.error()["message"]
    assert 14.5 < seconds < 25


def test_v31_d3_a_server_that_hangs_up_without_an_answer(a: Asker) -> None:
    last = a.last_id()
    reply = a.chat({"model": "alpha"}, query="?mode=die0")
    assert (reply.status, reply.headers.get_content_type()) == (502, JSON)
    assert reply.error()["type"] == "server_error"
    row = a.rows_after(last, 1)[0]
    assert row["resp_status_code"] == 502
    assert row["error_msg"]


def test_v32_d2_a_stream_that_breaks_off_says_so(a: Asker) -> None:
    last = a.last_id()
    reply = a.chat({"model": "alpha", "stream": True}, query="?mode=die")
    assert reply.status == 200
    assert not reply.is_whole
    *events, error = map(json.loads, reply.events())
    assert len(events) == 2
    assert error["error"]["type"] == "server_error"
    assert error["error"]["code"] == "upstream_disconnected"
    assert a.rows_after(last, 1)[0]["error_msg"]


def test_v33_too_many_requests(a: Asker) -> None:
    waiting = [a.open_chat({"model": "beta"}, "?sleep=1") for _ in range(2)]
    a.wait_in_flight("beta", 2)
    for reply in (a.chat({"model": "beta"}, {"Accept": "text/plain"}), a.get("/upstream/beta/x")):
        assert (reply.status, reply.headers["retry-after"]) == (429, "1")
        assert reply.error()["code"] == "concurrency_limit"
    for connection in waiting:
        assert Reply(connection.getresponse()).status == 200
        connection.close()


def test_v34_d3_a_model_that_is_unloaded_while_somebody_waits(a: Asker) -> None:
    connection = a.open_chat({"model": "never"})
    a.wait_state("never", "starting")
    unload = a.ask("POST", "/api/models/unload/never")
    assert (unload.status, unload.text) == (200, "OK")
    reply = Reply(connection.getresponse())
    connection.close()
    assert (reply.status, reply.error()["code"]) == (503, "model_unloaded")
    assert "model unloaded" in reply.error()["message"]


# --------------------------------------------------------------------- the loading stream


def test_v35_a_stream_tells_of_the_loading(a: Asker) -> None:
    a.stop()
    reply = a.chat({"model": "author/gamma", "stream": True})
    assert (reply.status, reply.headers.get_content_type()) == (200, "text/event-stream")
    assert reply.is_whole
    text = "".join(deltas(reply.events(), "reasoning_content"))
    assert text.startswith(f"{BAR}\nllama-swap loading model: author/gamma\n")
    assert re.search(rf"\nDone! \(\d+\.\d\ds\)\n{BAR}\n \n$", text)
    assert deltas(reply.events(), "content") == ["one ", "two"]
    assert reply.events()[-1] == "[DONE]"


def test_v36_a_stream_tells_the_place_in_the_queue(a: Asker) -> None:
    a.stop()
    busy = a.open_chat({"model": "alpha"}, "?sleep=2")
    a.wait_in_flight("alpha", 1)
    reply = a.chat({"model": "author/gamma", "stream": True})
    busy.close()
    assert "\nQueue position: #1 " in "".join(deltas(reply.events(), "reasoning_content"))


def test_v37_d2_a_load_that_fails_ends_its_stream_with_an_error(a: Asker) -> None:
    a.stop()
    reply = a.chat({"model": "dead", "stream": True})
    assert (reply.status, reply.headers.get_content_type()) == (200, "text/event-stream")
    *events, last = reply.events()
    error: dict[str, Any] = json.loads(last)["error"]
    assert error["code"] == "upstream_start_failed"
    assert "exited prematurely" in error["message"]
    assert "Done!" not in "".join(deltas(events, "reasoning_content"))
    assert all(not line or line.startswith("data: ") for line in reply.text.splitlines())


# --------------------------------------------------------------------- peers


def test_v38_a_peer_gets_its_own_request(a: Asker, peer_port: int) -> None:
    headers = {"Authorization": "Bearer c", "X-Forwarded-For": "1.1.1.1"}
    reply = a.chat({"model": "p1/remote-m", "top_k": 3}, headers)
    assert reply.json()["path"] == "/base/v1/chat/completions"
    assert json.loads(reply.json()["body"]) == {"model": "remote-m", "peerset": True}
    assert reply.seen("authorization") == ["Bearer peer-secret"]
    assert reply.seen("x-api-key") == ["peer-secret"]
    assert reply.seen("x-forwarded-for") == []
    assert reply.seen("host") == [f"127.0.0.1:{peer_port}"]


def test_v39_a_bare_name_that_one_peer_has(a: Asker) -> None:
    assert a.chat({"model": "remote-m"}).status == 404
    assert a.chat({"model": "org/remote2"}).json()["upstream"] == "peer"


def test_v40_a_peer_that_is_not_there(a: Asker) -> None:
    reply = a.chat({"model": "p2/deadpeer"})
    assert (reply.status, reply.error()["code"]) == (502, "bad_gateway")
    assert reply.error()["message"].startswith("peer proxy error: ")
