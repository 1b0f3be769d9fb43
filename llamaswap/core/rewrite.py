"""JSON request bodies: reading what names the model, and changing what the configuration says.

Only what must be looked at is decoded. A member that no change names keeps its bytes: spelling of
numbers and strings, blanks inside of it, its place among the others.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from json import loads
from typing import Any, Final, TypeVar

from msgspec import Raw, Struct, ValidationError
from msgspec.json import Decoder, encode

from llamaswap.errors import BadRequestError, LlamaSwapError

T = TypeVar("T")

Container = dict[str, Raw] | list[Raw]

PROTECTED: Final = "model"
"""Top-level member that no filter may change; its value belongs to the routing."""

_APPEND: Final = -1
_NULL: Final = Raw(b"null")
_TRUE_WORDS: Final = frozenset({b"true", b'"true"', b'"t"', b'"1"'})
_KEY: Final = b'"model"'
_SURROGATE: Final = re.compile(rb"\\u[dD][89a-fA-F]")
_ESCAPE: Final = re.compile(
    rb"(\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2})|(\\u[dD][89a-fA-F][0-9a-fA-F]{2})|\\.",
    re.DOTALL,
)


class _Head(Struct):
    model: Raw = _NULL
    stream: Raw = _NULL


_HEAD: Final = Decoder(_Head)
_OBJECT: Final = Decoder(dict[str, Raw])
_LIST: Final = Decoder(list[Raw])
_TEXT: Final = Decoder(str)


class InvalidJSONError(BadRequestError):
    """The body says that it is JSON, and is not."""

    def __init__(self) -> None:
        super().__init__("invalid JSON in request body")


def read_head(body: bytes) -> tuple[str, bool]:
    """Read what the routing wants to know of a JSON body.

    Of several members ``model`` the first counts, as in llama-swap; a number counts as its text.

    Args:
        body: One JSON document; what is no object, and an empty body, name no model.

    Returns:
        The top-level ``model``, empty when there is none, and whether ``stream`` is true.

    Raises:
        InvalidJSONError: The body is not JSON.
    """
    try:
        head = _HEAD.decode(body)
    except (ValueError, RecursionError):
        if not body.strip():
            return "", False
        try:
            head = _decode_mended(_HEAD, body)
        except ValidationError:
            return "", False
    model = _first_model(body) if body.count(_KEY) > 1 and _is_repeated(body) else _text(bytes(head.model))
    return model, _is_true(bytes(head.stream))


def split_path(name: str) -> tuple[Segment, ...]:
    r"""Split the name of a parameter into the steps that lead to it.

    Steps are separated by dots; ``\`` makes the next character literal; a step of digits is a place
    in a list, ``-1`` the place behind the last; a leading ``:`` makes a step the name of a member.
    """
    steps = [""]
    is_literal = False
    for character in name:
        if is_literal:
            steps[-1] += character
            is_literal = False
        elif character == "\\":
            is_literal = True
        elif character == ".":
            steps.append("")
        else:
            steps[-1] += character
    return tuple(_segment(step) for step in steps)


@dataclass(frozen=True, slots=True)
class Segment:
    """One step of a path.

    Attributes:
        member: Name in an object.
        place: Index in a list, -1 = behind the last, ``None`` = cannot be one.
    """

    member: str
    place: int | None = None


@dataclass(frozen=True, slots=True)
class Change:
    """One parameter to be set or removed.

    Attributes:
        name: As configured.
        path: The steps to it.
        value: Encoded, ``None`` = remove.
    """

    name: str
    path: tuple[Segment, ...]
    value: Raw | None = None


class Patch:
    """Changes to a JSON body, prepared once and applied to many.

    Args:
        strip: Names of parameters to remove.
        put: Names and values of parameters to set, in order.
        model: New top-level ``model``; empty = as it is.
    """

    def __init__(
        self,
        strip: Iterable[str] = (),
        put: Iterable[tuple[str, object]] = (),
        model: str = "",
    ) -> None:
        changes = [Change(PROTECTED, (Segment(PROTECTED),), _encoded(model))] if model else []
        changes += [change for name in strip if not _is_protected(change := Change(name, split_path(name)))]
        changes += [
            change
            for name, value in put
            if not _is_protected(change := Change(name, split_path(name), _encoded(value)))
        ]
        self._changes: Final[Sequence[Change]] = tuple(changes)

    def __bool__(self) -> bool:
        """Whether anything is to be changed."""
        return bool(self._changes)

    def apply(self, body: bytes) -> bytes:
        """Give the changed body.

        Args:
            body: A JSON object.

        Raises:
            InvalidJSONError: It is none.
            LlamaSwapError: A step of a path does not fit what is there.
        """
        try:
            document: Container = _OBJECT.decode(body)
        except (ValueError, RecursionError):
            try:
                document = _decode_mended(_OBJECT, body)
            except ValidationError:
                raise InvalidJSONError from None
        for change in self._changes:
            if change.value is None:
                _strip(document, change.path)
            else:
                try:
                    _put(document, change.path, change.value)
                except LookupError:
                    raise LlamaSwapError(f"error setting parameter {change.name} in request") from None
        return encode(document)


def _decode_mended(decoder: Decoder[T], body: bytes) -> T:
    """Decode once more, with unpaired surrogates replaced: JSON allows them, the decoder does not."""
    try:
        return decoder.decode(_mended(body))
    except ValidationError:
        raise
    except (ValueError, RecursionError):
        raise InvalidJSONError from None


def _mended(body: bytes) -> bytes:
    """Give a body without unpaired surrogates."""
    # Walking from escape to escape takes its time: not for a body in which nothing can be mended.
    if _SURROGATE.search(body) is None:
        return body
    return _ESCAPE.sub(lambda found: rb"\ufffd" if found[2] else found[0], body)


def _is_repeated(body: bytes) -> bool:
    """Say whether there may be several top-level members ``model``, and not only some further inside."""
    try:
        members = _OBJECT.decode(body)
    except (ValueError, RecursionError):
        return True
    return body.count(_KEY) - sum(bytes(value).count(_KEY) for value in members.values()) > 1


def _first_model(body: bytes) -> str:
    """Find the first of several top-level members ``model``, at the price of decoding everything."""
    try:
        members = loads(_mended(body), object_pairs_hook=list, parse_int=str, parse_float=str)
    except (ValueError, RecursionError):
        raise InvalidJSONError from None
    first = next((value for key, value in members if key == PROTECTED), None)
    if isinstance(first, str):
        return first
    return "" if first is None else _text(encode(first))


def _text(written: bytes) -> str:
    """Give a JSON string's text, and any other value as it is written; null is no text."""
    if written[:1] != b'"':
        return "" if written == b"null" else written.decode(errors="replace")
    try:
        return _TEXT.decode(written)
    except UnicodeDecodeError:  # all else was checked when the body was read
        return written[1:-1].decode(errors="replace")


