"""What a plain YAML scalar means, and how a value looks as text.

The dialect is YAML 1.2's core schema with remains of 1.1: underscores in numbers, octal numbers
with a leading zero, timestamps; but ``yes`` and ``on`` are strings, and there is no base 60.
"""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Final


class Timestamp(str):
    """A date or time, as RFC 3339 text."""

    __slots__ = ()


Value = None | bool | int | float | str

INT64_LEAST: Final = -(2**63)
INT64_GREATEST: Final = 2**63 - 1
_UINT64_GREATEST: Final = 2**64 - 1

_WORDS: Final[dict[str, Value]] = {
    "": None,
    **dict.fromkeys(("~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
    **dict.fromkeys((".inf", ".Inf", ".INF", "+.inf", "+.Inf", "+.INF"), math.inf),
    **dict.fromkeys(("-.inf", "-.Inf", "-.INF"), -math.inf),
    **dict.fromkeys((".nan", ".NaN", ".NAN"), math.nan),
}
_LONGEST_INTEGER: Final = 100
"""Characters; far more than 64 bits need, and few enough for :class:`int`."""

_NUMBER_STARTS: Final = frozenset("+-.0123456789")
_INTEGERS: Final = (
    (re.compile(r"[-+]?(?:0|[1-9][0-9]*)"), 10),
    (re.compile(r"[-+]?0[0-7]+"), 8),
    (re.compile(r"[-+]?0[xX][0-9a-fA-F]+"), 16),
    (re.compile(r"[-+]?0[bB][01]+"), 2),
    (re.compile(r"[-+]?0[oO][0-7]+"), 8),
)
_FLOAT: Final = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
_TIMESTAMP: Final = re.compile(
    r"""(?P<year>\d{4})-(?P<month>\d{1,2})-(?P<day>\d{1,2})
    (?:
        (?:[Tt](?P<zoned>TIME)(?P<zone>Z|[-+]\d\d:\d\d))
        | (?:[ ](?P<local>TIME))
    )?""".replace("TIME", r"\d{1,2}:\d{1,2}:\d{1,2}(?:\.\d+)?"),
    re.VERBOSE | re.ASCII,
)
_EXPONENT_LEAST: Final = -4
_EXPONENT_LIMIT: Final = 6


def resolve_plain(text: str) -> Value:
    """Give the value of an unquoted scalar without a tag."""
    if text in _WORDS:
        return _WORDS[text]
    if text[0] not in _NUMBER_STARTS:
        return text
    if text[4:5] == "-":
        timestamp = _timestamp(text)
        if timestamp is not None:
            return timestamp
    return _number(text.replace("_", ""), text)


def _number(digits: str, text: str) -> int | float | str:
    for pattern, base in _INTEGERS:
        if len(digits) <= _LONGEST_INTEGER and pattern.fullmatch(digits):
            number = int(digits, base)
            if INT64_LEAST <= number <= INT64_GREATEST or (number <= _UINT64_GREATEST and digits[0] not in "+-"):
                return number
    if _FLOAT.fullmatch(digits):
        value = float(digits)
        if math.isfinite(value):
            return value
    return text


def _timestamp(text: str) -> Timestamp | None:
    match = _TIMESTAMP.fullmatch(text)
    if match is None:
        return None
    clock, _, fraction = (match["zoned"] or match["local"] or "0:0:0").partition(".")
    zone = match["zone"] or "Z"
    day = (int(match["year"]), int(match["month"]), int(match["day"]))
    hour, minute, second = (int(part) for part in clock.split(":"))
    try:
        when = datetime(*day, hour, minute, second, tzinfo=UTC if zone == "Z" else _offset(zone))
    except ValueError:
        return None
    fraction = fraction[:9].rstrip("0")
    shown = when.strftime("%H:%M:%S") + (f".{fraction}" if fraction else "")
    suffix = "Z" if not when.utcoffset() else zone
    return Timestamp(f"{when.year:04}-{when.month:02}-{when.day:02}T{shown}{suffix}")


def _offset(zone: str) -> timezone:
    away = timedelta(hours=int(zone[1:3]), minutes=int(zone[4:6]))
    return timezone(-away if zone[0] == "-" else away)


def text_form(value: Value) -> str:
    """Give the text that a value has inside a longer string and in string fields."""
    match value:
        case None:
            return ""
        case bool():
            return "true" if value else "false"
        case float():
            return _float_text(value)
        case _:
            return str(value)


def _float_text(value: float) -> str:
    """Write the shortest digits that read back as the same number, the way C's ``%g`` lays them out."""
    if not math.isfinite(value):
        return "NaN" if math.isnan(value) else ("+Inf" if value > 0 else "-Inf")
    shortest = Decimal(repr(value)).normalize()
    sign, digits, _ = shortest.as_tuple()
    exponent = shortest.adjusted()
    if value == 0 or _EXPONENT_LEAST <= exponent < _EXPONENT_LIMIT:
        return format(shortest, "f")
    shown = "".join(map(str, digits))
    mantissa = f"{shown[0]}.{shown[1:]}" if len(shown) > 1 else shown
    return f"{'-' if sign else ''}{mantissa}e{'-' if exponent < 0 else '+'}{abs(exponent):02}"
