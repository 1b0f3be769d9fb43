from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock

from llamaswap.core.news import RowAdded
from llamaswap.telemetry.activity import Activity
from llamaswap.telemetry.captures import Block, Capture, Captures, Packer
from llamaswap.telemetry.rows import Row, RowFilter, StoredRow, find_rows, insert_rows, newest_rows, rows_after
from llamaswap.telemetry.schema import IN_MEMORY, VERSION, StoreError, open_store
from llamaswap.telemetry.stats import find_stats
from llamaswap.telemetry.store import Store
from llamaswap.telemetry.swap_store import find_swaps, insert_swap, last_swap_id
from llamaswap.telemetry.worker import ThreadWorker
from tests.conftest import LoggedFailures
from tests.deferreds import failure_of, no_result, success_of
from tests.fakes import InlineWorker

ROW = Row(
    ts_created=1_700_000_000,
    model_id="a",
    req_path="/v1/chat/completions",
    resp_content_type="application/json",
    resp_status_code=200,
    cache_tokens=-1,
    draft_tokens=-1,
    draft_acc_tokens=-1,
    input_tokens=10,
    output_tokens=5,
    prompt_per_second=-1.0,
    tokens_per_second=-1.0,
    duration_ms=302,
    error_msg="",
    metadata_json="{}",
    arrived_ms=1_699_999_999_698,
    receive_ms=1,
    queue_ms=2,
    load_ms=100,
    ttfb_ms=150,
    stream_ms=50,
    outcome="served",
    priority=0,
    request_id="r-1",
    session_id=None,
    swap_id=None,
)

ALL = RowFilter()

REFERENCE_TABLE = """CREATE TABLE activity (
    id INTEGER PRIMARY KEY AUTOINCREMENT, ts_created INTEGER NOT NULL, model_id TEXT NOT NULL, req_path TEXT NOT NULL,
    resp_content_type TEXT NOT NULL, resp_status_code INTEGER NOT NULL, cache_tokens INTEGER NOT NULL,
    draft_tokens INTEGER NOT NULL, draft_acc_tokens INTEGER NOT NULL, input_tokens INTEGER NOT NULL,
    output_tokens INTEGER NOT NULL, prompt_per_second REAL NOT NULL, tokens_per_second REAL NOT NULL,
    duration_ms INTEGER NOT NULL, error_msg TEXT, metadata_json TEXT)"""


def memory() -> sqlite3.Connection:
    return open_store(IN_MEMORY)


def page(connection: sqlite3.Connection, wanted: RowFilter = ALL, **more: Any) -> list[int]:
    options = {"sort": "id", "is_ascending": False, "limit": 25, "offset": 0, **more}
    return [row.id for row in find_rows(connection, wanted, **options)[0]]


# --------------------------------------------------------------------------- rows


def test_a_row_comes_back_as_it_was_written() -> None:
    connection = memory()
    row = ROW._replace(error_msg='say "ä"\n\\', metadata_json='{"a":"b"}', session_id="s", swap_id=4, cache_tokens=3)
    assert list(insert_rows(connection, [row], None)) == [1]
    assert newest_rows(connection, 5) == [StoredRow(1, *row)]


def test_ids_grow_by_one_and_are_not_used_again() -> None:
    connection = memory()
    assert list(insert_rows(connection, [ROW] * 3, 2)) == [1, 2, 3]
    assert page(connection) == [3, 2]
    connection.execute("DELETE FROM activity")
    assert list(insert_rows(connection, [ROW], 2)) == [4]


def test_rows_are_written_in_order() -> None:
    connection = memory()
    insert_rows(connection, [ROW._replace(model_id=str(n)) for n in range(300)], None)
    assert [row.model_id for row in newest_rows(connection, 300)] == [str(n) for n in range(300)]


@pytest.fixture(scope="module")
def filled() -> sqlite3.Connection:
    connection = memory()
    rows = [
        ROW._replace(model_id="a", ts_created=100, resp_status_code=200, duration_ms=5, input_tokens=7),
        ROW._replace(model_id="b", ts_created=200, resp_status_code=502, error_msg="502 Bad Gateway", session_id="s"),
        ROW._replace(model_id="a", ts_created=300, resp_status_code=404, req_path="/infill", input_tokens=9),
        ROW._replace(model_id="c", ts_created=400, resp_status_code=503, duration_ms=9000, input_tokens=9),
    ]
    insert_rows(connection, rows, None)
    return connection


