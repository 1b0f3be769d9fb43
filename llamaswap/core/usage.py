"""Token figures that inference servers report in their answers, read as the answer passes.

Answers are fed as decoded body bytes, cut anywhere. What is held is bounded: of a document, its first
and its last bytes, because the members looked at stand before or behind the bulk; of an event stream,
the line that is not whole. Nothing is parsed that does not hold one of the members' names.
"""

from __future__ import annotations

from collections import deque
from json import JSONDecoder
from typing import Any, Final, NamedTuple, Protocol

from msgspec import MsgspecError, Raw, Struct
from msgspec.json import decode

_WINDOW_BYTES: Final = 128 * 1024
"""Of a document: so much of its beginning and of its end is kept."""
_LONGEST_LINE_BYTES: Final = 256 * 1024
"""A longer line of an event stream is treated as a document."""
_LONGEST_OBJECT_BYTES: Final = 16 * 1024
"""Of a member found in the beginning of a document that is not whole."""
_CANDIDATES: Final = 4
_LARGEST: Final = 2**53
_MILLISECONDS: Final = 1000
_MEMBERS: Final = ("usage", "timings", "metrics")
_KEYS: Final = tuple(b'"%b"' % name.encode() for name in _MEMBERS)
_NO_USAGE: Final = (b'"usage":null', b'"usage": null')
_NOT_JSON: Final = (MsgspecError, ValueError, RecursionError)
_OPEN_BRACE: Final = 0x7B
_OPEN_BRACKET: Final = b"["


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


class UsageReader(Protocol):
    """Reads the figures of one answer."""

    def feed(self, data: bytes) -> None:
        """Take a piece of the body."""

    def report(self) -> Report:
        """Give what was found; nothing is fed afterwards."""


class _Members(Struct):
    """The members looked at, as they are written."""

    usage: Raw = Raw()
    timings: Raw = Raw()
    metrics: Raw = Raw()
    response: Raw = Raw()
    message: Raw = Raw()


class _Tally:
    """Combines what the documents of one answer say."""

    def __init__(self) -> None:
        self._has_usage = False
        self._counts: dict[str, int] = {}
        self._timings: dict[str, Any] | None = None
        self._metrics: dict[str, Any] | None = None

    def take(self, members: _Members) -> None:
        """Take the members of a document."""
        usage = _object(members.usage)
        if usage is not None:
            self._take_usage(usage)
        timings = _object(members.timings)
        if timings is not None:
            self._timings = timings
        metrics = _object(members.metrics)
        if metrics is not None:
            self._metrics = metrics

    def take_event(self, members: _Members) -> None:
        """Take the members of an event, whose usage may stand deeper."""
        self.take(members)
        for outer in (members.response, members.message):
            inner = _object(outer)
            usage = inner.get("usage") if inner is not None else None
            if isinstance(usage, dict):
                self._take_usage(usage)

    def _take_usage(self, usage: dict[str, Any]) -> None:
        self._has_usage = True
        self._note("input", _first(usage, "prompt_tokens", "input_tokens"))
        self._note("output", _first(usage, "completion_tokens", "output_tokens"))
        cached = _first(usage, "cache_read_input_tokens")
        for details in ("input_tokens_details", "prompt_tokens_details"):
            if cached is None and isinstance(usage.get(details), dict):
                cached = _first(usage[details], "cached_tokens")
        self._note("cached", cached)

    def _note(self, name: str, value: int | None) -> None:
        """A later count replaces an earlier one, but with nothing."""
        if value is not None and (value > 0 or name not in self._counts):
            self._counts[name] = value

    def report(self) -> Report:
        """Give the figures of all that was taken."""
        timings, metrics = self._timings, self._metrics
        if not self._has_usage and timings is None and metrics is None:
            return Report()
        counts = self._counts
        tokens = Tokens(counts.get("cached", -1), -1, -1, counts.get("input", 0), counts.get("output", 0), -1, -1)
        upstream_ms = 0.0
        if timings is not None:
            tokens = _with_timings(tokens, timings)
            upstream_ms = _number(timings.get("prompt_ms")) + _number(timings.get("predicted_ms"))
        if metrics is not None:
            tokens = _with_metrics(tokens, metrics)
        return Report(tokens, upstream_ms)


