"""Frames of websockets are followed however they are cut."""

from __future__ import annotations

import pytest
from twisted.internet.interfaces import IPushProducer
from zope.interface.verify import verifyObject

from llamaswap.proxy.tunnel import Frames, Tunnel
from llamaswap.web.bodies import TunnelBody

LAST = b"LAST"


def frame(size: int, *, is_masked: bool = False) -> bytes:
    """Make a frame with so much in it."""
    mark = 0x80 if is_masked else 0
    if size < 126:
        head = bytes([0x82, mark | size])
    elif size < 1 << 16:
        head = bytes([0x82, mark | 126]) + size.to_bytes(2)
    else:
        head = bytes([0x82, mark | 127]) + size.to_bytes(8)
    return head + (b"mask" if is_masked else b"") + b"\x88" * size


FRAMES = [frame(n, is_masked=m) for n in (0, 1, 125, 126, 200, 65536) for m in (False, True)]
SMALL = FRAMES[:-2]


@pytest.mark.parametrize(
    ("sent_frames", "step"),
    [(SMALL, 1), (SMALL, 2), (SMALL, 3), (SMALL, 7), (FRAMES, 130), (FRAMES, 4096), (FRAMES, 1 << 20)],
    ids=lambda value: str(value) if isinstance(value, int) else "",
)
def test_frames_pass_unchanged_and_end_behind_one(sent_frames: list[bytes], step: int) -> None:
    whole = b"".join(sent_frames)
    ends = {sum(map(len, sent_frames[:n])) for n in range(len(sent_frames) + 1)}
    pieces = [whole[at : at + step] for at in range(0, len(whole), step)]
    for ended_before in range(0, len(pieces) + 1, max(1, len(pieces) // 50)):
        frames = Frames(LAST)
        passed = b"".join(frames.pass_on(piece) for piece in pieces[:ended_before])
        sent = ended_before * step
        expected = min((end for end in ends if end >= min(sent, len(whole))), default=None)
        passed += frames.end()
        assert frames.is_over is (min(sent, len(whole)) in ends)
        passed += b"".join(frames.pass_on(piece) for piece in pieces[ended_before:])
        assert frames.is_over
        assert passed == whole[:expected] + LAST


@pytest.mark.parametrize("long", FRAMES[-2:], ids=["plain", "masked"])
def test_the_head_of_a_long_frame_may_be_cut_anywhere(long: bytes) -> None:
    for cut in range(1, 20):
        frames = Frames(LAST)
        assert frames.pass_on(long[:cut]) == long[:cut]
        assert frames.end() == b""
        assert frames.pass_on(long[cut:] + FRAMES[1]) == long[cut:] + LAST


def test_ending_twice_says_it_once() -> None:
    frames = Frames(LAST)
    assert frames.end() == LAST
    assert frames.end() == b""
    assert frames.pass_on(b"more") == b""


class Source:
    """Where a body comes from."""

    def hold_up(self) -> None:
        """Make it wait."""

    def read_on(self) -> None:
        """Let it go on."""


def test_it_is_a_producer() -> None:
    assert verifyObject(IPushProducer, Tunnel(TunnelBody(Source()), lambda: None))
