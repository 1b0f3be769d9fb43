"""What a query asks of the activity: which rows, in which order, in which form."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Final, NamedTuple
from urllib.parse import parse_qs

from llamaswap.errors import BadRequestError
from llamaswap.telemetry.rows import SORT_COLUMNS, RowFilter

_NUMBER: Final = re.compile(r"[+-]?[0-9]{1,15}")
_TIME: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?(?:[Zz]|[+-]\d\d:\d\d)", re.ASCII)
_STATUS: Final = re.compile(r"([1-5])(?:xx|([0-9]{2}))", re.ASCII | re.IGNORECASE)
_FORMATS: Final = ("json", "csv", "jsonl")
_DEFAULT_LIMIT: Final = 25
_LARGEST_LIMIT: Final = 999
_MOST_MODELS: Final = 1000


class RowsQuery(NamedTuple):
    """A query for rows.

    Attributes:
        wanted: Which.
        sort: Of :data:`~llamaswap.telemetry.rows.SORT_COLUMNS`.
        is_ascending: Smallest first.
        limit: On a page.
        page: Counted from 1.
        form: ``json``, ``csv`` or ``jsonl``.
    """

    wanted: RowFilter
    sort: str
    is_ascending: bool
    limit: int
    page: int
    form: str


class _Values:
    """The values of a query, those that are not blank."""

    def __init__(self, query: bytes) -> None:
        found: Mapping[str, Sequence[str]] = parse_qs(query.decode("latin-1"))
        self._values = {name: [v.strip() for v in values if v.strip()] for name, values in found.items()}

    def all(self, name: str) -> list[str]:
        return self._values.get(name, [])

    def first(self, name: str) -> str:
        return next(iter(self.all(name)), "")

    def number(self, name: str, least: int | None, problem: str) -> int | None:
        """Give a number; ``None`` = it is not there."""
        text = self.first(name)
        if not text:
            return None
        if not _NUMBER.fullmatch(text) or (least is not None and int(text) < least):
            raise BadRequestError(problem)
        return int(text)


def read_rows_query(query: bytes) -> RowsQuery:
    """Read the query of ``GET /api/metrics/activity``.

    Raises:
        BadRequestError: A value is wrong.
    """
    values = _Values(query)
    wanted = _filter(values)
    limit = values.number("limit", None, "invalid limit")
    if limit is None:
        limit = _DEFAULT_LIMIT
    if not 1 <= limit <= _LARGEST_LIMIT:
        raise BadRequestError(f"limit must be between 1 and {_LARGEST_LIMIT}")
    page = values.number("page", 1, "page must be >= 1") or 1
    sort = values.first("sort") or "id"
    if sort not in SORT_COLUMNS:
        raise BadRequestError("invalid sort column")
    order = values.first("order").lower() or "desc"
    if order not in {"asc", "desc"}:
        raise BadRequestError("order must be asc or desc")
    form = values.first("format").lower() or "json"
    if form not in _FORMATS:
        raise BadRequestError(f"format must be one of {', '.join(_FORMATS)}")
    return RowsQuery(wanted, sort, order == "asc", limit, page, form)


def read_filter(query: bytes) -> RowFilter:
    """Read the query of ``GET /api/metrics/stats``.

    Raises:
        BadRequestError: A value is wrong.
    """
    return _filter(_Values(query))


def _filter(values: _Values) -> RowFilter:
    start, end = _moment(values, "start"), _moment(values, "end")
    if start is not None and end is not None and start > end:
        raise BadRequestError("start must be before end")
    min_id = values.number("min_id", 1, "min_id must be >= 1")
    max_id = values.number("max_id", 1, "max_id must be >= 1")
    if min_id is not None and max_id is not None and min_id > max_id:
        raise BadRequestError("min_id must be <= max_id")
    models = tuple(dict.fromkeys(values.all("model")))
    if len(models) > _MOST_MODELS:
        raise BadRequestError("too many models")
    return RowFilter(
        models=models,
        start=start,
        end=end,
        min_id=min_id,
        max_id=max_id,
        statuses=tuple(dict.fromkeys(_status(text) for text in values.all("status"))),
        path=values.first("path"),
        session=values.first("session"),
        min_duration_ms=values.number("min_duration_ms", 0, "min_duration_ms must be >= 0"),
        error=values.first("error"),
    )


def _moment(values: _Values, name: str) -> int | None:
    text = values.first(name)
    if not text:
        return None
    try:
        if not _TIME.fullmatch(text):
            raise ValueError  # noqa: TRY301 - as for what has the form but is no date
        return int(datetime.fromisoformat(text.upper()).timestamp())
    except (ValueError, OverflowError):
        raise BadRequestError(f"invalid '{name}' timestamp, use RFC3339 format") from None


def _status(text: str) -> tuple[int, int]:
    found = _STATUS.fullmatch(text)
    if found is None:
        raise BadRequestError("status must be like 502 or 5xx")
    if found[2] is None:
        return int(found[1]) * 100, int(found[1]) * 100 + 99
    return int(text), int(text)
