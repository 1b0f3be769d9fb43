"""Kinds of single values and of lists; see :class:`llamaswap.config.fields.Kind`."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

from llamaswap.config.fields import MACRO_SCHEMA, key_text, mismatch, out_of_range
from llamaswap.config.nodes import ListNode, MapNode, Node, ScalarNode, is_null
from llamaswap.config.problems import Place, Problems, Stage
from llamaswap.config.scalars import INT64_GREATEST, INT64_LEAST, text_form
from llamaswap.core.values import empty_mapping

_YES: Final = ("y", "Y", "yes", "Yes", "YES", "on", "On", "ON")
_NO: Final = ("n", "N", "no", "No", "NO", "off", "Off", "OFF")
_UNIT_SECONDS: Final = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_DURATION_PART: Final = re.compile(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h)")
_LONGEST_DURATION_SECONDS: Final = 2**63 / 1e9
"""About 292 years: what 64 bits of nanoseconds hold."""

_DURATION: Final = re.compile(rf"[-+]?(?:(?:{_DURATION_PART.pattern})+|0)")


@dataclass(frozen=True, slots=True)
class Integer:
    """A whole number of 64 bits; the fraction of a float is cut off.

    Attributes:
        least: Smallest allowed value, when too small ones are refused here.
    """

    least: int | None = None

    words = "integer"
    zero = 0
    null_is_zero = False

    def convert(self, node: Node, place: Place, problems: Problems) -> int:
        """Read a number; see :class:`~llamaswap.config.fields.Kind`."""
        value = node.value if isinstance(node, ScalarNode) else None
        if isinstance(value, bool) or not isinstance(value, int | float) or not INT64_LEAST <= value <= INT64_GREATEST:
            mismatch(problems, place, "an integer", node)
            return self.zero
        if self.least is not None and value < self.least:
            out_of_range(problems, place, f"an integer >= {self.least}", node)
        return int(value)

    def schema(self) -> dict[str, Any]:
        """Give the JSON schema; see :class:`~llamaswap.config.fields.Kind`."""
        number: dict[str, Any] = {"type": "number"}
        if self.least is not None:
            number["minimum"] = self.least
        return {"anyOf": [number, {"type": "null"}, dict(MACRO_SCHEMA)]}


@dataclass(frozen=True, slots=True)
class PositiveNumber:
    """A number above 0."""

    words = "number"
    zero = 0.0
    null_is_zero = False

    def convert(self, node: Node, place: Place, problems: Problems) -> float:
        """Read a number; see :class:`~llamaswap.config.fields.Kind`."""
        value = node.value if isinstance(node, ScalarNode) else None
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            mismatch(problems, place, "a number", node)
            return self.zero
        if value <= 0:
            out_of_range(problems, place, "a number > 0", node)
        return float(value)

    def schema(self) -> dict[str, Any]:
        """Give the JSON schema; see :class:`~llamaswap.config.fields.Kind`."""
        return {"anyOf": [{"type": "number", "exclusiveMinimum": 0}, {"type": "null"}, dict(MACRO_SCHEMA)]}


@dataclass(frozen=True, slots=True)
class Boolean:
    """True or false, also as one of YAML 1.1's words."""

    words = "boolean"
    zero = False
    null_is_zero = False

    def convert(self, node: Node, place: Place, problems: Problems) -> bool:
        """Read a boolean; see :class:`~llamaswap.config.fields.Kind`."""
        value = node.value if isinstance(node, ScalarNode) else None
        if isinstance(value, bool):
            return value
        if not isinstance(value, str) or value not in {*_YES, *_NO}:
            mismatch(problems, place, "a boolean", node)
        return value in _YES

    def schema(self) -> dict[str, Any]:
        """Give the JSON schema; see :class:`~llamaswap.config.fields.Kind`."""
        return {"anyOf": [{"type": "boolean"}, {"enum": [*_YES, *_NO]}, {"type": "null"}, dict(MACRO_SCHEMA)]}


@dataclass(frozen=True, slots=True)
class Text:
    """Any scalar, as text.

    Attributes:
        choices: Allowed words, when others are refused here.
    """

    choices: tuple[str, ...] = ()

    words = "string"
    zero = ""
    null_is_zero = False

    def convert(self, node: Node, place: Place, problems: Problems) -> str:
        """Read a text, spelt as it was written; see :class:`~llamaswap.config.fields.Kind`."""
        if not isinstance(node, ScalarNode):
            mismatch(problems, place, "a string", node)
            return self.zero
        if self.choices and node.written not in self.choices:
            out_of_range(problems, place, f"one of {', '.join(self.choices)}", node)
        return node.written

    def schema(self) -> dict[str, Any]:
        """Give the JSON schema; see :class:`~llamaswap.config.fields.Kind`."""
        if self.choices:
            return {"anyOf": [{"enum": list(self.choices)}, {"type": "null"}, dict(MACRO_SCHEMA)]}
        return {"type": ["string", "number", "boolean", "null"]}


