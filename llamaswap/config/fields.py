"""Kinds of settings: how a node becomes a typed value, and how that looks in a JSON schema.

A :class:`Section` is a table of :class:`Field`; the whole configuration is one section
(:data:`llamaswap.config.table.ROOT`), from which conversion, the search for unknown keys, the
JSON schema and the reference documentation come.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final, Protocol

from llamaswap.config.nodes import ListNode, MapNode, Node, ScalarNode, describe, is_null
from llamaswap.config.problems import Place, Problems, Stage
from llamaswap.core.values import empty_mapping

MACRO_SCHEMA: Final[Mapping[str, Any]] = MappingProxyType({"$ref": "#/$defs/macro"})
"""A reference to a macro may stand where another type is due."""


class Kind(Protocol):
    """A type of settings.

    Attributes:
        words: Name of the type, for documentation.
        zero: The value of a null entry of a mapping, and of a null list or mapping.
        null_is_zero: Whether a null setting means ``zero`` instead of the setting's default.
    """

    @property
    def words(self) -> str: ...  # noqa: D102
    @property
    def zero(self) -> Any: ...  # noqa: D102
    @property
    def null_is_zero(self) -> bool: ...  # noqa: D102

    def convert(self, node: Node, place: Place, problems: Problems) -> Any:
        """Give the typed value of a node that is not null.

        After noting an error it gives some value of the right type.
        """

    def schema(self) -> dict[str, Any]:
        """Give the JSON schema of the values."""


def mismatch(problems: Problems, place: Place, expected: str, node: Node) -> None:
    """Note that a value has the wrong type."""
    problems.add(Stage.TYPES, Place(place.path, node.mark), f"expected {expected}, got {describe(node)}")


def out_of_range(problems: Problems, place: Place, expected: str, node: Node) -> None:
    """Note that a value of the right type is not allowed."""
    problems.add(Stage.GENERAL, Place(place.path, node.mark), f"expected {expected}, got {describe(node)}")


@dataclass(frozen=True, slots=True)
class Field:
    """One key of a section.

    Attributes:
        key: As it is written in YAML.
        kind: Its type.
        doc: What it does, in one sentence or two.
        default: Its typed value when it is missing; ``None`` = not set.
        unit: Of a number.
        is_required: Whether the section is refused without it.
        is_ours: Whether llama-swap does not know it.
    """

    key: str
    kind: Kind
    doc: str
    default: Any = None
    unit: str = ""
    is_required: bool = False
    is_ours: bool = False

    @property
    def missing(self) -> Any:
        """The typed value of a missing key."""
        return self.kind.zero if self.default is None and self.kind.null_is_zero else self.default

    def schema(self) -> dict[str, Any]:
        """Give the JSON schema of the values, with the documentation."""
        found = {**self.kind.schema(), "description": f"{self.doc} ({self.unit})" if self.unit else self.doc}
        if isinstance(self.default, bool | int | float | str):
            found["default"] = self.default
        return found


class Record(Mapping[str, Any]):
    """The typed values of a section, defaults included, and where they were written.

    Args:
        values: By key.
        node: What the section was read from; ``None`` when it is missing.
        place: Where it is, or would be.
        rest: Entries that no field describes, of a section that allows them.
    """

    def __init__(self, values: dict[str, Any], node: MapNode | None, place: Place, rest: Mapping[str, Node]) -> None:
        self._values = values
        self._node = node
        self.path = place
        self.rest = rest

    def __getitem__(self, key: str) -> Any:
        """Give the typed value of a key of the table."""
        return self._values[key]

    def __iter__(self) -> Iterator[str]:
        """Go through the keys of the table."""
        return iter(self._values)

    def __len__(self) -> int:
        """Count the keys of the table."""
        return len(self._values)

    def has(self, key: str) -> bool:
        """Say whether a key is written and not null."""
        return self._node is not None and not is_null(self._node.get(key))

    def node(self, key: str) -> Node | None:
        """Give a value as it was written."""
        return self._node.get(key) if self._node is not None else None

    def place(self, *steps: str | int) -> Place:
        """Give the place of a setting, of an entry of a mapping, or of an item of a list (nulls not counted)."""
        place = self.path
        node: Node | None = self._node
        for step in steps:
            node = _child(node, step)
            place = place.at(step, node.mark if node is not None else None)
        return place


def _child(node: Node | None, step: str | int) -> Node | None:
    if isinstance(node, MapNode) and isinstance(step, str):
        found = node.get(step)
        if found is not None:
            return found
        return next((entry.value for entry in node.entries.values() if key_text(entry.key) == step), None)
    if isinstance(node, ListNode) and isinstance(step, int):
        items = [item for item in node.items if not is_null(item)]
        return items[step] if step < len(items) else None
    return None


def key_text(key: ScalarNode) -> str:
    """Give the text of a key: the text form, or the spelling of a null."""
    return key.written if key.value is None else ScalarNode(key.value, key.mark).written


@dataclass(frozen=True, slots=True)
class Section:
    """A mapping with fixed keys.

    Attributes:
        fields: In the order of the documentation.
        list_refusal: What to say to a list in this place.
        rest: What further keys mean, when they are allowed; empty = unknown keys are warned about.
        ignored_prefix: Unknown keys that begin with it are left alone.
    """

    fields: tuple[Field, ...]
    list_refusal: str = ""
    rest: str = ""
    ignored_prefix: str = ""

    words = "section"
    null_is_zero = True

    @property
    def zero(self) -> Record:
        """The section with nothing in it."""
        return self.read(None, Place(), Problems())

    def convert(self, node: Node, place: Place, problems: Problems) -> Record:
        """Read the section; see :class:`Kind`."""
        if isinstance(node, MapNode):
            return self.read(node, place, problems)
        if self.list_refusal and isinstance(node, ListNode):
            problems.add(Stage.TYPES, place, self.list_refusal)
        else:
            mismatch(problems, place, "a mapping", node)
        return self.read(None, place, problems)

    def read(self, node: MapNode | None, place: Place, problems: Problems) -> Record:
        """Read the section, or give its defaults where there is none."""
        values: dict[str, Any] = {}
        for field in self.fields:
            value = node.get(field.key) if node is not None else None
            below = place.at(field.key, value.mark if value is not None else None)
            if value is not None and not is_null(value):
                values[field.key] = field.kind.convert(value, below, problems)
            elif isinstance(field.kind, Section):
                values[field.key] = field.kind.read(None, below, problems)
            elif value is not None and field.kind.null_is_zero:
                values[field.key] = field.kind.zero
            else:
                values[field.key] = field.missing
        return Record(values, node, place, self._others(node, place, problems))

    def _others(self, node: MapNode | None, place: Place, problems: Problems) -> dict[str, Node]:
        known = {field.key for field in self.fields}
        others: dict[str, Node] = {}
        for name, entry in node.entries.items() if node is not None else ():
            if name in known:
                continue
            if self.rest:
                others[name] = entry.value
            elif not (self.ignored_prefix and name.startswith(self.ignored_prefix)):
                nearest = difflib.get_close_matches(name, known, 1)
                problems.warn_unknown_key(place.at(name, entry.key.mark), nearest[0] if nearest else None)
        return others

    def schema(self) -> dict[str, Any]:
        """Give the JSON schema; see :class:`Kind`."""
        found: dict[str, Any] = {
            "type": ["object", "null"],
            "properties": {field.key: field.schema() for field in self.fields},
            "additionalProperties": {"description": self.rest} if self.rest else False,
        }
        required = [field.key for field in self.fields if field.is_required]
        if required:
            found |= {"type": "object", "required": required}
        if self.ignored_prefix:
            found["patternProperties"] = {f"^{self.ignored_prefix}": {}}
        return found


@dataclass(frozen=True, slots=True)
class MappingOf:
    """A mapping with free keys.

    Attributes:
        item: Type of the values.
        keeps_spelling: Whether a key such as ``1.50`` keeps its spelling instead of becoming ``1.5``.
        list_refusal: What to say to a list in this place.
    """

    item: Kind
    keeps_spelling: bool = False
    list_refusal: str = ""

    null_is_zero = True

    @property
    def words(self) -> str:
        """Name of the type."""
        return f"mapping to {self.item.words}"

    @property
    def zero(self) -> Mapping[str, Any]:
        """No entries."""
        return empty_mapping()

    def convert(self, node: Node, place: Place, problems: Problems) -> Mapping[str, Any]:
        """Read the entries in written order; see :class:`Kind`."""
        if not isinstance(node, MapNode):
            if self.list_refusal and isinstance(node, ListNode):
                problems.add(Stage.TYPES, place, self.list_refusal)
            else:
                mismatch(problems, place, "a mapping", node)
            return self.zero
        found: dict[str, Any] = {}
        for written, entry in node.entries.items():
            key = written if self.keeps_spelling else key_text(entry.key)
            below = place.at(key, entry.key.mark)
            if key in found:
                problems.add(Stage.TYPES, below, f'mapping key "{key}" already defined')
            found[key] = self._item(entry.value, below, problems)
        return MappingProxyType(found)

    def _item(self, node: Node, place: Place, problems: Problems) -> Any:
        if not is_null(node):
            return self.item.convert(node, place, problems)
        return self.item.read(None, place, problems) if isinstance(self.item, Section) else self.item.zero

    def schema(self) -> dict[str, Any]:
        """Give the JSON schema; see :class:`Kind`."""
        return {"type": ["object", "null"], "additionalProperties": self.item.schema()}
