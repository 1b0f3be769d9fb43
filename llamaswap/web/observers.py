"""All that looks on while requests pass and models come and go, and that routes and streams show."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, ClassVar

from prometheus_client.registry import CollectorRegistry
from twisted.logger import Logger
from twisted.python.failure import Failure

from llamaswap.config.schema import Config
from llamaswap.core.news import ConfigChanged
from llamaswap.telemetry.bus import Bus
from llamaswap.telemetry.daemon_metrics import register_daemon
from llamaswap.telemetry.gpu import GPUs
from llamaswap.telemetry.gpu_sources import gpu_sources
from llamaswap.telemetry.hardware import detect_hardware
from llamaswap.telemetry.host import Host
from llamaswap.telemetry.machine_metrics import MachineCollector
from llamaswap.telemetry.monitor import Monitor
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
        environ: Of this process.
        make_worker: Makes what a store works on; by default a thread.

    Attributes:
        reactor: As given.
        bus: News of what happens.
        ledger: The requests under way.
        profiles: Which names stand for others.
        chronicle: What became of swaps, processes and those who waited.
        activity: Requests that have ended.
        swap_numbers: Of swaps, behind those that an earlier daemon put on record.
        monitor: Figures of this machine.
        metrics: What ``GET /metrics`` shows.
        hardware: What this machine is, once that is known.
        is_ending: Whether the daemon is about to stop.

    Raises:
        ConfigError: The store cannot be opened.
    """

    _log: ClassVar[Logger] = Logger()

    def __init__(
        self,
        reactor: Any,
        config: Config,
        environ: Mapping[str, str],
        make_worker: Callable[[], Worker] | None = None,
    ) -> None:
        self.reactor = reactor
        self.bus = Bus()
        self.ledger = Ledger(self.bus, lambda: float(reactor.seconds()))
        self.chronicle = Chronicle(self.bus, self.ledger)
        self.profiles = Profiles(config, self.bus.publish)
        make_worker = make_worker or partial(ThreadWorker, reactor, "store")
        self._metering = Metering(reactor, self.bus, config, make_worker)
        self.activity = self._metering.activity
        self.swap_numbers = self._metering.swap_numbers
        self.is_ending = False
        self.hardware: Mapping[str, Any] | None = None
        workers = ThreadWorker(reactor, "host figures"), ThreadWorker(reactor, "GPU figures")
        gpus = GPUs(gpu_sources(environ), time.time_ns, time.monotonic)
        self.monitor = Monitor(reactor, Host(time.time_ns), gpus, workers, config.performance)
        self.metrics = CollectorRegistry()
        register_daemon(self.metrics)
        self.metrics.register(MachineCollector(self.monitor))
        self._environ = environ
        self._detector = ThreadWorker(reactor, "hardware")
        self._config = config
        self._ends: list[Callable[[], object]] = []

    def at_end(self, end: Callable[[], object]) -> None:
        """Have a function called that ends streams, when the daemon is about to stop."""
        self._ends.append(end)

    def start(self) -> None:
        """Begin to look on; the daemon starts."""
        self.monitor.start()
        detected = self._detector.do(partial(detect_hardware, self._environ))
        detected.addCallbacks(self._detected, self._undetected)
        self._detector.end()

    def _detected(self, found: Mapping[str, Any]) -> None:
        self.hardware = found

    def _undetected(self, failure: Failure) -> None:
        self._log.failure("could not find out what this machine is", failure)

    def apply(self, config: Config) -> None:
        """Follow another configuration."""
        self._config = config
        self.profiles.apply(config)
        self._metering.apply(config)
        self.monitor.apply(config.performance)
        self.bus.publish(ConfigChanged())

    def end_readers(self) -> None:
        """End the streams of those who follow us; the daemon is about to stop."""
        self.is_ending = True
        for end in self._ends:
            end()

    async def stop(self) -> None:
        """Stop looking on, when all requests have ended; what is to be kept is kept. Harmless when called again."""
        self.monitor.stop()
        await self._metering.stop()
