"""Builds the whole daemon from a configuration; the only place that knows every part."""

from __future__ import annotations

import gc
import os
import resource
import sys
import time
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, ClassVar, Final
from urllib.parse import urlsplit

from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred, maybeDeferred, succeed
from twisted.internet.error import ReactorNotRunning
from twisted.internet.interfaces import IListeningPort
from twisted.logger import ILogObserver, Logger

from llamaswap.background import in_thread
from llamaswap.config.diff import Difference
from llamaswap.config.expansion import HeldPorts
from llamaswap.config.schema import Config, ModelConfig
from llamaswap.core.backoff import Backoff, BackoffRule
from llamaswap.core.messages import Reconfigured
from llamaswap.core.patience import Patience
from llamaswap.core.scheduler import Scheduler
from llamaswap.core.values import ModelId
from llamaswap.listen import Listen, ServerTLS
from llamaswap.preload import Preload
from llamaswap.process.death_signal import death_signal_words
from llamaswap.process.local import LocalLauncher
from llamaswap.process.orphans import kill_at_once
from llamaswap.process.run_file import run_file_path
from llamaswap.process.run_state import RunState
from llamaswap.process.upstream import Upstream
from llamaswap.process.zombies import ZombieReaper
from llamaswap.proxy.agent import HopAgent
from llamaswap.proxy.hop import HopPool
from llamaswap.proxy.peers import Peers
from llamaswap.registry import build_planner
from llamaswap.reload import Prepared, Reload, Source, Trigger
from llamaswap.router import Router
from llamaswap.shutdown import Shutdown, Signals, leave_soon
from llamaswap.stalls import StallWatch
from llamaswap.telemetry.logs import Logs
from llamaswap.telemetry.stdout import NonBlockingWriter
from llamaswap.watch import Picture, Watcher, take_picture
from llamaswap.web.app import App
from llamaswap.web.assets import INDEX
from llamaswap.web.observers import Observers
from llamaswap.web.site import EdgeSite
from llamaswap.web.ui import ui_folder

_DESCRIPTORS: Final = 1 << 20
"""Open files that we ask for; each waiting client needs one, each stream two."""


_SWITCH_SECONDS: Final = 0.0005
"""Longest wait of the reactor for a thread that computes, after each of its system calls; 0.005 by default."""


