"""The model list of ``/v1/models``: what is configured and what of it is loaded."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from llamaswap.config.schema import Capabilities, Config, ModelConfig, Selector
from llamaswap.core.values import ModelId, ProcessState, empty_mapping

Entry = dict[str, Any]
StateOf = Callable[[ModelId], ProcessState]

NO_PINS: Final[Mapping[str, str]] = empty_mapping()

_OWNER: Final = "llama-swap"
_TOOL_PARAMETERS: Final = ("tools", "tool_choice")
_SHOWN_BY_CAPABILITIES: Final = frozenset({"architecture", "capabilities", "supported_parameters", "context_length"})
_USABLE: Final = frozenset({ProcessState.READY, ProcessState.STARTING})


def model_list(config: Config, state_of: StateOf, now: int, pins: Mapping[str, str] = NO_PINS) -> Entry:
    """Make the whole document, entries sorted by id.

    Args:
        config: The configuration in force.
        state_of: Gives the state of a local model.
        now: UTC epoch seconds, for ``created``.
        pins: Those of the active profile.
    """
    entries = [*_models(config, state_of), *_peers(config), *_selectors(config, state_of), *_pins(config, pins)]
    entries.sort(key=lambda entry: str(entry["id"]))
    common: Entry = {"object": "model", "created": now, "owned_by": _OWNER}
    return {"data": [{"id": entry["id"], **common, **entry} for entry in entries], "object": "list"}


def _models(config: Config, state_of: StateOf) -> Iterator[Entry]:
    for model in config.models.values():
        if model.unlisted:
            continue
        status = _status(is_loaded=state_of(model.id).counts_as_running)
        named = {"aliases": model.aliases} if model.aliases else {}
        yield _model_entry(model, model.id, {**named, "type": "model"}, status)
        if config.include_aliases_in_list:
            for alias in model.aliases:
                yield _model_entry(model, alias, {"modelID": model.id, "type": "alias"}, status)


def _peers(config: Config) -> Iterator[Entry]:
    for peer in config.peers.values():
        for name in peer.models:
            yield {
                "id": f"{peer.id}/{name}",
                "name": f"{peer.id}: {name}",
                "meta": {"llamaswap": {"peerID": peer.id, "type": "peer"}},
                "status": _status(is_loaded=False),
            }


def _selectors(config: Config, state_of: StateOf) -> Iterator[Entry]:
    for selector in config.selectors.values():
        if selector.unlisted:
            continue
        ours: Entry = {"strategy": selector.strategy, "targets": selector.targets, "type": "selector"}
        if selector.strategy == "spillover":
            ours["spillover"] = selector.spillover
        yield {
            "id": selector.name_id,
            **_names(selector.name, selector.description),
            "meta": {"llamaswap": {**selector.metadata, **ours}},
            "status": _status(is_loaded=_has_usable_target(selector, config, state_of)),
        }


def _pins(config: Config, pins: Mapping[str, str]) -> Iterator[Entry]:
    for name, target in pins.items():
        is_name = config.resolve(name) is not None or name in config.peer_models or name in config.selectors
        if target and not is_name:
            yield {"id": name, "meta": {"llamaswap": {"type": "profile"}}, "status": _status(is_loaded=False)}


def _has_usable_target(selector: Selector, config: Config, state_of: StateOf) -> bool:
    targets = selector.targets[:1] if selector.strategy == "pin" else selector.targets
    models = (config.resolve(target) for target in targets)
    return any(state_of(model.id) in _USABLE for model in models if model is not None)


def _model_entry(model: ModelConfig, name: str, ours: Mapping[str, object], status: Entry) -> Entry:
    metadata = dict(model.metadata)
    if model.capabilities.is_configured:
        metadata = {key: value for key, value in metadata.items() if key not in _SHOWN_BY_CAPABILITIES}
    meta: Entry = {"llamaswap": {**metadata, **ours}}
    if model.capabilities.context:
        meta["n_ctx"] = model.capabilities.context
    return {
        "id": name,
        **_names(model.name, model.description),
        **shown_capabilities(model.capabilities),
        "meta": meta,
        "status": status,
    }


def shown_capabilities(capabilities: Capabilities) -> Entry:
    """Give the members of an entry that follow from what a model can do; only what is not empty."""
    shown: Entry = {
        "architecture": _architecture(capabilities),
        "capabilities": {name: True for name, is_so in _abilities(capabilities) if is_so},
        "supported_parameters": _TOOL_PARAMETERS if capabilities.tools else (),
        "context_length": capabilities.context,
    }
    return {key: value for key, value in shown.items() if value}


def _architecture(capabilities: Capabilities) -> Entry:
    architecture: Entry = {}
    if capabilities.inputs:
        architecture["input_modalities"] = capabilities.inputs
    if capabilities.inputs and capabilities.outputs:
        architecture["modality"] = f"{'+'.join(capabilities.inputs)}->{'+'.join(capabilities.outputs)}"
    if capabilities.outputs:
        architecture["output_modalities"] = capabilities.outputs
    return architecture


def _abilities(capabilities: Capabilities) -> Iterator[tuple[str, bool]]:
    inputs, outputs = capabilities.inputs, capabilities.outputs
    yield "audio_speech", "text" in inputs and "audio" in outputs
    yield "audio_transcriptions", "audio" in inputs and "text" in outputs
    yield "function_calling", capabilities.tools
    yield "image_generation", "text" in inputs and "image" in outputs
    yield "image_to_image", "image" in inputs and "image" in outputs
    yield "reranker", capabilities.reranker
    yield "vision", "image" in inputs


def _names(name: str, description: str) -> Entry:
    named = {"name": name.strip(), "description": description.strip()}
    return {key: value for key, value in named.items() if value}


def _status(*, is_loaded: bool) -> Entry:
    return {"value": "loaded" if is_loaded else "unloaded"}
