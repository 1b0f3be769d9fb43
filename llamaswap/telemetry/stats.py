"""Figures over many rows of activity. SQLite does the work: Python would hold up the reactor with it."""

from __future__ import annotations

import sqlite3
from math import ceil, log2
from typing import Any, Final

from llamaswap.telemetry.rows import RowFilter

_FEWEST_BINS: Final = 5
_MOST_BINS: Final = 20


def find_stats(connection: sqlite3.Connection, wanted: RowFilter) -> dict[str, Any]:
    """Sum up rows, as ``GET /api/metrics/stats`` shows it."""
    condition, values = wanted.condition()
    requests, tokens_in, tokens_out, tokens_cached = connection.execute(
        "SELECT count(*), coalesce(sum(input_tokens), 0), coalesce(sum(output_tokens), 0),"  # noqa: S608 - ours
        f" coalesce(sum(max(cache_tokens, 0)), 0) FROM activity WHERE {condition}",
        values,
    ).fetchone()
    return {
        "total_requests": requests,
        "total_input_tokens": tokens_in,
        "total_output_tokens": tokens_out,
        "total_cache_tokens": tokens_cached,
        "prompt_histogram": _histogram(connection, "prompt_per_second", condition, values),
        "gen_histogram": _histogram(connection, "tokens_per_second", condition, values),
    }


def _histogram(connection: sqlite3.Connection, column: str, condition: str, values: list[Any]) -> dict[str, Any] | None:
    source = f"FROM activity WHERE {condition} AND {column} > 0"
    count, least, most = connection.execute(
        f"SELECT count(*), min({column}), max({column}) {source}", values
    ).fetchone()
    if not count:
        return None
    bins, size = [count], 0.0
    if most > least:
        number = min(max(ceil(log2(count)) + 1, _FEWEST_BINS), _MOST_BINS)
        bins, size = [0] * number, (most - least) / number
        query = f"SELECT min(CAST(({column} - ?) / ? AS INTEGER), ?) AS bin, count(*) {source} GROUP BY bin"
        for at, members in connection.execute(query, [least, size, number - 1, *values]):
            bins[at] = members
    percentiles = {
        f"p{p}": _percentile(connection, column, source, values, p / 100 * (count - 1)) for p in (50, 95, 99)
    }
    return {"bins": bins, "min": least, "max": most, "binSize": size, **percentiles}


def _percentile(connection: sqlite3.Connection, column: str, source: str, values: list[Any], rank: float) -> float:
    """Give the value at a rank that may lie between two."""
    query = f"SELECT {column} {source} ORDER BY {column} LIMIT 2 OFFSET ?"
    found = [value for (value,) in connection.execute(query, [*values, int(rank)])]
    low, high = float(found[0]), float(found[-1])
    return low + (high - low) * (rank - int(rank))
