"""From RE2's regular expressions to those of :mod:`re`.

Only what both can do is let through; what RE2 refuses (look-around, back-references) is refused
here too, so that a configuration means the same with every program that reads it.
"""

from __future__ import annotations

import re
from typing import Final

_POSIX_CLASSES: Final = {
    "alnum": "0-9A-Za-z",
    "alpha": "A-Za-z",
    "ascii": r"\x00-\x7F",
    "blank": r"\t ",
    "cntrl": r"\x00-\x1F\x7F",
    "digit": "0-9",
    "graph": "!-~",
    "lower": "a-z",
    "print": " -~",
    "punct": r"!-/:-@\[-`{-~",
    "space": r"\t\n\v\f\r ",
    "upper": "A-Z",
    "word": "0-9A-Za-z_",
    "xdigit": "0-9A-Fa-f",
}
_NEGATED_POSIX_CLASSES: Final = {
    "alnum": r"\x00-/:-@\[-`{-\U0010FFFF",
    "alpha": r"\x00-@\[-`{-\U0010FFFF",
    "digit": r"\x00-/:-\U0010FFFF",
    "space": r"\x00-\x08\x0E-\x1F!-\U0010FFFF",
    "word": r"\x00-/:-@\[-\^`{-\U0010FFFF",
}
_PERL_CLASSES: Final = {"d": "0-9", "s": r"\t\n\f\r ", "w": "0-9A-Za-z_"}
_NEGATED_PERL_CLASSES: Final = {
    "D": _NEGATED_POSIX_CLASSES["digit"],
    "S": r"\x00-\x08\x0B\x0E-\x1F!-\U0010FFFF",
    "W": _NEGATED_POSIX_CLASSES["word"],
}
_REPEAT: Final = re.compile(r"[*+?]|\{(\d+)(?:,(\d*))?\}")
_GREATEST_REPEAT: Final = 1000
_GROUP: Final = re.compile(r"\(\?(?:P?<(?P<name>[A-Za-z_]\w*)>|(?P<flags>[ims]*(?:-[ims]+)?)(?P<end>[:)]))", re.ASCII)
_HEX: Final = re.compile(r"x(?:([0-9A-Fa-f]{2})|\{([0-9A-Fa-f]{1,6})\})")
_OCTAL: Final = re.compile(r"0[0-7]{0,2}|[1-7][0-7]{2}")
_NAMED_CLASS: Final = re.compile(r"\[:(\^?)(\w+):\]|\\([dswDSW])")
_SAME_ESCAPES: Final = frozenset("abBfnrtv")
_LAST_CHARACTER: Final = 0x10FFFF


class UnsupportedRegexError(ValueError):
    """The expression is not RE2, or has no counterpart."""


def translate(pattern: str) -> str:
    """Give the expression in Python's syntax.

    Raises:
        UnsupportedRegexError: It cannot be used; the message says why.
    """
    translated = _Translator(pattern).translated()
    try:
        re.compile(translated)
    except (re.error, OverflowError, RecursionError) as error:
        raise UnsupportedRegexError(str(error)) from error
    return translated


