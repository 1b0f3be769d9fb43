"""Whole requests and answers, compressed and in memory, as long as there is room."""

from __future__ import annotations

from typing import Final

import msgspec
import zstandard

_LEVEL: Final = 3
_LARGEST_BYTES: Final = 256 * 1024 * 1024


class Capture(msgspec.Struct):
    """One request and its answer.

    Attributes:
        req_path: Path that the upstream saw.
        req_headers: The client's; each name once, nothing secret.
        req_body: As it went to the upstream; ``None`` = not kept.
        resp_headers: The answer's, likewise.
        resp_body: Without its encoding; ``None`` = not kept.
    """

    req_path: str
    req_headers: dict[str, str]
    req_body: bytes | None
    resp_headers: dict[str, str]
    resp_body: bytes | None


class Packer:
    """Packs captures; for one thread."""

    def __init__(self) -> None:
        self._compressor = zstandard.ZstdCompressor(level=_LEVEL)
        self._encoder = msgspec.msgpack.Encoder()

    def pack(self, capture: Capture) -> bytes:
        """Make a capture small."""
        return self._compressor.compress(self._encoder.encode(capture))


def unpacked_json(capture_id: int, packed: bytes) -> bytes:
    """Give a packed capture as ``GET /api/captures/{id}`` shows it; takes time."""
    plain = zstandard.ZstdDecompressor().decompress(packed, max_output_size=_LARGEST_BYTES)
    capture = msgspec.msgpack.decode(plain, type=Capture)
    # Bytes become base64.
    return msgspec.json.encode({"id": capture_id, **msgspec.structs.asdict(capture)})


class Captures:
    """Keeps packed captures by the id of their row; the oldest make room.

    Args:
        capacity_bytes: Of packed captures; 0 = none are kept.

    Attributes:
        capacity_bytes: As given.
        held_bytes: Of the captures kept now.
    """

    def __init__(self, capacity_bytes: int) -> None:
        self.capacity_bytes = capacity_bytes
        self.held_bytes = 0
        self._packed: dict[int, bytes] = {}

    def __contains__(self, row_id: int) -> bool:
        """Say whether there is a capture for a row."""
        return row_id in self._packed

    def get(self, row_id: int) -> bytes | None:
        """Give the packed capture of a row."""
        return self._packed.get(row_id)

    def put(self, row_id: int, packed: bytes) -> None:
        """Keep a capture; one that is larger than all the room is not kept."""
        if len(packed) <= self.capacity_bytes:
            self._packed[row_id] = packed
            self.held_bytes += len(packed)
            self._make_room()

    def resize(self, capacity_bytes: int) -> None:
        """Have another capacity from now on."""
        self.capacity_bytes = capacity_bytes
        self._make_room()

    def _make_room(self) -> None:
        while self.held_bytes > self.capacity_bytes:
            self.held_bytes -= len(self._packed.pop(next(iter(self._packed))))
