"""Search for ``${NAME}`` that no macro has replaced."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterator, Mapping
from typing import Final

from llamaswap.config.macros import MODEL_ID, PID, PORT, REFERENCE
from llamaswap.config.nodes import ListNode, MapNode, Node, ScalarNode
from llamaswap.config.problems import Place, Problems, Stage

_NAMED_FIELDS: Final = frozenset(
    {"cmd", "cmdStop", "proxy", "checkEndpoint", "name", "description", "filters.stripParams"},
)
_NAMED_SECTIONS: Final = ("metadata", "capabilities")


def check_model(model_id: str, node: Node, declared: Collection[str], place: Place, problems: Problems) -> None:
    """Complain about every reference that is left below a model.

    Args:
        model_id: The model.
        node: Its settings after substitution.
        declared: Names of its macros, for hints.
        place: The model's.
        problems: Gets the errors.
    """
    for path, where, text in _strings(node, "", place):
        for name in dict.fromkeys(REFERENCE.findall(text)):
            if name == PID and path == "cmdStop":
                continue
            problems.add(Stage.LEFTOVERS, where, _model_message(model_id, path, name) + _hint(name, declared))


def check_rest(
    sections: Mapping[str, Node],
    declared: Collection[str],
    problems: Problems,
) -> None:
    """Complain about every reference that is left in top-level sections other than the models."""
    for key, node in sections.items():
        for _, where, text in _strings(node, key, Place(key, node.mark)):
            for name in dict.fromkeys(REFERENCE.findall(text)):
                said = f"{where.path}: unknown macro '${{{name}}}'{_hint(name, declared)}"
                problems.add(Stage.LEFTOVERS, where, said)


def _strings(node: Node, path: str, place: Place) -> Iterator[tuple[str, Place, str]]:
    """Yield each string with its path, without and with list indexes."""
    match node:
        case ScalarNode(value=str(text)) if "${" in text:
            yield path, Place(place.path, node.mark), text
        case ListNode(items):
            for index, item in enumerate(items):
                yield from _strings(item, path, place.at(index))
        case MapNode():
            for name, entry in node.entries.items():
                yield from _strings(entry.value, f"{path}.{name}".removeprefix("."), place.at(name))
        case _:
            return


def _model_message(model_id: str, path: str, name: str) -> str:
    if path in _NAMED_FIELDS:
        if name in {PORT, MODEL_ID}:
            return f"macro '${{{name}}}' should have been substituted in {model_id}.{path}"
        return f"unknown macro '${{{name}}}' found in {model_id}.{path}"
    section = path.partition(".")[0]
    return f"model {model_id} {section if section in _NAMED_SECTIONS else path}: unknown macro '${{{name}}}'"


def _hint(name: str, declared: Collection[str]) -> str:
    if name in declared:
        return f"; '{name}' is declared after the macro that uses it"
    nearest = difflib.get_close_matches(name, declared, 1)
    return f"; did you mean '${{{nearest[0]}}}'?" if nearest else ""
