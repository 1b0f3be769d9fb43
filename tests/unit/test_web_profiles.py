"""Profiles: which one is active, what its pins do to requests, and who is told."""

from __future__ import annotations

import json
from typing import Any

import pytest

from llamaswap.config.schema import Config, ModelConfig, Profile, Selector
from llamaswap.core.news import ProfileChanged
from llamaswap.core.values import ModelId
from llamaswap.errors import NotFoundError
from llamaswap.web.profiles import Profiles
from tests.unit.web_stack import Stack, config_of, response_of

CHAT = "/v1/chat/completions"
MODELS = (ModelConfig(ModelId("alpha")), ModelConfig(ModelId("beta")))
CODING = Profile("coding", "Coding", {"code": "alpha", "alpha": "beta", "off": "", "gone": "sel-pin"})
PROFILES = {"work": Profile("work", "", {"alpha": "beta"}), "coding": CODING}
SELECTORS = {"sel-pin": Selector("sel-pin", "pin", ("alpha", "beta"))}


@pytest.fixture
def stack() -> Stack:
    stack = Stack(config_of(*MODELS, profiles=PROFILES, selectors=SELECTORS))
    stack.be_ready("alpha", "beta")
    return stack


def put(stack: Stack, body: bytes) -> tuple[int, Any]:
    answer = stack.ask("PUT", "/api/profiles/active", body)
    document = answer.document
    return answer.status, document["error"]["message"] if answer.status >= 400 else document


def sent(stack: Stack, model: str) -> Any:
    """Give the body that the upstream gets for a model."""
    stack.post_json(CHAT, {"model": model, "x": 1})
    return json.loads(stack.accept().take().partition(b"\r\n\r\n")[2])


# --------------------------------------------------------------------------- the routes


def test_profiles_are_listed_in_order_with_none_active(stack: Stack) -> None:
    assert stack.ask("GET", "/api/profiles").document == {
        "active": None,
        "profiles": [
            {"id": "coding", "description": "Coding", "pins": dict(CODING.pins)},
            {"id": "work", "description": "", "pins": {"alpha": "beta"}},
        ],
    }


def test_a_profile_is_selected_and_left(stack: Stack) -> None:
    assert put(stack, b'{"name":"coding"}') == (200, {"active": "coding"})
    assert stack.ask("GET", "/api/profiles").document["active"] == "coding"
    assert put(stack, b'{"name":""}') == (200, {"active": None})
    assert put(stack, b'{"name":"work"}') == (200, {"active": "work"})
    assert put(stack, b'{"name":null}') == (200, {"active": None})
    assert stack.ask("GET", "/api/profiles").document["active"] is None


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        (b'{"name":"nope"}', 404, 'profile "nope" not found'),
        (b'{"name":"%s"}' % (b"n" * 999), 404, f'profile "{"n" * 200}" not found'),
        (b"{}", 400, "profile name is required"),
        (b'{"name":5}', 400, "profile name must be a string or null"),
        (b"x", 400, "invalid profile request"),
        (b"", 400, "invalid profile request"),
        (b"null", 400, "invalid profile request"),
        (b'["coding"]', 400, "invalid profile request"),
        (b"[" * 100_000, 400, "invalid profile request"),
        (b'{"name":"\xff"}', 400, "invalid profile request"),
    ],
)
def test_a_wrong_choice_is_refused(stack: Stack, body: bytes, status: int, message: str) -> None:
    put(stack, b'{"name":"work"}')
    assert put(stack, body) == (status, message)
    assert stack.daemon.observers.profiles.active == "work"


# --------------------------------------------------------------------------- what pins do


def test_a_pin_replaces_the_name_once(stack: Stack) -> None:
    put(stack, b'{"name":"coding"}')
    assert sent(stack, "alpha") == {"model": "beta", "x": 1}
    assert sent(stack, "code") == {"model": "alpha", "x": 1}
    assert sent(stack, "beta") == {"model": "beta", "x": 1}
    assert stack.router.models == ["beta", "alpha", "beta"]


def test_a_pin_may_lead_to_a_selector(stack: Stack) -> None:
    put(stack, b'{"name":"coding"}')
    assert sent(stack, "gone") == {"model": "alpha", "x": 1}


@pytest.mark.parametrize(("model", "message"), [("off", "no model id could be identified"), ("nope", "")])
def test_a_disabled_name_is_no_name(stack: Stack, model: str, message: str) -> None:
    put(stack, b'{"name":"coding"}')
    answer = response_of(stack.post_json(CHAT, {"model": model}).take())
    assert answer.status == 404
    assert answer.document["error"]["message"] == (message or "no router for requested model: nope")
    assert not stack.router.entered


def test_pins_mean_nothing_while_no_profile_is_active(stack: Stack) -> None:
    assert sent(stack, "alpha") == {"model": "alpha", "x": 1}
    assert response_of(stack.post_json(CHAT, {"model": "code"}).take()).status == 404


def test_pins_that_are_no_names_are_listed_while_active(stack: Stack) -> None:
    put(stack, b'{"name":"coding"}')
    entries = stack.ask("GET", "/v1/models").document["data"]
    assert [entry["id"] for entry in entries] == ["alpha", "beta", "code", "gone", "sel-pin"]
    assert entries[2] == {
        "id": "code",
        "object": "model",
        "created": 1795165973,
        "owned_by": "llama-swap",
        "meta": {"llamaswap": {"type": "profile"}},
        "status": {"value": "unloaded"},
    }
    put(stack, b'{"name":null}')
    ids = [entry["id"] for entry in stack.ask("GET", "/v1/models").document["data"]]
    assert ids == ["alpha", "beta", "sel-pin"]


# --------------------------------------------------------------------------- who is told, and reloads


class Told:
    """Profiles with a listener."""

    def __init__(self) -> None:
        self.news: list[object] = []
        self.profiles = Profiles(Config(profiles=PROFILES), self.news.append)


def test_changes_are_published_and_only_changes() -> None:
    told = Told()
    told.profiles.select("coding")
    told.profiles.select("coding")
    told.profiles.select(None)
    told.profiles.select("")
    assert told.news == [ProfileChanged("coding"), ProfileChanged(None)]
    with pytest.raises(NotFoundError):
        told.profiles.select("nope")


def test_d12_the_active_profile_outlives_a_reload() -> None:
    told = Told()
    told.profiles.select("coding")
    told.profiles.apply(Config(profiles={"coding": Profile("coding", "", {"code": "beta"})}))
    assert told.profiles.active == "coding"
    assert told.profiles.pinned("code") == "beta"
    assert told.profiles.pinned("alpha") is None
    assert told.news == [ProfileChanged("coding")]


def test_d12_a_profile_that_a_reload_removed_is_left() -> None:
    told = Told()
    told.profiles.select("coding")
    told.profiles.apply(Config())
    assert told.profiles.active is None
    assert told.profiles.pinned("code") is None
    assert told.news == [ProfileChanged("coding"), ProfileChanged(None)]


def test_a_reload_without_an_active_profile_is_no_news() -> None:
    told = Told()
    told.profiles.apply(Config())
    assert told.news == []


def test_observers_bring_profiles_along(stack: Stack) -> None:
    put(stack, b'{"name":"work"}')
    stack.daemon.observers.apply(Config())
    assert stack.daemon.observers.profiles.active is None
