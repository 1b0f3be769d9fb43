from hypothesis import given
from hypothesis import strategies as st

from llamaswap.core.ring import ByteRing

TEXT = st.lists(st.sampled_from([b"\n", b"a", b"bc\n", b"defghij", b"k" * 12, b"lm\nno\n"]))


def test_an_empty_ring_has_no_text() -> None:
    ring = ByteRing(4)
    assert ring.text() == b""
    assert len(ring) == 0


def test_a_ring_gives_back_what_fits() -> None:
    ring = ByteRing(8)
    ring.write(b"ab\n")
    ring.write(b"cd\n")
    assert ring.text() == b"ab\ncd\n"


def test_the_text_begins_with_a_whole_line() -> None:
    ring = ByteRing(8)
    ring.write(b"first\nsecond\nend")
    assert len(ring) == 8
    assert ring.text() == b"end"


def test_a_cut_right_after_a_line_feed_loses_nothing_more() -> None:
    ring = ByteRing(4)
    ring.write(b"zz\nab\n!")
    assert ring.text() == b"ab\n!"


def test_a_line_longer_than_the_ring_is_shown_from_its_middle() -> None:
    ring = ByteRing(4)
    ring.write(b"x" * 10)
    assert ring.text() == b"xxxx"
    ring.write(b"\n")
    assert ring.text() == b"xxx\n"


@given(pieces=TEXT, capacity=st.integers(1, 20))
def test_a_ring_gives_the_end_of_all_that_was_written(pieces: list[bytes], capacity: int) -> None:
    ring = ByteRing(capacity)
    for piece in pieces:
        ring.write(piece)
    written = b"".join(pieces)
    text = ring.text()
    assert len(ring) == min(capacity, len(written))
    assert written.endswith(text)
    kept = written[len(written) - len(ring) :]
    before = written[: len(written) - len(text)]
    assert before == b"" or before.endswith(b"\n") or (text == kept and b"\n" not in kept[:-1])
