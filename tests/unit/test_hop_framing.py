from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llamaswap.errors import FramingError
from llamaswap.proxy.framing import BodyWalker, ChunkedBody, OpenBody, SizedBody, chunk

END = b"0\r\n\r\n"


def feed_all(walker: BodyWalker, pieces: list[bytes]) -> tuple[bytes, bytes]:
    """Give what belongs to the body and what lies behind it."""
    for i, piece in enumerate(pieces):
        end = walker.feed(piece)
        if end >= 0:
            return b"".join(pieces[:i]) + piece[:end], piece[end:] + b"".join(pieces[i + 1 :])
    return b"".join(pieces), b""


def cut(data: bytes, places: list[int]) -> list[bytes]:
    marks = [0, *sorted({p % len(data) for p in places}), len(data)]
    return [data[a:b] for a, b in pairwise(marks) if a < b]


@given(
    st.lists(st.binary(min_size=1, max_size=40), max_size=5),
    st.sampled_from([b"", b";ext=1", b' ; name="value"']),
    st.sampled_from([b"", b"X-Sum: 1\r\nY: \xff\r\n"]),
    st.binary(max_size=10),
    st.lists(st.integers(min_value=0), max_size=8),
)
def test_chunks_end_at_the_same_byte_wherever_the_input_is_cut(
    payload: list[bytes], extension: bytes, trailer: bytes, behind: bytes, places: list[int]
) -> None:
    wire = b"".join(b"%x%b\r\n%b\r\n" % (len(p), extension, p) for p in payload) + b"0" + extension + b"\r\n"
    wire += trailer + b"\r\n"
    pieces: list[bytes] = []
    walker = ChunkedBody(pieces)
    assert feed_all(walker, cut(wire + behind, places)) == (wire, behind)
    assert b"".join(pieces) == b"".join(payload)
    assert walker.payload_bytes == sum(map(len, payload))


def test_chunk_size_line_split_over_reads() -> None:
    walker = ChunkedBody()
    assert [walker.feed(p) for p in (b"1", b"0\r", b"\n" + b"x" * 16, b"\r", b"\n0", b"\r\n\r\nHTTP")] == [-1] * 5 + [4]


def test_upper_case_and_leading_zeros_are_sizes() -> None:
    assert ChunkedBody().feed(b"00A\r\n0123456789\r\n000\r\n\r\n") == 24


def test_start_leaves_out_what_is_before_it() -> None:
    data = b"head" + chunk(b"x") + END
    assert ChunkedBody().feed(data, 4) == len(data)
    assert SizedBody(2).feed(data, 4) == 6


@pytest.mark.parametrize(
    "wire",
    [
        b"\r\n",
        b"x\r\n",
        b"-1\r\n",
        b"+1\r\nx\r\n",
        b"0x1\r\nx\r\n",
        b"1_0\r\n",
        b" 1\r\n",
        b"1\nx\r\n",
        b"1;a\rb\r\nx\r\n",
        b"ffffffffffffffff\r\n",
        b"1\r\nxy\r\n",
        b"1\r\nx\n0\r\n\r\n",
        b"0\r\nno colon\r\n\r\n",
        b"0\r\n: no name\r\n\r\n",
        b"0\r\nbad name: x\r\n\r\n",
    ],
)
def test_what_is_no_chunk_is_refused(wire: bytes) -> None:
    with pytest.raises(FramingError):
        ChunkedBody().feed(wire)
    with pytest.raises(FramingError):
        feed_all(ChunkedBody(), [wire[i : i + 1] for i in range(len(wire))])


def test_an_endless_line_is_refused() -> None:
    with pytest.raises(FramingError):
        feed_all(ChunkedBody(), [b"1" + b";" * 1000] * 100)


@given(st.binary(min_size=1, max_size=50), st.integers(0, 50), st.lists(st.integers(min_value=0), max_size=5))
def test_a_length_ends_at_its_last_byte(data: bytes, length: int, places: list[int]) -> None:
    walker = SizedBody(length)
    inside, _ = feed_all(walker, cut(data, places))
    assert inside == data[:length]
    assert walker.payload_bytes == min(length, len(data))


def test_an_empty_body_ends_before_it_began() -> None:
    assert SizedBody(0).feed(b"") == 0
    assert SizedBody(0).feed(b"next") == 0


def test_an_open_body_counts_and_goes_on() -> None:
    walker = OpenBody()
    assert (walker.feed(b"abc"), walker.feed(b"de")) == (-1, -1)
    assert walker.payload_bytes == 5


@given(st.binary(min_size=1, max_size=30), st.binary(min_size=1, max_size=20), st.integers(min_value=0))
def test_a_broken_off_body_can_be_continued_with_payload_of_our_own(first: bytes, own: bytes, place: int) -> None:
    wire = chunk(first)
    wire = wire[: place % (len(wire) + 1)]
    walker = ChunkedBody()
    walker.feed(wire)
    added = walker.continuation(own)
    pieces: list[bytes] = []
    if not added:
        assert wire
        assert b"\r\n" not in wire, "only within a size line is there no way on"
        return
    ChunkedBody(pieces).feed(wire + added)
    assert b"".join(pieces).endswith(own)
    assert b"".join(pieces)[: -len(own)] == first[: len(b"".join(pieces)) - len(own)]


def test_nothing_can_follow_the_last_chunk() -> None:
    walker = ChunkedBody()
    walker.feed(b"0\r\n")
    assert walker.continuation(b"x") == b""
