"""Everybody who waits for one thing, each with a Deferred of its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

from twisted.internet.defer import Deferred

T = TypeVar("T")


class Waiters(Generic[T]):
    """Deferreds that are fired together.

    Cancelling one takes that one out and touches no other. Whoever comes to wait while the others
    are being told waits for the next time.
    """

    def __init__(self) -> None:
        self._waiting: list[Deferred[T]] = []

    def __bool__(self) -> bool:
        """Whether anybody waits."""
        return bool(self._waiting)

    def add(self) -> Deferred[T]:
        """Wait; gives the Deferred that fires with what :meth:`fire` or :meth:`fail` is given."""
        deferred: Deferred[T] = Deferred(self._leave)
        self._waiting.append(deferred)
        return deferred

    def fire(self, result: T) -> None:
        """Tell everybody the result."""
        for deferred in self._swap_out():
            # One who was told may have made another one leave.
            if not deferred.called:
                deferred.callback(result)

    def fail(self, make_error: Callable[[], Exception]) -> None:
        """Tell everybody of a failure; each gets an error of its own."""
        for deferred in self._swap_out():
            if not deferred.called:
                deferred.errback(make_error())

    def _swap_out(self) -> list[Deferred[T]]:
        waiting, self._waiting = self._waiting, []
        return waiting

    def _leave(self, deferred: Deferred[T]) -> None:
        if deferred in self._waiting:
            self._waiting.remove(deferred)
