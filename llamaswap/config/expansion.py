"""Macros, ports and defaults that depend on them, over the whole tree."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import count
from typing import Final

from llamaswap.config import defaults, leftovers
from llamaswap.config.macros import MODEL_ID, PORT, REFERENCE, Macro, Substitution, declared, effective
from llamaswap.config.nodes import Entry, MapNode, Node, ScalarNode, describe, is_null
from llamaswap.config.problems import Place, Problems, Stage
from llamaswap.config.scalars import INT64_GREATEST, INT64_LEAST
from llamaswap.core.command import strip_comment_lines

_MACROS: Final = "macros"
_MODELS: Final = "models"
_COMMANDS: Final = ("cmd", "cmdStop")
_LAST_PORT: Final = 65535
_PORT_REFERENCE: Final = f"${{{PORT}}}"


@dataclass(frozen=True, slots=True)
class HeldPorts:
    """Ports that a reload must not hand out to others.

    Attributes:
        by_model: Those that were handed out before; the models keep them.
        others: Those at which something else may still answer.
    """

    by_model: Mapping[str, int] = field(default_factory=dict)
    others: Collection[int] = ()

    def free(self, start_port: int) -> Iterator[int]:
        """Give what is not held, from ``start_port`` upwards, without end."""
        taken = {*self.by_model.values(), *self.others}
        return (port for port in count(start_port) if port not in taken)


NO_PORTS: Final = HeldPorts()


@dataclass(frozen=True, slots=True)
class Expanded:
    """A tree without macros.

    Attributes:
        tree: All settings.
        ports: The automatically assigned ports by model id.
    """

    tree: MapNode
    ports: Mapping[str, int]


def expand(tree: MapNode, known_sections: Collection[str], held: HeldPorts, problems: Problems) -> Expanded:
    """Replace all macros, hand out ports, and close the stages up to the leftovers.

    Args:
        tree: The merged configuration.
        known_sections: Top-level keys whose values are searched for leftover references.
        held: Ports that are in use already.
        problems: Gets the errors.

    Raises:
        ConfigError: A macro, a port or a reference is wrong.
    """
    shared = declared(tree.get(_MACROS), _below(Place(), tree, _MACROS), "", problems)
    models = _models(tree)
    own = {
        name: declared(node.get(_MACROS), _below(place, node, _MACROS), f"model {name}: ", problems)
        for name, (node, place) in sorted(models.items())
    }
    problems.close(Stage.MACROS)

    tree = _expanded_rest(tree, Substitution(shared, problems))
    start_port = _start_port(tree, problems)
    problems.close(Stage.START_PORT)

    ports: dict[str, int] = {}
    free_ports = held.free(start_port)
    next_port = next(free_ports)
    expanded: dict[str, Node] = {}
    for name, (node, place) in sorted(models.items()):
        model = _Model(name, place, effective(name, shared, own[name]), problems)
        kept_port = held.by_model.get(name, 0)
        port = kept_port if kept_port >= start_port else next_port
        expanded[name], uses_port = model.expanded(node, port)
        if uses_port:
            ports[name] = port
            next_port = next(free_ports) if port == next_port else next_port
    problems.close(Stage.EXPANSION)

    _check_leftovers(tree, expanded, (shared, own), known_sections, problems)
    found = tree.get(_MODELS)
    if isinstance(found, MapNode):
        tree = tree.replaced({_MODELS: found.replaced(expanded)})
    return Expanded(tree, ports)


def _expanded_rest(tree: MapNode, substitution: Substitution) -> MapNode:
    """Replace the global macros everywhere but in the models."""
    changed = {
        name: substitution.node(entry.value, Place(name, entry.value.mark))
        for name, entry in tree.entries.items()
        if name not in {_MODELS, _MACROS}
    }
    return tree.without(_MACROS).replaced(changed)


def _below(place: Place, node: MapNode, key: str) -> Place:
    value = node.get(key)
    return place.at(key, value.mark if value is not None else None)


def _models(tree: MapNode) -> dict[str, tuple[MapNode, Place]]:
    """Give the models that are mappings, or null, which means an empty mapping."""
    node = tree.get(_MODELS)
    found: dict[str, tuple[MapNode, Place]] = {}
    if isinstance(node, MapNode):
        for name, entry in node.entries.items():
            value = MapNode(entry.value.mark) if is_null(entry.value) else entry.value
            if isinstance(value, MapNode):
                found[name] = (value, Place(f"{_MODELS}.{name}", entry.key.mark))
    return found


def _start_port(tree: MapNode, problems: Problems) -> int:
    node = tree.get("startPort")
    if node is None or is_null(node):
        return defaults.START_PORT
    place = Place("startPort", node.mark)
    value = node.value if isinstance(node, ScalarNode) else None
    if isinstance(value, bool) or not isinstance(value, int | float) or not INT64_LEAST <= value <= INT64_GREATEST:
        problems.add(Stage.START_PORT, place, f"expected an integer, got {describe(node)}")
    elif int(value) < 1:
        problems.add(Stage.START_PORT, place, f"startPort must be greater than 1, got {describe(node)}")
    elif int(value) > _LAST_PORT:
        problems.add(Stage.START_PORT, place, f"startPort must be at most {_LAST_PORT}, got {describe(node)}")
    else:
        return int(value)
    return defaults.START_PORT


def _check_leftovers(
    tree: MapNode,
    models: Mapping[str, Node],
    macros: tuple[tuple[Macro, ...], Mapping[str, tuple[Macro, ...]]],
    known_sections: Collection[str],
    problems: Problems,
) -> None:
    shared, own = macros
    for name, node in models.items():
        names = [MODEL_ID, *(macro.name for macro in (*shared, *own[name]))]
        leftovers.check_model(name, node, names, Place(f"{_MODELS}.{name}", node.mark), problems)
    rest = {name: entry.value for name, entry in tree.entries.items() if name in known_sections and name != _MODELS}
    leftovers.check_rest(rest, [macro.name for macro in shared], problems)
    problems.close(Stage.LEFTOVERS)


class _Model:
    """Expands one model."""

    def __init__(self, name: str, place: Place, macros: tuple[Macro, ...], problems: Problems) -> None:
        self._name = name
        self._place = place
        self._macros = macros
        self._problems = problems

    def expanded(self, node: MapNode, port: int) -> tuple[MapNode, bool]:
        """Give the model without macros, and whether it uses ``port``."""
        prepared = self._prepared(node)
        substituted = self._substituted(prepared, self._macros)
        uses_port = _PORT_REFERENCE in _text(substituted.get("cmd"))
        if uses_port:
            if port > _LAST_PORT:
                self._add(substituted, "cmd", f"no port is left: {port} is above {_LAST_PORT}")
            substituted = self._substituted(substituted, (Macro(PORT, port),))
        elif _PORT_REFERENCE in _text(substituted.get("proxy")):
            reference = _PORT_REFERENCE
            said = f"proxy uses {reference} but cmd does not - {reference} is only available when used in cmd"
            self._add(substituted, "proxy", said)
        self._check_keys(substituted)
        return substituted, uses_port

    def _prepared(self, node: MapNode) -> MapNode:
        """Remove what macros must not see, and add the default that needs them."""
        changes: dict[str, Node] = {}
        for key in _COMMANDS:
            value = node.get(key)
            if isinstance(value, ScalarNode) and isinstance(value.value, str):
                changes[key] = replace(value, value=strip_comment_lines(value.value), spelling=None)
        if is_null(node.get("proxy")):
            changes["proxy"] = ScalarNode(defaults.PROXY, node.mark)
        return node.without(_MACROS).replaced(changes)

    def _substituted(self, node: MapNode, macros: tuple[Macro, ...]) -> MapNode:
        substitution = Substitution(macros, self._problems)
        result = substitution.mapping(node, self._place)
        filters, by_id = _filters(result)
        if filters is None or by_id is None:
            return result
        changed = filters.replaced({"setParamsByID": self._keys(by_id, substitution)})
        return result.replaced({"filters": changed})

    def _keys(self, node: MapNode, substitution: Substitution) -> MapNode:
        """Replace macros in the keys of ``setParamsByID``."""
        place = self._place.at("filters").at("setParamsByID")
        entries: dict[str, Entry] = {}
        origins: dict[str, str] = {}
        for name, entry in node.entries.items():
            key = substitution.text(name, place)
            if key in entries:
                said = f'keys "{origins[key]}" and "{name}" resolve to the same value "{key}"'
                where = place.at(name, entry.key.mark)
                self._problems.add(Stage.EXPANSION, where, f"model {self._name} filters.setParamsByID: {said}")
                continue
            origins[key] = name
            entries[key] = Entry(ScalarNode(key, entry.key.mark), entry.value)
        return MapNode(node.mark, entries, node.has_merge_key)

    def _check_keys(self, node: MapNode) -> None:
        _, by_id = _filters(node)
        for name, entry in by_id.entries.items() if by_id is not None else ():
            for reference in REFERENCE.findall(name):
                said = f"unknown macro '${{{reference}}}' found in model {self._name} filters.setParamsByID key"
                where = self._place.at("filters").at("setParamsByID").at(name, entry.key.mark)
                self._problems.add(Stage.EXPANSION, where, said)

    def _add(self, node: MapNode, key: str, said: str) -> None:
        value = node.get(key)
        place = self._place.at(key, value.mark if value is not None else None)
        self._problems.add(Stage.EXPANSION, place, f"model {self._name}: {said}")


def _filters(node: MapNode) -> tuple[MapNode | None, MapNode | None]:
    """Give the ``filters`` of a model and their ``setParamsByID``, where they are mappings."""
    filters = node.get("filters")
    if not isinstance(filters, MapNode):
        return None, None
    by_id = filters.get("setParamsByID")
    return filters, by_id if isinstance(by_id, MapNode) else None


def _text(node: Node | None) -> str:
    return node.value if isinstance(node, ScalarNode) and isinstance(node.value, str) else ""
