"""What the queries of explaining routes ask for."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from math import inf
from typing import Final
from urllib.parse import parse_qs

from llamaswap.errors import BadRequestError
from llamaswap.telemetry.rfc3339 import parse_ns

Values = Mapping[str, Sequence[str]]

_NS: Final = 1_000_000_000
_LIMIT: Final = 100
_LARGEST_LIMIT: Final = 1000
_LONGEST_NUMBER_DIGITS: Final = 18


def query_values(query: bytes) -> Values:
    """Read a query; blank values count as absent."""
    return parse_qs(query.decode("latin-1"))


def first(values: Values, name: str) -> str:
    """Give the first value of a name, trimmed; empty = there is none."""
    return values.get(name, [""])[0].strip()


def window(values: Values) -> tuple[float, float]:
    """Give ``after`` and ``before`` in UTC epoch seconds, infinite where they are missing.

    Raises:
        BadRequestError: They are no times, or in the wrong order.
    """
    after, before = _moment(values, "after", -inf), _moment(values, "before", inf)
    if after > before:
        raise BadRequestError("after must be before before")
    return after, before


def _moment(values: Values, name: str, missing: float) -> float:
    text = first(values, name)
    if not text:
        return missing
    at_ns = parse_ns(text)
    if at_ns is None:
        raise BadRequestError(f"invalid '{name}' timestamp, use RFC3339 format")
    return at_ns / _NS


def limit_of(values: Values) -> int:
    """Give ``limit``.

    Raises:
        BadRequestError: It is no number, or too small or too large a one.
    """
    text = first(values, "limit")
    if not text:
        return _LIMIT
    if not re.fullmatch(r"[+-]?[0-9]+", text) or len(text) > _LONGEST_NUMBER_DIGITS:
        raise BadRequestError("invalid limit")
    if not 1 <= int(text) <= _LARGEST_LIMIT:
        raise BadRequestError(f"limit must be between 1 and {_LARGEST_LIMIT}")
    return int(text)
