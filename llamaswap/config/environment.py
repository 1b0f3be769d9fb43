"""References to environment variables, ``${env.NAME}``, replaced in the text before YAML sees it.

A reference that stands in a YAML comment only needs no variable. Which ones do is found out by
parsing the text with a unique bare word in place of each reference: the words that survive in
scalars are live. A file may also need the values to become YAML at all; then the values are put
in first, and only the references that cannot be resolved keep their words.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final, assert_never

from llamaswap.config.dialect import LINE_BREAK, DialectError, parse
from llamaswap.config.nodes import ListNode, MapNode, Node, ScalarNode
from llamaswap.config.problems import Mark, Place, Problems, Stage

REFERENCE: Final = re.compile(r"\$\{env\.([A-Za-z_][A-Za-z0-9_]*)\}")
_UNUSABLE: Final = re.compile(f"{LINE_BREAK}|\0")
_YAML_MARKS: Final = re.compile(r"[\s*&!#'\",\[\]{}]+")
"""What YAML may take off a value that stands there without quotes."""

_COMMENT_BEFORE: Final = re.compile(r"(?:^|\s)#")


@dataclass(frozen=True, slots=True)
class _Reference:
    """One reference in a text.

    Attributes:
        name: The variable.
        start: Where it begins.
        end: Where it is over.
        word: Stands for it while the text is looked at.
        value: What is put in; ``None`` when the variable is unset, or holds what no scalar can hold.
    """

    name: str
    start: int
    end: int
    word: str
    value: str | None


def substitute(text: str, file: str, environ: Mapping[str, str], problems: Problems) -> str | None:
    """Replace the live references of one file.

    Args:
        text: The file.
        file: Its name, for messages.
        environ: Variables by name.
        problems: Gets an error for each live reference that cannot be replaced, and the values
            that were put in as secrets.

    Returns:
        The text, with comments as they were; ``None`` after an error.
    """
    references = _references(text, environ)
    if not references:
        return text
    for reference in references:
        if reference.value:
            shapes = {reference.value, environ[reference.name], *_YAML_MARKS.split(reference.value)}
            problems.secrets.update(dict.fromkeys(shapes, reference.name))
    live = _live_words(text, references)
    broken = [r for r in references if r.word in live and r.value is None]
    if broken:
        _report(broken, text, file, environ, problems)
        return None
    return _replaced(text, references, lambda r: r.value or "" if r.word in live else text[r.start : r.end])


def _references(text: str, environ: Mapping[str, str]) -> list[_Reference]:
    """Find all references, with words that are YAML strings everywhere and do not occur in the text."""
    stem = "envref"
    while stem in text:
        stem += "x"
    return [
        _Reference(found[1], found.start(), found.end(), f"{stem}{index}e", _usable(environ.get(found[1])))
        for index, found in enumerate(REFERENCE.finditer(text))
    ]


def _usable(value: str | None) -> str | None:
    if value is None or _UNUSABLE.search(value):
        return None
    return value.replace("\\", "\\\\").replace('"', '\\"')


def _live_words(text: str, references: list[_Reference]) -> set[str]:
    """Give the words of the references that do not stand in comments."""
    live = _surviving(_replaced(text, references, lambda r: r.word), references)
    if live is not None:
        return live
    mixed = _replaced(text, references, lambda r: r.word if r.value is None else r.value)
    live = _surviving(mixed, references)
    if live is None:
        live = {r.word for r in references if not _is_commented(text, r)}
    return live | {r.word for r in references if r.value is not None}


def _replaced(text: str, references: list[_Reference], part: Callable[[_Reference], str]) -> str:
    pieces: list[str] = []
    position = 0
    for reference in references:
        pieces += text[position : reference.start], part(reference)
        position = reference.end
    return "".join([*pieces, text[position:]])


def _surviving(text: str, references: list[_Reference]) -> set[str] | None:
    """Give the words that occur in scalars; ``None`` when the text is no YAML."""
    try:
        root = parse(text, "", lambda _mark, _text: None)
    except DialectError:
        return None
    scalars = "\n".join(_texts(root)) if root is not None else ""
    return {r.word for r in references if r.word in scalars}


def _texts(node: Node) -> Iterator[str]:
    match node:
        case ScalarNode():
            yield node.written
        case ListNode(items):
            for item in items:
                yield from _texts(item)
        case MapNode():
            for entry in node.entries.values():
                yield entry.key.written
                yield from _texts(entry.value)
        case _:
            assert_never(node)


def _is_commented(text: str, reference: _Reference) -> bool:
    """Guess whether a reference in text that is no YAML stands in a comment."""
    before = text[text.rfind("\n", 0, reference.start) + 1 : reference.start]
    return _COMMENT_BEFORE.search(before) is not None


def _report(
    broken: list[_Reference],
    text: str,
    file: str,
    environ: Mapping[str, str],
    problems: Problems,
) -> None:
    """Complain about each variable once, where it is needed first."""
    for name in dict.fromkeys(r.name for r in broken):
        first = next(r for r in broken if r.name == name)
        said = "is not set"
        if name in environ:
            said = "contains newlines or null bytes, which a configuration cannot hold"
        mark = Mark(file, text.count("\n", 0, first.start) + 1)
        problems.add(Stage.SOURCES, Place("", mark), f"environment variable '{name}' {said}")