@pytest.mark.parametrize(
    ("wanted", "ids"),
    [
        (RowFilter(), [4, 3, 2, 1]),
        (RowFilter(models=("a", "c")), [4, 3, 1]),
        (RowFilter(start=200, end=300), [3, 2]),
        (RowFilter(min_id=2, max_id=3), [3, 2]),
        (RowFilter(statuses=((502, 502), (400, 499))), [3, 2]),
        (RowFilter(statuses=((500, 599),)), [4, 2]),
        (RowFilter(path="/infill"), [3]),
        (RowFilter(session="s"), [2]),
        (RowFilter(min_duration_ms=303), [4]),
        (RowFilter(error="bad gate"), [2]),
        (RowFilter(models=("none",)), []),
    ],
)
def test_filters(filled: sqlite3.Connection, wanted: RowFilter, ids: list[int]) -> None:
    assert page(filled, wanted) == ids
    assert [row.id for row in rows_after(filled, wanted, 0, 10)] == ids[::-1]


def test_order_and_pages(filled: sqlite3.Connection) -> None:
    assert page(filled, sort="prompt") == [2, 4, 3, 1]
    assert page(filled, sort="prompt", is_ascending=True) == [1, 3, 4, 2]
    assert page(filled, limit=3, offset=3) == [1]
    assert find_rows(filled, RowFilter(), sort="id", is_ascending=True, limit=1, offset=9) == ([], 4)
    assert [row.id for row in rows_after(filled, RowFilter(), 2, 1)] == [3]


# --------------------------------------------------------------------------- figures


def stats_of(*speeds: float) -> dict[str, Any]:
    connection = memory()
    rows = [ROW._replace(tokens_per_second=v, cache_tokens=4 if v > 0 else -1) for v in speeds]
    insert_rows(connection, rows, None)
    return find_stats(connection, RowFilter())


def test_sums() -> None:
    found = stats_of(1.0, -1.0)
    assert (found["total_requests"], found["total_input_tokens"], found["total_output_tokens"]) == (2, 20, 10)
    assert found["total_cache_tokens"] == 4
    assert found["prompt_histogram"] is None


def test_sums_of_nothing() -> None:
    found = find_stats(memory(), RowFilter())
    assert list(found.values()) == [0, 0, 0, 0, None, None]


def test_a_histogram() -> None:
    found = stats_of(50, 60, 100)["gen_histogram"]
    assert found["bins"] == [1, 1, 0, 0, 1]
    assert (found["min"], found["max"], found["binSize"]) == (50, 100, 10)
    assert (found["p50"], found["p95"], found["p99"]) == pytest.approx((60, 96, 99.2))


def test_a_histogram_of_equal_values_has_one_bin() -> None:
    found = stats_of(5, 5, 0)["gen_histogram"]
    assert found == {"bins": [2], "min": 5, "max": 5, "binSize": 0, "p50": 5, "p95": 5, "p99": 5}


# --------------------------------------------------------------------------- the file


def test_a_file_keeps_rows_and_numbers(tmp_path: Path) -> None:
    path = str(tmp_path / "s.db")
    first = open_store(path)
    insert_rows(first, [ROW] * 2, None)
    first.close()
    again = open_store(path)
    assert page(again) == [2, 1]
    assert list(insert_rows(again, [ROW], None)) == [3]
    assert again.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert again.execute("PRAGMA user_version").fetchone() == (VERSION,)
    again.close()


