"""News of the daemon: who publishes need not know who listens."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, TypeVar

from twisted.logger import Logger

NewsT = TypeVar("NewsT")


class Bus:
    """Hands each piece of news to those who asked for its type, in the same turn and in the order they asked in."""

    _log: ClassVar[Logger] = Logger()

    def __init__(self) -> None:
        self._listeners: dict[type, tuple[Callable[[Any], object], ...]] = {}

    def subscribe(self, kind: type[NewsT], listener: Callable[[NewsT], object]) -> Callable[[], None]:
        """Ask for news of exactly that type.

        Args:
            kind: A type of :mod:`llamaswap.core.news` or another part's.
            listener: Called with each; what it raises is logged.

        Returns:
            To be called when no more are wanted; harmless when called again.
        """
        self._listeners[kind] = (*self._listeners.get(kind, ()), listener)

        def unsubscribe() -> None:
            listeners = list(self._listeners[kind])
            if listener in listeners:
                listeners.remove(listener)
                self._listeners[kind] = tuple(listeners)

        return unsubscribe

    def is_wanted(self, kind: type) -> bool:
        """Say whether anybody listens, for news that are costly to make."""
        return bool(self._listeners.get(kind))

    def publish(self, news: object) -> None:
        """Tell everybody who asked for this type; never raises."""
        for listener in self._listeners.get(type(news), ()):
            try:
                listener(news)
            except Exception:  # noqa: BLE001 - who listens must not break what goes on
                self._log.failure("could not take note of {kind}", kind=type(news).__name__)