class _Translator:
    """Goes through a pattern once, from left to right."""

    def __init__(self, pattern: str) -> None:
        self._text = pattern
        self._at = 0
        self._multiline = False
        self._out: list[str] = []

    def translated(self) -> str:
        """Give the whole pattern."""
        while self._at < len(self._text):
            self._atom()
            self._repeat()
        return "".join(self._out)

    def _atom(self) -> None:
        char = self._text[self._at]
        if char == "\\":
            self._at += 1
            self._escape()
        elif char == "[":
            self._character_class()
        elif self._text.startswith("(?", self._at):
            self._group()
        elif char == "$" and not self._multiline:
            self._put(r"\Z", 1)
        elif char in "*+?":
            raise UnsupportedRegexError(f"missing argument to repetition operator: `{char}`")
        else:
            self._put(re.escape(char) if char in "{}" else char, 1)

    def _put(self, translated: str, length: int) -> None:
        self._out.append(translated)
        self._at += length

    def _repeat(self) -> None:
        """Take one repetition, lazy or not, behind what it repeats."""
        if self._out[-1].endswith(("(", "|")) and not self._out[-1].endswith(("\\(", "\\|")):
            return
        found = _REPEAT.match(self._text, self._at)
        if found is None:
            return
        if any(int(number or 0) > _GREATEST_REPEAT for number in found.groups()):
            raise UnsupportedRegexError(f"invalid repeat count: `{found[0]}`")
        lazy = "?" if self._text.startswith("?", found.end()) else ""
        self._put(found[0] + lazy, len(found[0] + lazy))
        again = _REPEAT.match(self._text, self._at)
        if again is not None:
            raise UnsupportedRegexError(f"invalid nested repetition operator: `{found[0]}{lazy}{again[0]}`")

    def _group(self) -> None:
        found = _GROUP.match(self._text, self._at)
        if found is None:
            raise UnsupportedRegexError(f"invalid or unsupported Perl syntax: `{self._text[self._at : self._at + 4]}`")
        if found["name"]:
            self._put(f"(?P<{found['name']}>", len(found[0]))
            return
        added, _, removed = found["flags"].partition("-")
        if found["end"] == ":":
            if "m" in found["flags"]:
                raise UnsupportedRegexError("the flag m is supported at the start of the expression only")
            self._put(found[0], len(found[0]))
            return
        if self._at > 0 or removed or not added:
            raise UnsupportedRegexError(
                f"flags for the rest are supported at the start of the expression only: `{found[0]}`"
            )
        self._multiline = "m" in added
        self._put(found[0], len(found[0]))

    def _escape(self) -> None:
        """Translate what follows a backslash outside of a class."""
        char = self._text[self._at : self._at + 1]
        if char == "Q":
            end = self._text.find("\\E", self._at)
            quoted = self._text[self._at + 1 : end if end >= 0 else len(self._text)]
            self._at = end + 2 if end >= 0 else len(self._text)
            self._out.extend(re.escape(letter) for letter in quoted)
            if not quoted:
                self._out.append("")
        elif char in {"A", "z"}:
            self._put(r"\A" if char == "A" else r"\Z", 1)
        elif char and char in "dswDSW":
            ranges = _PERL_CLASSES.get(char) or _PERL_CLASSES[char.lower()]
            self._put(f"[{'^' if char.isupper() else ''}{ranges}]", 1)
        elif char and char in _SAME_ESCAPES:
            self._put(f"\\{char}", 1)
        else:
            self._out.append(re.escape(self._escaped_character()))

    def _escaped_character(self) -> str:
        """Read the rest of an escape that stands for one character."""
        char = self._text[self._at : self._at + 1]
        hexadecimal = _HEX.match(self._text, self._at)
        octal = _OCTAL.match(self._text, self._at)
        if hexadecimal is not None:
            code = int(hexadecimal[1] or hexadecimal[2], 16)
            self._at = hexadecimal.end()
        elif octal is not None:
            code = int(octal[0], 8)
            self._at = octal.end()
        elif char.isascii() and char and not char.isalnum():
            code = ord(char)
            self._at += 1
        else:
            what = "Unicode classes are not supported" if char in {"p", "P"} else "invalid escape sequence"
            raise UnsupportedRegexError(f"{what}: `\\{char}`")
        if code > _LAST_CHARACTER:
            raise UnsupportedRegexError("invalid character code")
        return chr(code)

    def _character_class(self) -> None:
        """Translate a class with everything in it escaped."""
        start = self._at
        self._at += 1
        parts = ["["]
        if self._text.startswith("^", self._at):
            parts.append("^")
            self._at += 1
        first = True
        while first or not self._text.startswith("]", self._at):
            if self._at >= len(self._text):
                raise UnsupportedRegexError(f"missing closing ]: `{self._text[start:]}`")
            parts.append(self._class_item())
            first = False
        self._at += 1
        self._out.append("".join([*parts, "]"]))

    def _class_item(self) -> str:
        """Translate a named class, a character, or a range."""
        named = self._named_class()
        if named:
            return named
        low = self._class_character()
        if self._text.startswith("-", self._at) and self._text[self._at + 1 : self._at + 2] not in {"", "]"}:
            self._at += 1
            return f"{re.escape(low)}-{re.escape(self._class_character())}"
        return _class_literal(low)

    def _named_class(self) -> str:
        found = _NAMED_CLASS.match(self._text, self._at)
        if found is None:
            return ""
        self._at = found.end()
        if found[3]:
            return _PERL_CLASSES.get(found[3]) or _NEGATED_PERL_CLASSES[found[3]]
        ranges = (_NEGATED_POSIX_CLASSES if found[1] else _POSIX_CLASSES).get(found[2], "")
        if not ranges:
            raise UnsupportedRegexError(f"invalid or unsupported character class range: `{found[0]}`")
        return ranges

    def _class_character(self) -> str:
        char = self._text[self._at]
        self._at += 1
        if char != "\\":
            return char
        letter = self._text[self._at : self._at + 1]
        if letter and letter in "afnrtv":
            self._at += 1
            return {"a": "\a", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}[letter]
        return self._escaped_character()


def _class_literal(char: str) -> str:
    return re.escape(char) if char.isascii() and not char.isalnum() else char