def test_a_file_of_the_reference_is_taken_over(tmp_path: Path) -> None:
    path = str(tmp_path / "s.db")
    theirs = sqlite3.connect(path)
    theirs.execute(REFERENCE_TABLE)
    insert = "INSERT INTO activity VALUES (NULL, 5, 'm', '/p', 'c', 200, 0, 0, 0, 1, 2, 3.0, 4.0, 9, NULL, NULL)"
    theirs.execute(insert)
    theirs.commit()
    theirs.close()
    ours = open_store(path)
    insert_rows(ours, [ROW], None)
    old, new = newest_rows(ours, 9)
    assert (old.model_id, old.duration_ms, old.arrived_ms, old.outcome, old.error_msg) == ("m", 9, None, "", None)
    assert new == StoredRow(2, *ROW)
    # They name their columns, and so can go on with it.
    ours.execute(
        insert.replace(
            "activity VALUES",
            "activity (id, ts_created, model_id, req_path, resp_content_type,"
            " resp_status_code, cache_tokens, draft_tokens, draft_acc_tokens, input_tokens, output_tokens,"
            " prompt_per_second, tokens_per_second, duration_ms, error_msg, metadata_json) VALUES",
        )
    )
    assert page(ours) == [3, 2, 1]
    ours.close()


def spoilt(path: Path) -> None:
    path.write_bytes(b"SQLite format 3\0" + b"\xee" * 4096)


def text(path: Path) -> None:
    path.write_text("no database, but rather a long text" * 200)


