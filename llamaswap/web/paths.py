"""Request paths as they were written: cleaning, and cutting a model's name off the front.

Decoding a whole path first would lose the difference between ``/`` and ``%2F``.
"""

from __future__ import annotations

import re
from collections.abc import Container
from typing import Final, NamedTuple
from urllib.parse import quote, unquote_to_bytes

UPSTREAM_PREFIX: Final = b"/upstream/"
COMFYUI_PREFIX: Final = b"/comfyui/"
PASSED_PREFIXES: Final = (UPSTREAM_PREFIX, COMFYUI_PREFIX)
"""Paths below them are passed through; their bodies are streamed, not gathered."""

_BAD_ESCAPE: Final = re.compile(rb"%(?![0-9a-fA-F]{2})")
_PLAIN_IN_PATHS: Final = "/:@!$&'()*+,;=~"


def is_streamed(path: bytes) -> bool:
    """Say whether the body of a request to this path is passed on while it arrives."""
    return path.startswith(PASSED_PREFIXES)


def has_bad_escape(path: bytes) -> bool:
    """Say whether a percent sign is not followed by two hexadecimal digits."""
    return b"%" in path and _BAD_ESCAPE.search(path) is not None


def is_proper(path: bytes) -> bool:
    """Say whether a path needs neither refusal nor cleaning."""
    return cleaned(path) is None and not has_bad_escape(path)


def cleaned(path: bytes) -> bytes | None:
    """Give a path without empty segments, ``.`` and ``..``; ``None`` when it has none of them.

    A slash at the end stays. ``..`` above the root is dropped.
    """
    if b"//" not in path and b"/." not in path and path.startswith(b"/"):
        return None
    kept: list[bytes] = []
    for segment in path.split(b"/"):
        if segment == b"..":
            del kept[-1:]
        elif segment not in {b"", b"."}:
            kept.append(segment)
    clean = b"/" + b"/".join(kept)
    if path.endswith(b"/") and kept:
        clean += b"/"
    # Browsers take a backslash for a slash, and two in front for another host.
    clean = clean.replace(b"\\", b"%5C")
    return clean if clean != path else None


class NamedPath(NamedTuple):
    """A path that begins with a known name.

    Attributes:
        name: Decoded.
        rest: What follows, as written, with its leading slash; empty when the path ends after the name.
    """

    name: str
    rest: bytes


def cut_name(path: bytes, names: Container[str], most_segments: int) -> NamedPath | None:
    """Cut the longest known name off a path.

    Args:
        path: As written, without a leading slash.
        names: All there are; a name may hold slashes, plain or as ``%2F`` in the path.
        most_segments: Number of segments of the longest name.

    Returns:
        ``None`` when the path begins with none of them.
    """
    segments = path.split(b"/", most_segments)
    for count in range(min(len(segments), most_segments), 0, -1):
        written = b"/".join(segments[:count])
        name = decoded(written)
        if name in names:
            return NamedPath(name, path[len(written) :])
    return None


def decoded(written: bytes) -> str:
    """Give the text of an escaped path; bytes that are no UTF-8 match no name."""
    return unquote_to_bytes(written).decode(errors="replace")


def escaped(name: str) -> bytes:
    """Write a name as part of a path, with plain slashes."""
    return quote(name, safe=_PLAIN_IN_PATHS).encode()
