"""The tree between YAML text and typed settings: values that remember where they were written.

Nodes are immutable and may be shared, for YAML aliases.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import assert_never

from llamaswap.config.problems import Mark
from llamaswap.config.scalars import Value, text_form
from llamaswap.core.values import empty_mapping


@dataclass(frozen=True, slots=True)
class ScalarNode:
    """A single value.

    Attributes:
        value: As the dialect resolves it.
        spelling: The text of a plain scalar; ``None`` for quoted ones and for what macros brought.
    """

    value: Value
    mark: Mark
    spelling: str | None = None

    @property
    def written(self) -> str:
        """The text for a string field: the spelling where there is one."""
        return self.spelling if self.spelling is not None else text_form(self.value)


@dataclass(frozen=True, slots=True)
class ListNode:
    """A list."""

    items: tuple[Node, ...]
    mark: Mark


@dataclass(frozen=True, slots=True)
class Entry:
    """One key of a mapping with its value."""

    key: ScalarNode
    value: Node


@dataclass(frozen=True, slots=True)
class MapNode:
    """A mapping.

    Attributes:
        entries: By the written key, in order.
        has_merge_key: Whether ``<<`` brought some of the entries.
    """

    mark: Mark
    entries: Mapping[str, Entry] = field(default_factory=empty_mapping)
    has_merge_key: bool = False

    def get(self, key: str) -> Node | None:
        """Give the value of a key, ``None`` when it is missing."""
        entry = self.entries.get(key)
        return entry.value if entry is not None else None

    def without(self, key: str) -> MapNode:
        """Give the mapping less one key."""
        kept = {name: entry for name, entry in self.entries.items() if name != key}
        return MapNode(self.mark, kept, self.has_merge_key)

    def replaced(self, changes: Mapping[str, Node]) -> MapNode:
        """Give the mapping with other values at some keys; new keys go to the end."""
        entries = dict(self.entries)
        for name, value in changes.items():
            old = entries.get(name)
            entries[name] = Entry(old.key if old is not None else ScalarNode(name, value.mark), value)
        return MapNode(self.mark, entries, self.has_merge_key)


Node = ScalarNode | ListNode | MapNode


def is_null(node: Node | None) -> bool:
    """Say whether a value is missing or null."""
    return node is None or (isinstance(node, ScalarNode) and node.value is None)


def describe(node: Node) -> str:
    """Show a value in a message: short, and text in quotes."""
    match node:
        case ScalarNode(value=None):
            return "null"
        case ScalarNode(value=str(text)):
            return f'"{text}"'
        case ScalarNode():
            return node.written
        case ListNode():
            return "a list"
        case MapNode():
            return "a mapping"
        case _:
            assert_never(node)
