"""Undoes the ``Content-Encoding`` of an answer, for those who read along; the client gets it as it is."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import IO, Final, Protocol, cast

import brotli
import zstandard

_LARGEST_BYTES: Final = 32 * 1024 * 1024
"""What one answer may become; more is refused, so that nobody is drowned in zeros."""
_STEP_BYTES: Final = 256 * 1024
_LARGEST_WINDOW_BYTES: Final = 8 * 1024 * 1024
"""RFC 9659: what a decoder of zstd has to offer on the web."""
_GZIP_BITS: Final = 16 + zlib.MAX_WBITS
_SHORTEST_ZLIB_BYTES: Final = 2
_ZLIB_METHOD: Final = 8
_ZLIB_CHECK: Final = 31


class DecodingError(Exception):
    """An answer is not encoded as it says, or becomes too much; the message says which."""


class Decoder(Protocol):
    """Undoes one encoding."""

    def feed(self, data: bytes) -> bytes:
        """Take a piece, and give what it becomes.

        Raises:
            DecodingError: That is not the encoding, or too much.
        """

    def end(self) -> None:
        """Take note that nothing follows.

        Raises:
            DecodingError: Something is missing.
        """


def find_decoder(content_encoding: bytes) -> Decoder | None:
    """Find what undoes the value of a ``Content-Encoding``; ``None`` = nothing is to be undone.

    Raises:
        DecodingError: Nobody can undo that.
    """
    names = [word.strip().lower() for word in content_encoding.split(b",")]
    names = [name for name in names if name not in {b"", b"identity"}]
    if not names:
        return None
    make = _DECODERS.get(names[0]) if len(names) == 1 else None
    if make is None:
        raise DecodingError(f"unknown encoding {content_encoding[:40].decode('latin-1')!r}")
    return make()


class _Budget:
    """Adds up what comes out."""

    def __init__(self) -> None:
        self.pieces: list[bytes] = []
        self._left = _LARGEST_BYTES

    def write(self, data: bytes) -> int:
        """Take a piece."""
        self._left -= len(data)
        if self._left < 0:
            raise DecodingError(f"more than {_LARGEST_BYTES >> 20} MiB")
        self.pieces.append(data)
        return len(data)

    def take(self) -> bytes:
        """Give what has been taken since the last time."""
        pieces, self.pieces = self.pieces, []
        return b"".join(pieces)


class _Zlib:
    """``gzip`` and ``deflate``; the latter with or without the frame of RFC 1950, since servers differ."""

    def __init__(self, bits: int) -> None:
        self._bits = bits
        self._inflate = zlib.decompressobj(bits) if bits else None
        self._first = b""
        self._out = _Budget()

    def feed(self, data: bytes) -> bytes:
        """See :class:`Decoder`."""
        if self._inflate is None:
            data = self._first = self._first + data
            if len(data) < _SHORTEST_ZLIB_BYTES:
                return b""
            is_framed = data[0] & 15 == _ZLIB_METHOD and not int.from_bytes(data[:2]) % _ZLIB_CHECK
            self._bits = zlib.MAX_WBITS if is_framed else -zlib.MAX_WBITS
            self._inflate = zlib.decompressobj(self._bits)
        try:
            while True:
                if self._inflate.eof:  # gzip may have several members; what follows deflate is nothing
                    if not data or self._bits != _GZIP_BITS:
                        break
                    self._inflate = zlib.decompressobj(self._bits)
                piece = self._inflate.decompress(data, _STEP_BYTES)
                self._out.write(piece)
                data = self._inflate.unconsumed_tail or self._inflate.unused_data
                if not data and len(piece) < _STEP_BYTES:
                    break
        except zlib.error as error:
            raise DecodingError(str(error)) from error
        return self._out.take()

    def end(self) -> None:
        """See :class:`Decoder`."""
        if self._inflate is None or not self._inflate.eof:
            raise DecodingError("unexpected end")


class _Brotli:
    def __init__(self) -> None:
        self._decompressor = brotli.Decompressor()
        self._out = _Budget()

    def feed(self, data: bytes) -> bytes:
        """See :class:`Decoder`."""
        try:
            while True:
                self._out.write(self._decompressor.process(data, output_buffer_limit=_STEP_BYTES))
                data = b""
                if self._decompressor.can_accept_more_data():
                    break
        except brotli.error as error:
            raise DecodingError(str(error)) from error
        return self._out.take()

    def end(self) -> None:
        """See :class:`Decoder`."""
        if not self._decompressor.is_finished():
            raise DecodingError("unexpected end")


class _Zstandard:
    def __init__(self) -> None:
        self._out = _Budget()
        decompressor = zstandard.ZstdDecompressor(max_window_size=_LARGEST_WINDOW_BYTES)
        self._writer = decompressor.stream_writer(cast("IO[bytes]", self._out), write_size=_STEP_BYTES)

    def feed(self, data: bytes) -> bytes:
        """See :class:`Decoder`."""
        try:
            self._writer.write(data)
        except zstandard.ZstdError as error:
            raise DecodingError(str(error)) from error
        return self._out.take()

    def end(self) -> None:
        """See :class:`Decoder`; it cannot be told whether anything is missing."""


_DECODERS: Final[dict[bytes, Callable[[], Decoder]]] = {
    b"gzip": lambda: _Zlib(_GZIP_BITS),
    b"x-gzip": lambda: _Zlib(_GZIP_BITS),
    b"deflate": lambda: _Zlib(0),
    b"br": _Brotli,
    b"zstd": _Zstandard,
}
