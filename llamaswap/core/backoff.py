"""When a model that fails to start again and again is not tried for a while."""

from __future__ import annotations

from collections import deque
from math import ceil

from llamaswap.core.values import ModelId
from llamaswap.errors import LlamaSwapError, StartBackoffError, UpstreamStartError


class Backoff:
    """Counts failed starts in a row, and says when it is enough.

    Args:
        failures: So many within the window open a pause; 0 = never.
        window_seconds: Older failures do not count.
        pause_seconds: How long the model is not tried then.
    """

    def __init__(self, failures: int = 0, window_seconds: float = 0, pause_seconds: float = 0) -> None:
        self._failures = failures
        self._window_seconds = window_seconds
        self._pause_seconds = pause_seconds
        self._failed_mono: dict[ModelId, deque[float]] = {}
        self._paused: dict[ModelId, tuple[float, str]] = {}

    def swap_ended(self, model: ModelId, error: LlamaSwapError | None, now: float) -> None:
        """Take note of how a start ended; what was called off, or never begun, says nothing about the model."""
        if error is None:
            self._failed_mono.pop(model, None)
            self._paused.pop(model, None)
        elif isinstance(error, UpstreamStartError) and self._failures:
            failed = self._failed_mono.setdefault(model, deque(maxlen=self._failures))
            failed.append(now)
            if len(failed) == self._failures and now - failed[0] <= self._window_seconds:
                self._paused[model] = (now + self._pause_seconds, error.message)

    def refusal(self, model: ModelId, now: float) -> StartBackoffError | None:
        """Give the error for requests of a model that is not tried now, else ``None``."""
        until_mono, cause = self._paused.get(model, (now, ""))
        if until_mono <= now:
            return None
        error = StartBackoffError(f"{model} failed to start too often, not trying for now; the last cause: {cause}")
        error.retry_after_seconds = ceil(until_mono - now)
        return error
