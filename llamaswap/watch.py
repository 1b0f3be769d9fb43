"""Notices that configuration files have changed, by looking at them.

The system's own notification is blind for single files that are mounted into a container, and for
folders whose content is switched by a symbolic link. So files are looked at through links, and told
apart by times, size and inode.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar, Final

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

POLL_SECONDS: Final = 2.0
"""Between two looks."""

SETTLE_SECONDS: Final = 0.5
"""A change counts when the files look the same again after this time: nobody is writing them."""

_SUFFIXES: Final = (".yaml", ".yml")

Stamp = tuple[int, int, int, int]
"""Modification time, size, inode, and time of the inode's own change."""

Picture = tuple[tuple[tuple[str, Stamp], ...], ...]
"""For each thing that is watched: its files that have content; none = it is not there."""


def take_picture(path: str | None, directory: str | None) -> Picture:
    """Look at the file and at the folder of fragments; blocks for as long as the file system does."""
    files = [path] if path else []
    return _stamped(files), _stamped(_fragments(directory) if directory else [])


def _fragments(directory: str) -> list[str]:
    try:
        return sorted(str(Path(directory) / name) for name in os.listdir(directory) if name.endswith(_SUFFIXES))  # noqa: PTH208 - names only
    except OSError:
        return []


def _stamped(files: list[str]) -> tuple[tuple[str, Stamp], ...]:
    found = []
    for file in files:
        try:
            about = os.stat(file)  # noqa: PTH116 - a plain path
        except OSError:
            continue
        # An empty file is one whose content is still to come.
        if stat.S_ISREG(about.st_mode) and about.st_size:
            found.append((file, (about.st_mtime_ns, about.st_size, about.st_ino, about.st_ctime_ns)))
    return tuple(found)


class Watcher:
    """Looks again and again, one look at a time.

    Args:
        clock: Where the timer runs.
        look: Gives a picture, from another thread.
        on_change: Called when the files have changed and are at rest. What is not there is no change;
            its return is one.
        known: What was there when the configuration in force was read.
    """

    _log: ClassVar[Logger] = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        look: Callable[[], Deferred[Picture]],
        on_change: Callable[[], object],
        known: Picture,
    ) -> None:
        self._clock = clock
        self._look = look
        self._on_change = on_change
        self._known = known
        self._candidate: Picture | None = None
        self._timer: IDelayedCall | None = None
        self._is_stopped = False

    def start(self) -> None:
        """Look now, and again and again."""
        self._timer = None
        self._look().addCallbacks(self._seen, self._failed)

    def stop(self) -> None:
        """Look no more."""
        self._is_stopped = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _seen(self, picture: Picture) -> None:
        if self._is_stopped:
            return
        # What is missing is forgotten, so that its return is a change.
        self._known = known = tuple(before if now else () for before, now in zip(self._known, picture, strict=True))
        is_changed = picture != known
        is_settled = is_changed and picture == self._candidate
        self._candidate = picture if is_changed and not is_settled else None
        self._again(SETTLE_SECONDS if self._candidate is not None else POLL_SECONDS)
        if is_settled:
            self._known = picture
            self._on_change()

    def _failed(self, failure: Failure) -> None:
        self._log.failure("could not look at the configuration", failure)
        if not self._is_stopped:
            self._again(POLL_SECONDS)

    def _again(self, seconds: float) -> None:
        self._timer = self._clock.callLater(seconds, self.start)
