"""Multipart forms in memory: finding fields, and replacing them without touching anything else."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from llamaswap.errors import BadRequestError

_END_OF_LINE: Final = b"\r\n"
_END_OF_HEAD: Final = b"\r\n\r\n"
_CLOSING: Final = b"--"
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
    """

    name: bytes
    is_file: bool
    start: int
    end: int


def boundary_of(content_type: bytes) -> bytes:
    """Read the boundary out of a ``Content-Type``.

    Raises:
        MalformedFormError: There is none.
    """
    boundary = _parameters(content_type).get(b"boundary", b"")
    if not boundary:
        raise MalformedFormError
    return boundary


def parse(body: bytes, boundary: bytes) -> list[Part]:
    """Find the parts of a form (RFC 2046, RFC 7578), in order.

    Raises:
        MalformedFormError: The form is damaged or not whole.
    """
    parts: list[Part] = []
    delimiter = _CLOSING + boundary
    at = 0 if body.startswith(delimiter) else _next_delimiter(body, delimiter, 0) + len(_END_OF_LINE)
    while True:
        at += len(delimiter)
        if body.startswith(_CLOSING, at):
            return parts
        line_end = body.find(_END_OF_LINE, at)
        head_end = body.find(_END_OF_HEAD, line_end)
        if line_end < 0 or head_end < 0:
            raise MalformedFormError
        start = head_end + len(_END_OF_HEAD)
        end = _next_delimiter(body, delimiter, start)
        parts.append(_part(body[line_end:head_end], start, end))
        at = end + len(_END_OF_LINE)


def field(body: bytes, parts: Sequence[Part], name: bytes) -> str:
    """Give the text of the first field with a name, empty when there is none."""
    found = next((p for p in parts if p.name == name and not p.is_file), None)
    return body[found.start : found.end].decode(errors="replace") if found is not None else ""


def replace(body: bytes, parts: Sequence[Part], name: bytes, value: bytes) -> bytes:
    """Give the form with another value in every field with a name; all other bytes stay."""
    pieces: list[bytes] = []
    done = 0
    for part in parts:
        if part.name == name and not part.is_file:
            pieces += (body[done : part.start], value)
            done = part.end
    return b"".join((*pieces, body[done:]))


def _next_delimiter(body: bytes, delimiter: bytes, start: int) -> int:
    """Find the line end that begins the next delimiter line.

    Raises:
        MalformedFormError: There is none.
    """
    wanted = _END_OF_LINE + delimiter
    at = body.find(wanted, start)
    while at >= 0:
        after = at + len(wanted)
        if body.startswith(_AFTER_DELIMITER, after):
            return at
        at = body.find(wanted, after)
    raise MalformedFormError


def _part(head: bytes, start: int, end: int) -> Part:
    disposition = _DISPOSITION.search(head)
    parameters = _parameters(disposition[1]) if disposition else {}
    is_file = b"filename" in parameters or b"filename*" in parameters
    return Part(parameters.get(b"name", b""), is_file, start, end)


def _parameters(value: bytes) -> dict[bytes, bytes]:
    """Read the parameters of a header's value; names in lower case."""
    found: dict[bytes, bytes] = {}
    for name, text in _PARAMETER.findall(value):
        if text.startswith(b'"'):
            text = re.sub(rb"\\(.)", rb"\1", text[1:-1])  # noqa: PLW2901 - the value without its quotes
        found.setdefault(name.lower(), text)
    return found