def _with_timings(tokens: Tokens, timings: dict[str, Any]) -> Tokens:
    """Apply what llama-server measured."""
    tokens = tokens._replace(
        input_tokens=_first(timings, "prompt_n") or 0,
        output_tokens=_first(timings, "predicted_n") or 0,
        prompt_per_second=_number(timings.get("prompt_per_second")),
        tokens_per_second=_number(timings.get("predicted_per_second")),
    )
    if "cache_n" in timings:
        tokens = tokens._replace(cache_tokens=_first(timings, "cache_n") or 0)
    return _with_drafts(tokens, _first(timings, "draft_n"), _first(timings, "draft_n_accepted"))


def _with_metrics(tokens: Tokens, metrics: dict[str, Any]) -> Tokens:
    """Apply what vLLM measured."""
    drafts = metrics.get("speculative_decoding")
    if isinstance(drafts, dict):
        draft, accepted = _first(drafts, "num_draft_tokens"), _first(drafts, "num_accepted_draft_tokens")
        tokens = _with_drafts(tokens, draft, accepted)
    first_ms, between_ms = _number(metrics.get("time_to_first_token_ms")), _number(metrics.get("mean_itl_ms"))
    if first_ms > 0:
        fresh = max(tokens.input_tokens - max(tokens.cache_tokens, 0), 0)
        tokens = tokens._replace(prompt_per_second=fresh * _MILLISECONDS / first_ms)
    if between_ms > 0:
        tokens = tokens._replace(tokens_per_second=_MILLISECONDS / between_ms)
    return tokens


def _with_drafts(tokens: Tokens, draft: int | None, accepted: int | None) -> Tokens:
    if draft is None or accepted is None:
        return tokens
    return tokens._replace(draft_tokens=draft, draft_acc_tokens=accepted)


class DocumentUsage:
    """Reads the figures of a JSON document; bodies that are none have none."""

    def __init__(self) -> None:
        self._ends = Ends(_WINDOW_BYTES)

    def feed(self, data: bytes) -> None:
        """See :class:`UsageReader`."""
        self._ends.feed(data)

    def report(self) -> Report:
        """See :class:`UsageReader`."""
        tally = _Tally()
        members = _of_document(self._ends)
        if members is not None:
            tally.take(members)
        return tally.report()


class EventUsage:
    """Reads the figures of an event stream."""

    def __init__(self) -> None:
        self._tally = _Tally()
        self._rest = b""  # a line that is not whole
        self._long: Ends | None = None  # the same, when it is long

    def feed(self, data: bytes) -> None:
        """See :class:`UsageReader`."""
        if self._long is not None:
            data = self._go_on(self._long, data)
        elif self._rest:
            data, self._rest = self._rest + data, b""
        end = max(data.rfind(b"\n"), data.rfind(b"\r")) + 1
        if end and any(key in data for key in _KEYS):
            lines = data[:end]
            for nothing in _NO_USAGE:  # some servers say so in every event
                lines = lines.replace(nothing, b'"-":null')
            for line in lines.splitlines():
                self._take(line)
        self._hold(data[end:])

    def report(self) -> Report:
        """See :class:`UsageReader`."""
        if self._long is not None:
            self._take_long(self._long)
        else:
            self._take(self._rest)
        self._rest, self._long = b"", None
        return self._tally.report()

    def _hold(self, rest: bytes) -> None:
        if len(rest) <= _LONGEST_LINE_BYTES:
            self._rest = rest
        else:
            self._long = Ends(_WINDOW_BYTES)
            self._long.feed(rest)

    def _go_on(self, line: Ends, data: bytes) -> bytes:
        """Go on with a long line; give what follows it."""
        ends = [at for at in (data.find(b"\n"), data.find(b"\r")) if at >= 0]
        if not ends:
            line.feed(data)
            return b""
        line.feed(data[: min(ends)])
        self._long = None
        self._take_long(line)
        return data[min(ends) :]

    def _take(self, line: bytes) -> None:
        if line.startswith(b"data:") and any(key in line for key in _KEYS):
            members = _members(line[5:])
            if members is not None:
                self._tally.take_event(members)

    def _take_long(self, line: Ends) -> None:
        members = _of_document(line, b"data:")
        if members is not None:
            self._tally.take_event(members)


