"""Blocking work beside the reactor."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Protocol, TypeVar

from twisted.internet.defer import Deferred, fail
from twisted.python.failure import Failure

T = TypeVar("T")


class HasThreads(Protocol):
    """A reactor, as far as threads care."""

    def callFromThread(self, function: Callable[..., object], *args: object) -> None:  # noqa: N802 - Twisted's name
        """Call on the reactor's thread."""


def in_thread(reactor: HasThreads, work: Callable[[], T]) -> Deferred[T]:
    """Work in a thread of its own, so that work that hangs holds up nothing else, the daemon's end included.

    Returns:
        Fires with what ``work`` returns, or fails with what it raises; never, if the reactor ends first.
        Fails with :class:`RuntimeError` before this returns when there is no thread to be had.
    """
    done: Deferred[T] = Deferred()

    def run() -> None:
        try:
            result: T | Failure = work()
        except BaseException:  # noqa: BLE001 - travels to whoever waits, or they would wait for ever
            result = Failure()
        reactor.callFromThread(done.callback, result)

    try:
        threading.Thread(target=run, daemon=True).start()
    except RuntimeError:  # the system gives no more threads
        return fail()
    return done
