"""Records of swaps in the store: what outlives the daemon of the list that ``GET /api/swaps`` shows."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

from msgspec.json import decode, encode

_PLAIN: Final = (
    "swap_id",
    "model",
    "planner",
    "reason",
    "explanation",
    "request_id",
    "decision_ms",
    "stop_ms",
    "load_ms",
    "outcome",
    "error",
)
_LARGEST: Final = 2**62
_LISTS: Final = ("waiters", "evicted", "candidates")
_COLUMNS: Final = (*_PLAIN, *_LISTS, "at_ms")
_SAVE: Final = f"INSERT OR IGNORE INTO swaps ({', '.join(_COLUMNS)}) VALUES ({', '.join('?' * len(_COLUMNS))})"  # noqa: S608 - ours


def insert_swap(connection: sqlite3.Connection, record: Mapping[str, Any], keep: int | None = None) -> None:
    """Write the record of a swap; one that is there stays as it is.

    A swap that began before its store was in use may have the number of another.

    Args:
        connection: To the store.
        record: As ``GET /api/swaps`` shows it; all its members are there.
        keep: So many of the newest are kept; ``None`` = all.
    """
    plain = [record[name] for name in _PLAIN]
    lists = [encode(record[name]).decode() for name in _LISTS]
    connection.execute(_SAVE, (*plain, *lists, round(datetime.fromisoformat(record["at"]).timestamp() * 1000)))
    if keep is not None:
        connection.execute("DELETE FROM swaps WHERE swap_id <= ?", (record["swap_id"] - keep,))


def last_swap_id(connection: sqlite3.Connection) -> int:
    """Give the number of the newest swap; 0 = there was none."""
    [last] = connection.execute("SELECT coalesce(max(swap_id), 0) FROM swaps").fetchone()
    return int(last)


def first_swap_ms(connection: sqlite3.Connection, after_ms: int | None, before_ms: int | None) -> int | None:
    """Give when the first swap between two moments began, in UTC epoch milliseconds; as :func:`swaps_after`."""
    query = "SELECT min(at_ms) FROM swaps WHERE at_ms > ? AND at_ms < ?"
    [first] = connection.execute(query, _between(after_ms, before_ms)).fetchone()
    return None if first is None else int(first)


def swaps_after(
    connection: sqlite3.Connection, after_id: int, *, after_ms: int | None, before_ms: int | None, limit: int
) -> list[dict[str, Any]]:
    """Read the records with larger numbers, the smallest first.

    Args:
        connection: To the store.
        after_id: Only later ones than this.
        after_ms: UTC epoch milliseconds, exclusive; ``None`` = since ever.
        before_ms: The same; ``None`` = until now.
        limit: At most so many.
    """
    condition = "at_ms > ? AND at_ms < ? AND swap_id > ?"
    query = f"SELECT {', '.join(_COLUMNS)} FROM swaps WHERE {condition} ORDER BY swap_id LIMIT ?"  # noqa: S608 - ours
    return [_record(row) for row in connection.execute(query, (*_between(after_ms, before_ms), after_id, limit))]


def _between(after_ms: int | None, before_ms: int | None) -> tuple[int, int]:
    return -_LARGEST if after_ms is None else after_ms, _LARGEST if before_ms is None else before_ms


def find_swaps(
    connection: sqlite3.Connection,
    *,
    before_id: int | None = None,
    after_ms: int | None = None,
    before_ms: int | None = None,
    model: str | None = None,
    limit: int = 100,
) -> list[dict[str, Any]]:
    """Read records, the newest first.

    Args:
        connection: To the store.
        before_id: Only earlier ones than this.
        after_ms: UTC epoch milliseconds, exclusive.
        before_ms: The same.
        model: Only swaps to this one.
        limit: At most so many.
    """
    terms = {"swap_id < ?": before_id, "at_ms > ?": after_ms, "at_ms < ?": before_ms, "model = ?": model}
    used = {text: value for text, value in terms.items() if value is not None}
    condition = " AND ".join(used) or "1"
    query = f"SELECT {', '.join(_COLUMNS)} FROM swaps WHERE {condition} ORDER BY swap_id DESC LIMIT ?"  # noqa: S608 - ours
    return [_record(row) for row in connection.execute(query, (*used.values(), limit))]


def _record(row: tuple[Any, ...]) -> dict[str, Any]:
    values = dict(zip(_COLUMNS, row, strict=True))
    at = datetime.fromtimestamp(values.pop("at_ms") / 1000, UTC)
    lists = {name: decode(values[name]) for name in _LISTS}
    return {**values, **lists, "at": at.isoformat(timespec="milliseconds").replace("+00:00", "Z")}
