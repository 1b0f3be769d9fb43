"""When each model was starting: how much of a request's wait was its load."""

from __future__ import annotations

from collections import deque
from typing import Final

from llamaswap.core.news import StateChanged
from llamaswap.core.values import ModelId, ProcessState

_STARTS_KEPT: Final = 16
"""Per model; who waits longer than that gets the newest of them."""


class Starts:
    """Follows the states of all models."""

    def __init__(self) -> None:
        self._since: dict[ModelId, float] = {}
        self._past: dict[ModelId, deque[tuple[float, float]]] = {}

    def note(self, news: StateChanged) -> None:
        """Take note of a change."""
        since = self._since.pop(news.model, None)
        if since is not None:
            self._past.setdefault(news.model, deque(maxlen=_STARTS_KEPT)).append((since, news.at_mono))
        if news.new is ProcessState.STARTING:
            self._since[news.model] = news.at_mono

    def seconds(self, model: ModelId, start_mono: float, end_mono: float) -> float:
        """Say how long a model was starting between two moments, the later of which is not in the future."""
        total = 0.0
        since = self._since.get(model)
        if since is not None:
            total += max(end_mono - max(since, start_mono), 0.0)
        for began, ended in reversed(self._past.get(model, ())):
            if ended <= start_mono:
                break
            total += max(min(ended, end_mono) - max(began, start_mono), 0.0)
        return total
