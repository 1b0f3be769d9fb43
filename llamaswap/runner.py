"""Runs swaps and unloads: each is one chain of stops and starts, asked of the supervisors.

A swap stops what it evicts together, then starts its target, then reports back as an event. What
``stop`` and ``ensure_ready`` mean at the moment (signal, join, wait, spawn) only the supervisor of
the process decides; a swap never looks at a state between the two.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar, Protocol

from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from llamaswap.config.schema import ModelConfig
from llamaswap.core.messages import CancelSwap, Event, Swap, SwapFinished, SwapStarting, Unload
from llamaswap.core.snapshot import UpstreamSnapshot
from llamaswap.core.values import Generation, ModelId, ProcessState, StopReason, SwapId
from llamaswap.errors import LlamaSwapError, ModelUnloadedError, UpstreamStartError


class Supervisor(Protocol):
    """One model's process; see :class:`llamaswap.process.upstream.Upstream`."""

    config: ModelConfig

    @property
    def state(self) -> ProcessState:
        """The state right now."""

    def ensure_ready(self) -> Deferred[Generation]:
        """Start it unless it is up."""

    def stop(self, grace_seconds: float, reason: StopReason) -> Deferred[None]:
        """End it."""

    def leftover_gone(self) -> Deferred[None]:
        """Wait for the rest of one that ended by itself."""

    def shut_down(self, grace_seconds: float) -> Deferred[None]:
        """End it for good."""

    def touch(self) -> None:
        """Count the TTL from now."""

    def snapshot(self) -> UpstreamSnapshot:
        """Describe it."""

    def resident_bytes(self) -> Deferred[int | None]:
        """Measure its memory."""


@dataclass(slots=True, eq=False)
class _SwapRun:
    model: ModelId
    is_starting: bool = False
    is_cancelled: bool = False


class Runner:
    """Carries out ``Swap``, ``CancelSwap`` and ``Unload``.

    Args:
        tell: Takes the events that follow.
        clock: Gives their times.
    """

    _log: ClassVar[Logger] = Logger()

    def __init__(self, tell: Callable[[Event], None], clock: IReactorTime) -> None:
        self._tell = tell
        self._clock = clock
        self._upstreams: Mapping[ModelId, Supervisor] = {}
        self._runs: dict[SwapId, _SwapRun] = {}

    def adopt(self, upstreams: Mapping[ModelId, Supervisor]) -> None:
        """Take the supervisors."""
        self._upstreams = upstreams

    def swap(self, command: Swap) -> None:
        """Begin a swap; exactly one ``SwapFinished`` follows."""
        self._log.info(
            "swap {swap_id}: loading {model}{evicting}",
            swap_id=command.swap,
            model=command.model,
            evicting=f" ({command.explanation or 'nothing must go'})" if command.evict else "",
            evicted=sorted(command.evict),
            planner=command.planner,
            cost=command.cost,
        )
        run = self._runs[command.swap] = _SwapRun(command.model)
        Deferred.fromCoroutine(self._run_swap(command, run)).addErrback(self._failed, command)

    def cancel(self, command: CancelSwap) -> None:
        """Keep a swap's target from coming up; its ``SwapFinished`` still follows."""
        run = self._runs.get(command.swap)
        if run is None or run.is_cancelled:
            return
        run.is_cancelled = True
        if run.is_starting:
            self._stop(run.model, command.reason)

    def unload(self, command: Unload) -> Deferred[None]:
        """Stop models in parallel.

        Returns:
            Fires with ``None`` when all are stopped; never fails.
        """
        for model in sorted(command.models):
            if self._upstreams[model].state.counts_as_running:
                ttl_seconds = self._upstreams[model].config.ttl_seconds
                reason = command.reason.value
                if command.reason is StopReason.IDLE_TIMEOUT:
                    reason += f", ttl {ttl_seconds} s"
                self._log.info("unloading {model} ({reason})", model=model, reason=reason)
        stops = [self._stop(model, command.reason) for model in sorted(command.models)]
        return gatherResults(stops).addCallback(lambda _: None)

    def _stop(self, model: ModelId, reason: StopReason) -> Deferred[None]:
        upstream = self._upstreams[model]
        return upstream.stop(float(upstream.config.unload_timeout_seconds), reason)

    async def _run_swap(self, command: Swap, run: _SwapRun) -> None:
        try:
            await gatherResults([self._stop(victim, StopReason.SWAP) for victim in sorted(command.evict)])
            # Nobody plans for what outlives a leader that crashed, yet it may hold the memory that is wanted.
            await gatherResults([upstream.leftover_gone() for upstream in self._upstreams.values()])
            if run.is_cancelled:
                raise ModelUnloadedError("aborted")
            run.is_starting = True
            self._tell(SwapStarting(command.swap, self._clock.seconds()))
            generation = await self._ensure_ready(run)
        except LlamaSwapError as error:
            self._finish(SwapFinished(command.swap, self._clock.seconds(), error=_told(error)))
        else:
            self._finish(SwapFinished(command.swap, self._clock.seconds(), generation=generation))

    async def _ensure_ready(self, run: _SwapRun) -> Generation:
        upstream = self._upstreams[run.model]
        try:
            return await upstream.ensure_ready()
        except LlamaSwapError:
            # It counts as running until every process of it is gone.
            await self._stop(run.model, StopReason.USER if run.is_cancelled else StopReason.START_FAILED)
            raise

    def _finish(self, event: SwapFinished) -> None:
        self._runs.pop(event.swap, None)
        self._tell(event)

    def _failed(self, failure: Failure, command: Swap) -> None:
        self._log.failure("swap {swap_id} to {model} broke", failure, swap_id=command.swap, model=command.model)
        if command.swap in self._runs:
            error = UpstreamStartError(f"unspecific error: {failure.getErrorMessage()}")
            self._finish(SwapFinished(command.swap, self._clock.seconds(), error=error))


def _told(error: LlamaSwapError) -> LlamaSwapError:
    """Put the words before a cause that clients of llama-swap look for."""
    error.message = f"unspecific error: {error.message}"
    return error
