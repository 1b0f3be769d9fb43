"""Macros: their declarations, and how ``${NAME}`` is replaced by them.

The list of macros is walked from last to first, each macro once; so the text of a macro may use
the macros declared before it, and nothing can go round in circles.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, assert_never

from llamaswap.config.environment import REFERENCE as ENVIRONMENT_REFERENCE
from llamaswap.config.nodes import Entry, ListNode, MapNode, Node, ScalarNode, is_null
from llamaswap.config.problems import Place, Problems, Stage
from llamaswap.config.scalars import Timestamp, Value, text_form

MODEL_ID: Final = "MODEL_ID"
PORT: Final = "PORT"
PID: Final = "PID"

REFERENCE: Final = re.compile(r"\$\{([a-zA-Z0-9_-]+)\}")
_NAME: Final = re.compile(r"[a-zA-Z0-9_-]+")
_LONGEST_NAME: Final = 63
_LONGEST_TEXT: Final = 1_000_000
"""Characters that macros may make of one value: many times what a command line can hold."""

_RESERVED: Final = frozenset({MODEL_ID, PORT, PID})
_TYPE_WORDS: Final = ((Timestamp, "timestamp"), (type(None), "null"))


@dataclass(frozen=True, slots=True)
class Macro:
    """A name and what it stands for."""

    name: str
    value: Value


def declared(node: Node | None, place: Place, owner: str, problems: Problems) -> tuple[Macro, ...]:
    """Read a ``macros`` block.

    Args:
        node: The block, ``None`` when there is none.
        place: Where it is.
        owner: Put before each message: empty, or the words for a model.
        problems: Gets an error for each declaration that cannot be used.
    """
    if node is None or is_null(node):
        return ()
    if not isinstance(node, MapNode):
        problems.add(Stage.MACROS, place, f"{owner}macros must be a mapping")
        return ()
    if node.has_merge_key:
        problems.add(Stage.MACROS, place, f"{owner}macro name '<<' {_INVALID}")
    found: list[Macro] = []
    for name, entry in node.entries.items():
        wrong = _wrong(name, entry.value)
        if wrong:
            problems.add(Stage.MACROS, place.at(name, entry.key.mark), f"{owner}{wrong}")
        elif isinstance(entry.value, ScalarNode):
            found.append(Macro(name, entry.value.value))
    return tuple(found)


_INVALID: Final = "contains invalid characters, must match pattern ^[a-zA-Z0-9_-]+$"


def _wrong(name: str, value: Node) -> str:
    """Say what is wrong with a declaration; empty = nothing."""
    if len(name) > _LONGEST_NAME:
        return f"macro name '{name}' exceeds maximum length of {_LONGEST_NAME} characters"
    if not _NAME.fullmatch(name):
        return f"macro name '{name}' {_INVALID}"
    if name in _RESERVED:
        return f"macro name '{name}' is reserved"
    kind = _unfit(value)
    if kind:
        return f"macro '{name}' has invalid type {kind}, must be a scalar type (string, int, float, or bool)"
    if isinstance(value, ScalarNode) and isinstance(value.value, str) and f"${{{name}}}" in value.value:
        return f"macro '{name}' contains self-reference"
    return ""


def _unfit(value: Node) -> str:
    """Name the kind of a value that no macro can have; empty = it is fine."""
    if isinstance(value, ScalarNode):
        return next((word for kind, word in _TYPE_WORDS if isinstance(value.value, kind)), "")
    return "list" if isinstance(value, ListNode) else "mapping"


def effective(model_id: str, shared: Sequence[Macro], own: Iterable[Macro]) -> tuple[Macro, ...]:
    """Give the list of one model: its id, then the global macros with its own in their places, then the rest."""
    found = {MODEL_ID: Macro(MODEL_ID, model_id)}
    for macro in (*shared, *own):
        found[macro.name] = macro
    return tuple(found.values())


class Substitution:
    """Replaces the macros of one list.

    Args:
        macros: In order of declaration.
        problems: Gets an error for each text that becomes far too long, or in which macros form an environment
            reference.
    """

    def __init__(self, macros: Iterable[Macro], problems: Problems) -> None:
        self._steps = [(f"${{{macro.name}}}", macro.value) for macro in reversed(tuple(macros))]
        self._problems = problems

    def node(self, node: Node, place: Place) -> Node:
        """Replace in every string value at any depth; keys stay."""
        match node:
            case ScalarNode(value=str(text), mark=mark) if "${" in text:
                return ScalarNode(self._value(text, Place(place.path, mark)), mark)
            case ScalarNode():
                return node
            case ListNode(items, mark):
                return ListNode(tuple(self.node(item, place) for item in items), mark)
            case MapNode():
                return self.mapping(node, place)
            case _:
                assert_never(node)

    def mapping(self, node: MapNode, place: Place) -> MapNode:
        """Replace in the values of a mapping."""
        changed = {
            name: Entry(entry.key, self.node(entry.value, place.at(name, entry.value.mark)))
            for name, entry in node.entries.items()
        }
        return MapNode(node.mark, changed, node.has_merge_key)

    def text(self, text: str, place: Place) -> str:
        """Replace in a text that stays one."""
        return text_form(self._value(text, place)) if "${" in text else text

    def _value(self, text: str, place: Place) -> Value:
        for reference, value in self._steps:
            if text == reference:
                if not isinstance(value, str):
                    return value
                text = value
            elif reference in text:
                text = self._spliced(text, reference, text_form(value), place)
        return text

    def _spliced(self, text: str, reference: str, part: str, place: Place) -> str:
        """Put ``part`` in, and see to it that neither a flood nor an environment reference comes of it."""
        if len(text) + text.count(reference) * (len(part) - len(reference)) > _LONGEST_TEXT:
            said = f"macros make more than {_LONGEST_TEXT} characters of it, with {reference}"
            self._problems.add(Stage.EXPANSION, place, said)
            return text
        result = text.replace(reference, part)
        before = {*ENVIRONMENT_REFERENCE.findall(text), *ENVIRONMENT_REFERENCE.findall(part)}
        for name in ENVIRONMENT_REFERENCE.findall(result):
            if name not in before:
                said = "environment references are not expanded inside macro results"
                self._problems.add(Stage.LEFTOVERS, place, f"environment variable '{name}' not set: {said}")
        return result
