"""Rows of activity as others get them: JSON documents, CSV, and traces for simulations."""

from __future__ import annotations

import csv
import sqlite3
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from io import StringIO
from typing import Any, Final

from msgspec import DecodeError
from msgspec.json import Encoder, decode

from llamaswap.telemetry.rows import RowFilter, StoredRow, rows_after
from llamaswap.telemetry.swap_store import first_swap_ms, swaps_after

HasCapture = Callable[[int], bool]

PAGE_ROWS: Final = 500
"""Rows of an export that are read at a time."""

_MS: Final = 1000
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")
"""What a spreadsheet takes for the beginning of a formula."""
_TOKENS: Final = (
    "cache_tokens",
    "draft_tokens",
    "draft_acc_tokens",
    "input_tokens",
    "output_tokens",
    "prompt_per_second",
    "tokens_per_second",
)
_OURS: Final = (
    "request_id",
    "session_id",
    "swap_id",
    "receive_ms",
    "queue_ms",
    "load_ms",
    "ttfb_ms",
    "stream_ms",
)
CSV_COLUMNS: Final = (
    "id",
    "timestamp",
    "model",
    "req_path",
    "resp_content_type",
    "resp_status_code",
    *_TOKENS,
    "duration_ms",
    "has_capture",
    "error_msg",
    "metadata",
    *_OURS,
)
_encode = Encoder().encode


def document_of(row: StoredRow, has_capture: HasCapture) -> dict[str, Any]:
    """Give a row as ``GET /api/metrics/activity`` shows it."""
    shown: dict[str, Any] = {
        "id": row.id,
        "timestamp": _timestamp(row.ts_created),
        "model": row.model_id,
        "req_path": row.req_path,
        "resp_content_type": row.resp_content_type,
        "resp_status_code": row.resp_status_code,
        "tokens": {name: _short(getattr(row, name)) for name in _TOKENS},
        "duration_ms": row.duration_ms,
        "has_capture": has_capture(row.id),
    }
    if row.error_msg:
        shown["error_msg"] = row.error_msg
    metadata = _metadata(row.metadata_json)
    if metadata:
        shown["metadata"] = metadata
    shown.update((name, getattr(row, name)) for name in _OURS)
    return shown


def csv_of(rows: Iterable[StoredRow], has_capture: HasCapture) -> bytes:
    """Give rows as CSV, without the heading."""
    text = StringIO()
    writer = csv.writer(text)
    for row in rows:
        figures = [_short(getattr(row, name)) for name in _TOKENS]
        ours = [getattr(row, name) for name in _OURS]
        metadata = row.metadata_json if row.metadata_json != "{}" else ""
        head = [row.id, _timestamp(row.ts_created), *row[2:6]]
        has = "true" if has_capture(row.id) else "false"
        cells = [*head, *figures, row.duration_ms, has, row.error_msg, metadata, *ours]
        writer.writerow([_harmless(cell) if isinstance(cell, str) else cell for cell in cells])
    return text.getvalue().encode()


def _harmless(text: str) -> str:
    """Keep a spreadsheet from calculating with what a client or a model's server wrote."""
    return f"'{text}" if text.startswith(_FORMULA) else text


class CSVExport:
    """All rows that a filter lets through, the oldest first, page by page.

    Args:
        wanted: Which rows.
        has_capture: Says whether there is a capture for a row.
    """

    media_type = b"text/csv; charset=utf-8"
    file_name = b"activity.csv"

    def __init__(self, wanted: RowFilter, has_capture: HasCapture) -> None:
        self._wanted = wanted
        self._has_capture = has_capture
        self._last_id = 0
        self._has_heading = False

    def next_page(self, connection: sqlite3.Connection) -> bytes:
        """Give the next piece; empty = that was all."""
        rows = rows_after(connection, self._wanted, self._last_id, PAGE_ROWS)
        heading = b"" if self._has_heading else ",".join(CSV_COLUMNS).encode() + b"\r\n"
        self._has_heading = True
        if rows:
            self._last_id = rows[-1].id
        return heading + csv_of(rows, self._has_capture)


