"""Requests that go on by another name: profiles, selectors, and where the name is written."""

from __future__ import annotations

import json

import pytest

from llamaswap.config.schema import Profile, Selector
from tests.unit.test_web_openai import ALPHA, BETA, CHAT, MULTIPART, PLAIN, URLENCODED, form, received
from tests.unit.web_stack import Stack, config_of

SELECTED = {"sel": Selector("sel", "pin", ("p",)), "real": Selector("real", "pin", ("beta",))}


@pytest.fixture
def selecting() -> Stack:
    profiles = {"on": Profile("on", "", {"code": "p", "pin-sel": "real"})}
    stack = Stack(config_of(ALPHA, BETA, PLAIN, selectors=SELECTED, profiles=profiles))
    stack.be_ready("alpha", "beta", "author/plain")
    stack.daemon.observers.profiles.select("on")
    return stack


@pytest.mark.parametrize("name", ["sel", "code"])
def test_json_is_renamed(selecting: Stack, name: str) -> None:
    selecting.post_json(f"{CHAT}?model=sel", {"x": 1, "model": name})
    assert received(selecting) == (f"POST {CHAT}?model=sel HTTP/1.1", b'{"x":1,"model":"p"}')


def test_the_servers_own_name_wins_over_a_rename(selecting: Stack) -> None:
    selecting.post_json(CHAT, {"model": "pin-sel"})
    assert received(selecting)[1] == b'{"model":"real-beta"}'


@pytest.mark.parametrize("name", ["sel", "code"])
def test_get_is_renamed_with_its_names_sorted(selecting: Stack, name: str) -> None:
    selecting.begin("GET", f"/props?z=1&model={name}&a=2")
    assert received(selecting)[0] == "GET /props?a=2&model=p&z=1 HTTP/1.1"


@pytest.mark.parametrize("name", ["sel", "code"])
def test_d10_renames_work_in_urlencoded_bodies(selecting: Stack, name: str) -> None:
    selecting.begin("POST", CHAT, f"model={name}&b=1&a=%20".encode(), {"Content-Type": URLENCODED})
    assert received(selecting) == (f"POST {CHAT} HTTP/1.1", b"model=p&b=1&a=%20")


def test_the_servers_own_name_is_not_for_urlencoded_bodies_and_queries(selecting: Stack) -> None:
    selecting.begin("POST", CHAT, b"model=real", {"Content-Type": URLENCODED})
    assert received(selecting)[1] == b"model=beta"
    selecting.begin("GET", "/props?model=real")
    assert received(selecting)[0] == "GET /props?model=beta HTTP/1.1"


def test_multipart_is_renamed_and_keeps_all_else(selecting: Stack) -> None:
    selecting.begin("POST", "/v1/audio/transcriptions", form("sel"), {"Content-Type": MULTIPART})
    assert received(selecting)[1] == form("p")


def test_a_query_that_names_the_model_of_a_form_is_renamed_with_it(selecting: Stack) -> None:
    selecting.begin("POST", "/v1/audio/transcriptions?model=code", form("nope"), {"Content-Type": MULTIPART})
    assert received(selecting) == ("POST /v1/audio/transcriptions?model=p HTTP/1.1", form("p"))


def test_a_query_that_names_the_model_of_any_other_body_is_renamed(selecting: Stack) -> None:
    selecting.begin("POST", f"{CHAT}?model=sel", b"{}", {"Content-Type": "text/plain"})
    assert received(selecting) == (f"POST {CHAT}?model=p HTTP/1.1", b"{}")


def test_filters_go_by_the_name_behind_the_rename() -> None:
    stack = Stack(config_of(ALPHA, selectors={"sel": Selector("sel", "pin", ("alpha:think",))}))
    stack.be_ready("alpha")
    stack.post_json(CHAT, {"model": "sel"})
    assert json.loads(received(stack)[1]) == {"model": "alpha:think", "nested": {"a": 1}, "seed": 7, "think": True}
