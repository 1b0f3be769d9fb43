"""Token figures as inference servers report them, and what several reports of one answer come to."""

from __future__ import annotations

from typing import Any, Final, NamedTuple, TypeVar

from msgspec import MsgspecError, Raw, Struct
from msgspec.json import decode

T = TypeVar("T")

_LARGEST: Final = 2**53
_MILLISECONDS: Final = 1000
_NOT_JSON: Final = (MsgspecError, ValueError, RecursionError)


class Tokens(NamedTuple):
    """The figures of one answer; -1 = not reported although others are."""

    cache_tokens: int = 0
    draft_tokens: int = 0
    draft_acc_tokens: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    prompt_per_second: float = 0
    tokens_per_second: float = 0


class Report(NamedTuple):
    """What an answer said about itself.

    Attributes:
        tokens: The figures.
        upstream_ms: How long the upstream says it has worked; 0 = it does not say.
    """

    tokens: Tokens = Tokens()
    upstream_ms: float = 0


NOTHING: Final = Report()
"""No figures."""


class Members(Struct):
    """The members looked at."""

    usage: Any = None
    timings: Any = None
    metrics: Any = None


class Event(Members):
    """The same of an event, whose usage may stand deeper; what is around it is long, and stays as it is written."""

    response: Raw = Raw()
    message: Raw = Raw()


class _Outer(Struct):
    """What has the usage of an event."""

    usage: Any = None


class Tally:
    """Combines what the documents of one answer say."""

    __slots__ = ("_cached", "_has_usage", "_input", "_metrics", "_output", "_timings")

    def __init__(self) -> None:
        self._has_usage = False
        self._input: int | None = None
        self._output: int | None = None
        self._cached: int | None = None
        self._timings: dict[str, Any] | None = None
        self._metrics: dict[str, Any] | None = None

    def take(self, members: Members) -> None:
        """Take the members of a document."""
        if isinstance(members.usage, dict):
            self._take_usage(members.usage)
        if isinstance(members.timings, dict):
            self._timings = members.timings
        if isinstance(members.metrics, dict):
            self._metrics = members.metrics

    def take_event(self, event: Event) -> None:
        """Take the members of an event."""
        self.take(event)
        for outer in (event.response, event.message):
            if memoryview(outer).nbytes:
                inner = decoded(outer, _Outer)
                if inner is not None and isinstance(inner.usage, dict):
                    self._take_usage(inner.usage)

    def _take_usage(self, usage: dict[str, Any]) -> None:
        self._has_usage = True
        self._input = _later(self._input, _first(usage, "prompt_tokens", "input_tokens"))
        self._output = _later(self._output, _first(usage, "completion_tokens", "output_tokens"))
        cached = _first(usage, "cache_read_input_tokens")
        if cached is None:
            for name in ("input_tokens_details", "prompt_tokens_details"):
                details = usage.get(name)
                if cached is None and isinstance(details, dict):
                    cached = _first(details, "cached_tokens")
        self._cached = _later(self._cached, cached)

    def report(self) -> Report:
        """Give the figures of all that was taken."""
        timings, metrics = self._timings, self._metrics
        if not self._has_usage and timings is None and metrics is None:
            return NOTHING
        cached = -1 if self._cached is None else self._cached
        if timings is None:
            tokens, upstream_ms = Tokens(cached, -1, -1, self._input or 0, self._output or 0, -1, -1), 0.0
        else:
            tokens = _of_timings(timings, cached)
            upstream_ms = _number(timings.get("prompt_ms")) + _number(timings.get("predicted_ms"))
        return Report(tokens if metrics is None else _with_metrics(tokens, metrics), upstream_ms)


def _of_timings(timings: dict[str, Any], cached: int) -> Tokens:
    """Read what llama-server measured."""
    draft, accepted = _first(timings, "draft_n"), _first(timings, "draft_n_accepted")
    if draft is None or accepted is None:
        draft = accepted = -1
    return Tokens(
        int(_number(timings["cache_n"])) if "cache_n" in timings else cached,
        draft,
        accepted,
        int(_number(timings.get("prompt_n"))),
        int(_number(timings.get("predicted_n"))),
        _number(timings.get("prompt_per_second")),
        _number(timings.get("predicted_per_second")),
    )


def _with_metrics(tokens: Tokens, metrics: dict[str, Any]) -> Tokens:
    """Apply what vLLM measured."""
    drafts = metrics.get("speculative_decoding")
    if isinstance(drafts, dict):
        draft, accepted = _first(drafts, "num_draft_tokens"), _first(drafts, "num_accepted_draft_tokens")
        if draft is not None and accepted is not None:
            tokens = tokens._replace(draft_tokens=draft, draft_acc_tokens=accepted)
    first_ms, between_ms = _number(metrics.get("time_to_first_token_ms")), _number(metrics.get("mean_itl_ms"))
    if first_ms > 0:
        fresh = max(tokens.input_tokens - max(tokens.cache_tokens, 0), 0)
        tokens = tokens._replace(prompt_per_second=_number(fresh * _MILLISECONDS / first_ms))
    if between_ms > 0:
        tokens = tokens._replace(tokens_per_second=_number(_MILLISECONDS / between_ms))
    return tokens


def _later(known: int | None, value: int | None) -> int | None:
    """Choose between a count and a later one, which replaces it, but with nothing."""
    return value if value or known is None else known


def decoded(document: bytes | Raw, kind: type[T]) -> T | None:
    """Read JSON; ``None`` = it is none, or not of that kind."""
    try:
        return decode(document, type=kind)
    except _NOT_JSON:
        return None


def _first(values: dict[str, Any], *names: str) -> int | None:
    """Give the first of these that is there, as a count."""
    for name in names:
        if name in values:
            return int(_number(values[name]))
    return None


def _number(value: object) -> float:
    """Give a number that is not negative, and not absurd; 0 for anything else."""
    if (type(value) is float or type(value) is int) and 0 < value < _LARGEST:
        return value
    return 0
