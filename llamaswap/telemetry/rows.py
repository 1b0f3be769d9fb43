"""Rows of activity: one for each metered request, and how they are written and read."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import chain, repeat
from typing import Any, Final, NamedTuple


class Row(NamedTuple):
    """One request that has ended, as it is stored; names as in the table ``activity``."""

    ts_created: int
    model_id: str
    req_path: str
    resp_content_type: str
    resp_status_code: int
    cache_tokens: int
    draft_tokens: int
    draft_acc_tokens: int
    input_tokens: int
    output_tokens: int
    prompt_per_second: float
    tokens_per_second: float
    duration_ms: int
    error_msg: str
    metadata_json: str
    arrived_ms: int
    receive_ms: int
    queue_ms: int
    load_ms: int
    ttfb_ms: int
    stream_ms: int
    outcome: str
    priority: int
    request_id: str
    session_id: str | None
    swap_id: int | None


class StoredRow(NamedTuple):
    """The same with its id; what is ours is ``None`` in rows that another program wrote."""

    id: int
    ts_created: int
    model_id: str
    req_path: str
    resp_content_type: str
    resp_status_code: int
    cache_tokens: int
    draft_tokens: int
    draft_acc_tokens: int
    input_tokens: int
    output_tokens: int
    prompt_per_second: float
    tokens_per_second: float
    duration_ms: int
    error_msg: str | None
    metadata_json: str | None
    arrived_ms: int | None
    receive_ms: int | None
    queue_ms: int | None
    load_ms: int | None
    ttfb_ms: int | None
    stream_ms: int | None
    outcome: str
    priority: int
    request_id: str | None
    session_id: str | None
    swap_id: int | None


_ROWS_AT_ONCE: Final = 100
"""SQLite takes at least 32,766 values in one statement, since 3.32."""
_SELECT: Final = f"SELECT {', '.join(StoredRow._fields)} FROM activity"  # noqa: S608 - no value in it

SORT_COLUMNS: Final = {
    "id": "id",
    "time": "ts_created",
    "model": "model_id",
    "req_path": "req_path",
    "resp_status_code": "resp_status_code",
    "resp_content_type": "resp_content_type",
    "cached": "cache_tokens",
    "prompt": "input_tokens",
    "generated": "output_tokens",
    "drafted": "draft_tokens",
    "prompt_speed": "prompt_per_second",
    "gen_speed": "tokens_per_second",
    "duration": "duration_ms",
}
"""By the words of a query."""


@dataclass(frozen=True, slots=True)
class RowFilter:
    """Which rows are wanted; what is empty or ``None`` does not matter.

    Attributes:
        models: Any of these.
        start: UTC epoch seconds, inclusive.
        end: The same.
        min_id: Inclusive.
        max_id: Inclusive.
        statuses: Any of these ranges of status codes, both ends inclusive.
        path: Exactly this.
        session: Exactly this.
        min_duration_ms: Inclusive.
        error: Part of the error message, in any case.
    """

    models: tuple[str, ...] = ()
    start: int | None = None
    end: int | None = None
    min_id: int | None = None
    max_id: int | None = None
    statuses: tuple[tuple[int, int], ...] = ()
    path: str = ""
    session: str = ""
    min_duration_ms: int | None = None
    error: str = ""

    def condition(self) -> tuple[str, list[Any]]:
        """Give the condition in SQL, with its values."""
        terms = [
            (f"model_id IN ({', '.join('?' * len(self.models))})", self.models),
            ("ts_created >= ?", _given(self.start)),
            ("ts_created <= ?", _given(self.end)),
            ("id >= ?", _given(self.min_id)),
            ("id <= ?", _given(self.max_id)),
            (
                f"({' OR '.join(['resp_status_code BETWEEN ? AND ?'] * len(self.statuses))})",
                tuple(code for pair in self.statuses for code in pair),
            ),
            ("req_path = ?", _given(self.path or None)),
            ("session_id = ?", _given(self.session or None)),
            ("duration_ms >= ?", _given(self.min_duration_ms)),
            ("instr(lower(error_msg), lower(?)) > 0", _given(self.error or None)),
        ]
        used = [(text, values) for text, values in terms if values]
        return " AND ".join(text for text, _ in used) or "1", [value for _, values in used for value in values]


def _given(value: float | str | None) -> tuple[float | str, ...]:
    return () if value is None else (value,)


@cache
def _insertion(rows: int) -> str:
    values = f"(?, {', '.join('?' * len(Row._fields))})"
    return f"INSERT INTO activity (id, {', '.join(Row._fields)}) VALUES {', '.join([values] * rows)}"  # noqa: S608 - ours


def insert_rows(
    connection: sqlite3.Connection, rows: Sequence[Row], keep: int | None, first_id: int | None = None
) -> range:
    """Write rows in order.

    Many are one statement: each step of SQLite gives the interpreter up, and has to wait for it again.

    Args:
        connection: To the store.
        rows: At least one.
        keep: The newest so many stay; ``None`` = all.
        first_id: The first one's, larger than any before; ``None`` = the next.

    Returns:
        Their ids.
    """
    last = 0
    connection.execute("BEGIN IMMEDIATE")
    for start in range(0, len(rows), _ROWS_AT_ONCE):
        group = rows[start : start + _ROWS_AT_ONCE]
        ids = chain((None if start else first_id,), repeat(None))
        values = chain.from_iterable((row_id, *row) for row_id, row in zip(ids, group, strict=False))
        last = connection.execute(_insertion(len(group)), tuple(values)).lastrowid or 0
    if keep is not None:
        connection.execute("DELETE FROM activity WHERE id <= ?", (last - keep,))
    connection.execute("COMMIT")
    return range(last - len(rows) + 1, last + 1)


def find_rows(
    connection: sqlite3.Connection, wanted: RowFilter, *, sort: str, is_ascending: bool, limit: int, offset: int
) -> tuple[list[StoredRow], int]:
    """Read a page of rows.

    Args:
        connection: To the store.
        wanted: Which rows.
        sort: Of :data:`SORT_COLUMNS`.
        is_ascending: Smallest first.
        limit: At most so many.
        offset: So many are left out in front.

    Returns:
        The rows, and how many there are on all pages.
    """
    condition, values = wanted.condition()
    [total] = connection.execute(f"SELECT count(*) FROM activity WHERE {condition}", values).fetchone()  # noqa: S608 - ours
    direction = "ASC" if is_ascending else "DESC"
    order = f"{SORT_COLUMNS[sort]} {direction}, id {direction}"
    query = f"{_SELECT} WHERE {condition} ORDER BY {order} LIMIT ? OFFSET ?"
    return [StoredRow(*row) for row in connection.execute(query, [*values, limit, offset])], total


def rows_after(connection: sqlite3.Connection, wanted: RowFilter, after_id: int, limit: int) -> list[StoredRow]:
    """Read the rows with larger ids, the smallest first."""
    condition, values = wanted.condition()
    query = f"{_SELECT} WHERE {condition} AND id > ? ORDER BY id LIMIT ?"
    return [StoredRow(*row) for row in connection.execute(query, [*values, after_id, limit])]


def newest_rows(connection: sqlite3.Connection, limit: int) -> list[StoredRow]:
    """Read the newest rows, the oldest of them first."""
    return [StoredRow(*row) for row in connection.execute(f"{_SELECT} ORDER BY id DESC LIMIT ?", (limit,))][::-1]
