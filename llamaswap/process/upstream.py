"""The supervisor of one model: the only owner of its state, and the only caller of launchers.

Others ask it to be ready or to stop, at any time; what that means at the moment, only the
supervisor decides, in the reactor thread, one event at a time. It does not decide whether to run.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from copy import copy
from functools import partial
from typing import Any, ClassVar, Final, Protocol

from twisted.internet.defer import CancelledError, Deferred, fail, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.iweb import IAgent

from llamaswap.config.schema import ModelConfig
from llamaswap.core.lifecycle import LifecycleEvent, advance
from llamaswap.core.masking import masked
from llamaswap.core.snapshot import LoadErrorKind, UpstreamSnapshot
from llamaswap.core.values import Generation, ModelId, ProcessState, StopReason
from llamaswap.errors import ModelUnloadedError, ShuttingDownError, UpstreamStartError
from llamaswap.interfaces import ExitStatus, ILaunched, ILiveStopCommand, IUpstreamLauncher
from llamaswap.process.command import launch_spec
from llamaswap.process.health import HealthCheck, probe_url
from llamaswap.process.idle import IdleTimer
from llamaswap.process.life import Life
from llamaswap.process.load_errors import LoadErrors
from llamaswap.process.load_times import LoadHistory
from llamaswap.process.waiters import Waiters

_FAILED_START_GRACE_SECONDS: Final = 5.0
"""What the tree of a failed start has between TERM and KILL."""

_NO_PROBING: Final = "none"
"""The check endpoint that means: ready as soon as it runs."""


class UpstreamEvents(Protocol):
    """Who wants to know what becomes of a process; called in the reactor thread, must not raise."""

    def state_changed(
        self,
        model: ModelId,
        generation: Generation,
        old: ProcessState,
        new: ProcessState,
        reason: StopReason | None,
    ) -> None:
        """Take note of a change, which has happened already; ``reason`` says why a process ends."""

    def process_exited(self, model: ModelId, generation: Generation) -> None:
        """Take note that a ready process ended by itself; follows its state change."""

    def idle_expired(self, model: ModelId, generation: Generation) -> None:
        """Decide whether an idle model stops; called again each second until it does, or is used."""


class Upstream:
    """One configured model's process, over all its generations.

    Args:
        config: The model.
        clock: Monotonic time and timers.
        launcher: Brings processes up.
        probe_agent: Sends health checks.
        events: Told of what happens.
        on_output: Called with each piece of the process's output.
        environ: The daemon's environment, which the model's entries extend.
        cwd: Working folder of the process.
        history: Gives the newest output, for the record of an error.

    Attributes:
        model: Its id.
        config: The one in force.
    """

    _log: ClassVar[Logger] = Logger()

    def __init__(  # noqa: PLR0913 - all that surrounds a process
        self,
        config: ModelConfig,
        *,
        clock: IReactorTime,
        launcher: IUpstreamLauncher,
        probe_agent: IAgent,
        events: UpstreamEvents,
        on_output: Callable[[bytes], None],
        environ: Mapping[str, str],
        cwd: str,
        history: Callable[[], bytes] = bytes,
    ) -> None:
        self.model = config.id
        self.config = config
        self._clock = clock
        self._launcher = launcher
        self._agent = probe_agent
        self._events = events
        self._on_output = on_output
        self._environ = environ
        self._cwd = cwd
        self._state = ProcessState.STOPPED
        self._generation = Generation(0)
        self._life: Life | None = None
        self._leftover: ILaunched | None = None
        self._is_ending = False
        self._waiters: Waiters[Generation] = Waiters()
        self._stoppers: Waiters[None] = Waiters()
        self._load_history = LoadHistory()
        self._errors = LoadErrors(history)
        self._crashes = 0
        self._started_at: float | None = None

    # ----------------------------------------------------------------- for everybody

    @property
    def state(self) -> ProcessState:
        """The state right now: advice, never the ground of a decision to start or stop."""
        return self._state

    @property
    def generation(self) -> Generation:
        """Number of the newest process; 0 before the first."""
        return self._generation

    @property
    def base_url(self) -> str:
        """Where the process answers."""
        launched = self._life.launched if self._life is not None else None
        return launched.base_url if launched is not None else self.config.proxy

    def snapshot(self) -> UpstreamSnapshot:
        """Describe this moment."""
        life = self._life
        launched = life.launched if life is not None else None
        described = launched.describe() if launched is not None else {}
        left_seconds = life.idle.left_seconds if life is not None and life.idle is not None else None
        return UpstreamSnapshot(
            model=self.model,
            state=self._state,
            generation=self._generation,
            pid=described.get("pid"),
            started_at=self._started_at,
            ready_at=life.ready_at if life is not None else None,
            starts=self._generation,
            crashes=self._crashes,
            load=self._load_history.times(),
            last_error=self._errors.last,
            launched=described,
            expires_at=time.time() + left_seconds if left_seconds is not None else None,
            cwd=self._cwd,
        )

    def resident_bytes(self) -> Deferred[int | None]:
        """Measure the host memory of the process; fires with ``None`` when it is unknown, never fails."""
        return self._life.resident_bytes(self._clock) if self._life is not None else succeed(None)

    def touch(self) -> None:
        """Count the time to live from now: somebody used the model."""
        if self._life is not None and self._life.idle is not None:
            self._life.idle.touch()

    def reconfigure(self, config: ModelConfig) -> None:
        """Follow another configuration of the same model.

        A process that exists goes on as it was started; its time to live, its grace and, where the
        launcher can do that, its stop command are the new ones.
        """
        self.config = config
        launched: Any = self._life.launched if self._life is not None else None
        if ILiveStopCommand.providedBy(launched):
            launched.stop_argv = config.stop_argv
        if self._life is not None and self._life.idle is not None:
            self._life.idle.change(config.ttl_seconds)

    def ensure_ready(self) -> Deferred[Generation]:
        """Have a ready process: the one there is, or a new one.

        Returns:
            A Deferred of its own for each call. Fires with the generation that is ready, before this
            returns where one is. Fails with :class:`~llamaswap.errors.UpstreamStartError`, its
            subclass :class:`~llamaswap.errors.UpstreamStartTimeoutError`,
            :class:`~llamaswap.errors.ModelUnloadedError` when a stop cut the start short, or
            :class:`~llamaswap.errors.ShuttingDownError`. Cancelling ends this waiting alone.
        """
        if self._is_ending:
            return fail(_shutting_down())
        if self._state is ProcessState.READY:
            return succeed(self._generation)
        waiting = self._waiters.add()
        if self._state is ProcessState.STOPPED:
            self._begin_start()
        return waiting

    def stop(self, grace_seconds: float, reason: StopReason) -> Deferred[None]:
        """Have no process.

        A stop under way is joined; the shorter remaining grace wins.

        Args:
            grace_seconds: From asking the process to end until it is killed; 0 = the model's own.
            reason: Why.

        Returns:
            A Deferred of its own for each call. Fires with ``None`` when every process of the model is
            gone, before this returns where there is none; never fails.
        """
        life = self._life
        grace_seconds = grace_seconds or self.config.unload_timeout_seconds
        if life is None:
            return succeed(None) if self._leftover is None else self._leftover.stop(grace_seconds)
        stopped = self._stoppers.add()
        if self._state is not ProcessState.STOPPING:
            self._begin_stop(life, grace_seconds, reason)
        elif life.launched is not None:
            life.launched.stop(grace_seconds)
        return stopped

    def leftover_gone(self) -> Deferred[None]:
        """Wait for the rest of a tree whose leader ended by itself.

        Returns:
            Fires with ``None`` when nothing is left of it, before this returns where nothing is; never fails.
        """
        if self._leftover is None:
            return succeed(None)
        return self._leftover.stop(float(self.config.unload_timeout_seconds))

    def shut_down(self, grace_seconds: float) -> Deferred[None]:
        """End for good: whoever waits, or comes later, hears of the shutdown.

        Returns:
            Fires with ``None`` when nothing is left of any generation; never fails.
        """
        self._is_ending = True
        return Deferred.fromCoroutine(self._shut_down(grace_seconds))

    # ----------------------------------------------------------------- start

    def _begin_start(self) -> None:
        self._generation = Generation(self._generation + 1)
        life = self._life = Life(started_at=time.time(), started_mono=self._clock.seconds())
        self._started_at = life.started_at
        self._move(LifecycleEvent.START_WANTED)
        if self._life is life and self._state is ProcessState.STARTING:
            life.starting = Deferred.fromCoroutine(self._start(life))
            life.starting.addErrback(self._start_cut_short, life)

    async def _start(self, life: Life) -> None:
        try:
            await self._bring_up(life)
        except UpstreamStartError as error:
            self._log.warn("{model} did not start: {reason}", model=self.model, reason=error.message)
            self._errors.note(life.kind_of(error), error.message, life.exit_status)
            if life.launched is not None:
                await life.launched.stop(_FAILED_START_GRACE_SECONDS)
            if self._life is not life or self._state is not ProcessState.STARTING:
                return  # a stop took over: launchers may answer being cancelled late, and in words of their own
            failed, self._waiters = self._waiters, Waiters()
            self._life = None
            self._move(LifecycleEvent.START_FAILED, StopReason.START_FAILED)
            failed.fail(partial(copy, error))
        else:
            self._become_ready(life)

    async def _bring_up(self, life: Life) -> None:
        if self._leftover is not None:
            await self._leftover.stop(float(self.config.unload_timeout_seconds))
            self._leftover = None
        spec = launch_spec(self.config, self._environ, self._cwd)
        self._log.debug(
            "{model}: starting {command}, its own environment: {names}",
            model=self.model,
            command=masked(" ".join(spec.argv)),
            names=[entry.partition("=")[0] for entry in self.config.env],
        )
        life.launched = await self._launcher.launch(spec, self._on_output)
        life.launched.exited.addCallback(self._leader_exited, life)
        if life.exit_status is None and self.config.check_endpoint != _NO_PROBING:
            await self._become_healthy(life, life.launched)
        if life.exit_status is not None:
            self._log.warn("{model}: its process ended: {status}", model=self.model, status=life.exit_status)
            raise UpstreamStartError("upstream command exited prematurely")

    async def _become_healthy(self, life: Life, launched: ILaunched) -> None:
        url = probe_url(launched.base_url, self.config.check_endpoint)
        timeout_seconds = self.config.health_check_timeout_seconds
        check = HealthCheck(self._agent, self._clock, url, timeout_seconds=timeout_seconds, owner=launched)
        life.probing = check.wait()
        try:
            await life.probing
        except CancelledError:
            if life.exit_status is None:
                raise  # a stop wants the end
        else:
            self._log.info("{model} Health check passed on {url}", model=self.model, url=url)
        finally:
            life.probing = None

    def _become_ready(self, life: Life) -> None:
        generation = self._generation
        life.ready_at = time.time()
        self._errors.clear()
        self._load_history.add(self._clock.seconds() - life.started_mono)
        life.idle = IdleTimer(
            self._clock,
            self.config.ttl_seconds,
            lambda: self._events.idle_expired(self.model, generation),
        )
        self._move(LifecycleEvent.BECAME_HEALTHY)
        if self._life is life and self._state is ProcessState.READY:
            self._waiters.fire(generation)

    def _start_cut_short(self, failure: Failure, life: Life) -> None:
        """End a start that a stop cancelled, which is nothing new, or that broke, which is a bug."""
        if self._life is life and self._state in {ProcessState.STARTING, ProcessState.READY}:
            self._log.failure("{model}: start broke", failure, model=self.model)
            self._begin_stop(life, _FAILED_START_GRACE_SECONDS, StopReason.START_FAILED)
        else:
            failure.trap(CancelledError)

    # ----------------------------------------------------------------- end

    def _leader_exited(self, status: ExitStatus, life: Life) -> None:
        life.exit_status = status
        if self._life is not life or life.launched is None:
            return
        if self._state is ProcessState.STARTING and life.probing is not None:
            life.probing.cancel()
        elif self._state is ProcessState.READY:
            self._log.warn("{model}: its process ended by itself: {status}", model=self.model, status=status)
            self._errors.note(LoadErrorKind.CRASH, "upstream command exited unexpectedly", status)
            self._crashes += 1
            self._leftover = life.launched
            self._leftover.stop(float(self.config.unload_timeout_seconds))
            self._life = None
            if life.idle is not None:
                life.idle.cancel()
            generation = self._generation  # who hears of the exit may want the next one at once
            self._move(LifecycleEvent.LEADER_EXITED, StopReason.CRASH)
            self._events.process_exited(self.model, generation)

    def _begin_stop(self, life: Life, grace_seconds: float, reason: StopReason) -> None:
        aborted, self._waiters = self._waiters, Waiters()
        if life.idle is not None:
            life.idle.cancel()
        self._move(LifecycleEvent.STOP_WANTED, reason)
        if life.starting is not None:
            life.starting.cancel()
        Deferred.fromCoroutine(self._stop(life, grace_seconds, reason, aborted)).addErrback(self._stop_broke)

    async def _stop(self, life: Life, grace_seconds: float, reason: StopReason, aborted: Waiters[Generation]) -> None:
        try:
            if life.launched is not None:
                await life.launched.stop(grace_seconds)
        finally:
            stopped, self._stoppers = self._stoppers, Waiters()
            self._life = None
            self._move(LifecycleEvent.TREE_GONE, reason)
            aborted.fail(_shutting_down if self._is_ending else _aborted)
            stopped.fire(None)
            if self._waiters and not self._is_ending and self._state is ProcessState.STOPPED:
                self._begin_start()

    def _stop_broke(self, failure: Failure) -> None:
        self._log.failure("{model}: stop broke", failure, model=self.model)

    async def _shut_down(self, grace_seconds: float) -> None:
        await self.stop(grace_seconds, StopReason.SHUTDOWN)
        if self._leftover is not None:
            await self._leftover.stop(grace_seconds)
            self._leftover = None
        if self._state is not ProcessState.SHUTDOWN:
            self._move(LifecycleEvent.TORN_DOWN, StopReason.SHUTDOWN)
        self._waiters.fail(_shutting_down)

    def _move(self, event: LifecycleEvent, reason: StopReason | None = None) -> None:
        old = self._state
        self._state = advance(old, event)
        self._events.state_changed(self.model, self._generation, old, self._state, reason)


def _aborted() -> ModelUnloadedError:
    return ModelUnloadedError("aborted")


def _shutting_down() -> ShuttingDownError:
    return ShuttingDownError("shutting down")
