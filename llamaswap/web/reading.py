"""One answer, read along as it passes: its token figures, or what it says went wrong."""

from __future__ import annotations

from typing import Final

from llamaswap.core.figures import NOTHING, Report
from llamaswap.core.usage import DocumentUsage, EventUsage, error_text, read_document
from llamaswap.proxy.framing import ChunkedBody
from llamaswap.proxy.headers import ResponseHead
from llamaswap.telemetry.decoding import Decoder, DecodingError, find_decoder

_OK: Final = 200
_BATCH_BYTES: Final = 16 * 1024
"""So much of an answer is looked at in one go: per piece, that costs next to nothing."""
_ERROR_BYTES: Final = 64 * 1024
"""A longer error answer is not looked at."""


class _ErrorReader:
    """Keeps an error answer, unless it is long."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self._bytes = 0

    def feed(self, data: bytes) -> None:
        self._bytes += len(data)
        if self._bytes <= _ERROR_BYTES:
            self._pieces.append(data)

    def report(self) -> Report:
        return NOTHING

    def text(self) -> str:
        return error_text(b"".join(self._pieces)) if self._bytes <= _ERROR_BYTES else ""


class Room:
    """What all answers under way may hold together for captures.

    Attributes:
        free_bytes: What is left of it; may fall below 0 when there is to be less.
    """

    def __init__(self) -> None:
        self.free_bytes = 0
        self._bytes = 0

    def resize(self, size_bytes: int) -> None:
        """Have that much in all."""
        self.free_bytes += size_bytes - self._bytes
        self._bytes = size_bytes


class Reading:
    """Reads an answer along.

    Args:
        head: The answer's.
        keep_bytes: So much of a body is kept; of a longer one nothing is.
        room: Shared with the other answers under way; where there is none left, nothing of this one is kept.

    Attributes:
        content_type: Of the answer.
        problem: Why it could not be read; empty = it could.
        report: Its figures, at the end.
        said: What an error answer says in words, at the end; empty = nothing.
    """

    __slots__ = (
        "_catches_up",
        "_decoder",
        "_head",
        "_held",
        "_held_bytes",
        "_is_chunked",
        "_keep_bytes",
        "_kept",
        "_kept_bytes",
        "_reader",
        "_room",
        "content_type",
        "problem",
        "report",
        "said",
    )

    def __init__(self, head: ResponseHead, keep_bytes: int, room: Room) -> None:
        self._room = room
        self.content_type = ""
        self.problem = self.said = ""
        self.report = NOTHING
        self._held: list[bytes] = []
        self._held_bytes = 0
        self._kept: list[bytes] = []
        self._kept_bytes = 0
        self._keep_bytes = keep_bytes
        # Whose bytes went to the client already has them unwrapped for us on the way.
        body = head.body
        self._is_chunked = isinstance(body, ChunkedBody)
        self._catches_up = isinstance(body, ChunkedBody) and body.collect(self._held)
        self._head = head
        self._reader: DocumentUsage | EventUsage | _ErrorReader | None = None  # most answers are short enough without
        self._decoder: Decoder | None = None
        for name, value in head.fields:
            lower = name.lower()
            if lower == b"content-type":
                self.content_type = value.decode("utf-8", "replace")
            elif lower == b"content-encoding":
                self._find_decoder(value)

    def passed(self, data: bytes) -> None:
        """Take a piece of the body in its framing; see :class:`~llamaswap.proxy.forward.Witness`."""
        if not self._is_chunked:
            self._held.append(data)
        elif self._catches_up:
            self._catches_up = False
            ChunkedBody(self._held).feed(data)
        self._held_bytes += len(data)
        if self._held_bytes >= _BATCH_BYTES:
            data = self._take()
            if not self.problem:
                self._feed(data)

    def end(self) -> None:
        """Take note that nothing follows: now there is a report."""
        data = self._take()
        if self._decoder is not None and not self.problem:
            try:
                self._decoder.end()
            except DecodingError as error:
                self.problem = str(error)
        if self.problem:
            return
        head = self._head
        if self._reader is None and head.status == _OK and not head.is_event_stream:
            self.report = read_document(data)
            return
        reader = self._feed(data)
        self.report = reader.report()
        if isinstance(reader, _ErrorReader):
            self.said = reader.text()

    def body(self) -> bytes | None:
        """Give the whole body without its encoding; ``None`` = it was not kept."""
        return None if self._keep_bytes < 0 else b"".join(self._kept)

    def let_go(self) -> None:
        """Keep nothing any more, and make room."""
        self._room.free_bytes += self._kept_bytes
        self._kept_bytes = 0
        self._keep_bytes = -1
        self._kept.clear()

    def _find_decoder(self, encoding: bytes) -> None:
        try:
            self._decoder = find_decoder(encoding)
        except DecodingError as error:
            self.problem = str(error)

    def _feed(self, data: bytes) -> DocumentUsage | EventUsage | _ErrorReader:
        reader = self._reader
        if reader is None:
            reader = self._reader = _reader(self._head)
        reader.feed(data)
        return reader

    def _take(self) -> bytes:
        """Give what has come, without its encoding, and keep it where that is wanted."""
        data = b"".join(self._held)
        self._held.clear()
        self._held_bytes = 0
        if self.problem:
            return b""
        if self._decoder is not None:
            try:
                data = self._decoder.feed(data)
            except DecodingError as error:
                self.problem = str(error)
                self.let_go()
                return b""
        if self._kept_bytes + len(data) <= self._keep_bytes and len(data) <= self._room.free_bytes:
            self._room.free_bytes -= len(data)
            self._kept_bytes += len(data)
            self._kept.append(data)
        elif self._keep_bytes >= 0:
            self.let_go()
        return data


def _reader(head: ResponseHead) -> DocumentUsage | EventUsage | _ErrorReader:
    if head.status != _OK:
        return _ErrorReader()
    return EventUsage() if head.is_event_stream else DocumentUsage()
