"""Models on their way out: being unloaded, or changed or removed by a reload and still busy."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from itertools import count
from math import inf

from llamaswap.core.messages import Unload
from llamaswap.core.values import ModelId, StopReason, UnloadId


class Departures:
    """Keeps who is held: its process is not to be used, and no other one is to be started.

    A model of a changed identity *retires*: its requests in flight go on, and it is unloaded when
    the last of them has left, or when their time is over.

    Attributes:
        removed: Models that the configuration has no more, and of which something is left.
    """

    def __init__(self) -> None:
        self.removed: set[ModelId] = set()
        self._unloads: dict[UnloadId, frozenset[ModelId]] = {}
        self._retiring: dict[ModelId, float] = {}
        # Those of the router count upwards.
        self._ids = count(-1, -1)

    @property
    def deadline_mono(self) -> float:
        """When the first retiring model's time is over; infinite = none retires."""
        return min(self._retiring.values()) if self._retiring else inf

    def holds(self, model: ModelId) -> bool:
        """Whether a model is on its way out."""
        return model in self._retiring or any(model in models for models in self._unloads.values())

    def begin_unload(self, unload: UnloadId, models: frozenset[ModelId]) -> None:
        """Take note of an unload."""
        self._unloads[unload] = models

    def end_unload(self, unload: UnloadId) -> bool:
        """Take note of an unload's end; ``False`` = it was not known."""
        return self._unloads.pop(unload, None) is not None

    def retire(self, models: Collection[ModelId], deadline_mono: float) -> None:
        """Let models finish what they do until then; those that retire already keep their time."""
        for model in models:
            self._retiring.setdefault(model, deadline_mono)

    def take_due(self, now: float, is_busy: Callable[[ModelId], int]) -> Iterable[Unload]:
        """Order the unload of retiring models that have nothing left to do, or no time left."""
        due = [m for m, deadline_mono in self._retiring.items() if deadline_mono <= now or not is_busy(m)]
        for model in sorted(due):
            del self._retiring[model]
            unload = UnloadId(next(self._ids))
            self._unloads[unload] = frozenset({model})
            yield Unload(unload, self._unloads[unload], StopReason.RELOAD)

    def take_gone(self, is_used: Callable[[ModelId], object]) -> list[ModelId]:
        """Forget the removed models of which nothing is left, and give them."""
        gone = [model for model in self.removed if not (self.holds(model) or is_used(model))]
        self.removed.difference_update(gone)
        return gone
