"""Token figures that inference servers report in their answers, read as the answer passes.

Answers are fed as decoded body bytes, cut anywhere. What is held is bounded: of a document, its first
and its last bytes, because the members looked at stand before or behind the bulk; of an event stream,
the line that is not whole. Nothing is parsed that does not hold one of the members' names.
"""

from __future__ import annotations

from collections import deque
from json import JSONDecoder
from typing import Any, Final, Protocol

from msgspec import Raw

from llamaswap.core.figures import NOTHING, Event, Members, Report, Tally, decoded

_WINDOW_BYTES: Final = 128 * 1024
"""Of a document: so much of its beginning and of its end is kept."""
_LONGEST_LINE_BYTES: Final = 256 * 1024
"""A longer line of an event stream is treated as a document."""
_LONGEST_OBJECT_BYTES: Final = 16 * 1024
"""Of a member found in the beginning of a document that is not whole."""
_CANDIDATES: Final = 4
_MEMBERS: Final = ("usage", "timings", "metrics")
_USAGE, _TIMINGS, _METRICS = _KEYS = (b'"usage"', b'"timings"', b'"metrics"')
_NO_USAGE: Final = (b'"usage":null', b'"usage": null')
_OPEN_BRACKET: Final = b"["


class UsageReader(Protocol):
    """Reads the figures of one answer."""

    def feed(self, data: bytes) -> None:
        """Take a piece of the body."""

    def report(self) -> Report:
        """Give what was found; nothing is fed afterwards."""


def read_document(body: bytes) -> Report:
    """Read the figures of a whole body; one that is no JSON has none."""
    if not _has_member(body):
        return NOTHING
    is_list = body.lstrip()[:1] == _OPEN_BRACKET
    return _report_of(_of_list(body) if is_list else decoded(body, Members))


class DocumentUsage:
    """Reads the figures of a JSON document; bodies that are none have none."""

    def __init__(self) -> None:
        self._ends = Ends(_WINDOW_BYTES)

    def feed(self, data: bytes) -> None:
        """See :class:`UsageReader`."""
        self._ends.feed(data)

    def report(self) -> Report:
        """See :class:`UsageReader`."""
        ends = self._ends
        return read_document(ends.first() + ends.last()) if ends.is_whole else _report_of(_of_ends(ends))


class EventUsage:
    """Reads the figures of an event stream."""

    def __init__(self) -> None:
        self._tally = Tally()
        self._rest = b""  # a line that is not whole
        self._long: Ends | None = None  # the same, when it is long

    def feed(self, data: bytes) -> None:
        """See :class:`UsageReader`."""
        if self._long is not None:
            data = self._go_on(self._long, data)
        elif self._rest:
            data, self._rest = self._rest + data, b""
        end = max(data.rfind(b"\n"), data.rfind(b"\r")) + 1
        if end and _has_member(data):
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
        if line.startswith(b"data:") and _has_member(line):
            event = decoded(line[5:], Event)
            if event is not None:
                self._tally.take_event(event)

    def _take_long(self, line: Ends) -> None:
        if line.is_whole:
            self._take(line.first() + line.last())
            return
        members = _of_ends(line, b"data:")
        if members is not None:
            self._tally.take(members)


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
    document = decoded(body, dict[str, Any])
    if document is None:
        return ""
    error = document.get("error")
    inner = error.get("message") if isinstance(error, dict) else None
    for text in (inner, error, document.get("message"), document.get("detail")):
        if isinstance(text, str) and text.strip():
            return text
    return ""


def _has_member(data: bytes) -> bool:
    return _USAGE in data or _TIMINGS in data or _METRICS in data


def _report_of(members: Members | None) -> Report:
    if members is None:
        return NOTHING
    tally = Tally()
    tally.take(members)
    return tally.report()


def _of_list(body: bytes) -> Members | None:
    """Read the last element of a list."""
    elements = decoded(body, list[Raw])
    return decoded(elements[-1], Members) if elements else None


def _of_ends(ends: Ends, prefix: bytes = b"") -> Members | None:
    """Find the members in what is left of a document; of a list, in its last element."""
    first, last = ends.first().removeprefix(prefix).lstrip(), ends.last()
    is_list = first.startswith(_OPEN_BRACKET)
    if not is_list and not first.startswith(b"{"):
        return None
    found: dict[str, Any] = {}
    for name, key in zip(_MEMBERS, _KEYS, strict=True):
        value = _in_end(last, name, key, is_list=is_list)
        if value is None and not is_list:
            value = _in_beginning(first, key)
        if value is not None:
            found[name] = value
    return Members(**found) if found else None


def _in_end(last: bytes, name: str, key: bytes, *, is_list: bool) -> Any:
    """Find a member: from its key on, the end of a document is one by itself, or the key stands deeper."""
    at = len(last)
    for _ in range(_CANDIDATES):
        at = last.rfind(key, 0, at)
        if at < 0:
            return None
        if is_list:
            elements = decoded(b"[{" + last[at:], list[Members])
            members = elements[0] if elements is not None and len(elements) == 1 else None
        else:
            members = decoded(b"{" + last[at:], Members)
        if members is not None:
            return getattr(members, name)
    return None


def _in_beginning(first: bytes, key: bytes) -> Any:
    """Find a member: what stands before its key is a document by itself when it is closed."""
    at = first.find(key)
    if at < 0 or decoded(first[:at].rstrip().removesuffix(b",") + b"}", Members) is None:
        return None
    after = first[at + len(key) : at + len(key) + _LONGEST_OBJECT_BYTES].decode(errors="replace").lstrip()
    text = after[1:].lstrip()
    try:
        _, end = JSONDecoder().raw_decode(text)
    except (ValueError, RecursionError):
        return None
    return decoded(text[:end].encode(), dict[str, Any])  # which takes less for JSON
