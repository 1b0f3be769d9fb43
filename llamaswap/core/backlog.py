"""Text that a slow reader has still to get, within a limit."""

from __future__ import annotations

from collections import deque


class Backlog:
    r"""Hold text back for a reader that is not ready for it; drop whole lines, the oldest first, beyond the limit.

    What was dropped is announced in its place by ``\n— N bytes dropped —\n``. So the bytes taken out,
    less those marks, plus the announced numbers, are always the bytes put in.

    Args:
        limit_bytes: Bytes to hold at most; at least 1.
    """

    __slots__ = ("_dropped_bytes", "_held_bytes", "_limit_bytes", "_pieces")

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._pieces: deque[bytes] = deque()
        self._held_bytes = 0
        self._dropped_bytes = 0

    def __bool__(self) -> bool:
        """Whether there is anything to take, be it only a mark."""
        return bool(self._pieces or self._dropped_bytes)

    @property
    def dropped_bytes(self) -> int:
        """Bytes dropped since the last :meth:`take`."""
        return self._dropped_bytes

    def put(self, data: bytes) -> None:
        """Add the newest piece, not empty; it is kept as it is, not copied."""
        self._pieces.append(data)
        self._held_bytes += len(data)
        if self._held_bytes > self._limit_bytes:
            self._drop(self._held_bytes - self._limit_bytes)

    def take(self) -> bytes:
        """Give all that is held, led by a mark if something was dropped, and be empty."""
        mark = [f"\n— {self._dropped_bytes} bytes dropped —\n".encode()] if self._dropped_bytes else []
        text = b"".join([*mark, *self._pieces])
        self._pieces.clear()
        self._held_bytes = self._dropped_bytes = 0
        return text

    def _drop(self, excess_bytes: int) -> None:
        """Drop at least that many of the oldest bytes, and on to the next start of a line, if there is one."""
        cut_line = False
        while self._pieces and (excess_bytes > 0 or cut_line):
            piece = self._pieces.popleft()
            # The byte before the cut must be a line feed, so the search begins with the last byte to go.
            end = piece.find(b"\n", max(excess_bytes - 1, 0)) + 1 or len(piece)
            cut_line = piece[end - 1 : end] != b"\n"
            excess_bytes -= end
            self._held_bytes -= end
            self._dropped_bytes += end
            if end < len(piece):
                self._pieces.appendleft(piece[end:])