def newer(path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version=99")
    connection.close()


def foreign(path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE activity (name TEXT)")
    connection.close()


@pytest.mark.parametrize("make", [spoilt, text, newer, foreign, Path.mkdir])
def test_a_file_that_cannot_be_used_is_refused(tmp_path: Path, make: Callable[[Path], object]) -> None:
    path = tmp_path / "s.db"
    make(path)
    with pytest.raises(StoreError, match=r"store\.path: .*s\.db cannot be used: "):
        open_store(str(path))


def test_a_file_that_cannot_be_used_stays_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "s.db"
    foreign(path)
    with pytest.raises(StoreError):
        open_store(str(path))
    connection = sqlite3.connect(path)
    assert connection.execute("PRAGMA table_info(activity)").fetchall() == [(0, "name", "TEXT", 0, None, 0)]
    connection.close()


def test_a_locked_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llamaswap.telemetry.schema._BUSY_SECONDS", 0.01)
    path = str(tmp_path / "s.db")
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    with pytest.raises(StoreError, match="locked"):
        open_store(path)
    other.close()


# --------------------------------------------------------------------------- swaps

SWAP = {
    "swap_id": 17,
    "at": "2026-11-20T09:15:03.300Z",
    "model": "b",
    "planner": "group",
    "reason": "request",
    "explanation": "a must go",
    "request_id": "r-31",
    "waiters": [{"request_id": "r-31", "waited_ms": 2240}],
    "evicted": [{"model": "a", "cost": 1}],
    "candidates": [],
    "decision_ms": 0.1,
    "stop_ms": 140,
    "load_ms": None,
    "outcome": None,
    "error": None,
}


def test_swaps_are_kept() -> None:
    connection = memory()
    assert last_swap_id(connection) == 0
    insert_swap(connection, {**SWAP, "load_ms": 2100, "outcome": "ready"})
    insert_swap(connection, {**SWAP, "swap_id": 18, "model": "a", "at": "2026-11-20T09:16:03.300Z"})
    insert_swap(connection, {**SWAP, "model": "another with its number"})
    assert last_swap_id(connection) == 18
    assert [swap["swap_id"] for swap in find_swaps(connection)] == [18, 17]
    assert find_swaps(connection, model="b") == [{**SWAP, "load_ms": 2100, "outcome": "ready"}]
    at_ms = 1_795_166_103_300
    assert [s["swap_id"] for s in find_swaps(connection, after_ms=at_ms)] == [18]
    assert [s["swap_id"] for s in find_swaps(connection, before_ms=at_ms, limit=1)] == []
    assert [s["swap_id"] for s in find_swaps(connection, before_id=18)] == [17]
    insert_swap(connection, {**SWAP, "swap_id": 19}, keep=2)
    assert [s["swap_id"] for s in find_swaps(connection)] == [19, 18]


# --------------------------------------------------------------------------- the store and its thread


def test_what_the_database_refuses_is_told_and_rolled_back() -> None:
    store = Store("", InlineWorker())

    def fail(connection: sqlite3.Connection) -> None:
        connection.execute("BEGIN")
        connection.execute("INSERT INTO activity (model_id) VALUES ('x')")
        connection.execute("nonsense")

    assert "syntax error" in failure_of(store.do(fail), StoreError).getErrorMessage()
    assert success_of(store.do(page)) == []


def test_nothing_is_done_in_a_closed_store() -> None:
    worker = InlineWorker()
    store = Store("", worker)
    success_of(store.do(lambda _: None))
    success_of(store.close())
    assert worker.has_ended


class Collector:
    """Gets what threads call on the reactor."""

    def __init__(self) -> None:
        self.calls: list[Callable[[], object]] = []
        self.has_call = threading.Event()

    def callFromThread(self, function: Callable[..., object], *args: object) -> None:
        self.calls.append(partial(function, *args))
        self.has_call.set()

    def run(self, count: int) -> None:
        """Wait for so many calls, and make them."""
        while count:
            assert self.has_call.wait(10)
            self.has_call.clear()
            while self.calls:
                self.calls.pop(0)()
                count -= 1


def test_a_thread_that_ends_takes_nothing_more_and_nobody_waits_for_ever() -> None:
    worker = ThreadWorker(Collector(), "test")
    worker.end()
    failure_of(worker.do(lambda: 1), RuntimeError)


def test_a_thread_does_not_do_what_nobody_waits_for() -> None:
    reactor = Collector()
    worker = ThreadWorker(reactor, "test")
    may_go_on = threading.Event()
    done: list[str] = []
    first = worker.do(lambda: may_go_on.wait(10))
    given_up = worker.do(lambda: done.append("given up"))
    last = worker.do(lambda: done.append("last"))
    given_up.cancel()
    failure_of(given_up, CancelledError)
    may_go_on.set()
    worker.end()
    reactor.run(2)
    assert success_of(first)
    success_of(last)
    assert done == ["last"]


def test_a_thread_does_what_it_is_given_in_order_and_ends() -> None:
    reactor = Collector()
    worker = ThreadWorker(reactor, "test")
    threads: list[threading.Thread] = []
    done: list[Deferred[Any]] = [
        worker.do(lambda: threads.append(threading.current_thread())),
        worker.do(lambda: 1 / 0),
        worker.do(lambda: "last"),
    ]
    worker.end()
    reactor.run(3)
    no_error, broken, last = done
    success_of(no_error)
    failure_of(broken, ZeroDivisionError)
    assert success_of(last) == "last"
    threads[0].join(10)
    assert not threads[0].is_alive()
    assert threads[0] is not threading.current_thread()
    assert threads[0].daemon, "H97: a thread that hangs does not hold the end"


# --------------------------------------------------------------------------- activity


class Office:
    """An activity with all that is around it."""

    def __init__(self, path: str = "", keep: int = 1000, capture_bytes: int = 1000) -> None:
        self.clock = Clock()
        self.worker = InlineWorker()
        self.news: list[object] = []
        store = Store(path, self.worker)
        self.activity = Activity(self.clock, store, self.news.append, keep, capture_bytes)

    def ids(self) -> list[int]:
        return success_of(self.activity.read(page))


def capture(body: bytes = b"question") -> Capture:
    return Capture("/p", [(b"A", b"b")], body, [], None)


def test_rows_are_written_together_after_a_moment() -> None:
    office = Office()
    office.activity.add(ROW)
    office.activity.add(ROW)
    assert office.news == []
    [timer] = office.clock.getDelayedCalls()
    office.clock.advance(0.1)
    assert office.news == [RowAdded(2)]
    assert not timer.active()
    assert not office.clock.getDelayedCalls()


def test_who_reads_finds_every_row(tmp_path: Path) -> None:
    for path in ("", str(tmp_path / "s.db")):
        office = Office(path)
        office.activity.add(ROW)
        assert office.ids() == [1]
        success_of(office.activity.close())
        assert not office.clock.getDelayedCalls()


def test_rows_in_memory_that_nobody_reads_make_room_without_being_written() -> None:
    office = Office(keep=2)
    office.worker.is_held = True
    for _ in range(10_005):
        office.activity.add(ROW, capture, 8)
        office.clock.advance(0.1)
    assert office.worker.has_nothing_to_do
    assert office.news[-1] == RowAdded(10_005)
    office.worker.is_held = False
    assert office.ids() == [10_005, 10_004]
    assert [n in office.activity.captures for n in (10_003, 10_004, 10_005)] == [False, True, True]
    office.activity.add(ROW)
    assert office.ids() == [10_006, 10_005]
    assert office.activity.lost == 0


def test_rows_in_memory_that_nobody_reads_are_all_kept_where_more_are_wanted() -> None:
    office = Office(keep=30_000, capture_bytes=0)
    for _ in range(25_000):
        office.activity.add(ROW)
    assert office.activity.lost == 0
    newest = success_of(office.activity.read(lambda connection: [row.id for row in newest_rows(connection, 30_000)]))
    assert newest == list(range(1, 25_001))


def test_captures_that_are_being_packed_do_not_have_each_row_written_by_itself() -> None:
    office = Office(capture_bytes=100)
    office.worker.is_held = True
    for _ in range(2):
        office.activity.add(ROW, capture, 60)
    for _ in range(10):
        office.activity.add(ROW)
    assert len(office.worker._held) == 1


def test_who_reads_does_not_wait_until_a_large_buffer_is_packed() -> None:
    office = Office(capture_bytes=1 << 30)
    for _ in range(10):
        office.activity.add(ROW, capture, 1 << 20)
    assert [n in office.activity.captures for n in (8, 9, 10)] == [True, True, False]


class LateWorker(InlineWorker):
    """Works at once, and delivers results in order when it is told to: as a thread that is ahead of the reactor."""

    def __init__(self) -> None:
        super().__init__()
        self.results: list[tuple[Deferred[Any], Any]] = []

    def do(self, work: Callable[[], Any]) -> Deferred[Any]:
        done: Deferred[Any] = Deferred()
        self.results.append((done, work()))
        return done

    def deliver(self) -> None:
        while self.results:
            done, result = self.results.pop(0)
            done.callback(result)


def test_who_reads_a_row_knows_of_its_capture() -> None:
    office = Office()
    worker = LateWorker()
    office.activity.move(Store("", worker))
    office.activity.add(ROW, capture, 8)
    found = office.activity.read(lambda connection: [i in office.activity.captures for i in page(connection)])
    worker.deliver()
    assert success_of(found) == [True]


def test_who_reads_while_the_store_is_closed_is_told() -> None:
    office = Office()
    worker = LateWorker()
    office.activity.move(Store("", worker))
    office.activity.add(ROW)
    found = office.activity.read(page)
    closed = office.activity.close()
    worker.deliver()
    failure_of(found, StoreError)
    success_of(closed)


def test_memory_keeps_the_newest_and_a_file_keeps_all(tmp_path: Path) -> None:
    for path, ids in (("", [3, 2]), (str(tmp_path / "s.db"), [3, 2, 1])):
        office = Office(path, keep=2)
        for _ in range(3):
            office.activity.add(ROW)
        assert office.ids() == ids
        success_of(office.activity.close())


def test_the_end_writes_what_waits(tmp_path: Path) -> None:
    path = str(tmp_path / "s.db")
    office = Office(path)
    office.activity.add(ROW)
    success_of(office.activity.close())
    assert page(open_store(path)) == [1]


def test_another_store_gets_what_comes_then(tmp_path: Path) -> None:
    office = Office(str(tmp_path / "old.db"))
    office.activity.add(ROW)
    office.activity.move(Store(str(tmp_path / "new.db"), InlineWorker()))
    assert office.worker.has_ended
    office.activity.add(ROW._replace(model_id="b"))
    assert office.ids() == [1]
    success_of(office.activity.close())
    assert newest_rows(open_store(str(tmp_path / "old.db")), 9)[0].model_id == "a"
    assert newest_rows(open_store(str(tmp_path / "new.db")), 9)[0].model_id == "b"


def test_a_disk_that_refuses_costs_rows_and_nothing_else(tmp_path: Path, logged_failures: LoggedFailures) -> None:
    office = Office(str(tmp_path / "s.db"))
    office.worker.error = StoreError("disk is full")
    for _ in range(3):
        office.activity.add(ROW, capture, 8)
        office.clock.advance(0.1)
    assert (office.activity.errors, office.activity.lost) == (3, 3)
    office.worker.error = None
    office.activity.add(ROW)
    assert office.ids() == [1]
    success_of(office.activity.close())
    assert not logged_failures.flush()


def test_a_full_disk_is_a_store_error(tmp_path: Path) -> None:
    office = Office(str(tmp_path / "s.db"))
    success_of(office.activity.read(lambda connection: connection.execute("PRAGMA max_page_count=1")))
    office.activity.add(ROW._replace(req_path="x" * 100_000))
    assert office.ids() == []
    assert office.activity.lost == 1
    success_of(office.activity.close())


def test_a_row_that_cannot_be_written_is_no_part_of_what_follows() -> None:
    office = Office()
    broken = office.activity.read(lambda connection: insert_rows(connection, [ROW, ROW._replace(model_id="\ud800")], 9))
    failure_of(broken, UnicodeEncodeError)
    office.activity.add(ROW)
    assert office.ids() == [1]


def test_what_is_asked_of_a_closed_store_fails() -> None:
    office = Office()
    success_of(office.activity.close())
    failure_of(office.activity.read(page), StoreError)
    success_of(office.activity.close())


def test_swaps_that_wait_for_a_slow_disk_are_bounded() -> None:
    office = Office()
    office.worker.is_held = True
    for number in range(10_005):
        office.activity.add_swap({**SWAP, "swap_id": number + 1})
    assert office.activity.lost == 5
    office.worker.let_go()
    office.activity.add_swap({**SWAP, "swap_id": 20_000})
    assert success_of(office.activity.read(last_swap_id)) == 20_000


def test_a_slow_disk_costs_rows_and_no_memory(tmp_path: Path) -> None:
    office = Office(str(tmp_path / "s.db"))
    office.worker.is_held = True
    for _ in range(10_005):
        office.activity.add(ROW)
    assert office.activity.lost == 5
    waiting = office.activity.read(page)
    no_result(waiting)
    office.worker.let_go()
    assert len(success_of(waiting)) == 25
    office.activity.add(ROW)
    assert office.ids()[0] == 10_001
    success_of(office.activity.close())


def test_captures_are_packed_and_kept_by_row() -> None:
    office = Office()
    office.activity.add(ROW)
    office.activity.add(ROW, capture, 8)
    assert office.ids() == [2, 1]
    assert 1 not in office.activity.captures
    assert 2 in office.activity.captures


def test_small_captures_are_packed_together() -> None:
    given = [(n, capture(bytes(30_000) if n > 2 else b"%d" % n)) for n in range(1, 7)]
    blocks = list(Packer().pack(given))
    assert [block.ids for block in blocks] == [(1, 2, 3, 4, 5), (6,)]
    assert [block.unpack(n) for block in blocks for n in block.ids] == [made for _, made in given]


def test_captures_with_long_headers_are_packed_apart() -> None:
    fields = [(b"X-Long", bytes(30_000))]
    given = [(n, Capture("/p", fields, b"", fields, None)) for n in range(1, 5)]
    assert [block.ids for block in Packer().pack(given)] == [(1, 2), (3, 4)]


def test_captures_make_room_for_newer_ones() -> None:
    captures = Captures(100)
    captures.put(Block((1,), b"x" * 60))
    captures.put(Block((2, 3), b"x" * 40))
    captures.put(Block((4,), b"x" * 101))
    assert [n in captures for n in (1, 2, 3, 4)] == [True, True, True, False]
    captures.put(Block((5,), b"x"))
    assert [n in captures for n in (1, 2, 3, 5)] == [False, True, True, True]
    assert captures.held_bytes == 41
    captures.resize(0)
    assert captures.held_bytes == 0
    assert not captures._by_id


def test_captures_that_wait_to_be_packed_are_bounded() -> None:
    office = Office(capture_bytes=100)
    office.worker.is_held = True
    for _ in range(5):
        office.activity.add(ROW, capture, 99)
    office.activity.read(lambda _: None)
    office.worker.let_go()
    assert [n in office.activity.captures for n in (4, 5)] == [True, False]
    office.activity.add(ROW, capture, 99)
    assert office.ids()[0] == 6
    assert 6 in office.activity.captures, "those that were packed hold nothing any more"
