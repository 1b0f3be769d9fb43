"""When a model that fails to start again and again is not tried for a while."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from math import ceil
from typing import Final

from llamaswap.core.values import ModelId
from llamaswap.errors import LlamaSwapError, StartBackoffError, UpstreamStartError


@dataclass(frozen=True, slots=True)
class BackoffRule:
    """When to pause.

    Attributes:
        failures: So many within the window open a pause; 0 = never.
        window_seconds: Older failures do not count.
        pause_seconds: How long the model is not tried then.
    """

    failures: int = 0
    window_seconds: float = 0
    pause_seconds: float = 0


NO_BACKOFF: Final = BackoffRule()
"""Every request may try."""


class Backoff:
    """Counts failed starts in a row, and says when it is enough.

    Args:
        rule: When to pause.
    """

    def __init__(self, rule: BackoffRule = BackoffRule()) -> None:
        self._rule = rule
        self._failed_mono: dict[ModelId, deque[float]] = {}
        self._paused: dict[ModelId, tuple[float, str]] = {}

    def change(self, rule: BackoffRule, models: Iterable[ModelId]) -> None:
        """Follow another rule from now on, and forget what these models did: they are others now."""
        self._rule = rule
        for model in models:
            self._failed_mono.pop(model, None)
            self._paused.pop(model, None)

    def swap_ended(self, model: ModelId, error: LlamaSwapError | None, now: float) -> None:
        """Take note of how a start ended; what was called off, or never begun, says nothing about the model."""
        if error is None:
            self._failed_mono.pop(model, None)
            self._paused.pop(model, None)
        elif isinstance(error, UpstreamStartError) and self._rule.failures:
            failed = self._failed_mono.get(model, ())
            failed = self._failed_mono[model] = deque((*failed, now), maxlen=self._rule.failures)
            if len(failed) == self._rule.failures and now - failed[0] <= self._rule.window_seconds:
                self._paused[model] = (now + self._rule.pause_seconds, error.message)

    def refusal(self, model: ModelId, now: float) -> StartBackoffError | None:
        """Give the error for requests of a model that is not tried now, else ``None``."""
        until_mono, cause = self._paused.get(model, (now, ""))
        if until_mono <= now:
            return None
        error = StartBackoffError(f"{model} failed to start too often, not trying for now; the last cause: {cause}")
        error.retry_after_seconds = ceil(until_mono - now)
        return error
