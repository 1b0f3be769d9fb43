"""The two worlds of the soak: six models in groups, and the same six under a matrix."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any, Final

MODELS: Final = ("a", "b", "c", "d", "e", "f")
DEMO: Final = "f"
"""The model that is a demo server, well-behaved and without marks; the others are :mod:`tests.soak.server`."""

GRACE_SECONDS: Final = 1
LIMITS: Final = {**dict.fromkeys(MODELS, 10), "d": 4}
_TTL_SECONDS: Final = {"b": 1, "e": 1, "f": 2}


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

    def configuration(self, folder: Path, run: str, seed: int, hang_share: float) -> str:
        """Write the configuration.

        Args:
            folder: Where the servers leave their marks.
            run: Put into the environment of every process of a model, to find them by.
            seed: For the servers' misfortunes.
            hang_share: Share of starts that never become healthy.
        """
        sections = {
            "healthCheckTimeout": 15,
            "logToStdout": "both",
            "unloadTimeout": GRACE_SECONDS,
            "models": {m: _model(m, folder, run, f"{self.name}-{seed}-{m}", hang_share) for m in MODELS},
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


def _model(model: str, folder: Path, run: str, dice: str, hang_share: float) -> dict[str, Any]:
    settings: dict[str, Any] = {
        "proxy": "http://127.0.0.1:${PORT}",
        "env": [f"SOAK_RUN={run}", f"SOAK_MODEL={model}"],
        "concurrencyLimit": LIMITS[model],
        "ttl": _TTL_SECONDS.get(model, 0),
    }
    if model == DEMO:
        return {
            **settings,
            "cmd": f"{shlex.quote(sys.executable)} -m llamaswap.demo --port ${{PORT}} --name f --rate 200",
        }
    words = [sys.executable, "-S", "-E", str(Path(__file__).with_name("server.py"))]
    words += ["--marks", str(marks_path(folder, model)), "--calm", str(calm_path(folder))]
    words += ["--dice", dice, "--hang-share", str(hang_share)]
    command = f"{shlex.join(words)} --port ${{PORT}}"
    if model == "c":
        command = f"sh -c {shlex.quote(command + ' & wait')}"
    if model == "e":
        settings["cmdStop"] = "sh -c 'kill -TERM ${PID}'"
    return {**settings, "cmd": command}


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
    exclusive=_pairs(["abcf", "de"]),
)

MATRIX: Final = World(
    name="matrix",
    router={
        "use": "matrix",
        "settings": {
            "matrix": {"evict_costs": {"a": 3}, "sets": {"left": "(a | b) & c", "right": "d & (e | f)"}},
        },
    },
    exclusive=_pairs([MODELS]) - _pairs(["ac", "bc", "de", "df"]),
)
