"""Whole requests and answers, compressed and in memory, as long as there is room."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Final, NamedTuple

import msgspec
import zstandard

_LEVEL: Final = 3
_BLOCK_BYTES: Final = 64 * 1024
"""Small captures are packed together: smaller, and the interpreter is given up and waited for less often."""

Fields = list[tuple[bytes, bytes]]


class Capture(msgspec.Struct, array_like=True):
    """One request and its answer.

    Attributes:
        path: Path that the upstream saw.
        asked: The client's headers, nothing secret in them.
        body: As it went to the upstream; ``None`` = not kept.
        answered: The answer's headers, likewise.
        answer: Its body without its encoding; ``None`` = not kept.
    """

    path: str
    asked: Fields
    body: bytes | None
    answered: Fields
    answer: bytes | None


class Block(NamedTuple):
    """Captures that are packed together.

    Attributes:
        ids: Of their rows, in order.
        packed: What they became.
    """

    ids: tuple[int, ...]
    packed: bytes

    def unpack(self, row_id: int) -> Capture:
        """Give one of the captures; takes time."""
        plain = zstandard.ZstdDecompressor().decompress(self.packed)
        return msgspec.msgpack.decode(plain, type=list[Capture])[self.ids.index(row_id)]


class Packer:
    """Packs captures; for one thread."""

    def __init__(self) -> None:
        self._compressor = zstandard.ZstdCompressor(level=_LEVEL)
        self._encoder = msgspec.msgpack.Encoder()

    def pack(self, captures: Iterable[tuple[int, Capture]]) -> Iterator[Block]:
        """Make captures small, each given with the id of its row."""
        ids: list[int] = []
        held: list[Capture] = []
        held_bytes = 0
        for row_id, capture in captures:
            ids.append(row_id)
            held.append(capture)
            held_bytes += _size_of(capture)
            if held_bytes >= _BLOCK_BYTES:
                yield self._block(ids, held)
                ids, held, held_bytes = [], [], 0
        if held:
            yield self._block(ids, held)

    def _block(self, ids: list[int], captures: list[Capture]) -> Block:
        packed = self._compressor.compress(self._encoder.encode(captures))
        # What the library gives still has the room that the plain bytes could have needed.
        return Block(tuple(ids), memoryview(packed).tobytes())


def _size_of(capture: Capture) -> int:
    around = sum(len(name) + len(value) for name, value in chain(capture.asked, capture.answered))
    return around + len(capture.body or b"") + len(capture.answer or b"")


class Captures:
    """Keeps packed captures; the oldest make room.

    Args:
        capacity_bytes: Of packed captures; 0 = none are kept.

    Attributes:
        capacity_bytes: As given.
        held_bytes: Of the captures kept now.
    """

    def __init__(self, capacity_bytes: int) -> None:
        self.capacity_bytes = capacity_bytes
        self.held_bytes = 0
        self._blocks: deque[Block] = deque()
        self._by_id: dict[int, Block] = {}

    def __contains__(self, row_id: int) -> bool:
        """Say whether there is a capture for a row."""
        return row_id in self._by_id

    def find(self, row_id: int) -> Block | None:
        """Find the block in which the capture of a row is."""
        return self._by_id.get(row_id)

    def put(self, block: Block) -> None:
        """Keep captures; a block that is larger than all the room is not kept."""
        if len(block.packed) <= self.capacity_bytes:
            self._blocks.append(block)
            self._by_id.update(dict.fromkeys(block.ids, block))
            self.held_bytes += len(block.packed)
            self._make_room()

    def resize(self, capacity_bytes: int) -> None:
        """Have another capacity from now on."""
        self.capacity_bytes = capacity_bytes
        self._make_room()

    def clear(self) -> None:
        """Forget all: their rows are elsewhere."""
        self._blocks.clear()
        self._by_id.clear()
        self.held_bytes = 0

    def _make_room(self) -> None:
        while self.held_bytes > self.capacity_bytes:
            block = self._blocks.popleft()
            self.held_bytes -= len(block.packed)
            for row_id in block.ids:
                self._by_id.pop(row_id, None)
