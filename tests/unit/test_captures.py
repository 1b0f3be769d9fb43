"""Packed captures take the room that they say."""

from __future__ import annotations

import tracemalloc

from llamaswap.telemetry.captures import Capture, Captures, Packer


def test_what_is_kept_has_no_more_memory_than_its_bytes() -> None:
    packer, captures = Packer(), Captures(5 * 1024 * 1024)
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        for number in range(50):
            capture = Capture("/v1/chat/completions", [], b"x" * 100_000, [], b"y" * 100_000)
            for block in packer.pack([(number, capture)]):
                captures.put(block)
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert captures.held_bytes < 50 * 1000
    assert after - before < captures.held_bytes + 1_000_000
    found = captures.find(7)
    assert found is not None
    assert found.unpack(7).body == b"x" * 100_000
