"""All there is to say about one model, for ``GET /api/models/{model}``."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Final

from llamaswap.config.schema import Config, Filters, ModelConfig
from llamaswap.core.masking import masked
from llamaswap.core.sets import sets_with
from llamaswap.core.snapshot import LoadError, UpstreamSnapshot
from llamaswap.core.values import LoadTimes
from llamaswap.web.models import shown_capabilities

Document = dict[str, Any]

_MS: Final = 1000


def model_details(
    config: Config,
    model: ModelConfig,
    snapshot: UpstreamSnapshot,
    *,
    reserved: tuple[int, int],
    resident_bytes: int | None,
) -> Document:
    """Make the document; what is secret is masked.

    Args:
        config: The configuration in force.
        model: The model.
        snapshot: Its process at this moment.
        reserved: Its requests that wait, and those that are served.
        resident_bytes: Host memory of its process, ``None`` = unknown.
    """
    queued, in_flight = reserved
    return {
        **_configured(config, model),
        "state": snapshot.state.value,
        "queued": queued,
        "in_flight": in_flight,
        "generation": snapshot.generation,
        "cwd": snapshot.cwd or None,
        "launched": snapshot.launched,
        "pid": snapshot.pid,
        "ttl_deadline": unload_time(snapshot, reserved),
        "started_at": utc_text(snapshot.started_at),
        "ready_at": utc_text(snapshot.ready_at),
        "starts": snapshot.starts,
        "crashes": snapshot.crashes,
        "load_ms": _load_ms(snapshot.load),
        "resident_bytes": resident_bytes,
        "device_bytes": {},  # no source tells it by process
        "last_error": error_document(snapshot.last_error),
    }


def _configured(config: Config, model: ModelConfig) -> Document:
    return {
        "id": model.id,
        "name": model.name,
        "description": model.description,
        "aliases": model.aliases,
        "limit": model.concurrency_limit,
        "cmd": masked(model.cmd),
        "env": [entry.partition("=")[0] for entry in model.env],
        "proxy": masked(model.proxy),
        "port": model.port,
        "launcher": model.launcher,
        "group": config.facts()[model.id].group,
        "matrix_sets": [] if config.router.matrix is None else sets_with(config.router.matrix, model.id),
        "ttl": model.ttl_seconds,
        "unload_timeout": model.unload_timeout_seconds,
        "filters": _filters(model.filters),
        "capabilities": shown_capabilities(model.capabilities).get("capabilities", {}),
        "metadata": model.metadata,
    }


def _filters(filters: Filters) -> Document:
    shown = {
        "stripParams": filters.strip_params,
        "setParams": filters.set_params,
        "setParamsByID": filters.set_params_by_id,
    }
    return {name: value for name, value in shown.items() if value}


def _load_ms(load: LoadTimes) -> Document:
    return {"last": _ms(load.last), "mean": _ms(load.ewma), "count": load.count}


def _ms(seconds: float | None) -> int | None:
    return round(seconds * _MS) if seconds is not None else None


def unload_time(snapshot: UpstreamSnapshot, reserved: tuple[int, int]) -> str | None:
    """Say when a model is unloaded unless it is used.

    Args:
        snapshot: Its process.
        reserved: Its requests that wait, and those that are served: as long as there are any, it stays.
    """
    return utc_text(snapshot.expires_at) if reserved == (0, 0) else None


def error_document(error: LoadError | None) -> Document | None:
    """Show why a model is not up; what is secret is masked."""
    if error is None:
        return None
    return {
        "at": utc_text(error.at),
        "kind": error.kind.value,
        "message": masked(error.message),
        "exit_code": error.exit_code,
        "signal": error.signal,
        "log_tail": [masked(line) for line in error.log_tail],
    }


def utc_text(at: float | None) -> str | None:
    """Give a time as RFC 3339 in UTC, with milliseconds."""
    if at is None:
        return None
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
