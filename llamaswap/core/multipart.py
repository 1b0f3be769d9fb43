"""Multipart forms: finding fields, and replacing them without touching anything else."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple, Protocol

from llamaswap.errors import BadRequestError, PayloadTooLargeError

_END_OF_LINE: Final = b"\r\n"
_END_OF_HEAD: Final = b"\r\n\r\n"
_CLOSING: Final = b"--"
_MOST_FIELD_BYTES: Final = 42 * 1024 * 1024
"""What all fields that are no files may have together (http-api.md, 5.1)."""

_MOST_PARTS: Final = 10_000
_LONGEST_HEAD_BYTES: Final = 64 * 1024
_LONGEST_TEXT_BYTES: Final = 4 * 1024
"""Kept of a field; no name of a model is longer."""

_AFTER_DELIMITER: Final = (_CLOSING, _END_OF_LINE, b" ", b"\t")
_DISPOSITION: Final = re.compile(rb"^content-disposition[ \t]*:([^\r\n]*)", re.IGNORECASE | re.MULTILINE)
_PARAMETER: Final = re.compile(rb';\s*([^\s=;"]+)\s*=\s*("(?:[^"\\]|\\.)*"|[^;\s]*)')


class MalformedFormError(BadRequestError):
    """The body says that it is a multipart form, and is not."""

    def __init__(self) -> None:
        super().__init__("could not parse multipart form")


@dataclass(frozen=True, slots=True)
class Part:
    """One part of a form.

    Attributes:
        name: Of the field; empty when it says none.
        is_file: Whether it names a file.
        start: Where its content begins in the body.
        end: Where its content ends.
        text: The content of a field, at most its first 4 KiB; empty for a file.
    """

    name: bytes
    is_file: bool
    start: int
    end: int
    text: bytes


class HeldForm(Protocol):
    """A form that is kept somewhere else than in memory."""

    def parts(self) -> list[Part]:
        """Give its parts, in order.

        Raises:
            MalformedFormError: The form is damaged or not whole.
        """


class Change(NamedTuple):
    """Other bytes in the place of some of a body's."""

    start: int
    end: int
    value: bytes


def boundary_of(content_type: bytes) -> bytes:
    """Read the boundary out of a ``Content-Type``.

    Raises:
        MalformedFormError: There is none.
    """
    boundary = _parameters(content_type).get(b"boundary", b"")
    if not boundary:
        raise MalformedFormError
    return boundary


