"""What is known of the requests that have ended: rows in the store, and captures of some."""

from __future__ import annotations

import sqlite3
from collections import deque
from collections.abc import Callable, Collection, Mapping
from functools import partial
from typing import Any, ClassVar, Final, NamedTuple, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from llamaswap.core.news import RowAdded
from llamaswap.telemetry.captures import Block, Capture, Captures, Packer
from llamaswap.telemetry.rows import Row, insert_rows
from llamaswap.telemetry.schema import StoreError
from llamaswap.telemetry.store import Store
from llamaswap.telemetry.swap_store import insert_swap
from llamaswap.telemetry.swaps import KEPT_RECORDS

T = TypeVar("T")

_BATCH_SECONDS: Final = 0.1
"""Rows of that time are written together, and told of together."""
_BATCH_ROWS: Final = 100
"""As many are written without waiting: what their captures hold is better freed while it is young."""
_MOST_UNWRITTEN: Final = 10_000
"""Rows and swaps that may wait for a slow disk; further ones are lost."""
_MOST_UNSEEN: Final = _MOST_UNWRITTEN // 2
"""Rows that may wait in memory for somebody who reads: there is room for as many while they are written."""
_MOST_UNSEEN_BYTES: Final = 8 * 1024 * 1024
"""Their captures may hold so much, or what the buffer has room for: who reads waits until all are packed."""
_RAW_SHARE: Final = 4
"""Captures that are not packed yet may hold so many times the capacity of packed ones."""
_COMPLAINT_SECONDS: Final = 60.0


class _Ended(NamedTuple):
    row: Row
    capture: Callable[[], Capture] | None
    raw_bytes: int


