"""Builds the whole daemon from a configuration; the only place that knows every part."""

from __future__ import annotations

import os
import resource
import time
from collections.abc import Collection
from dataclasses import replace
from typing import Any, ClassVar, Final

from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred, maybeDeferred
from twisted.internet.error import ReactorNotRunning
from twisted.internet.interfaces import IListeningPort
from twisted.logger import ILogObserver, Logger

from llamaswap.config.schema import Config, ModelConfig
from llamaswap.core.backoff import Backoff
from llamaswap.core.scheduler import Scheduler
from llamaswap.listen import Listen
from llamaswap.preload import Preload
from llamaswap.process.death_signal import death_signal_words
from llamaswap.process.local import LocalLauncher
from llamaswap.process.run_file import run_file_path
from llamaswap.process.run_state import RunState
from llamaswap.process.upstream import Upstream
from llamaswap.process.zombies import ZombieReaper
from llamaswap.proxy.agent import HopAgent
from llamaswap.proxy.hop import HopPool
from llamaswap.registry import build_planner
from llamaswap.router import Router
from llamaswap.shutdown import Shutdown, Signals
from llamaswap.telemetry.logs import Logs
from llamaswap.telemetry.stdout import NonBlockingWriter
from llamaswap.web.app import App
from llamaswap.web.edge import EdgeSite

_DESCRIPTORS: Final = 1 << 20
"""Open files that we ask for; each waiting client needs one, each stream two."""