class DaemonService(Service):
    """The daemon.

    Args:
        reactor: Runs everything.
        config: What to serve.
        listen: Where.
        source: Where reloads read.
        watched: With ``-watch-config``, how the files looked when the configuration was read.

    Attributes:
        config: The active configuration.
        observers: What looks on.
        logs: All logs.
        peers: The ways to other servers.
        router: Decides and dispatches.
        takes_log: Whether the runner's log shall be ours.
    """

    name = "llamaswap"
    _log: ClassVar[Logger] = Logger()

    def __init__(
        self,
        reactor: Any,
        config: Config,
        listen: Listen,
        source: Source,
        *,
        watched: Picture | None = None,
    ) -> None:
        self.config = config
        self.takes_log = False
        self._reactor = reactor
        self._listen = listen
        # A daemonising runner changes both; models get what the invoker had.
        self._cwd = os.getcwd()  # noqa: PTH109 - a plain path for the child
        self._umask = os.umask(0)
        os.umask(self._umask)
        self._stdout: NonBlockingWriter | None = None
        self.logs = Logs(config, reactor, reactor.callFromThread, self._to_stdout)
        self.observers = Observers(reactor, config, os.environ)
        self._planner = build_planner(config)
        backoff = Backoff(backoff_rule(config))
        numbers = self.observers.swap_numbers
        scheduler = Scheduler(config.facts(), self._planner, config.router.use, backoff, patience(config), numbers)
        self.router: Router[Upstream, HopPool] = Router(
            scheduler, reactor, self._make_pool, self.logs.forget, self.observers.bus.publish
        )
        self.peers = Peers(reactor, config.peers)
        self._agent = HopAgent(reactor)
        origin = f"{source.path or ''}\n{source.directory or ''}"
        state_path = run_file_path(config.state_dir, os.environ, origin, listen.host, str(listen.port))
        self._run_state = RunState(state_path, reactor)
        self._reaper = ZombieReaper(reactor)
        self._stalls = StallWatch(reactor)
        self._launcher = LocalLauncher(reactor, death_signal=death_signal_words(os.environ), journal=self._run_state)
        self.router.adopt({m.id: self._make_upstream(m) for m in config.models.values()})
        self._site = EdgeSite(
            App(self).resource(), reactor, self.logs.own_lines, config.http, in_thread=partial(in_thread, reactor)
        )
        self._port: IListeningPort | None = None
        self._tls: ServerTLS | None = None
        self._preloading: Deferred[None] | None = None
        self._shutdown = Shutdown(self, reactor, longest_grace_seconds(config))
        self._reload = Reload(
            self,
            lambda held: in_thread(reactor, partial(self._prepare, source, held)),
            reactor,
            publish=self.observers.bus.publish,
        )
        look = partial(take_picture, source.path, source.directory)
        self._watcher: Watcher | None = None
        if watched is not None:
            on_change = partial(self._reload.trigger, Trigger.WATCH)
            self._watcher = Watcher(reactor, partial(in_thread, reactor, look), on_change, watched)
        self._signals = Signals(
            self._stop_reactor,
            self._shutdown.hurry,
            self.kill_all,
            reactor.callFromThread,
            partial(self._reload.trigger, Trigger.SIGNAL),
        )

    def _make_upstream(self, model: ModelConfig) -> Upstream:
        return Upstream(
            model,
            clock=self._reactor,
            launcher=self._launcher,
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
            self._tls = self._listen.tls()
            self._port = self._listen.bind(self._reactor, self._site, self._tls)

    def startService(self) -> None:
        """Begin to serve."""
        # Twisted's reactor goes by the wall clock, which may be set while timers run.
        self._reactor.seconds = time.monotonic
        sys.setswitchinterval(_SWITCH_SECONDS)
        # What is there now stays; collections that a reload causes need not look at it, which takes 50 ms.
        gc.freeze()
        self._bind()
        Service.startService(self)
        os.umask(self._umask)
        raise_descriptor_limit()
        self._stdout = NonBlockingWriter(self._reactor)
        self._warn(Config())
        self.observers.start()
        self._run_state.open()
        self._reaper.start(os.getpid())
        self._announce()
        self._reactor.callWhenRunning(self._running)
        self._reactor.addSystemEventTrigger("during", "shutdown", leave_soon)

    def _warn(self, before: Config) -> None:
        """Say what looks wrong, unless that has been said before."""
        for warning in self.config.warnings:
            if warning not in before.warnings:
                self._log.warn("{warning}", warning=warning)

    def _announce(self) -> None:
        bound = getattr(self._port.getHost(), "port", 0) if self._port is not None else 0
        self._log.info("listening on {url}", url=self._listen.url(bound))
        if not (ui_folder(self.config) / INDEX).is_file():
            self._log.info("no files of a web UI; /ui/ is a plain page")
        if not self._listen.is_loopback:
            self._log.info("other hosts can reach this address; -listen 127.0.0.1:{port} keeps them out", port=bound)

    def _running(self) -> None:
        self._signals.install()
        self._stalls.start()
        if self._watcher is not None:
            self._watcher.start()
        self._preload(self.config.preload)

    def _preload(self, models: Sequence[ModelId]) -> None:
        """Load models in order, after those that are being loaded already."""
        if models:
            urls = {model: upstream.base_url for model, upstream in self.router.supervisors.items()}
            preload = Preload(self.router, urls, self._agent, self._reactor)
            before = self._preloading or succeed(None)
            self._preloading = before.addCallback(lambda _: preload.run(models) if self.running else None)
            self._preloading.addErrback(self._preload_ended)

    def _preload_ended(self, failure: Any) -> None:
        if not failure.check(CancelledError):
            self._log.failure("preload broke", failure)

    # ----------------------------------------------------------------- reload

    def _prepare(self, source: Source, held: HeldPorts) -> Prepared:
        """Get all that a reload needs, in a thread."""
        prepared = source.prepare(held)
        if self._tls is not None:
            self._tls.read()
        return prepared

    def reload_document(self) -> Mapping[str, Any]:
        """Describe the last reload."""
        return self._reload.report.document()

    def held_ports(self) -> HeldPorts:
        """See :class:`llamaswap.reload.Reloadable`."""
        known = self.router.supervisors.values()
        return HeldPorts(
            {u.model: u.config.port for u in known if u.config.port is not None},
            [urlsplit(u.base_url).port or 0 for u in known if u.state.counts_as_running],
        )

    def commit(self, prepared: Prepared, difference: Difference) -> None:
        """See :class:`llamaswap.reload.Reloadable`."""
        before, self.config = self.config, prepared.config
        upstreams = {m.id: self._configured(m) for m in self.config.models.values()}
        self.logs.apply(self.config)
        self.peers.apply(self.config.peers)
        self._site.change_limits(self.config.http)
        self._shutdown.reserve(longest_grace_seconds(self.config))
        event = Reconfigured(
            facts=prepared.facts,
            planner=prepared.planner,
            planner_name=self.config.router.use,
            restarted=frozenset(difference.restarted),
            removed=frozenset(difference.removed),
            drain_seconds=float(self.config.reload_drain_seconds),
            at_mono=self._reactor.seconds(),
            enforces=self.config.router.enforce_on_reload,
            backoff=backoff_rule(self.config),
            patience=patience(self.config),
        )
        self.router.reconfigure(upstreams, event)
        self._planner.close()
        self._planner = prepared.planner
        self.observers.apply(self.config)
        self._warn(before)
        fresh = {*difference.added, *difference.restarted}
        self._preload([model for model in self.config.preload if model in fresh])

    def _configured(self, model: ModelConfig) -> Upstream:
        """Give a model's supervisor, an old acquaintance or a new one."""
        upstream = self.router.supervisors.get(model.id)
        if upstream is None:
            return self._make_upstream(model)
        upstream.reconfigure(model)
        return upstream

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
        self._reload.refuse()
        if self._watcher is not None:
            self._watcher.stop()
        if self._preloading is not None:
            self._preloading.cancel()
        self.router.begin_shutdown()
        self.peers.refuse()
        self.logs.end_readers()
        self.observers.end_readers()

    async def close_doors(self) -> None:
        """See :class:`llamaswap.shutdown.Ending`."""
        port, self._port = self._port, None
        if port is not None:
            await maybeDeferred(port.stopListening)
        self._site.close_idle()

    def drained(self) -> Deferred[None]:
        """See :class:`llamaswap.shutdown.Ending`."""
        return Deferred.fromCoroutine(self._drained())

    async def _drained(self) -> None:
        await self.router.drained()
        await self.observers.ledger.drained()

    def stop_all(self, grace_seconds: float) -> Deferred[None]:
        """See :class:`llamaswap.shutdown.Ending`."""
        self.peers.close()
        stopped = self.router.stop_all(grace_seconds)
        return stopped.addCallback(lambda _: Deferred.fromCoroutine(self.observers.stop()))

    def kill_all(self) -> None:
        """See :class:`llamaswap.shutdown.Ending`."""
        leaders = [s.pid for s in self.router.snapshots() if s.pid is not None]
        kill_at_once(leaders, self._run_state.instance)

    def closed(self) -> None:
        """See :class:`llamaswap.shutdown.Ending`."""
        self._signals.restore()
        self._run_state.close()
        self._reaper.stop()
        self._stalls.stop()
        if self._stdout is not None:
            self._stdout.close()


def backoff_rule(config: Config) -> BackoffRule:
    """Say when models that fail to start are left alone."""
    pause = config.start_backoff
    return BackoffRule(pause.failures, pause.window_seconds, pause.pause_seconds)


def patience(config: Config) -> Patience:
    """Say how long a request may be overtaken."""
    fifo = config.scheduler
    return Patience(fifo.max_wait_seconds, fifo.max_wait_per_model_seconds, fifo.max_drain_seconds)


def longest_grace_seconds(config: Config) -> float:
    """Give the longest time that any model's process may take to end."""
    return float(max((m.unload_timeout_seconds for m in config.models.values()), default=0))


def raise_descriptor_limit() -> None:
    """Allow this process as many open files as the system lets it have."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, _DESCRIPTORS)
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
