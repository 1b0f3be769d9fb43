"""Which model a request asks for, and how it says so."""

from __future__ import annotations

from enum import Enum, auto
from functools import cache
from typing import Any, Final, NamedTuple
from urllib.parse import quote_plus, unquote_plus

import re2

from llamaswap.core import multipart
from llamaswap.core.rewrite import read_head

_MODEL: Final = "model"
_STREAM: Final = "stream"
_TRUE: Final = "true"


class Form(Enum):
    """What the body of a request is."""

    JSON = auto()
    MULTIPART = auto()
    URLENCODED = auto()
    OTHER = auto()


class Asked(NamedTuple):
    """What a request says about itself.

    Attributes:
        model: Name of the model; empty when there is none.
        wants_stream: Whether it asks for a streamed answer.
        form: What its body is.
    """

    model: str
    wants_stream: bool
    form: Form


def form_of(content_type: bytes) -> Form:
    """Tell the form of a body from its ``Content-Type``, in whatever case."""
    if content_type == b"application/json":
        return Form.JSON
    kind = content_type.lower()
    if b"application/json" in kind:
        return Form.JSON
    if b"multipart/form-data" in kind:
        return Form.MULTIPART
    return Form.URLENCODED if b"application/x-www-form-urlencoded" in kind else Form.OTHER


def form_reader(content_type: bytes) -> multipart.FormReader | None:
    """Give what reads a multipart form while it arrives; ``None`` when it cannot be read."""
    try:
        return multipart.FormReader(multipart.boundary_of(content_type))
    except multipart.MalformedFormError:
        return None


def read_body(body: bytes | multipart.HeldForm, content_type: bytes, query: bytes) -> Asked:
    """Find the model in a request with a body.

    Args:
        body: All of it; only what is neither JSON nor urlencoded may be kept elsewhere than in memory.
        content_type: Of the request, empty when it has none.
        query: Of the request, without the question mark. It wins over a multipart form, loses
            against an urlencoded one, and does not count beside JSON.

    Raises:
        BadRequestError: The body is not what its type says.
    """
    form = form_of(content_type)
    if form is Form.JSON and isinstance(body, bytes):
        return Asked(*read_head(body), form)
    if form is Form.MULTIPART:
        parts = multipart.parse(body, multipart.boundary_of(content_type))
        model = first_value(query, _MODEL) or multipart.field(parts, _MODEL.encode())
        return Asked(model, multipart.field(parts, _STREAM.encode()) == _TRUE, form)
    encoded = body if form is Form.URLENCODED and isinstance(body, bytes) else b""
    model = first_value(encoded, _MODEL) or first_value(query, _MODEL)
    return Asked(model, (first_value(encoded, _STREAM) or first_value(query, _STREAM)) == _TRUE, form)


def read_query(query: bytes) -> Asked:
    """Find the model in the query of a request without a body."""
    return Asked(first_value(query, _MODEL), first_value(query, _STREAM) == _TRUE, Form.OTHER)


def first_value(encoded: bytes, name: str) -> str:
    """Give the first value of a name in urlencoded text, empty when there is none.

    Takes time in proportion to the text, and little of it: megabytes are looked through on the reactor's thread.

    Args:
        encoded: The text.
        name: ASCII.
    """
    found = _pair(name).search(encoded) if encoded else None
    return _unescaped(found[1]) if found is not None and found[1] is not None else ""


@cache
def _pair(name: str) -> Any:
    """Give the pattern of a name with its value; any letter of the name may be escaped."""
    letters = (f"(?:{re2.escape(char)}|(?i:%{ord(char):02x}))" for char in name)
    options = re2.Options()
    options.encoding = re2.Options.Encoding.LATIN1
    return re2.compile(f"(?:^|&){''.join(letters)}(?:=([^&]*))?(?:&|$)".encode(), options)


def with_model(encoded: bytes, model: bytes) -> bytes:
    """Give urlencoded text with another value in every ``model``; all other bytes stay."""
    pattern, written = _pair(_MODEL), f"{_MODEL}={quote_plus(model)}".encode("ascii")
    pieces: list[bytes] = []
    done = 0
    while (found := pattern.search(encoded, done)) is not None:
        start, end = found.span()
        # An ampersand between two pairs ends the one, and begins the other.
        start += encoded.startswith(b"&", start)
        end -= encoded.endswith(b"&", start, end)
        pieces += (encoded[done:start], written)
        done = end
    return b"".join((*pieces, encoded[done:]))


def in_order(encoded: bytes) -> bytes:
    """Give urlencoded text sorted by names, as llama-swap sends on what it has renamed."""
    pairs = [pair for pair in encoded.split(b"&") if pair]
    pairs.sort(key=lambda pair: pair.partition(b"=")[0])
    return b"&".join(pairs)


def _unescaped(text: bytes) -> str:
    return unquote_plus(text.decode(errors="replace"))
