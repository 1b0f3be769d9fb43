"""Keeps the run-state file up to date while models run, and ends what an earlier daemon left."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Lock
from typing import Any, ClassVar, Final, TypeVar
from uuid import uuid4

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger
from twisted.python.failure import Failure

from llamaswap.core.values import ModelId
from llamaswap.process.orphans import carriers, remove_orphans
from llamaswap.process.run_file import RunRecord, Trace, birth_of, own_record, read_run_file, write_run_file

_GATHER_SECONDS: Final = 0.1
"""Changes within this time are written together: models that take turns quickly are not to wait for files."""

_FIRST_LOOK_SECONDS: Final = 1.0
_LONGEST_LOOK_SECONDS: Final = 60.0
"""Pauses between looks for processes that models have started; each is twice the one before."""

T = TypeVar("T")


@dataclass(slots=True)
class _Tree:
    model: ModelId
    is_whole: bool
    """Whether more than the leader is ours to end."""
    leader: dict[int, str]
    """Its time of birth by its pid."""
    born: dict[int, str]
    """The same, with what was found of its descendants."""


class RunState:
    """What the next daemon would have to know if this one were killed now.

    A leader is noted soon, its descendants when they are found by their marker. Files are written,
    and processes looked at, in a thread.

    Args:
        path: The file.
        reactor: Offers a pool of threads, and keeps time.

    Attributes:
        instance: Begins the markers of this daemon's processes.
    """

    _log: ClassVar[Logger] = Logger()

    def __init__(self, path: Path, reactor: Any) -> None:
        self._path = path
        self._reactor = reactor
        self._record = RunRecord("", 0, "")
        self.instance = uuid4().hex
        self._trees: dict[str, _Tree] = {}
        self._is_open = False
        self._is_changed = False
        self._saving: IDelayedCall | None = None
        self._is_writing = False
        self._lock = Lock()
        self._serial = 0
        self._saved_serial = 0
        self._pause_seconds = _FIRST_LOOK_SECONDS
        self._timer: IDelayedCall | None = None

    # ----------------------------------------------------------------- begin and end

    def open(self) -> None:
        """End what a dead daemon left behind, and begin to keep the file; blocks for that long.

        Where the file cannot be kept, one warning says so, and nothing is ended.
        """
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            before = read_run_file(self._path)
            if before is not None and before.is_daemon_alive:
                self._log.warn(
                    "{path} belongs to a daemon that runs (pid {pid}): processes are not recorded",
                    path=self._path,
                    pid=before.daemon_pid,
                )
                return
            self._check_writable()
            self._record = own_record(self.instance)
            if before is not None and before.is_of_this_boot:
                self._sweep(before)
            # It must be there before the first process is: what is started in the last moment is found by it.
            write_run_file(self._path, self._record)
        except OSError as error:
            self._say_unusable(error)
        else:
            self._is_open = True

    def _check_writable(self) -> None:
        trial = self._path.with_suffix(".new")
        trial.touch(mode=0o600)
        trial.unlink()

    def _sweep(self, before: RunRecord) -> None:
        for trace in remove_orphans(before.processes, before.instance):
            self._log.warn(
                "{model}: ended process {pid}, left by a daemon that was killed", model=trace.model, pid=trace.pid
            )

    def close(self) -> None:
        """Write the file a last time; without processes it is removed."""
        if not self._is_open:
            return
        self._is_open = False
        self._stop_looking()
        if self._saving is not None:
            self._saving.cancel()
            self._saving = None
        try:
            self._write(*self._next())
            if not self._trees:
                self._path.unlink()
        except OSError as error:
            self._say_unusable(error)

    # ----------------------------------------------------------------- news

    def started(self, model: ModelId, pid: int, marker: str, *, is_whole: bool) -> None:
        """Take note of a leader.

        Args:
            model: Its model.
            pid: Its pid; it has not been reaped.
            marker: What its environment says.
            is_whole: Whether what it starts is to be ended with it.
        """
        try:
            born = birth_of(pid) if self._is_open else None
        except OSError:  # another user's, on a system that hides those
            born = None
        if born is None:
            return
        self._trees[marker] = _Tree(model, is_whole, {pid: born}, {pid: born})
        self._pause_seconds = _FIRST_LOOK_SECONDS
        if self._timer is None or self._timer.getTime() > self._reactor.seconds() + _FIRST_LOOK_SECONDS:
            self._stop_looking()
            self._look_later()
        self._changed()

    def ended(self, marker: str) -> None:
        """Take note that nothing is left of a tree; harmless when that is known."""
        if self._trees.pop(marker, None) is not None:
            if not self._trees:
                self._stop_looking()
            self._changed()

    # ----------------------------------------------------------------- descendants

    def _look_later(self) -> None:
        if self._is_open and self._whole_trees():
            self._timer = self._reactor.callLater(self._pause_seconds, self._look)
            self._pause_seconds = min(2 * self._pause_seconds, _LONGEST_LOOK_SECONDS)

    def _whole_trees(self) -> set[str]:
        return {marker for marker, tree in self._trees.items() if tree.is_whole}

    def _stop_looking(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        self._timer = None
        markers = self._whole_trees()
        if not markers:
            return
        looked = self._in_thread(carriers, markers).addCallback(self._found, markers)
        looked.addErrback(self._broke).addCallback(lambda _: self._look_again())

    def _found(self, found: list[tuple[int, str, str]], markers: set[str]) -> None:
        seen: dict[str, dict[int, str]] = {marker: {} for marker in markers}
        for pid, born, marker in found:
            seen[marker][pid] = born
        for marker, born_by_pid in seen.items():
            tree = self._trees.get(marker)
            if tree is not None and tree.born != (now := {**tree.leader, **born_by_pid}):
                tree.born = now
                self._changed()

    def _look_again(self) -> None:
        if self._timer is None:
            self._look_later()

    # ----------------------------------------------------------------- the file

    def _changed(self) -> None:
        self._is_changed = True
        if self._is_open and self._saving is None and not self._is_writing:
            self._saving = self._reactor.callLater(_GATHER_SECONDS, self._begin_to_write)

    def _begin_to_write(self) -> None:
        self._saving = None
        self._is_changed = False
        self._is_writing = True
        written = self._in_thread(self._write, *self._next()).addErrback(self._not_written)
        written.addErrback(self._broke).addCallback(self._written)

    def _not_written(self, failure: Failure) -> None:
        if not isinstance(failure.value, OSError):
            failure.raiseException()
        self._is_open = False
        self._stop_looking()
        self._say_unusable(failure.value)

    def _written(self, _: None) -> None:
        self._is_writing = False
        if self._is_changed:
            self._changed()

    def _next(self) -> tuple[int, RunRecord]:
        self._serial += 1
        traces = [
            Trace(tree.model, pid, born, marker, tree.is_whole)
            for marker, tree in self._trees.items()
            for pid, born in tree.born.items()
        ]
        return self._serial, replace(self._record, processes=tuple(traces))

    def _write(self, serial: int, record: RunRecord) -> None:
        # The last word is written from the reactor's thread, and a thread that is late must not follow it.
        with self._lock:
            if serial > self._saved_serial:
                self._saved_serial = serial
                write_run_file(self._path, record)

    def _in_thread(self, function: Callable[..., T], *args: object) -> Deferred[T]:
        return deferToThreadPool(self._reactor, self._reactor.getThreadPool(), function, *args)

    def _say_unusable(self, error: OSError) -> None:
        self._log.warn(
            "{path}: {reason}; processes that are left if the daemon is killed will not be found",
            path=self._path,
            reason=error.strerror,
        )

    def _broke(self, failure: Failure) -> None:
        self._log.failure("the run state broke", failure)
