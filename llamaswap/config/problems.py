"""Where the loader collects what is wrong with a configuration.

Problems belong to stages. A stage is closed when all of its checks have run; closing raises one
error with everything that was found so far, so that users see all problems of a stage at once and
none that only follow from them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from llamaswap.errors import ConfigError, ConfigProblem

_SHORTEST_SECRET: Final = 6
"""Characters; shorter environment values are no secrets, and hiding them would spoil messages."""

_UNPRINTABLE: Final = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")
"""What would break a line, or play tricks on a terminal."""


class Stage(IntEnum):
    """Order of the checks; problems of an earlier stage hide the later stages."""

    SOURCES = 1
    MACROS = 2
    START_PORT = 3
    EXPANSION = 4
    LEFTOVERS = 5
    TYPES = 6
    GENERAL = 7
    ALIASES = 8
    MODELS = 9
    ROUTING = 10
    SCHEDULER = 11
    API_KEYS = 12
    PEER_NAMES = 13
    SELECTORS = 14
    PROFILES = 15
    WORLD = 16


@dataclass(frozen=True, slots=True)
class Mark:
    """A line of a source file, counted from 1; line 0 = the file as a whole."""

    file: str
    line: int

    def __str__(self) -> str:
        """Give it as ``FILE:LINE``."""
        return f"{self.file}:{self.line}" if self.line else self.file


@dataclass(frozen=True, slots=True)
class Place:
    """What a problem is about: keys joined by dots, list indexes in brackets, and a source line."""

    path: str = ""
    mark: Mark | None = None

    def at(self, step: str | int, mark: Mark | None = None) -> Place:
        """Give the place one key or one list index further down."""
        below = f"[{step}]" if isinstance(step, int) else f".{step}"
        return Place(f"{self.path}{below}".removeprefix("."), mark or self.mark)


class Problems:
    """Collects errors by stage, and warnings.

    Attributes:
        warnings: Lines about things that load but look wrong, in order.
        unknown_keys: Those of them that are about keys that nobody knows.
        secrets: Environment value to the name of its variable; such values never appear in a line.
    """

    def __init__(self) -> None:
        self.warnings: list[str] = []
        self.unknown_keys: list[str] = []
        self.secrets: dict[str, str] = {}
        self._errors: list[tuple[Stage, str, ConfigProblem]] = []

    def add(self, stage: Stage, place: Place, text: str) -> None:
        """Note an error; ``text`` says what is wrong, in one line."""
        mark = place.mark
        path = hide(place.path, self.secrets)
        problem = ConfigProblem(
            hide(text, self.secrets).removeprefix(f"{path}: "),
            mark.file if mark is not None and mark.file else None,
            mark.line if mark is not None and mark.line else None,
            path or None,
        )
        self._errors.append((stage, self._line(place, text), problem))

    def warn(self, place: Place, text: str) -> None:
        """Note a warning."""
        self.warnings.append(self._line(place, text))

    def warn_unknown_key(self, place: Place, nearest: str | None) -> None:
        """Note a key that means nothing here, with the known key that it resembles."""
        hint = f'; did you mean "{nearest}"?' if nearest else ""
        self.warn(place, f"unknown key{hint}")
        self.unknown_keys.append(self.warnings[-1])

    def close(self, stage: Stage) -> None:
        """End a stage.

        Raises:
            ConfigError: Something is wrong at this stage or before; one line per problem.
        """
        found = [error for error in self._errors if error[0] <= stage]
        if found:
            found.sort(key=lambda error: error[0])
            raise ConfigError("\n".join(line for _, line, _ in found), [problem for *_, problem in found])

    def _line(self, place: Place, text: str) -> str:
        parts = [str(place.mark)] if place.mark is not None else []
        if place.path and not text.startswith(f"{place.path}: "):
            parts.append(hide(place.path, self.secrets))
        parts.append(hide(text, self.secrets))
        return _UNPRINTABLE.sub(lambda found: found[0].encode("unicode_escape").decode("ascii"), ": ".join(parts))


def hide(text: str, secrets: Mapping[str, str]) -> str:
    """Put the names of environment variables in place of their values."""
    for value in sorted(secrets, key=len, reverse=True):
        if len(value) >= _SHORTEST_SECRET:
            text = text.replace(value, f"${{env.{secrets[value]}}}")
    return text
