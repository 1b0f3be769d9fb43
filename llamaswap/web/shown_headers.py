"""Headers as JSON shows them: each name once, in its usual spelling, and nothing secret."""

from __future__ import annotations

from functools import lru_cache
from typing import Final

from llamaswap.core.masking import REDACTED
from llamaswap.proxy.headers import Fields

_SECRET: Final = frozenset({b"authorization", b"proxy-authorization", b"cookie", b"set-cookie", b"x-api-key"})
_REDACTED: Final = REDACTED.encode()
_NAMES_KEPT: Final = 1024
_LONGEST_NAME_KEPT: Final = 64


def shown_headers(fields: Fields, *left_out: bytes) -> dict[str, str]:
    """Give the first value of each header, sorted by name.

    Args:
        fields: As received.
        left_out: Names in lower case of headers that are not wanted.
    """
    shown: dict[str, str] = {}
    for name, value in fields:
        lower = name.lower()
        if lower not in left_out:
            spell = _canonical if len(lower) <= _LONGEST_NAME_KEPT else _canonical.__wrapped__
            shown.setdefault(spell(lower), REDACTED if lower in _SECRET else value.decode("utf-8", "replace"))
    return dict(sorted(shown.items()))


def without_secrets(fields: Fields) -> Fields:
    """Give all headers as received, but for the values of secret ones."""
    return [field if field[0].lower() not in _SECRET else (field[0], _REDACTED) for field in fields]


@lru_cache(_NAMES_KEPT)
def _canonical(name: bytes) -> str:
    """Spell a name in lower case as existing clients know it: ``x-session-id`` is ``X-Session-Id``."""
    return "-".join(word[:1].upper() + word[1:] for word in name.decode("ascii").split("-"))