class Ends:
    """Keeps the first and the last bytes of something long.

    Args:
        window_bytes: What is kept at either end, at least.

    Attributes:
        is_whole: Whether nothing is missing in between.
    """

    def __init__(self, window_bytes: int) -> None:
        self.is_whole = True
        self._window_bytes = window_bytes
        self._first: list[bytes] = []
        self._first_bytes = 0
        self._last: deque[bytes] = deque()
        self._last_bytes = 0

    def feed(self, data: bytes) -> None:
        """Take what comes next."""
        if self._first_bytes < self._window_bytes:
            self._first.append(data)
            self._first_bytes += len(data)
            return
        self._last.append(data)
        self._last_bytes += len(data)
        while self._last_bytes - len(self._last[0]) >= self._window_bytes:
            self._last_bytes -= len(self._last.popleft())
            self.is_whole = False

    def first(self) -> bytes:
        """Give the beginning."""
        return b"".join(self._first)

    def last(self) -> bytes:
        """Give the end; the beginning is not part of it."""
        return b"".join(self._last)


def error_text(body: bytes) -> str:
    """Find what an error answer says in words; empty where there is nothing of the kind."""
    try:
        document = decode(body)
    except _NOT_JSON:
        return ""
    if not isinstance(document, dict):
        return ""
    error = document.get("error")
    inner = error.get("message") if isinstance(error, dict) else None
    for text in (inner, error, document.get("message"), document.get("detail")):
        if isinstance(text, str) and text.strip():
            return text
    return ""


def _of_document(ends: Ends, prefix: bytes = b"") -> _Members | None:
    first = ends.first().removeprefix(prefix).lstrip()
    is_list = first.startswith(_OPEN_BRACKET)
    if not is_list and not first.startswith(b"{"):
        return None
    if not ends.is_whole:
        return _of_ends(first, ends.last(), is_list=is_list)
    body = first + ends.last()
    if not any(key in body for key in _KEYS):
        return None
    if not is_list:
        return _members(body)
    try:
        elements = decode(body, type=list[Raw])
    except _NOT_JSON:
        return None
    return _members(elements[-1]) if elements else None


def _of_ends(first: bytes, last: bytes, *, is_list: bool) -> _Members | None:
    """Find the members in what is left of a document; of a list, in its last element."""
    found = {}
    for name, key in zip(_MEMBERS, _KEYS, strict=True):
        value = _in_end(last, name, key, is_list=is_list)
        if value is None and not is_list:
            value = _in_beginning(first, key)
        if value is not None:
            found[name] = Raw(value)
    return _Members(**found) if found else None


def _in_end(last: bytes, name: str, key: bytes, *, is_list: bool) -> bytes | None:
    """Find a member: from its key on, the end of a document is one by itself, or the key stands deeper."""
    at = len(last)
    for _ in range(_CANDIDATES):
        at = last.rfind(key, 0, at)
        if at < 0:
            return None
        try:
            if is_list:
                [members] = decode(b"[{" + last[at:], type=list[_Members])
            else:
                members = decode(b"{" + last[at:], type=_Members)
        except _NOT_JSON:
            continue
        return bytes(getattr(members, name))
    return None


def _in_beginning(first: bytes, key: bytes) -> bytes | None:
    """Find a member: what stands before its key is a document by itself when it is closed."""
    at = first.find(key)
    if at < 0 or _members(first[:at].rstrip().removesuffix(b",") + b"}") is None:
        return None
    text = first[at + len(key) : at + len(key) + _LONGEST_OBJECT_BYTES].decode(errors="replace").lstrip()
    try:
        _, end = JSONDecoder().raw_decode(text[1:].lstrip())
    except (ValueError, RecursionError):
        return None
    return text[1:].lstrip()[:end].encode()


def _members(document: bytes | Raw) -> _Members | None:
    try:
        return decode(document, type=_Members)
    except _NOT_JSON:
        return None


def _object(written: Raw) -> dict[str, Any] | None:
    """Read a member, if it is an object."""
    text = memoryview(written)
    if not text or text[0] != _OPEN_BRACE:
        return None
    try:
        value = decode(text)
    except _NOT_JSON:
        return None
    return value if isinstance(value, dict) else None


def _first(values: dict[str, Any], *names: str) -> int | None:
    """Give the first of these that is there, as a count."""
    for name in names:
        if name in values:
            return int(_number(values[name]))
    return None


def _number(value: object) -> float:
    """Give a number that is not negative, and not absurd; 0 for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return 0
    return value if 0 < value < _LARGEST else 0
