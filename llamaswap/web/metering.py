"""All that is kept of requests that have ended, as the configuration wants it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from typing import Any, ClassVar, Final

from twisted.internet.defer import TimeoutError  # noqa: A004 - a name of Twisted's
from twisted.logger import Logger
from twisted.python.failure import Failure

from llamaswap.config.schema import Config
from llamaswap.core.news import SwapChanged
from llamaswap.core.swaps import SwapNumbers
from llamaswap.errors import ConfigError
from llamaswap.telemetry.activity import Activity
from llamaswap.telemetry.bus import Bus
from llamaswap.telemetry.schema import StoreError, open_store
from llamaswap.telemetry.store import Store
from llamaswap.telemetry.swap_store import last_swap_id
from llamaswap.telemetry.worker import Worker
from llamaswap.web.meter import Meter

_MEBIBYTE: Final = 1024 * 1024
_STORE_SECONDS: Final = 5
"""The end of the daemon waits so long for a slow disk."""


class Metering:
    """Opens the store, meters requests, and follows the configuration.

    Args:
        reactor: Gives the time, and calls later.
        bus: Where requests are told of, and rows.
        config: The configuration in force.
        make_worker: Makes what a store works on.

    Attributes:
        activity: Has the rows and captures.
        meter: Makes them.
        swap_numbers: Of swaps, behind those in the store.

    Raises:
        ConfigError: The store cannot be opened.
    """

    _log: ClassVar[Logger] = Logger()

    def __init__(self, reactor: Any, bus: Bus, config: Config, make_worker: Callable[[], Worker]) -> None:
        self._reactor = reactor
        self._make_worker = make_worker
        self._store_path = config.store_path
        self._is_stopped = False
        self.swap_numbers = SwapNumbers(_try_store(config.store_path))
        store = Store(config.store_path, make_worker())
        self.activity = Activity(reactor, store, bus.publish, *_limits(config))
        self.meter = Meter(bus, self.activity, config)
        bus.subscribe(SwapChanged, self._swap_changed)

    def apply(self, config: Config) -> None:
        """Follow another configuration; another store is used as soon as it is open, and if it can be opened."""
        self._store_path = config.store_path
        self.activity.keep(*_limits(config))
        self.meter.apply(config)
        if config.store_path != self.activity.store_path:
            store = Store(config.store_path, self._make_worker())
            store.do(last_swap_id).addCallbacks(self._move, self._stay, callbackArgs=(store,), errbackArgs=(store,))

    def _swap_changed(self, news: SwapChanged) -> None:
        if news.record["outcome"] is not None and not self._is_stopped:
            self.activity.add_swap(news.record)

    def _move(self, last_swap: int, store: Store) -> None:
        if self._is_stopped or store.path != self._store_path:
            store.close()
        else:
            self.swap_numbers.follow(last_swap)
            self.activity.move(store)

    def _stay(self, failure: Failure, store: Store) -> None:
        self._log.error("activity stays where it was: {error}", error=failure.getErrorMessage())
        store.close()

    async def stop(self) -> None:
        """Write what waits, and close the store; harmless when called again."""
        if self._is_stopped:
            return
        self._is_stopped = True
        try:
            await self.activity.close().addTimeout(_STORE_SECONDS, self._reactor)
        except TimeoutError:
            self._log.error("the store did not take the last rows in time")


def _limits(config: Config) -> tuple[int, int]:
    """Give how many rows are kept in memory, and how many bytes of captures."""
    return config.metrics_max_in_memory_rows, config.capture_buffer_mib * _MEBIBYTE


def _try_store(path: str) -> int:
    """Open a store and close it again: what is wrong shall be known before anything is started.

    Returns:
        The number of the last swap in it.
    """
    if not path:
        return 0
    try:
        with closing(open_store(path)) as connection:
            return last_swap_id(connection)
    except StoreError as error:
        raise ConfigError(error.message) from error
