"""The store: SQLite in memory or in a file, and a thread of its own that alone touches it."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from typing import TypeVar

from twisted.internet.defer import Deferred, fail, succeed

from llamaswap.telemetry.schema import IN_MEMORY, StoreError, open_store
from llamaswap.telemetry.worker import Worker

T = TypeVar("T")


class Store:
    """Runs work on the database, one piece after the other, never on the reactor's thread.

    Args:
        path: Of the file; empty = in memory.
        worker: Where it runs; ends with the store.

    Attributes:
        path: As given.
    """

    def __init__(self, path: str, worker: Worker) -> None:
        self.path = path
        self._worker = worker
        self._connection: sqlite3.Connection | None = None
        self._is_closing = False

    def do(self, work: Callable[[sqlite3.Connection], T]) -> Deferred[T]:
        """Work on the database, which is opened first where needed.

        Args:
            work: Gets the connection, in autocommit mode, and leaves no transaction open.

        Returns:
            Fires with what ``work`` returns. Fails with :class:`~llamaswap.telemetry.schema.StoreError` when the
            database cannot do that, or is closed; and with whatever else ``work`` raises.
        """
        if self._is_closing:
            return fail(StoreError(f"{self._name}: it is closed"))
        return self._worker.do(lambda: self._run(work))

    def close(self) -> Deferred[None]:
        """Close the database when all that was asked for is done; later work fails.

        Returns:
            Fires with ``None``.
        """
        if self._is_closing:
            return succeed(None)
        self._is_closing = True
        closed = self._worker.do(self._close)
        self._worker.end()
        return closed

    @property
    def _name(self) -> str:
        return self.path or "store"

    def _run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        if self._connection is None:
            self._connection = open_store(self.path or IN_MEMORY)
        try:
            return work(self._connection)
        except sqlite3.Error as error:
            raise StoreError(f"{self._name}: {error}") from error
        finally:
            if self._connection.in_transaction:  # it broke off, and nobody after it shall be part of that
                self._connection.rollback()

    def _close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()
