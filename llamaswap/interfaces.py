"""Every seam that a third party may fill, as zope interfaces.

Swap planners are found by the entry points ``llamaswap.planners``, launchers by
``llamaswap.launchers``. A released interface is never changed: new abilities come as further,
optional interfaces.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from zope.interface import Attribute, Interface

from llamaswap.core.values import (
    Decision,
    ModelFacts,
    ModelId,
    PlanView,
    SwapOutcome,
    SwapView,
)

if TYPE_CHECKING:
    from twisted.internet.defer import Deferred


class ISwapPlannerFactory(Interface):
    """Makes a planner from its settings; the entry point resolves to a provider of this."""

    name: str = Attribute("""What users write in ``routing.router.use``.""")
    api_version: tuple[int, int] = Attribute("""(major, minor) of the contract it was written for.""")

    def settings_schema() -> Mapping[str, Any] | None:
        """Give the JSON schema of the settings, checked before :meth:`build`; ``None`` = any mapping."""

    def build(settings: Mapping[str, Any], models: Mapping[ModelId, ModelFacts]) -> ISwapPlanner:
        """Make a planner for these models.

        Args:
            settings: ``routing.router.settings.NAME`` as it was written.
            models: By id, every configured local model.

        Raises:
            PlannerConfigError: The settings cannot be used; the configuration is refused.
        """


class ISwapPlanner(Interface):
    """Says which running models must stop so that a target may serve."""

    def plan(view: PlanView, target: ModelId) -> Decision:
        """Decide what must happen before ``target`` may serve.

        Pure: equal arguments give an equal answer; no I/O, clock, chance, threads or logging, and
        no state carried from call to call except through the hooks. Called speculatively, any
        number of times.
        """

    def swap_started(view: PlanView, swap: SwapView) -> None:
        """Take note of a swap that really starts; called once per swap."""

    def swap_finished(view: PlanView, swap: SwapView, outcome: SwapOutcome) -> None:
        """Take note of how a swap ended; called once per swap."""

    def models_changed(models: Mapping[ModelId, ModelFacts]) -> None:
        """Take note of a reload that keeps this planner."""

    def close() -> None:
        """Give up everything, at replacement or shutdown, within a second."""


class IQueueOrder(Interface):
    """Optional ability of a planner: to choose among blocked targets that could start now."""

    def order(view: PlanView, startable: Sequence[ModelId]) -> Sequence[ModelId]:
        """Put targets in order.

        Args:
            view: The moment.
            startable: Targets that could start now, in queue order.

        Returns:
            A permutation or a subset of ``startable``; missing ones follow in queue order.
        """


@dataclass(frozen=True, slots=True)
class LaunchSpec:
    """What a launcher needs to know to bring up one model's server.

    Attributes:
        model: The model's id.
        argv: Words of the command, at least one; no shell.
        env: The whole environment of the process, not only additions.
        cwd: Working folder.
        base_url: Where the server will answer, such as ``http://localhost:5800``.
        stop_argv: Words of the stop command with ``${PID}`` still in them; empty = signal the group.
        settings: ``models.*.launcherSettings`` as written.
        keep_descendants: Whether what the server has started may outlive it.
    """

    model: ModelId
    argv: tuple[str, ...]
    env: Mapping[str, str]
    cwd: str
    base_url: str
    stop_argv: tuple[str, ...] = ()
    settings: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    keep_descendants: bool = False


@dataclass(frozen=True, slots=True)
class ExitStatus:
    """How a launched server ended.

    Attributes:
        exit_code: Its exit status, ``None`` after a signal or when unknown.
        signal: Number of the signal that ended it, or ``None``.
    """

    exit_code: int | None = None
    signal: int | None = None

    def __str__(self) -> str:
        """Say it in words, such as ``exit status 3``."""
        if self.signal is not None:
            return f"signal {self.signal}"
        return f"exit status {self.exit_code}" if self.exit_code is not None else "unknown status"


class ILaunched(Interface):
    """One running server, as a launcher gave it."""

    base_url: str = Attribute("""Where it answers; may differ from the one asked for.""")
    exited: Deferred[ExitStatus] = Attribute(
        """Fires once, with an :class:`ExitStatus`, when the leader has ended, whoever ended it; never fails.""",
    )

    def stop(grace_seconds: float) -> Deferred[None]:
        """Ask it to end, and end it by force when ``grace_seconds`` (above 0) have passed.

        May be called again, before or after the end; the shorter remaining grace wins.

        Returns:
            A Deferred of its own for each call; fires with ``None`` when leader, descendants and stop
            command are all gone; never fails.
        """

    def resident_bytes() -> Deferred[int | None]:
        """Measure the host memory of the whole server; fires with bytes, ``None`` = unknown."""

    def describe() -> Mapping[str, Any]:
        """Say what it is (``pid``, ``node``, ``job_id``), as plain values for JSON."""


class ILiveStopCommand(Interface):
    """Optional ability of an :class:`ILaunched`: another stop command for a server that runs."""

    stop_argv = Attribute("Words of the stop command as in ``LaunchSpec``; may be set at any time.")


class IUpstreamLauncher(Interface):
    """How an upstream comes to run: a local child process, a batch job, a container on another host."""

    def launch(spec: LaunchSpec, on_output: Callable[[bytes], None]) -> Deferred[ILaunched]:
        """Bring up one server.

        Args:
            spec: What to run.
            on_output: Called on the reactor thread with each piece of output, undecoded, in order.

        Returns:
            Fires with an :class:`ILaunched` as soon as the server exists, long before it is healthy.
            Fails with :class:`~llamaswap.errors.UpstreamStartError` when it cannot be brought up.
            Cancelling gives the attempt up and leaves nothing behind.
        """
