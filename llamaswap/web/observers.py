"""All that looks on while requests pass and models come and go, and that routes and streams show."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from llamaswap.config.schema import Config
from llamaswap.core.news import ConfigChanged
from llamaswap.telemetry.bus import Bus
from llamaswap.telemetry.worker import ThreadWorker, Worker
from llamaswap.web.chronicle import Chronicle
from llamaswap.web.exchange import Ledger
from llamaswap.web.metering import Metering
from llamaswap.web.profiles import Profiles


class Observers:
    """What the daemon knows of its past and present.

    Args:
        reactor: Gives the time, calls later, and has threads.
        config: The configuration in force.
        make_worker: Makes what a store works on; by default a thread.

    Attributes:
        reactor: As given.
        bus: News of what happens.
        ledger: The requests under way.
        profiles: Which names stand for others.
        chronicle: What became of swaps, processes and those who waited.
        activity: Requests that have ended.

    Raises:
        ConfigError: The store cannot be opened.
    """

    def __init__(self, reactor: Any, config: Config, make_worker: Callable[[], Worker] | None = None) -> None:
        self.reactor = reactor
        self.bus = Bus()
        self.ledger = Ledger(self.bus, lambda: float(reactor.seconds()))
        self.chronicle = Chronicle(self.bus, self.ledger)
        self.profiles = Profiles(config, self.bus.publish)
        make_worker = make_worker or partial(ThreadWorker, reactor, "store")
        self._metering = Metering(reactor, self.bus, config, make_worker)
        self.activity = self._metering.activity
        self._config = config
        self._ends: list[Callable[[], object]] = []

    def at_end(self, end: Callable[[], object]) -> None:
        """Have a function called that ends streams, when the daemon is about to stop."""
        self._ends.append(end)

    def start(self) -> None:
        """Begin to look on; the daemon starts."""

    def apply(self, config: Config) -> None:
        """Follow another configuration."""
        self._config = config
        self.profiles.apply(config)
        self._metering.apply(config)
        self.bus.publish(ConfigChanged())

    def end_readers(self) -> None:
        """End the streams of those who follow us; the daemon is about to stop."""
        for end in self._ends:
            end()

    async def stop(self) -> None:
        """Stop looking on, when all requests have ended; what is to be kept is kept. Harmless when called again."""
        await self._metering.stop()