class FormReader:
    """Finds the parts of a form (RFC 2046, RFC 7578) while it arrives, cut anywhere.

    Args:
        boundary: Of the form.
    """

    def __init__(self, boundary: bytes) -> None:
        self._wanted = _END_OF_LINE + _CLOSING + boundary
        self._held = _END_OF_LINE  # the first delimiter may be the first line
        self._from = 0  # in that, what was not looked at yet
        self._at = -len(_END_OF_LINE)  # the same in the body
        self._step: Callable[[], bool] = self._find_delimiter
        self._parts: list[Part] = []
        self._open: Part | None = None  # the part whose content is being read
        self._text = bytearray()
        self._field_bytes = 0
        self._is_whole = self._is_broken = False

    def feed(self, data: bytes) -> None:
        """Take a piece of the body.

        Raises:
            PayloadTooLargeError: Its fields have more than 42 MiB, or it has more than 10,000 parts.
        """
        if self._is_whole or self._is_broken:
            return  # what follows the form is nothing
        self._held = self._held[self._from :] + data
        self._from = 0
        while self._step():
            pass

    def parts(self) -> list[Part]:
        """Give what was found, in order.

        Raises:
            MalformedFormError: The form is damaged or not whole.
        """
        if not self._is_whole:
            raise MalformedFormError
        return self._parts

    def _find_delimiter(self) -> bool:
        """Look for the line that ends what is read; give whether to go on."""
        found = self._held.find(self._wanted, self._from)
        while found >= 0:
            after = found + len(self._wanted)
            mark = self._held[after : after + len(_CLOSING)]
            if len(mark) < len(_CLOSING):
                break  # too little to tell
            if mark.startswith(_AFTER_DELIMITER):
                self._pass(found)
                self._close_part()
                self._go_to(after)
                self._is_whole = mark == _CLOSING
                self._step = self._find_head
                return not self._is_whole
            found = self._held.find(self._wanted, after)
        if found < 0:
            found = max(len(self._held) - len(self._wanted) + 1, self._from)
        self._pass(found)
        return False

    def _find_head(self) -> bool:
        """Look for the end of the head of a part; give whether to go on."""
        line_end = self._held.find(_END_OF_LINE, self._from)
        head_end = self._held.find(_END_OF_HEAD, line_end) if line_end >= 0 else -1
        if head_end < 0:
            self._is_broken = len(self._held) - self._from > _LONGEST_HEAD_BYTES
            return False
        head = self._held[line_end:head_end]
        self._go_to(head_end + len(_END_OF_HEAD))
        self._open = _part(head, self._at)
        self._step = self._find_delimiter
        return True

    def _pass(self, end: int) -> None:
        """Take note of the content up to there."""
        if self._open is not None and not self._open.is_file:
            self._field_bytes += end - self._from
            if self._field_bytes > _MOST_FIELD_BYTES:
                raise PayloadTooLargeError
            room = _LONGEST_TEXT_BYTES - len(self._text)
            self._text += self._held[self._from : min(end, self._from + room)]
        self._go_to(end)

    def _go_to(self, place: int) -> None:
        self._at += place - self._from
        self._from = place

    def _close_part(self) -> None:
        if self._open is None:
            return
        self._parts.append(dataclasses.replace(self._open, end=self._at, text=bytes(self._text)))
        self._text.clear()
        if len(self._parts) > _MOST_PARTS:
            raise PayloadTooLargeError


def parse(body: bytes | HeldForm, boundary: bytes) -> list[Part]:
    """Find the parts of a form, in order.

    Raises:
        MalformedFormError: The form is damaged or not whole.
        PayloadTooLargeError: It has too much besides files.
    """
    if not isinstance(body, bytes):
        return body.parts()
    reader = FormReader(boundary)
    reader.feed(body)
    return reader.parts()


def field(parts: Sequence[Part], name: bytes) -> str:
    """Give the text of the first field with a name, empty when there is none."""
    found = next((p for p in parts if p.name == name and not p.is_file), None)
    return found.text.decode(errors="replace") if found is not None else ""


def changes(parts: Sequence[Part], name: bytes, value: bytes) -> list[Change]:
    """Say what must change so that every field with a name has another value."""
    return [Change(part.start, part.end, value) for part in parts if part.name == name and not part.is_file]


def replace(body: bytes, parts: Sequence[Part], name: bytes, value: bytes) -> bytes:
    """Give the form with another value in every field with a name; all other bytes stay."""
    pieces: list[bytes] = []
    done = 0
    for change in changes(parts, name, value):
        pieces += (body[done : change.start], change.value)
        done = change.end
    return b"".join((*pieces, body[done:]))


def _part(head: bytes, start: int) -> Part:
    disposition = _DISPOSITION.search(head)
    parameters = _parameters(disposition[1]) if disposition else {}
    is_file = b"filename" in parameters or b"filename*" in parameters
    return Part(parameters.get(b"name", b""), is_file, start, start, b"")


def _parameters(value: bytes) -> dict[bytes, bytes]:
    """Read the parameters of a header's value; names in lower case."""
    found: dict[bytes, bytes] = {}
    for name, text in _PARAMETER.findall(value):
        if text.startswith(b'"'):
            text = re.sub(rb"\\(.)", rb"\1", text[1:-1])  # noqa: PLW2901 - the value without its quotes
        found.setdefault(name.lower(), text)
    return found