class Activity:
    """Takes rows on the reactor's thread at next to no cost, and has them written in batches by the store's.

    To memory they are written when somebody reads, or when captures become too many to be held unpacked: of
    many requests a second, most rows would be made room for before anybody has seen them.

    Args:
        clock: Gives the time, and calls later.
        store: Where rows go.
        publish: Told of :class:`~llamaswap.core.news.RowAdded`, once for rows that were written together.
        keep: In memory, the newest so many rows are kept.
        capture_bytes: Capacity for captures; 0 = none.

    Attributes:
        captures: Those that are kept.
        errors: How many batches could not be written.
        lost: How many rows and swaps could not be written, or not taken.
    """

    _log: ClassVar[Logger] = Logger()

    def __init__(
        self, clock: IReactorTime, store: Store, publish: Callable[[object], object], keep: int, capture_bytes: int
    ) -> None:
        self.captures = Captures(capture_bytes)
        self.errors = self.lost = 0
        self._clock = clock
        self._store = store
        self._publish = publish
        self._keep = keep
        self._packer = Packer()
        self._waiting: deque[_Ended] = deque()
        self._last_id = 0  # in memory
        self._unwritten = self._raw_bytes = 0
        self._waiting_bytes = 0  # of the raw ones, those whose writing has not begun
        self._timer: IDelayedCall | None = None
        self._complained_mono: float | None = None

    @property
    def store_path(self) -> str:
        """Where rows go; empty = in memory."""
        return self._store.path

    def keep(self, rows: int, capture_bytes: int) -> None:
        """Have other limits from now on."""
        self._keep = rows
        self.captures.resize(capture_bytes)

    def add(self, row: Row, capture: Callable[[], Capture] | None = None, raw_bytes: int = 0) -> None:
        """Take the row of a request that has ended.

        Args:
            row: The row.
            capture: Makes its capture, in another thread; ``None`` = there is none.
            raw_bytes: What the capture holds in memory until it is packed.
        """
        if self._unwritten >= _MOST_UNWRITTEN:
            self.lost += 1
            return
        if self._raw_bytes + raw_bytes > self.captures.capacity_bytes * _RAW_SHARE:
            capture, raw_bytes = None, 0
        self._unwritten += 1
        self._raw_bytes += raw_bytes
        self._waiting_bytes += raw_bytes
        waiting = self._waiting
        waiting.append(_Ended(row, capture, raw_bytes))
        if self._store.path:
            is_due = len(waiting) >= _BATCH_ROWS
        else:
            self._last_id += 1
            most_bytes = min(self.captures.capacity_bytes, _MOST_UNSEEN_BYTES)
            is_due = self._waiting_bytes > most_bytes or len(waiting) >= _MOST_UNSEEN
            if len(waiting) > self._keep:
                oldest_bytes = waiting.popleft().raw_bytes
                self._waiting_bytes -= oldest_bytes
                self._settle(None, 1, oldest_bytes)
        if is_due:
            self._write()
        if self._timer is None and (waiting or not self._store.path):
            self._timer = self._clock.callLater(_BATCH_SECONDS, self._tick)

    def _tick(self) -> None:
        self._timer = None
        if self._store.path:
            self._write()
        else:
            self._publish(RowAdded(self._last_id))

    def add_swap(self, record: Mapping[str, Any]) -> None:
        """Write the record of a swap that has ended, as :class:`~llamaswap.core.news.SwapChanged` has it."""
        if self._unwritten >= _MOST_UNWRITTEN:
            self.lost += 1
            return
        self._unwritten += 1
        keep = None if self._store.path else KEPT_RECORDS
        written = self._store.do(partial(insert_swap, record=record, keep=keep))
        written.addBoth(self._settle, 1, 0)
        written.addErrback(self._failed, 1)
        written.addErrback(lambda failure: self._log.failure("could not write a swap", failure))

    def read(self, work: Callable[[sqlite3.Connection], T]) -> Deferred[T]:
        """Read from the store, where every row is that was added before; their captures are known, too.

        Returns:
            As :meth:`~llamaswap.telemetry.store.Store.do`.
        """
        self._write()
        if not self._unwritten:
            return self._store.do(work)
        # The captures of a batch are kept when it has come back, and results come in order.
        return self._store.do(lambda _: None).addCallback(lambda _: self._store.do(work))

    def move(self, store: Store) -> None:
        """Write to another store from now on; the old one is closed when it has what is its own."""
        self._write()
        self._stop_timer()
        old, self._store = self._store, store
        self._last_id = 0
        self.captures.clear()  # the other has numbers of its own
        old.close()

    def close(self) -> Deferred[None]:
        """Write what waits, and close the store.

        Returns:
            Fires with ``None``.
        """
        self._write()
        self._stop_timer()
        return self._store.close()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _write(self) -> None:
        store = self._store
        if store.path:
            self._stop_timer()
        if not self._waiting:
            return
        batch, self._waiting = self._waiting, deque()
        batch_bytes, self._waiting_bytes = self._waiting_bytes, 0
        limits = (None, None) if store.path else (self._keep, self._last_id - len(batch) + 1)
        done = store.do(partial(self._write_batch, batch, *limits))
        done.addBoth(self._settle, len(batch), batch_bytes)
        done.addCallbacks(self._written, self._failed, callbackArgs=(store,), errbackArgs=(len(batch),))
        done.addErrback(lambda failure: self._log.failure("could not take note of rows", failure))

    def _settle(self, result: T, records: int, raw_bytes: int) -> T:
        self._unwritten -= records
        self._raw_bytes -= raw_bytes
        return result

    def _write_batch(
        self, batch: Collection[_Ended], keep: int | None, first_id: int | None, connection: sqlite3.Connection
    ) -> tuple[range, list[Block]]:
        """Write rows and pack captures; not on the reactor's thread."""
        ids = insert_rows(connection, [ended.row for ended in batch], keep, first_id)
        made = ((i, ended.capture()) for i, ended in zip(ids, batch, strict=True) if ended.capture is not None)
        return ids, list(self._packer.pack(made))

    def _written(self, added: tuple[range, list[Block]], store: Store) -> None:
        if store is not self._store:
            return  # the numbers are those of rows that cannot be asked for any more
        ids, blocks = added
        for block in blocks:
            self.captures.put(block)
        if store.path:
            self._publish(RowAdded(ids[-1]))

    def _failed(self, failure: Failure, rows: int) -> None:
        """Say that rows are lost, but not for each batch: a full disk stays full for a while."""
        failure.trap(StoreError)
        self.errors += 1
        self.lost += rows
        now = self._clock.seconds()
        if self._complained_mono is None or now - self._complained_mono >= _COMPLAINT_SECONDS:
            self._complained_mono = now
            self._log.error(
                "activity cannot be written: {error}; rows and swaps lost so far: {lost}",
                error=failure.getErrorMessage(),
                lost=self.lost,
            )
