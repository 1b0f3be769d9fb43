"""Changes the configuration of a daemon that goes on to serve.

A reload prepares beside the reactor: reading, checking, building the planner; that may fail, and then
nothing has happened. It commits in one turn, which cannot fail. What has to end or to start because of
it, settles model by model: see :class:`llamaswap.core.scheduler.Scheduler`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any, ClassVar, Protocol

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from llamaswap.config.diff import NO_DIFFERENCE, Difference, compare
from llamaswap.config.expansion import HeldPorts
from llamaswap.config.load import load
from llamaswap.config.schema import Config
from llamaswap.core.news import ReloadChanged
from llamaswap.core.values import ModelFacts, ModelId
from llamaswap.errors import ConfigError, ConfigProblem
from llamaswap.interfaces import ISwapPlanner
from llamaswap.registry import build_planner


class Trigger(StrEnum):
    """Who wanted a reload; the words travel on the wire."""

    START = "start"
    SIGNAL = "signal"
    WATCH = "watch"


@dataclass(frozen=True, slots=True)
class Source:
    """Where the configuration is read from.

    Attributes:
        path: The file, absolute, or ``None``.
        directory: The folder of fragments, absolute, or ``None``.
        environ: Variables for ``${env.NAME}``.
    """

    path: str | None
    directory: str | None
    environ: Mapping[str, str]

    def prepare(self, held: HeldPorts) -> Prepared:
        """Read and check everything, and build what is built from it; takes its time.

        Raises:
            ConfigError: It cannot be used, or there is nothing in it: an editor may just be writing it,
                and taking that for "no models" would end all of them.
        """
        config = load(self.path, self.directory, self.environ, held=held)
        if not any(Path(source).stat().st_size for source in config.sources):
            raise ConfigError(f"{', '.join(config.sources)}: empty, the running configuration stays")
        return Prepared(config, config.facts(), build_planner(config))


@dataclass(frozen=True, slots=True)
class Prepared:
    """A configuration that only has to be put in force."""

    config: Config
    facts: Mapping[ModelId, ModelFacts]
    planner: ISwapPlanner


@dataclass(frozen=True, slots=True)
class Report:
    """How the last run went.

    Attributes:
        serial: Number of the run.
        at: UTC epoch seconds of its beginning.
        trigger: Who wanted it.
        status: ``running``, ``ok``, or ``failed``: the old configuration is in force.
        seconds: How long it took.
        sources: The files that were read.
        errors: Why it failed.
        difference: What it changed.
    """

    serial: int
    at: float
    trigger: Trigger
    status: str = "running"
    seconds: float = 0.0
    sources: tuple[str, ...] = ()
    errors: tuple[ConfigProblem, ...] = ()
    difference: Difference = NO_DIFFERENCE

    def document(self) -> Mapping[str, Any]:
        """Give it as ``GET /api/reload`` shows it."""
        at = datetime.fromtimestamp(self.at, UTC).isoformat(timespec="milliseconds")
        return {
            "serial": self.serial,
            "at": at.replace("+00:00", "Z"),
            "trigger": self.trigger.value,
            "status": self.status,
            "duration_ms": round(self.seconds * 1000),
            "sources": self.sources,
            "errors": [{"file": e.file, "line": e.line, "path": e.path, "message": e.message} for e in self.errors],
            "kept": self.difference.kept,
            "restarted": self.difference.restarted,
            "added": self.difference.added,
            "removed": self.difference.removed,
        }


class Reloadable(Protocol):
    """The daemon, as far as a reload cares."""

    @property
    def config(self) -> Config:
        """The configuration in force."""

    def held_ports(self) -> HeldPorts:
        """Give the ports that must not be handed out to others."""

    def commit(self, prepared: Prepared, difference: Difference) -> None:
        """Put a configuration in force, in one turn."""


class Reload:
    """Runs reloads, one after the other.

    Args:
        daemon: What is reloaded; its configuration counts as the result of the start.
        prepare: Does what takes time, beside the reactor.
        clock: Measures how long it takes.
        now: Gives UTC epoch seconds.
        publish: Told of each beginning and end.

    Attributes:
        report: About the last run.
    """

    _log: ClassVar[Logger] = Logger()

    def __init__(
        self,
        daemon: Reloadable,
        prepare: Callable[[HeldPorts], Deferred[Prepared]],
        clock: IReactorTime,
        now: Callable[[], float] = time.time,
        publish: Callable[[object], object] = lambda _: None,
    ) -> None:
        self._daemon = daemon
        self._publish = publish
        self._prepare = prepare
        self._clock = clock
        self._now = now
        self._next: Trigger | None = None
        self._is_running = False
        self._is_refused = False
        config = daemon.config
        added = compare(Config(), config)
        self.report = Report(1, now(), Trigger.START, "ok", sources=config.sources, difference=added)

    def trigger(self, trigger: Trigger) -> None:
        """Reload; during a reload, once more after it, however often this is called."""
        if self._is_refused:
            return
        if self._is_running:
            self._next = trigger
            return
        self._is_running = True
        Deferred.fromCoroutine(self._run(trigger)).addErrback(self._broke).addCallback(self._ended)

    def refuse(self) -> None:
        """Commit nothing any more: the daemon ends."""
        self._is_refused = True

    async def _run(self, trigger: Trigger) -> None:
        began_mono = self._clock.seconds()
        self.report = Report(self.report.serial + 1, self._now(), trigger, sources=self._daemon.config.sources)
        self._publish(ReloadChanged(self.report.document()))
        try:
            prepared = await self._prepare(self._daemon.held_ports())
        except ConfigError as error:
            self._fail(error.details, error.message.split("\n"), began_mono)
            return
        if self._is_refused:
            shutting_down = "llama-swap is shutting down"
            self._fail((ConfigProblem(shutting_down),), [shutting_down], began_mono)
            return
        difference = compare(self._daemon.config, prepared.config)
        self._daemon.commit(prepared, difference)
        self.report = replace(
            self.report,
            status="ok",
            seconds=self._clock.seconds() - began_mono,
            sources=prepared.config.sources,
            difference=difference,
        )
        self._log.info(
            "configuration reloaded in {seconds:.3f} s ({trigger}): {kept} kept, restarted {restarted}, added {added},"
            " removed {removed}",
            seconds=self.report.seconds,
            trigger=trigger.value,
            kept=len(difference.kept),
            restarted=_names(difference.restarted),
            added=_names(difference.added),
            removed=_names(difference.removed),
        )

    def _fail(self, errors: tuple[ConfigProblem, ...], lines: list[str], began_mono: float) -> None:
        seconds = self._clock.seconds() - began_mono
        self.report = replace(self.report, status="failed", seconds=seconds, errors=errors)
        for line in lines:
            self._log.warn("configuration not reloaded: {problem}", problem=line)

    def _broke(self, failure: Failure) -> None:
        self._log.failure("the reload broke", failure)
        errors = (ConfigProblem(failure.getErrorMessage()),)
        self.report = replace(self.report, status="failed", errors=errors)

    def _ended(self, _: None) -> None:
        self._is_running = False
        self._publish(ReloadChanged(self.report.document()))
        following, self._next = self._next, None
        if following is not None:
            self.trigger(following)


def _names(models: tuple[ModelId, ...]) -> str:
    return ", ".join(models) or "none"
