"""Whether a text can be the URL of an upstream."""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import urlsplit

_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")
_SCHEME: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")
_BAD_ESCAPE: Final = re.compile(r"%(?![0-9A-Fa-f]{2})")
_AUTHORITY: Final = re.compile(
    r"""(?:[^@\s<>"\\^`{|}]*@)?
    (?:\[[0-9A-Fa-f:.]+(?:%25[^\]\s]+)?\] | [^\s:<>"\\^`{|}\[\]]*)
    (?::[0-9]*)?""",
    re.VERBOSE,
)


def is_parsable(url: str) -> bool:
    """Say whether Go's ``net/url`` takes the text, which the error of llama-swap depends on."""
    if _CONTROL.search(url) or url.startswith(":"):
        return False
    found = _SCHEME.match(url)
    rest = url[found.end() :] if found is not None else url
    rest = rest.partition("#")[0].partition("?")[0]
    if found is None and ":" in rest.partition("/")[0]:
        return False
    if rest.startswith("//"):
        authority, _, rest = rest[2:].partition("/")
        if not _AUTHORITY.fullmatch(authority):
            return False
    elif found is not None and not rest.startswith("/"):
        return True  # opaque, such as ``localhost:8080``
    return not _BAD_ESCAPE.search(rest)


def is_absolute(url: str) -> bool:
    """Say whether a parsable URL has a scheme and a host."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return False
    return bool(parts.scheme and parts.hostname)
