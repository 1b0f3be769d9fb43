"""From YAML text to nodes, in the dialect of :mod:`llamaswap.config.scalars`.

PyYAML only supplies the events: anchors, merge keys, duplicate keys, tags and scalars are dealt
with here, because its own constructors know another dialect and forget the lines.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable
from typing import Any, Final

import yaml

from llamaswap.config.nodes import Entry, ListNode, MapNode, Node, ScalarNode, describe
from llamaswap.config.problems import Mark
from llamaswap.config.scalars import Timestamp, Value, resolve_plain

_Loader: Final[Any] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""libyaml where PyYAML has it: quicker, and tabs between tokens are fine with it."""

LINE_BREAK: Final = "\r\n|[\n\r\x85\u2028\u2029]"
"""Regular expression of all that the loader counts as the end of a line."""

_ALIASED_NODES: Final = 100_000
"""Nodes that aliases may stand for in one file; more is an attack or an accident."""

_DEEPEST: Final = 100
_TAG_OF: Final[dict[type, str]] = {
    type(None): "null",
    bool: "bool",
    int: "int",
    float: "float",
    Timestamp: "timestamp",
}
_TAGS: Final = frozenset({"str", "binary", *_TAG_OF.values()})
_TAG_PREFIX: Final = "tag:yaml.org,2002:"
_MERGE_KEY: Final = "<<"


class DialectError(Exception):
    """A file that is no YAML, or uses it in a way that cannot be understood.

    Args:
        mark: Where.
        text: What is wrong; holds no text of the file besides names of keys and anchors.
    """

    def __init__(self, mark: Mark, text: str) -> None:
        super().__init__(text)
        self.mark = mark
        self.text = text


def parse(text: str, file: str, on_duplicate: Callable[[Mark, str], None]) -> Node | None:
    """Read the first document of a file.

    Args:
        text: The whole file.
        file: Its name, for the marks.
        on_duplicate: Called with place and message for each key that a mapping has twice; the
            first one counts.

    Returns:
        The root; ``None`` when there is no document or an empty one.

    Raises:
        DialectError: Nothing of the file can be used.
    """
    loader: Any = None
    try:
        loader = _Loader(text)
        loader.get_event()  # start of the stream
        if loader.check_event(yaml.StreamEndEvent):
            return None
        loader.get_event()  # start of the document
        root, _ = _Builder(loader, file, on_duplicate).node(0)
        loader.get_event()  # end of the document: what stands behind the root is an error
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark is not None else 0
        said = ", ".join(part for part in (error.context, error.problem) if part)
        raise DialectError(Mark(file, line), f"line {line}: {said}") from error
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise DialectError(Mark(file, line), f"line {line}: {error.reason}") from error
    finally:
        if loader is not None:
            loader.dispose()
    return None if isinstance(root, ScalarNode) and root.value is None else root


class _Builder:
    """Makes nodes from events; each method gives a node and how many nodes it stands for."""

    def __init__(self, loader: Any, file: str, on_duplicate: Callable[[Mark, str], None]) -> None:
        self._loader = loader
        self._file = file
        self._on_duplicate = on_duplicate
        self._anchors: dict[str, tuple[Node, int] | None] = {}
        self._aliased = 0

    def node(self, depth: int) -> tuple[Node, int]:
        """Build the next node."""
        event = self._loader.get_event()
        mark = Mark(self._file, event.start_mark.line + 1)
        if depth > _DEEPEST:
            raise DialectError(mark, f"line {mark.line}: nested too deeply")
        if isinstance(event, yaml.AliasEvent):
            return self._alias(event.anchor or "", mark)
        if event.anchor:
            self._anchors[event.anchor] = None
        built: tuple[Node, int]
        if isinstance(event, yaml.ScalarEvent):
            built = _scalar(event, mark), 1
        elif isinstance(event, yaml.SequenceStartEvent):
            built = self._list(mark, depth)
        else:
            built = self._mapping(mark, depth)
        if event.anchor:
            self._anchors[event.anchor] = built
        return built

    def _alias(self, name: str, mark: Mark) -> tuple[Node, int]:
        if name not in self._anchors:
            raise DialectError(mark, f"line {mark.line}: unknown anchor '{name}' referenced")
        built = self._anchors[name]
        if built is None:
            raise DialectError(mark, f"line {mark.line}: anchor '{name}' value contains itself")
        self._aliased += built[1]
        if self._aliased > _ALIASED_NODES:
            raise DialectError(mark, f"line {mark.line}: document contains excessive aliasing")
        return built

    def _list(self, mark: Mark, depth: int) -> tuple[Node, int]:
        items: list[Node] = []
        total = 1
        while not self._loader.check_event(yaml.SequenceEndEvent):
            item, size = self.node(depth + 1)
            items.append(item)
            total += size
        self._loader.get_event()
        return ListNode(tuple(items), mark), total

    def _mapping(self, mark: Mark, depth: int) -> tuple[Node, int]:
        entries: dict[str, Entry] = {}
        merged: list[MapNode] = []
        merge_line = 0
        total = 1
        while not self._loader.check_event(yaml.MappingEndEvent):
            key, key_size = self.node(depth + 1)
            value, value_size = self.node(depth + 1)
            total += key_size + value_size
            if not isinstance(key, ScalarNode):
                raise DialectError(key.mark, f"line {key.mark.line}: {describe(key)} cannot be a mapping key")
            is_merge = key.spelling == _MERGE_KEY
            earlier = merge_line if is_merge else _line_of(entries.get(key.written))
            if earlier:
                self._on_duplicate(key.mark, f'mapping key "{key.written}" already defined at line {earlier}')
            elif is_merge:
                merged = _merge_sources(value)
                merge_line = key.mark.line
            else:
                entries[key.written] = Entry(key, value)
        self._loader.get_event()
        for source in merged:
            for name, entry in source.entries.items():
                entries.setdefault(name, entry)
        return MapNode(mark, entries, merge_line > 0), total


def _line_of(entry: Entry | None) -> int:
    return entry.key.mark.line if entry is not None else 0


def _merge_sources(value: Node) -> list[MapNode]:
    """Give the mappings that a merge key brings, the strongest first."""
    found = value.items if isinstance(value, ListNode) else (value,)
    sources = [source for source in found if isinstance(source, MapNode)]
    if len(sources) < len(found):
        line = value.mark.line
        raise DialectError(value.mark, f"line {line}: map merge requires map or sequence of maps as the value")
    return sources


def _scalar(event: yaml.ScalarEvent, mark: Mark) -> ScalarNode:
    text: str = event.value
    tag: str = event.tag or ""
    is_plain = not event.style
    if not tag and not is_plain:
        return ScalarNode(text, mark)
    known = tag.removeprefix(_TAG_PREFIX)
    if known in _TAGS:
        return ScalarNode(_tagged(text, known, mark), mark)
    if tag == "!" or not is_plain:
        return ScalarNode(text, mark)
    return ScalarNode(resolve_plain(text), mark, text)


def _tagged(text: str, tag: str, mark: Mark) -> Value:
    """Give the value of a scalar with one of YAML's own tags, whatever its quotes."""
    if tag == "str":
        return text
    if tag == "binary":
        try:
            return base64.b64decode("".join(text.split()), validate=True).decode("utf-8", "replace")
        except binascii.Error as error:
            raise DialectError(mark, f"line {mark.line}: !!binary value contains invalid base64 data") from error
    value = resolve_plain(text)
    if tag == "float" and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if _TAG_OF.get(type(value)) != tag:
        raise DialectError(mark, f"line {mark.line}: cannot decode {describe(ScalarNode(text, mark))} as a !!{tag}")
    return value
