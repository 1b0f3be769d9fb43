"""A thread for one owner's blocking work, one piece after the other."""

from __future__ import annotations

import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any, Protocol, TypeVar

from twisted.internet.defer import Deferred, fail
from twisted.python.failure import Failure

T = TypeVar("T")


class HasThreads(Protocol):
    """A reactor, as far as threads care."""

    def callFromThread(self, function: Callable[..., object], *args: object) -> None:  # noqa: N802 - Twisted's name
        """Call on the reactor's thread."""


class Worker(Protocol):
    """Works for one owner, in order."""

    def do(self, work: Callable[[], T], /) -> Deferred[T]:
        """Do a piece of work after all that were given before.

        Returns:
            Fires with what ``work`` returns, or fails with what it raises; fails with :class:`RuntimeError`
            when the system gives no thread, or the end has been asked for. What is cancelled before its turn is
            not done.
        """

    def end(self) -> None:
        """Let the thread end when all is done; nothing may be given afterwards."""


class ThreadWorker:
    """See :class:`Worker`. The thread begins with the first piece of work, and never holds up the end of the process.

    Args:
        reactor: Where results are delivered.
        name: Of the thread.
    """

    def __init__(self, reactor: HasThreads, name: str) -> None:
        self._reactor = reactor
        self._name = name
        self._queue: SimpleQueue[tuple[Callable[[], object], Deferred[Any]] | None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._is_ending = False

    def do(self, work: Callable[[], T]) -> Deferred[T]:
        """See :class:`Worker`."""
        if self._is_ending:
            return fail(RuntimeError(f"the thread {self._name} has ended"))
        if self._thread is None:
            thread = threading.Thread(target=self._run, name=self._name, daemon=True)
            try:
                thread.start()
            except RuntimeError:
                return fail()
            self._thread = thread
        done: Deferred[T] = Deferred()
        self._queue.put((work, done))
        return done

    def end(self) -> None:
        """See :class:`Worker`."""
        self._is_ending = True
        self._queue.put(None)

    def _run(self) -> None:
        while (item := self._queue.get()) is not None:
            work, done = item
            if done.called:
                continue
            try:
                result = work()
            except BaseException:  # noqa: BLE001 - travels to whoever waits, or they would wait for ever
                result = Failure()
            self._reactor.callFromThread(done.callback, result)
            del item, work, done, result  # what they hold shall not wait for the next piece
