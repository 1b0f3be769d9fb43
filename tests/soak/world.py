"""The two worlds of the soak: six models in groups, and the same six under a matrix."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Any, Final

MODELS: Final = ("a", "b", "c", "d", "e", "f")
DEMO: Final = "f"
"""The model that is a demo server, well-behaved and without marks; the others are :mod:`tests.soak.server`."""

GUEST: Final = "g"
"""A model that comes and goes with reloads, and that no group or set names."""

GRACE_SECONDS: Final = 1
DRAIN_SECONDS: Final = 2
LIMITS: Final = {**dict.fromkeys((*MODELS, GUEST), 10), "d": 4}
_TTL_SECONDS: Final = {"b": 1, "e": 1, "f": 2}


@dataclass(frozen=True)
class Settings:
    """What reloads change.

    Attributes:
        ttl_more: Added to times to live that are not 0.
        nonces: In the commands of models, by model.
        has_guest: Whether the guest is there.
    """

    ttl_more: int = 0
    nonces: Mapping[str, int] = field(default_factory=dict)
    has_guest: bool = False


@dataclass(frozen=True)
class World:
    """What the daemon is told, and what follows from it.

    Attributes:
        name: For the report.
        router: ``routing.router`` of the configuration.
        exclusive: Pairs of models that must never be alive together.
    """

    name: str
    router: dict[str, Any]
    exclusive: frozenset[frozenset[str]]

    def configuration(self, settings: Settings, folder: Path, run: str, seed: int, hang_share: float) -> str:
        """Write the configuration.

        Args:
            settings: What reloads change.
            folder: Where the servers leave their marks.
            run: Put into the environment of every process of a model, to find them by.
            seed: For the servers' misfortunes.
            hang_share: Share of starts that never become healthy.
        """
        models = (*MODELS, GUEST) if settings.has_guest else MODELS
        sections = {
            "healthCheckTimeout": 15,
            "reloadDrain": DRAIN_SECONDS,
            "logToStdout": "both",
            "unloadTimeout": GRACE_SECONDS,
            "models": {m: _model(m, settings, folder, run, f"{self.name}-{seed}-{m}", hang_share) for m in models},
            "routing": {
                "router": self.router,
                "scheduler": {"settings": {"fifo": {"maxWait": 10, "priority": {"c": 5}}}},
            },
        }
        return "".join(f"{key}: {json.dumps(value)}\n" for key, value in sections.items())


def marks_path(folder: Path, model: str) -> Path:
    """Where a model's servers write their marks."""
    return folder / f"marks-{model}"


def calm_path(folder: Path) -> Path:
    """While this exists, nothing is wrong with what is started."""
    return folder / "calm"


def _model(model: str, settings: Settings, folder: Path, run: str, dice: str, hang_share: float) -> dict[str, Any]:
    nonce = str(settings.nonces.get(model, 0))
    found: dict[str, Any] = {
        "proxy": "http://127.0.0.1:${PORT}",
        "env": [f"SOAK_RUN={run}", f"SOAK_MODEL={model}"],
        "concurrencyLimit": LIMITS[model],
        "ttl": _TTL_SECONDS[model] + settings.ttl_more if model in _TTL_SECONDS else 0,
    }
    if model == DEMO:
        command = f"{shlex.quote(sys.executable)} -m llamaswap.demo --port ${{PORT}} --name f"
        return {**found, "cmd": f"{command} --rate {200 + int(nonce)}"}
    words = [sys.executable, "-S", "-E", str(Path(__file__).with_name("server.py"))]
    words += ["--marks", str(marks_path(folder, model)), "--calm", str(calm_path(folder))]
    words += ["--dice", dice, "--hang-share", str(hang_share), "--nonce", nonce]
    command = f"{shlex.join(words)} --port ${{PORT}}"
    if model == "c":
        command = f"sh -c {shlex.quote(command + ' & wait')}"
    if model == "e":
        found["cmdStop"] = "sh -c 'kill -TERM ${PID}'"
    return {**found, "cmd": command}


def _pairs(together: Iterable[Iterable[str]]) -> frozenset[frozenset[str]]:
    return frozenset(frozenset(pair) for each in together for pair in combinations(each, 2))


GROUPS: Final = World(
    name="groups",
    router={
        "use": "group",
        "settings": {
            "groups": {
                "three": {"members": ["a", "b", "c"]},
                # Not exclusive: what loads from it leaves the others alone, so only its own two are rivals.
                "two": {"members": ["d", "e"], "exclusive": False},
                "one": {"members": ["f"]},
            }
        },
    },
    # Whoever loads from an exclusive group, as the guest's is, sends the others away.
    exclusive=_pairs(["abcfg", "de"]),
)

MATRIX: Final = World(
    name="matrix",
    router={
        "use": "matrix",
        "settings": {
            "matrix": {"evict_costs": {"a": 3}, "sets": {"left": "(a | b) & c", "right": "d & (e | f)"}},
        },
    },
    exclusive=_pairs([(*MODELS, GUEST)]) - _pairs(["ac", "bc", "de", "df"]),
)