class TraceExport:
    """The same as a trace: who asked for what when, and what was swapped; nothing of what was said.

    Requests come first, then swaps; each the oldest first, in milliseconds since the first of all.

    Args:
        wanted: Which rows; of swaps, only the models count.
    """

    media_type = b"application/x-ndjson"
    file_name = b"activity.jsonl"

    def __init__(self, wanted: RowFilter) -> None:
        self._wanted = wanted
        self._after_ms = wanted.start * _MS - 1 if wanted.start is not None else None
        self._before_ms = (wanted.end + 1) * _MS if wanted.end is not None else None
        self._begin_ms: int | None = None
        self._last_id = self._last_swap = 0
        self._has_rows = True

    def next_page(self, connection: sqlite3.Connection) -> bytes:
        """Give the next piece; empty = that was all."""
        if self._begin_ms is None:
            self._begin_ms = self._begin(connection)
        if self._has_rows:
            rows = rows_after(connection, self._wanted, self._last_id, PAGE_ROWS)
            if rows:
                self._last_id = rows[-1].id
                return _lines([_request(row, self._begin_ms) for row in rows])
            self._has_rows = False
        return self._next_swaps(connection, self._begin_ms)

    def _begin(self, connection: sqlite3.Connection) -> int:
        condition, values = self._wanted.condition()
        query = f"SELECT min(coalesce(arrived_ms, ts_created * 1000 - duration_ms)) FROM activity WHERE {condition}"  # noqa: S608 - ours
        [first] = connection.execute(query, values).fetchone()
        moments = (first, first_swap_ms(connection, self._after_ms, self._before_ms))
        return min((moment for moment in moments if moment is not None), default=0)

    def _next_swaps(self, connection: sqlite3.Connection, begin_ms: int) -> bytes:
        """Give the next page of swaps on which there is one to a model that is wanted."""
        models = self._wanted.models
        while True:
            records = swaps_after(
                connection, self._last_swap, after_ms=self._after_ms, before_ms=self._before_ms, limit=PAGE_ROWS
            )
            if not records:
                return b""
            self._last_swap = records[-1]["swap_id"]
            wanted = [_swap(record, begin_ms) for record in records if not models or record["model"] in models]
            if wanted:
                return _lines(wanted)


def _request(row: StoredRow, begin_ms: int) -> dict[str, Any]:
    arrived_ms = row.arrived_ms if row.arrived_ms is not None else row.ts_created * 1000 - row.duration_ms
    has_parts = row.ttfb_ms is not None
    return {
        "type": "request",
        "id": row.id,
        "model": row.model_id,
        "priority": row.priority,
        "arrived": arrived_ms - begin_ms,
        "wait_ms": (row.queue_ms or 0) + (row.load_ms or 0),
        "service_ms": (row.ttfb_ms or 0) + (row.stream_ms or 0) if has_parts else row.duration_ms,
        "load_ms": row.load_ms or 0,
        "outcome": row.outcome or "served",
    }


def _swap(record: dict[str, Any], begin_ms: int) -> dict[str, Any]:
    return {
        "type": "swap",
        "target": record["model"],
        "evicted": [evicted["model"] for evicted in record["evicted"]],
        "stop_ms": record["stop_ms"],
        "load_ms": record["load_ms"],
        "started": _at_ms(record) - begin_ms,
        "outcome": record["outcome"],
    }


def _at_ms(record: dict[str, Any]) -> int:
    return round(datetime.fromisoformat(record["at"]).timestamp() * 1000)


def _lines(documents: Sequence[dict[str, Any]]) -> bytes:
    return b"".join(_encode(document) + b"\n" for document in documents)


def _timestamp(at: int) -> str:
    """Give UTC epoch seconds in RFC 3339, in the local zone."""
    return datetime.fromtimestamp(at).astimezone().isoformat().replace("+00:00", "Z")


def _short(number: float) -> float:
    """Give a number without needless decimals."""
    return int(number) if number == int(number) else number


def _metadata(text: str | None) -> dict[str, Any] | None:
    if not text or text == "{}":
        return None
    try:
        value = decode(text)
    except DecodeError:
        return None
    return value if isinstance(value, dict) else None
