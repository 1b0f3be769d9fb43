"""The newest bytes of an endless text, for a history of logs."""

from __future__ import annotations

_LINE_FEED = 0x0A


class ByteRing:
    """Keep the newest bytes that were written, within a limit.

    Nothing is allocated before the first write, and never more than the limit is kept.

    Args:
        capacity_bytes: Bytes to keep; at least 1.
    """

    __slots__ = ("_bytes", "_capacity_bytes", "_starts_with_line")

    def __init__(self, capacity_bytes: int) -> None:
        self._capacity_bytes = capacity_bytes
        self._bytes = bytearray()
        self._starts_with_line = True

    def __len__(self) -> int:
        """Give the number of bytes kept."""
        return len(self._bytes)

    def write(self, data: bytes) -> None:
        """Append ``data``; the oldest bytes make room."""
        kept = self._bytes
        kept += data
        excess = len(kept) - self._capacity_bytes
        if excess > 0:
            self._starts_with_line = kept[excess - 1] == _LINE_FEED
            # A bytearray gives up its front without moving the rest.
            del kept[:excess]

    def text(self) -> bytes:
        """Give what is kept, from the first line that is whole.

        A single line that is longer than the capacity has no start left; then all that is kept is given.
        """
        if self._starts_with_line:
            return bytes(self._bytes)
        return bytes(self._bytes[self._bytes.find(b"\n") + 1 :]) or bytes(self._bytes)
