import re

from hypothesis import given
from hypothesis import strategies as st

from llamaswap.core.backlog import Backlog
from tests.unit.marks import assert_accounts_for, dropped_bytes


def test_a_backlog_within_its_limit_gives_everything() -> None:
    backlog = Backlog(10)
    assert not backlog
    backlog.put(b"abc\n")
    backlog.put(b"defghi")
    assert backlog
    assert backlog.take() == b"abc\ndefghi"
    assert not backlog
    assert backlog.take() == b""


def test_beyond_the_limit_the_oldest_whole_lines_go() -> None:
    backlog = Backlog(10)
    backlog.put(b"one\ntwo\n")
    backlog.put(b"three\n")
    assert backlog.take() == "\n— 4 bytes dropped —\n".encode() + b"two\nthree\n"


def test_a_line_in_several_pieces_goes_as_a_whole() -> None:
    backlog = Backlog(6)
    backlog.put(b"lon")
    backlog.put(b"g\nab")
    backlog.put(b"c\n")
    assert backlog.take() == "\n— 5 bytes dropped —\n".encode() + b"abc\n"


def test_a_line_longer_than_the_limit_goes_as_a_whole() -> None:
    backlog = Backlog(4)
    backlog.put(b"abcdefgh")
    assert backlog
    assert backlog.take() == "\n— 8 bytes dropped —\n".encode()


def test_a_second_drop_adds_to_the_first() -> None:
    backlog = Backlog(4)
    for line in (b"ab\n", b"cd\n", b"ef\n"):
        backlog.put(line)
    assert backlog.take() == "\n— 6 bytes dropped —\n".encode() + b"ef\n"


@given(
    actions=st.lists(st.one_of(st.none(), st.text("ab\n", min_size=1, max_size=30).map(str.encode))),
    limit=st.integers(1, 40),
)
def test_delivered_and_announced_bytes_are_the_written_ones(actions: list[bytes | None], limit: int) -> None:
    backlog = Backlog(limit)
    written, got, held = b"", b"", 0
    for action in [*actions, None]:
        if action is not None:
            backlog.put(action)
            written += action
            held += len(action)
            continue
        piece = backlog.take()
        if held <= limit:
            assert dropped_bytes(piece) == 0
        held = 0
        got += piece
    assert_accounts_for(got, written)


def test_the_rest_after_a_drop_begins_a_line() -> None:
    backlog = Backlog(20)
    for number in range(50):
        backlog.put(b"line %d\nline " % number)
        backlog.put(b"%d b\n" % number)
    got = backlog.take()
    assert re.fullmatch("\n— [0-9]+ bytes dropped —\nline 49\nline 49 b\n".encode(), got)
