"""From the text of a command to its words, without a shell.

The rules are those of POSIX quoting with three deviations that existing configurations rely on:
comment lines vanish before quotes are looked at, a line that ends in a backslash goes on in the
next one, and an open quote at the end is closed silently.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

_BLANKS: Final = " \t\n"
_ESCAPABLE_IN_DOUBLE_QUOTES: Final = '$`"\\'


def strip_comment_lines(text: str) -> str:
    """Remove each line whose first non-blank character is ``#``, whatever the quotes around it."""
    if "#" not in text:
        return text
    return "\n".join(line for line in text.split("\n") if not line.lstrip().startswith("#"))


def split_command(text: str) -> tuple[str, ...]:
    """Split the text of a command into words; never fails.

    Args:
        text: Possibly of many lines, with comment lines and line continuations.

    Returns:
        The words; empty when there is nothing but blanks and comments.
    """
    lines = strip_comment_lines(text).split("\n")
    return tuple(_words("\n".join(_continued(line) for line in lines)))


def _continued(line: str) -> str:
    """Turn the backslash at the end of a line into a blank."""
    trimmed = line.strip()
    return f"{trimmed[:-1]} " if trimmed.endswith("\\") else line


def _words(text: str) -> Iterator[str]:
    """Yield the words of text in which no line ends in a backslash."""
    word: str | None = None  # no word has begun
    position = 0
    while position < len(text):
        if text[position] in _BLANKS:
            if word is not None:
                yield word
            word = None
            position += 1
        else:
            part, position = _part(text, position)
            word = part if word is None else word + part
    if word is not None:
        yield word


def _part(text: str, start: int) -> tuple[str, int]:
    """Read one quoted string, escape or character; give what it stands for, and where to go on."""
    match text[start]:
        case "'":
            end = text.find("'", start + 1)
            end = len(text) if end < 0 else end
            return text[start + 1 : end], end + 1
        case '"':
            return _double_quoted(text, start + 1)
        case "\\":
            return text[start + 1], start + 2
        case char:
            return char, start + 1


def _double_quoted(text: str, start: int) -> tuple[str, int]:
    """Read up to the closing quote, or to the end when there is none."""
    found: list[str] = []
    position = start
    while position < len(text) and text[position] != '"':
        part = text[position]
        if part == "\\":
            position += 1
            part = text[position] if text[position] in _ESCAPABLE_IN_DOUBLE_QUOTES else f"\\{text[position]}"
        found.append(part)
        position += 1
    return "".join(found), position + 1
