"""The state of all models, as the event stream tells it."""

from __future__ import annotations

from typing import Any

from llamaswap.config.schema import Config, ModelConfig
from llamaswap.core.snapshot import UpstreamSnapshot
from llamaswap.web.daemon import WebRouter
from llamaswap.web.details import error_document, unload_time, utc_text
from llamaswap.web.models import shown_capabilities

Document = dict[str, Any]


def model_statuses(config: Config, router: WebRouter) -> list[Document]:
    """Describe all local models, sorted by id, then those of peers.

    Args:
        config: The configuration in force.
        router: Knows the processes.
    """
    snapshots = {snapshot.model: snapshot for snapshot in router.snapshots()}
    local = [_local(model, snapshots[name], router.reserved(name)) for name, model in sorted(config.models.items())]
    remote = sorted((f"{peer.id}/{name}", peer.id) for peer in config.peers.values() for name in peer.models)
    return local + [_entry(name, peer=peer) for name, peer in remote]


def _local(model: ModelConfig, snapshot: UpstreamSnapshot, reserved: tuple[int, int]) -> Document:
    shown = shown_capabilities(model.capabilities)
    extra = {
        "aliases": model.aliases,
        "capabilities": shown.get("capabilities"),
        "context_length": shown.get("context_length"),
    }
    queued, in_flight = reserved
    return {
        **_entry(model.id, name=model.name, description=model.description, unlisted=model.unlisted),
        "state": snapshot.state.value,
        **{key: value for key, value in extra.items() if value},
        "queued": queued,
        "in_flight": in_flight,
        "started_at": utc_text(snapshot.started_at),
        "ready_at": utc_text(snapshot.ready_at),
        "ttl_deadline": unload_time(snapshot, reserved),
        "pid": snapshot.pid,
        "last_error": error_document(snapshot.last_error),
    }


def _entry(model: str, *, name: str = "", description: str = "", unlisted: bool = False, peer: str = "") -> Document:
    return {
        "id": model,
        "name": name,
        "description": description,
        "state": "",
        "unlisted": unlisted,
        "peerID": peer,
    }
