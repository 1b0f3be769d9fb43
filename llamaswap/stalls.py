"""Notices when the reactor stands still, and says where: every stream waits meanwhile."""

from __future__ import annotations

import sys
import threading
import time
import traceback
from collections.abc import Callable
from types import FrameType
from typing import ClassVar, Final

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

BEAT_SECONDS: Final = 0.1
STALL_SECONDS: Final = 0.1
"""A beat that comes so late is told."""

_PAUSE_SECONDS: Final = 10.0
"""Between two lines in the log."""

_WAITING: Final = frozenset({"doPoll", "doSelect", "doWaitForMultipleEvents", "doIteration"})
"""Where a reactor waits for something to happen: then it is the machine that is slow."""


class StallWatch:
    """Has the reactor beat, and a thread that looks at the reactor's thread when a beat is missing.

    Args:
        reactor: The one that is watched.
        now: Monotonic seconds; may be called on any thread.
    """

    _log: ClassVar[Logger] = Logger()

    def __init__(self, reactor: IReactorTime, now: Callable[[], float] = time.monotonic) -> None:
        self._reactor = reactor
        self._now = now
        self._beat: IDelayedCall | None = None
        self._due_mono = 0.0
        self._over = threading.Event()
        self._watched_thread = 0
        self._stack = ""
        self._is_waiting = False
        self._said_mono = -_PAUSE_SECONDS
        self._unsaid = 0

    def start(self) -> None:
        """Begin; called on the reactor's thread."""
        self._watched_thread = threading.get_ident()
        self._next_beat()
        threading.Thread(target=self._watch, name="stall watch", daemon=True).start()

    def stop(self) -> None:
        """End; harmless when called again."""
        self._over.set()
        if self._beat is not None and self._beat.active():
            self._beat.cancel()

    def _next_beat(self) -> None:
        self._due_mono = self._now() + BEAT_SECONDS
        self._beat = self._reactor.callLater(BEAT_SECONDS, self._beaten)

    def _beaten(self) -> None:
        late_seconds = self._now() - self._due_mono
        stack, self._stack = self._stack, ""
        was_waiting, self._is_waiting = self._is_waiting, False
        # Without a picture neither thread got on: then the whole process stood still, and not by its own doing.
        if late_seconds > STALL_SECONDS and stack and not was_waiting:
            self._tell(late_seconds, stack)
        self._next_beat()

    def _tell(self, late_seconds: float, stack: str) -> None:
        if self._now() - self._said_mono < _PAUSE_SECONDS:
            self._unsaid += 1
            return
        self._said_mono = self._now()
        unsaid, self._unsaid = self._unsaid, 0
        self._log.warn(
            "everything stood still for {milliseconds} ms{more}, in:\n{stack}",
            milliseconds=round(late_seconds * 1000),
            more=f", and {unsaid} times before" if unsaid else "",
            stack=stack,
        )

    def _watch(self) -> None:
        while not self._over.wait(BEAT_SECONDS / 2):
            self.look()

    def look(self) -> None:
        """Take a picture of what the reactor's thread is doing if its beat is missing; called on another thread."""
        if self._stack or self._is_waiting or self._now() < self._due_mono + STALL_SECONDS:
            return
        frame = sys._current_frames().get(self._watched_thread)  # noqa: SLF001 - documented, for debuggers
        if frame is not None:
            self._is_waiting = _is_waiting(frame)
            self._stack = "".join(traceback.format_stack(frame)).rstrip()


def _is_waiting(frame: FrameType) -> bool:
    return frame.f_code.co_name in _WAITING and frame.f_globals.get("__name__", "").startswith("twisted.internet")