def _is_true(raw: bytes) -> bool:
    if raw[:1].isdigit() or raw[:1] == b"-":
        return float(raw) != 0
    return raw.lower() in _TRUE_WORDS


def _segment(text: str) -> Segment:
    if text.startswith(":"):
        return Segment(text[1:])
    if text == str(_APPEND):
        return Segment(text, _APPEND)
    return Segment(text, int(text) if text.isascii() and text.isdigit() else None)


def _is_protected(change: Change) -> bool:
    return change.path[0].member == PROTECTED


def _encoded(value: object) -> Raw:
    return Raw(encode(value, enc_hook=thaw))


def thaw(value: object) -> Any:
    """Give an encodable copy of a frozen mapping (``enc_hook`` of msgspec)."""
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"expected a value of JSON, got {value!r}")


def _open(raw: Raw) -> Container | None:
    """Decode one level of an object or a list; anything else has no inside."""
    first = bytes(raw)[:1]
    if first == b"{":
        return _OBJECT.decode(raw)
    return _LIST.decode(raw) if first == b"[" else None


def _put(container: Container, path: Sequence[Segment], value: Raw) -> None:
    """Set a value below a container.

    Raises:
        LookupError: A step names a member where there is a list.
    """
    step, rest = path[0], path[1:]
    if isinstance(container, dict):
        container[step.member] = _inside(container.get(step.member), rest, value)
        return
    if step.place is None:
        raise LookupError(step.member)
    place = len(container) if step.place == _APPEND else step.place
    container.extend([_NULL] * (place + 1 - len(container)))
    container[place] = _inside(container[place], rest, value)


def _inside(old: Raw | None, rest: Sequence[Segment], value: Raw) -> Raw:
    """Give what replaces ``old`` when ``value`` is set at ``rest`` below it."""
    if not rest:
        return value
    container = _open(old) if old is not None else None
    if container is None:
        container = {} if rest[0].place is None else []
    _put(container, rest, value)
    return Raw(encode(container))


def _strip(container: Container, path: Sequence[Segment]) -> bool:
    """Remove what the path leads to.

    Returns:
        Whether there was anything to remove.
    """
    step, rest = path[0], path[1:]
    key = _existing(container, step)
    if key is None:
        return False
    if not rest:
        del container[key]  # type: ignore[arg-type]  # a str for a dict, an int for a list
        return True
    inner = _open(container[key])  # type: ignore[index]  # as above
    if inner is None or not _strip(inner, rest):
        return False
    container[key] = Raw(encode(inner))  # type: ignore[index]  # as above
    return True


def _existing(container: Container, step: Segment) -> str | int | None:
    """Give the key or index of a step if it leads to something."""
    if isinstance(container, dict):
        return step.member if step.member in container else None
    if step.place is None or step.place >= len(container) or not container:
        return None
    return len(container) - 1 if step.place == _APPEND else step.place
