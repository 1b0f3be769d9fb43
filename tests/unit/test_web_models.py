"""The model list."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import pytest

from llamaswap.config.schema import Capabilities, Config, ModelConfig, Peer, Selector
from llamaswap.core.values import ModelId, ProcessState
from llamaswap.web.models import model_list, shown_capabilities

ALPHA = ModelConfig(
    ModelId("alpha"),
    name=" Alpha Model ",
    description="first",
    aliases=("gpt-x", "alpha:think"),
    metadata=MappingProxyType({"size": 7, "context_length": 99, "type": "mine", "tags": ("a", "b")}),
    capabilities=Capabilities(inputs=("text", "image"), outputs=("text",), tools=True, context=4096),
)


def config(*models: ModelConfig, **settings: Any) -> Config:
    aliases = {alias: model.id for model in models for alias in model.aliases}
    return Config(models={model.id: model for model in models}, aliases=aliases, **settings)


def listed(settings: Config, states: Mapping[str, ProcessState] | None = None) -> dict[str, dict[str, Any]]:
    """Give the entries by id."""
    document = model_list(settings, lambda model: (states or {}).get(model, ProcessState.STOPPED), 1795165973)
    assert document["object"] == "list"
    ids = [entry["id"] for entry in document["data"]]
    assert ids == sorted(ids)
    assert len(ids) == len(set(ids))
    return {entry["id"]: entry for entry in document["data"]}


def test_empty() -> None:
    assert model_list(Config(), lambda _: ProcessState.READY, 1) == {"data": [], "object": "list"}


def test_bare_model_has_only_what_is_always_there() -> None:
    assert listed(config(ModelConfig(ModelId("m")))) == {
        "m": {
            "id": "m",
            "object": "model",
            "created": 1795165973,
            "owned_by": "llama-swap",
            "meta": {"llamaswap": {"type": "model"}},
            "status": {"value": "unloaded"},
        },
    }


def test_full_model() -> None:
    assert listed(config(ALPHA))["alpha"] == {
        "id": "alpha",
        "object": "model",
        "created": 1795165973,
        "owned_by": "llama-swap",
        "name": "Alpha Model",
        "description": "first",
        "architecture": {
            "input_modalities": ("text", "image"),
            "modality": "text+image->text",
            "output_modalities": ("text",),
        },
        "capabilities": {"function_calling": True, "vision": True},
        "supported_parameters": ("tools", "tool_choice"),
        "context_length": 4096,
        "meta": {
            "llamaswap": {"size": 7, "tags": ("a", "b"), "type": "model", "aliases": ("gpt-x", "alpha:think")},
            "n_ctx": 4096,
        },
        "status": {"value": "unloaded"},
    }


def test_metadata_stays_whole_without_capabilities() -> None:
    model = ModelConfig(ModelId("m"), metadata={"context_length": 99, "architecture": "x"})
    assert listed(config(model))["m"]["meta"] == {
        "llamaswap": {"context_length": 99, "architecture": "x", "type": "model"},
    }


def test_aliases_are_entries_when_asked_for() -> None:
    entries = listed(config(ALPHA, include_aliases_in_list=True), {"alpha": ProcessState.READY})
    assert set(entries) == {"alpha", "gpt-x", "alpha:think"}
    alias = entries["gpt-x"]
    assert alias["meta"]["llamaswap"] == {"size": 7, "tags": ("a", "b"), "type": "alias", "modelID": "alpha"}
    same = ("name", "description", "capabilities", "context_length", "status")
    assert [alias[key] for key in same] == [entries["alpha"][key] for key in same]


def test_unlisted_models_and_their_aliases_are_hidden() -> None:
    hidden = ModelConfig(ModelId("m"), unlisted=True, aliases=("x",))
    assert listed(config(hidden, include_aliases_in_list=True)) == {}


@pytest.mark.parametrize(
    ("state", "status"),
    [
        (ProcessState.STOPPED, "unloaded"),
        (ProcessState.STARTING, "loaded"),
        (ProcessState.READY, "loaded"),
        (ProcessState.STOPPING, "loaded"),
        (ProcessState.SHUTDOWN, "unloaded"),
    ],
)
def test_status_follows_the_process(state: ProcessState, status: str) -> None:
    assert listed(config(ModelConfig(ModelId("m"))), {"m": state})["m"]["status"] == {"value": status}


def test_peers_are_listed_with_their_prefix() -> None:
    peer = Peer("p1", "http://p", ("remote-m", "org/x"))
    entries = listed(config(peers={"p1": peer}))
    assert set(entries) == {"p1/remote-m", "p1/org/x"}
    assert entries["p1/org/x"]["name"] == "p1: org/x"
    assert entries["p1/org/x"]["meta"] == {"llamaswap": {"peerID": "p1", "type": "peer"}}
    assert entries["p1/org/x"]["status"] == {"value": "unloaded"}


@pytest.mark.parametrize(
    ("strategy", "states", "status"),
    [
        ("warm", {}, "unloaded"),
        ("warm", {"beta": ProcessState.STARTING}, "loaded"),
        ("warm", {"beta": ProcessState.STOPPING}, "unloaded"),
        ("pin", {"beta": ProcessState.READY}, "unloaded"),
        ("pin", {"alpha": ProcessState.READY}, "loaded"),
        ("spillover", {"beta": ProcessState.READY}, "loaded"),
    ],
)
def test_selectors(strategy: Any, states: dict[str, ProcessState], status: str) -> None:
    selector = Selector("sel", strategy, ("gpt-x", "beta", "p1/x"), name="S", metadata={"x": 1, "type": "no"})
    hidden = Selector("hidden", strategy, ("beta",), unlisted=True)
    settings = config(ALPHA, ModelConfig(ModelId("beta")), selectors={"sel": selector, "hidden": hidden})
    entries = listed(settings, states)
    assert "hidden" not in entries
    ours = {"x": 1, "type": "selector", "strategy": strategy, "targets": ("gpt-x", "beta", "p1/x")}
    if strategy == "spillover":
        ours["spillover"] = 1
    assert entries["sel"]["meta"] == {"llamaswap": ours}
    assert entries["sel"]["name"] == "S"
    assert entries["sel"]["status"] == {"value": status}


@pytest.mark.parametrize(
    ("inputs", "outputs", "abilities"),
    [
        (("audio",), ("text",), {"audio_transcriptions"}),
        (("text",), ("audio",), {"audio_speech"}),
        (("text",), ("image",), {"image_generation"}),
        (("image",), ("image",), {"image_to_image", "vision"}),
        (("image",), (), {"vision"}),
        ((), ("audio",), set()),
    ],
)
def test_abilities_follow_from_modalities(inputs: Any, outputs: Any, abilities: set[str]) -> None:
    shown = shown_capabilities(Capabilities(inputs=inputs, outputs=outputs))
    assert set(shown.get("capabilities", {})) == abilities
    assert ("modality" in shown["architecture"]) is bool(inputs and outputs)


def test_reranker() -> None:
    assert shown_capabilities(Capabilities(reranker=True)) == {"capabilities": {"reranker": True}}