class DaemonService(Service):
    """The daemon.

    Args:
        reactor: Runs everything.
        config: What to serve.
        listen: Where.
        is_watching: Whether ``-watch-config`` was given.
        origin: Where the configuration comes from; tells this daemon from others at the same address.

    Attributes:
        config: The active configuration.
        logs: All logs.
        router: Decides and dispatches.
        takes_log: Whether the runner's log shall be ours.
    """

    name = "llamaswap"
    _log: ClassVar[Logger] = Logger()

    def __init__(
        self, reactor: Any, config: Config, listen: Listen, *, is_watching: bool = False, origin: str = ""
    ) -> None:
        self.config = config
        self.takes_log = False
        self._reactor = reactor
        self._listen = listen
        self._is_watching = is_watching
        # A daemonising runner changes both; models get what the invoker had.
        self._cwd = os.getcwd()  # noqa: PTH109 - a plain path for the child
        self._umask = os.umask(0)
        os.umask(self._umask)
        self._stdout: NonBlockingWriter | None = None
        self.logs = Logs(config, reactor, reactor.callFromThread, self._to_stdout)
        pause = config.start_backoff
        backoff = Backoff(pause.failures, pause.window_seconds, pause.pause_seconds)
        scheduler = Scheduler(config.facts(), build_planner(config), config.router.use, backoff)
        self.router: Router[Upstream, HopPool] = Router(scheduler, reactor, self._make_pool)
        self._agent = HopAgent(reactor)
        state_path = run_file_path(config.state_dir, os.environ, origin, listen.host, str(listen.port))
        self._run_state = RunState(state_path, reactor)
        self._reaper = ZombieReaper(reactor)
        launcher = LocalLauncher(reactor, death_signal=death_signal_words(os.environ), journal=self._run_state)
        self._upstreams = {m.id: self._make_upstream(m, launcher) for m in config.models.values()}
        self.router.adopt(self._upstreams)
        self._site = EdgeSite(App(self).resource(), reactor, self.logs.own_lines, config.http)
        self._port: IListeningPort | None = None
        self._preloading: Deferred[None] | None = None
        longest_seconds = max((m.unload_timeout_seconds for m in config.models.values()), default=0)
        self._shutdown = Shutdown(self, reactor, float(longest_seconds))
        self._signals = Signals(self._stop_reactor, self._shutdown.hurry, self.pids, reactor.callFromThread)

    def _make_upstream(self, model: ModelConfig, launcher: LocalLauncher) -> Upstream:
        return Upstream(
            model,
            clock=self._reactor,
            launcher=launcher,
            probe_agent=self._agent,
            events=self.router,
            on_output=self.logs.model(model.id).write,
            environ=dict(os.environ),
            cwd=self._cwd,
            history=self.logs.model(model.id).history,
        )

    def _make_pool(self, upstream: Upstream) -> HopPool:
        return HopPool(self._reactor, upstream.base_url, upstream.config.timeouts)

    def _to_stdout(self, data: bytes) -> None:
        if self._stdout is not None:
            self._stdout.write(data)

    # ----------------------------------------------------------------- start

    def setServiceParent(self, parent: Any) -> None:  # noqa: N802 - Twisted's name
        """Join an application; its log becomes ours where it would go to standard output anyway."""
        if self.takes_log:
            parent.setComponent(ILogObserver, self.logs.own_lines)
        Service.setServiceParent(self, parent)

    def privilegedStartService(self) -> None:
        """Bind the address, before anything else happens.

        Raises:
            CannotListenError: It cannot be bound.
        """
        Service.privilegedStartService(self)
        self._bind()

    def _bind(self) -> None:
        if self._port is None:
            self._port = self._listen.bind(self._reactor, self._site)

    def startService(self) -> None:
        """Begin to serve."""
        # Twisted's reactor goes by the wall clock, which may be set while timers run.
        self._reactor.seconds = time.monotonic
        self._bind()
        Service.startService(self)
        os.umask(self._umask)
        raise_descriptor_limit()
        self._stdout = NonBlockingWriter(self._reactor)
        for warning in (*self.config.warnings, *not_yet(self.config, is_watching=self._is_watching)):
            self._log.warn("{warning}", warning=warning)
        self._run_state.open()
        self._reaper.start(os.getpid())
        self._announce()
        self._reactor.callWhenRunning(self._running)

    def _announce(self) -> None:
        bound = getattr(self._port.getHost(), "port", 0) if self._port is not None else 0
        self._log.info("listening on {url}", url=self._listen.url(bound))
        if not self._listen.is_loopback:
            self._log.info("other hosts can reach this address; -listen 127.0.0.1:{port} keeps them out", port=bound)

    def _running(self) -> None:
        self._signals.install()
        if self.config.preload:
            urls = {model: upstream.base_url for model, upstream in self._upstreams.items()}
            preload = Preload(self.router, urls, self._agent, self._reactor)
            self._preloading = preload.run(self.config.preload)
            self._preloading.addErrback(self._preload_ended)

    def _preload_ended(self, failure: Any) -> None:
        if not failure.check(CancelledError):
            self._log.failure("preload broke", failure)

    # ----------------------------------------------------------------- end

    def stopService(self) -> Deferred[None]:
        """End everything in order.

        Returns:
            Fires with ``None`` when it is over; never fails.
        """
        Service.stopService(self)
        return self._shutdown.begin()

    def _stop_reactor(self) -> None:
        try:
            self._reactor.stop()
        except ReactorNotRunning:
            self._log.debug("the end has begun already")

    def refuse_new(self) -> None:
        """See :class:`llamaswap.shutdown.Ending`."""
        if self._preloading is not None:
            self._preloading.cancel()
        self.router.begin_shutdown()
        self.logs.end_readers()

    async def close_doors(self) -> None:
        """See :class:`llamaswap.shutdown.Ending`."""
        port, self._port = self._port, None
        if port is not None:
            await maybeDeferred(port.stopListening)
        self._site.close_idle()

    def drained(self) -> Deferred[None]:
        """See :class:`llamaswap.shutdown.Ending`."""
        return self.router.drained()

    def stop_all(self, grace_seconds: float) -> Deferred[None]:
        """See :class:`llamaswap.shutdown.Ending`."""
        return self.router.stop_all(grace_seconds)

    def pids(self) -> Collection[int]:
        """See :class:`llamaswap.shutdown.Ending`."""
        return [s.pid for s in self.router.snapshots() if s.pid is not None]

    def closed(self) -> None:
        """See :class:`llamaswap.shutdown.Ending`."""
        self._signals.restore()
        self._run_state.close()
        self._reaper.stop()
        if self._stdout is not None:
            self._stdout.close()


def not_yet(config: Config, *, is_watching: bool) -> list[str]:
    """Name what is configured and has no effect in this version, so that nobody relies on it."""
    default = Config()
    asked = {
        "-watch-config": is_watching,
        "peers": bool(config.peers),
        "selectors": bool(config.selectors),
        "profiles": bool(config.profiles),
        "sendLoadingState": any(m.send_loading_state for m in config.models.values()),
        "maskSecrets": config.mask_secrets,
        "store": bool(config.store_path),
        "http": config.http
        != replace(
            default.http,
            max_header_bytes=config.http.max_header_bytes,
            header_timeout_seconds=config.http.header_timeout_seconds,
            body_timeout_seconds=config.http.body_timeout_seconds,
        ),
    }
    return [f"{name} is configured, but has no effect yet" for name, is_asked in asked.items() if is_asked]


def raise_descriptor_limit() -> None:
    """Allow this process as many open files as the system lets it have."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, _DESCRIPTORS)
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