@dataclass(frozen=True, slots=True)
class Duration:
    """A time such as ``1h30m`` or ``4999ms``; the typed value is seconds."""

    words = "duration"
    zero = 0.0
    null_is_zero = False

    def convert(self, node: Node, place: Place, problems: Problems) -> float:
        """Read a duration; see :class:`~llamaswap.config.fields.Kind`."""
        value = node.value if isinstance(node, ScalarNode) else None
        if not isinstance(value, str) or not _DURATION.fullmatch(value):
            mismatch(problems, place, 'a duration such as "10s"', node)
            return self.zero
        seconds = math.fsum(float(number) * _UNIT_SECONDS[unit] for number, unit in _DURATION_PART.findall(value))
        if seconds >= _LONGEST_DURATION_SECONDS:
            mismatch(problems, place, 'a duration such as "10s", below 292 years', node)
            return self.zero
        return -seconds if value.startswith("-") else seconds

    def schema(self) -> dict[str, Any]:
        """Give the JSON schema; see :class:`~llamaswap.config.fields.Kind`."""
        number = r"([0-9]+(\.[0-9]*)?|\.[0-9]+)"
        pattern = rf"^[-+]?(({number}(ns|us|µs|μs|ms|s|m|h))+|0)$"
        return {"anyOf": [{"type": "string", "pattern": pattern}, {"type": "null"}, dict(MACRO_SCHEMA)]}


@dataclass(frozen=True, slots=True)
class Texts:
    """A list of strings; null entries are dropped.

    Attributes:
        keeps_nulls: Whether null entries become empty strings instead, and numbers take their
            text form instead of their spelling: for keys that open doors.
    """

    keeps_nulls: bool = False

    words = "list of strings"
    null_is_zero = True

    @property
    def zero(self) -> tuple[str, ...]:
        """No strings."""
        return ()

    def convert(self, node: Node, place: Place, problems: Problems) -> tuple[str, ...]:
        """Read the strings in order; see :class:`~llamaswap.config.fields.Kind`."""
        if not isinstance(node, ListNode):
            mismatch(problems, place, "a list of strings", node)
            return ()
        found: list[str] = []
        for index, item in enumerate(node.items):
            if not isinstance(item, ScalarNode):
                mismatch(problems, place.at(index), "a string", item)
            elif self.keeps_nulls:
                found.append(text_form(item.value))
            elif not is_null(item):
                found.append(item.written)
        return tuple(found)

    def schema(self) -> dict[str, Any]:
        """Give the JSON schema; see :class:`~llamaswap.config.fields.Kind`."""
        types = ["string", "number", "boolean"] if self.keeps_nulls else ["string", "number", "boolean", "null"]
        return {"type": ["array", "null"], "items": {"type": types}}


@dataclass(frozen=True, slots=True)
class Anything:
    """Whatever can be written as JSON, deeply frozen.

    Attributes:
        is_mapping: Whether only a mapping is accepted.
    """

    is_mapping: bool = False

    @property
    def words(self) -> str:
        """Name of the type."""
        return "mapping" if self.is_mapping else "any"

    @property
    def null_is_zero(self) -> bool:
        """Whether null means an empty mapping."""
        return self.is_mapping

    @property
    def zero(self) -> Any:
        """An empty mapping, or nothing."""
        return empty_mapping() if self.is_mapping else None

    def convert(self, node: Node, place: Place, problems: Problems) -> Any:
        """Read a value; see :class:`~llamaswap.config.fields.Kind`."""
        if self.is_mapping and not isinstance(node, MapNode):
            mismatch(problems, place, "a mapping", node)
            return self.zero
        return _frozen(node, place, problems)

    def schema(self) -> dict[str, Any]:
        """Give the JSON schema; see :class:`~llamaswap.config.fields.Kind`."""
        return {"type": ["object", "null"]} if self.is_mapping else {}


def _frozen(node: Node, place: Place, problems: Problems) -> Any:
    match node:
        case ListNode(items):
            return tuple(_frozen(item, place.at(index), problems) for index, item in enumerate(items))
        case MapNode():
            return _frozen_mapping(node, place, problems)
        case ScalarNode(value=float(number)) if not math.isfinite(number):
            problems.add(Stage.TYPES, Place(place.path, node.mark), "infinity and NaN cannot be written as JSON")
            return None
        case ScalarNode(value=str(text)):
            return str(text)
        case _:
            return node.value


def _frozen_mapping(node: MapNode, place: Place, problems: Problems) -> Mapping[str, Any]:
    found: dict[str, Any] = {}
    for entry in node.entries.values():
        key = key_text(entry.key)
        below = place.at(key, entry.key.mark)
        if key in found:
            problems.add(Stage.TYPES, below, f'mapping key "{key}" already defined')
        found[key] = _frozen(entry.value, below, problems)
    return MappingProxyType(found)
