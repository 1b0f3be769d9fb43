"""Which files make up a configuration, and how their trees become one."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from llamaswap.config.dialect import LINE_BREAK, DialectError, parse
from llamaswap.config.environment import REFERENCE, substitute
from llamaswap.config.nodes import Entry, ListNode, MapNode, Node, ScalarNode, is_null
from llamaswap.config.problems import Mark, Place, Problems, Stage

_SUFFIXES: Final = (".yaml", ".yml")

_IDENTITIES: Final = frozenset(
    {
        "models",
        "groups",
        "profiles",
        "selectors",
        "peers",
        "matrix",
        "routing.router.settings.groups",
        "routing.router.settings.matrix",
    },
)
"""Mappings whose keys name one entity each, which therefore lives in one file."""


def find_sources(path: str | None, directory: str | None, problems: Problems) -> tuple[str, ...]:
    """List the files of a configuration in merging order.

    Args:
        path: The one file, or ``None``.
        directory: The folder of fragments, or ``None``.
        problems: Gets an error when there is nothing to read.
    """
    if not path and not directory:
        problems.add(Stage.SOURCES, Place(), "at least one of -config or -config-dir must be provided")
        return ()
    fragments = _fragments(directory, problems) if directory else ()
    if path:
        same = [name for name in fragments if Path(name).resolve() == Path(path).resolve()]
        if same:
            problems.add(Stage.SOURCES, Place("", Mark(path, 0)), f"{path} is also present in -config-dir")
        return (path, *fragments)
    if not fragments:
        problems.add(Stage.SOURCES, Place(), f"no configuration sources found in {directory}")
    return fragments


def _fragments(directory: str, problems: Problems) -> tuple[str, ...]:
    try:
        with os.scandir(directory) as entries:
            found = [entry for entry in entries if entry.name.endswith(_SUFFIXES) and not entry.is_dir()]
            # Reading one of these could take for ever.
            odd = {entry.name for entry in found if not entry.is_file() and Path(entry).exists()}
    except OSError as error:
        problems.add(Stage.SOURCES, Place("", Mark(directory, 0)), f"cannot read directory: {error.strerror}")
        return ()
    for name in sorted(odd):
        problems.add(Stage.SOURCES, Place("", Mark(str(Path(directory) / name), 0)), "not a regular file")
    names = [entry.name for entry in found if entry.name not in odd]
    return tuple(str(Path(directory) / name) for name in sorted(names, key=os.fsencode))


def read_tree(files: tuple[str, ...], environ: Mapping[str, str], problems: Problems) -> MapNode:
    """Read and merge files, and close the stage of the sources.

    Returns:
        The whole configuration as written; empty when the files say nothing.

    Raises:
        ConfigError: A file cannot be used, or two files contradict each other.
    """
    tree = MapNode(Mark(files[0] if files else "", 0))
    for file in files:
        root = _read(file, environ, problems)
        if root is not None:
            tree = _merged_mappings(tree, root, "", problems)
    problems.close(Stage.SOURCES)
    return tree


def _read(file: str, environ: Mapping[str, str], problems: Problems) -> MapNode | None:
    whole = Place("", Mark(file, 0))
    try:
        text = Path(file).read_bytes().decode("utf-8-sig")
    except OSError as error:
        problems.add(Stage.SOURCES, whole, f"cannot read file: {error.strerror}")
        return None
    except UnicodeDecodeError as error:
        problems.add(Stage.SOURCES, whole, f"not UTF-8 text at byte {error.start}")
        return None
    try:
        resolved = substitute(text, file, environ, problems)
        if resolved is None:
            return None
        root = parse(resolved, file, lambda mark, said: problems.add(Stage.SOURCES, Place("", mark), said))
    except DialectError as error:
        problems.add(Stage.SOURCES, Place("", error.mark), error.text)
        return None
    if root is not None and not isinstance(root, MapNode):
        problems.add(Stage.SOURCES, Place("", root.mark), "top-level YAML must be a mapping")
        return None
    if root is not None:
        _require_keys_from_environment(root, text, problems)
    return root


def _require_keys_from_environment(root: MapNode, text: str, problems: Problems) -> None:
    """Refuse API keys that an empty variable turned into nothing, which would leave every door open."""
    entry = root.entries.get("apiKeys")
    if entry is None or not (is_null(entry.value) or entry.value == ListNode((), entry.value.mark)):
        return
    begin = entry.key.mark.line
    end = min((other.key.mark.line - 1 for other in root.entries.values() if other.key.mark.line > begin), default=None)
    if REFERENCE.search("\n".join(re.split(LINE_BREAK, text)[begin - 1 : end])):
        problems.add(Stage.API_KEYS, Place("apiKeys", entry.value.mark), "empty api key found in apiKeys")


def _merged(left: Node, right: Node, path: str, problems: Problems) -> Node:
    """Merge two values; the nodes of a null side do not count."""
    if is_null(right):
        return left
    if is_null(left):
        return right
    match left, right:
        case MapNode(), MapNode():
            return _merged_mappings(left, right, path, problems)
        case ListNode(), ListNode():
            return ListNode((*left.items, *right.items), left.mark)
        case ScalarNode(), ScalarNode() if _is_same(left, right):
            return left
    problems.add(
        Stage.SOURCES,
        Place(path, right.mark),
        f'conflict at "{path}": {right.mark.file} contradicts {left.mark}',
    )
    return left


def _is_same(left: ScalarNode, right: ScalarNode) -> bool:
    return type(left.value) is type(right.value) and left.written == right.written


def _merged_mappings(left: MapNode, right: MapNode, path: str, problems: Problems) -> MapNode:
    entries = dict(left.entries)
    for name, entry in right.entries.items():
        below = f"{path}.{name}" if path else name
        there = entries.get(name)
        if there is None:
            entries[name] = entry
        elif path in _IDENTITIES:
            kind = path.rpartition(".")[2]
            text = f'duplicate {kind} "{name}" found in {entry.key.mark.file}, already defined at {there.key.mark}'
            problems.add(Stage.SOURCES, Place(below, entry.key.mark), text)
        else:
            entries[name] = Entry(there.key, _merged(there.value, entry.value, below, problems))
    return MapNode(left.mark, entries, left.has_merge_key or right.has_merge_key)
