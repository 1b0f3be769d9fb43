"""The tables of the store, and how an older file gets them.

One schema in memory and in a file. A file of the program whose configurations we read has ``user_version`` 0
and the table ``activity`` with the first columns below: it gets ours beside them, and can still be used there.
"""

from __future__ import annotations

import sqlite3
from typing import Final

from llamaswap.errors import LlamaSwapError

IN_MEMORY: Final = ":memory:"

VERSION: Final = 1
"""Ours, in ``user_version``."""

_BUSY_SECONDS: Final = 5.0
_APPLY_WAL: Final = ("PRAGMA journal_mode=WAL", "PRAGMA synchronous=NORMAL")

_ACTIVITY: Final = {
    "id": "INTEGER PRIMARY KEY AUTOINCREMENT",
    "ts_created": "INTEGER NOT NULL DEFAULT 0",
    "model_id": "TEXT NOT NULL DEFAULT ''",
    "req_path": "TEXT NOT NULL DEFAULT ''",
    "resp_content_type": "TEXT NOT NULL DEFAULT ''",
    "resp_status_code": "INTEGER NOT NULL DEFAULT 0",
    "cache_tokens": "INTEGER NOT NULL DEFAULT 0",
    "draft_tokens": "INTEGER NOT NULL DEFAULT 0",
    "draft_acc_tokens": "INTEGER NOT NULL DEFAULT 0",
    "input_tokens": "INTEGER NOT NULL DEFAULT 0",
    "output_tokens": "INTEGER NOT NULL DEFAULT 0",
    "prompt_per_second": "REAL NOT NULL DEFAULT 0",
    "tokens_per_second": "REAL NOT NULL DEFAULT 0",
    "duration_ms": "INTEGER NOT NULL DEFAULT 0",
    "error_msg": "TEXT NOT NULL DEFAULT ''",
    "metadata_json": "TEXT NOT NULL DEFAULT '{}'",
    "arrived_ms": "INTEGER",
    "receive_ms": "INTEGER",
    "queue_ms": "INTEGER",
    "load_ms": "INTEGER",
    "ttfb_ms": "INTEGER",
    "stream_ms": "INTEGER",
    "outcome": "TEXT NOT NULL DEFAULT ''",
    "priority": "INTEGER NOT NULL DEFAULT 0",
    "request_id": "TEXT",
    "session_id": "TEXT",
    "swap_id": "INTEGER",
}
"""Columns with their types; from ``arrived_ms`` on they are ours."""

_OTHERS: Final = (
    """CREATE TABLE IF NOT EXISTS swaps (
        swap_id INTEGER PRIMARY KEY AUTOINCREMENT,
        at_ms INTEGER NOT NULL,
        model TEXT NOT NULL,
        planner TEXT NOT NULL,
        reason TEXT NOT NULL,
        explanation TEXT NOT NULL,
        request_id TEXT,
        waiters TEXT NOT NULL DEFAULT '[]',
        evicted TEXT NOT NULL DEFAULT '[]',
        candidates TEXT NOT NULL DEFAULT '[]',
        decision_ms REAL,
        stop_ms INTEGER,
        load_ms INTEGER,
        outcome TEXT,
        error TEXT)""",
    "CREATE INDEX IF NOT EXISTS swaps_at ON swaps (at_ms)",
    """CREATE TABLE IF NOT EXISTS model_stats (
        model TEXT NOT NULL,
        device TEXT NOT NULL,
        last_bytes INTEGER,
        largest_bytes INTEGER,
        load_count INTEGER NOT NULL DEFAULT 0,
        load_last REAL,
        load_ewma REAL,
        load_sample TEXT NOT NULL DEFAULT '[]',
        PRIMARY KEY (model, device))""",
)


class StoreError(LlamaSwapError):
    """The store cannot be opened, read or written."""


def open_store(path: str) -> sqlite3.Connection:
    """Open the store, and make it or bring it up to date first; blocks.

    Args:
        path: Of the file, or :data:`IN_MEMORY`.

    Raises:
        StoreError: That cannot be done.
    """
    try:
        connection = sqlite3.connect(path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False)
    except sqlite3.Error as error:
        raise StoreError(_cannot_open(path, error)) from error
    try:
        _prepare(connection)
    except sqlite3.Error as error:
        connection.close()
        raise StoreError(_cannot_open(path, error)) from error
    except StoreError as error:
        connection.close()
        raise StoreError(_cannot_open(path, error)) from error
    return connection


def _cannot_open(path: str, error: Exception) -> str:
    return f"store.path: {path} cannot be used: {error}"


def _prepare(connection: sqlite3.Connection) -> None:
    for statement in _APPLY_WAL:
        connection.execute(statement)
    [version] = connection.execute("PRAGMA user_version").fetchone()
    if version > VERSION:
        raise StoreError(f"it was written by a newer version (schema {version}, known is {VERSION})")
    if version == VERSION:
        return
    connection.execute("BEGIN IMMEDIATE")
    try:
        _migrate(connection)
        connection.execute(f"PRAGMA user_version={VERSION}")
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")


def _migrate(connection: sqlite3.Connection) -> None:
    """Make what is missing; what is there stays as it is."""
    columns = ", ".join(f"{name} {kind}" for name, kind in _ACTIVITY.items())
    connection.execute(f"CREATE TABLE IF NOT EXISTS activity ({columns})")
    known = {column[1] for column in connection.execute("PRAGMA table_info(activity)")}
    if "id" not in known:
        raise StoreError("its table activity is not one of ours")
    for name, kind in _ACTIVITY.items():
        if name not in known:
            connection.execute(f"ALTER TABLE activity ADD COLUMN {name} {kind}")
    for statement in _OTHERS:
        connection.execute(statement)
