"""Instants as clients write them, to the nanosecond: a client sends the last one that it has seen back to us."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Final

_NS: Final = 1_000_000_000
_DIGITS: Final = 9
_DAY_SECONDS: Final = 86400
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)

_WRITTEN: Final = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)[Tt](\d\d):(\d\d):(\d\d)(?:[.,](\d+))?(?:[Zz]|([+\- ])([01]\d|2[0-3]):([0-5]\d))", re.ASCII
)
"""The sign may be a space: a plus that was not escaped in a query."""


def parse_ns(text: str) -> int | None:
    """Read an instant of RFC 3339.

    Returns:
        UTC epoch nanoseconds, digits beyond them cut off; ``None`` when it is none.
    """
    found = _WRITTEN.fullmatch(text)
    if found is None:
        return None
    fraction, sign, hours, offset_minutes = found.groups()[6:]
    year, month, day, hour, minute, second = map(int, found.groups()[:6])
    try:
        since = datetime(year, month, day, hour, minute, second, tzinfo=UTC) - _EPOCH
    except ValueError:
        return None
    seconds = since.days * _DAY_SECONDS + since.seconds
    if sign is not None:
        offset = int(hours) * 3600 + int(offset_minutes) * 60
        seconds += offset if sign == "-" else -offset
    return seconds * _NS + int((fraction or "0")[:_DIGITS].ljust(_DIGITS, "0"))


def format_ns(at_ns: int) -> str:
    """Write an instant, UTC, with all nine digits.

    Args:
        at_ns: UTC epoch nanoseconds.
    """
    seconds, rest = divmod(at_ns, _NS)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{rest:09}Z"
