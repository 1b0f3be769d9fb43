"""Finds where the body of an HTTP/1.1 message ends, without touching its bytes.

Three framings exist (RFC 9112, section 6): a length, chunks, and the end of the connection. Each is
a walker: it is fed what was received, piece by piece, cut anywhere, and says where the body ends.
What is passed on keeps the framing it came with; only who needs the bare payload asks for it.
"""

from __future__ import annotations

import re
from typing import Final, Protocol

from llamaswap.errors import FramingError

_SIZE_LINE: Final = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(?:;[\t\x20-\x7e\x80-\xff]*)?")
_TRAILER_LINE: Final = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+:[\t\x20-\x7e\x80-\xff]*")
_LONGEST_LINE_BYTES: Final = 16 * 1024
"""Of a size line with its extensions, or of a line of the trailer."""


_SIZE, _DATA, _DATA_END, _TRAILER = range(4)
"""What a chunked body goes on with."""


LAST_CHUNK: Final = b"0\r\n\r\n"
"""Ends a body in chunks, without a trailer."""


def chunk(payload: bytes) -> bytes:
    """Make one chunk; the payload is not empty."""
    return b"%x\r\n%b\r\n" % (len(payload), payload)


class BodyWalker(Protocol):
    """Follows one body.

    Attributes:
        payload_bytes: Bytes of payload seen so far, framing not counted.
    """

    payload_bytes: int

    def feed(self, data: bytes, start: int = 0) -> int:
        """Follow ``data[start:]``.

        Returns:
            Index behind the body's last byte, or -1: all of it belongs to the body, which goes on.

        Raises:
            FramingError: That is no body of this framing.
        """


class SizedBody:
    """A body of known length.

    Args:
        length: In bytes; 0 = it has ended before it began.
    """

    __slots__ = ("_left", "payload_bytes")

    def __init__(self, length: int) -> None:
        self._left = length
        self.payload_bytes = 0

    def feed(self, data: bytes, start: int = 0) -> int:
        """See :class:`BodyWalker`."""
        here = len(data) - start
        if here < self._left:
            self._left -= here
            self.payload_bytes += here
            return -1
        end = start + self._left
        self.payload_bytes += self._left
        self._left = 0
        return end


class OpenBody:
    """A body that ends with its connection."""

    __slots__ = ("payload_bytes",)

    def __init__(self) -> None:
        self.payload_bytes = 0

    def feed(self, data: bytes, start: int = 0) -> int:
        """See :class:`BodyWalker`."""
        self.payload_bytes += len(data) - start
        return -1


class ChunkedBody:
    """A body in chunks, with extensions and trailer.

    Args:
        pieces: Gets the payload, in order, where somebody needs it bare.
    """

    __slots__ = ("_left", "_line", "_pieces", "_step", "payload_bytes")

    def __init__(self, pieces: list[bytes] | None = None) -> None:
        self.payload_bytes = 0
        self._pieces = pieces
        self._step = _SIZE
        self._left = 0  # bytes of the current chunk still to come
        self._line = b""  # beginning of a line that was cut

    def feed(self, data: bytes, start: int = 0) -> int:
        """See :class:`BodyWalker`."""
        shift = 0
        if self._line:
            shift = start - len(self._line)
            data, start, self._line = self._line + data[start:], 0, b""
        position, end = start, len(data)
        while position < end:
            step = self._step
            if step == _DATA:
                position = self._pass_payload(data, position)
                continue
            line_end = data.find(b"\r\n", position)
            if line_end < 0:
                self._hold(data[position:])
                return -1
            line = data[position:line_end]
            position = line_end + 2
            if step == _SIZE:
                size = self._begin_chunk(line)
                stop = position + size
                if size and data[stop : stop + 2] == b"\r\n":  # all of it is here: one step instead of three
                    self._note(data, position, stop)
                    self._step = _SIZE
                    position = stop + 2
            elif line:
                self._check_line(line)
            elif step == _TRAILER:
                return position + shift
            else:
                self._step = _SIZE
        return -1

    def collect(self, pieces: list[bytes]) -> bool:
        """Put the payload there from now on; say whether some has been fed already."""
        self._pieces = pieces
        return bool(self.payload_bytes or self._line or self._step != _SIZE)

    def continuation(self, payload: bytes) -> bytes:
        """Frame payload of our own so that it follows on what was fed; empty where that cannot be done.

        In the middle of a chunk it fills that chunk first. The body has no end then, and shall not be fed again.
        """
        if self._step == _DATA:
            head, rest = payload[: self._left], payload[self._left :]
            return head + b"\r\n" + chunk(rest) if rest else head
        if self._step == _DATA_END:
            return b"\r\n"[len(self._line) :] + chunk(payload)
        return chunk(payload) if self._step == _SIZE and not self._line else b""

    def _begin_chunk(self, line: bytes) -> int:
        match = _SIZE_LINE.fullmatch(line)
        if match is None:
            raise FramingError("chunk size expected, got %.40r" % line)
        self._left = size = int(match[1], 16)
        self._step = _DATA if size else _TRAILER
        return size

    def _pass_payload(self, data: bytes, position: int) -> int:
        stop = min(position + self._left, len(data))
        self._note(data, position, stop)
        self._left -= stop - position
        if not self._left:
            self._step = _DATA_END
        return stop

    def _note(self, data: bytes, position: int, stop: int) -> None:
        self.payload_bytes += stop - position
        if self._pieces is not None:
            self._pieces.append(data[position:stop])

    def _hold(self, line: bytes) -> None:
        if len(line) > _LONGEST_LINE_BYTES:
            raise FramingError("line of a chunked body too long")
        self._line = line

    def _check_line(self, line: bytes) -> None:
        """Refuse whatever is neither the end of a chunk nor a field of the trailer."""
        if self._step != _TRAILER or _TRAILER_LINE.fullmatch(line) is None:
            raise FramingError("end of a chunk or trailer expected, got %.40r" % line)
