from __future__ import annotations

from collections.abc import Callable
from typing import Literal
from unittest import mock

import pytest
from twisted.internet.task import Clock
from twisted.logger import LogLevel

from llamaswap.config.schema import Config
from llamaswap.core.values import ModelId
from llamaswap.telemetry.logs import LogMonitor, Logs
from tests.conftest import LoggedFailures

A, B = ModelId("a"), ModelId("org/b")


class Reader:
    """Keeps what it gets."""

    def __init__(self) -> None:
        self.pieces: list[bytes] = []
        self.ended = 0

    @property
    def text(self) -> bytes:
        return b"".join(self.pieces)

    def write(self, data: bytes) -> None:
        self.pieces.append(data)

    def end(self) -> None:
        self.ended += 1


class BrokenReader(Reader):
    def write(self, data: bytes) -> None:
        raise ValueError(data)

    def end(self) -> None:
        raise ValueError("end")


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def monitor(clock: Clock) -> LogMonitor:
    return LogMonitor(clock, 1024)


def make_logs(
    clock: Clock, to_stdout: Literal["proxy", "upstream", "both", "none"] = "proxy"
) -> tuple[Logs, list[bytes]]:
    stdout: list[bytes] = []
    config = Config(log_to_stdout=to_stdout)
    return Logs(config, clock, clock_call(clock), stdout.append), stdout


def clock_call(clock: Clock) -> Callable[..., object]:
    return lambda function, *args: clock.callLater(0, function, *args)


def test_a_late_reader_gets_history_then_live_without_gap_or_repeat(clock: Clock, monitor: LogMonitor) -> None:
    early, late = Reader(), Reader()
    monitor.add_reader(early, with_history=True)
    monitor.write(b"one\n")
    monitor.add_reader(late, with_history=True)
    monitor.write(b"two\n")
    clock.advance(1)
    monitor.write(b"three\n")
    clock.advance(1)
    assert early.text == late.text == b"one\ntwo\nthree\n"


def test_a_reader_without_history_gets_only_what_comes(clock: Clock, monitor: LogMonitor) -> None:
    reader = Reader()
    monitor.add_reader(Reader(), with_history=False)
    monitor.write(b"old\n")
    monitor.add_reader(reader, with_history=False)
    monitor.write(b"new\n")
    clock.advance(1)
    assert reader.text == b"new\n"


def test_an_empty_history_is_not_written(monitor: LogMonitor) -> None:
    reader = Reader()
    monitor.add_reader(reader, with_history=True)
    assert reader.pieces == []


def test_lines_of_a_moment_reach_every_reader_as_one_shared_piece(clock: Clock, monitor: LogMonitor) -> None:
    readers = [Reader() for _ in range(20)]
    for reader in readers:
        monitor.add_reader(reader, with_history=False)
    for number in range(100):
        monitor.write(b"%d\n" % number)
    clock.advance(1)
    pieces = {id(piece) for reader in readers for piece in reader.pieces}
    assert len(pieces) == 1
    assert readers[0].text == b"".join(b"%d\n" % number for number in range(100))


def test_much_at_once_is_handed_out_without_waiting(monitor: LogMonitor) -> None:
    reader = Reader()
    monitor.add_reader(reader, with_history=False)
    for _ in range(65):
        monitor.write(b"x" * 1024)
    assert len(reader.text) == 64 * 1024
    monitor.end_readers()
    assert len(reader.text) == 65 * 1024


def test_nothing_is_gathered_without_readers(clock: Clock, monitor: LogMonitor) -> None:
    monitor.write(b"a\n")
    monitor.write(b"")
    assert clock.getDelayedCalls() == []
    assert monitor.history() == b"a\n"


def test_a_reader_that_left_gets_nothing_more(clock: Clock, monitor: LogMonitor) -> None:
    reader = Reader()
    monitor.add_reader(reader, with_history=False)
    monitor.write(b"a\n")
    monitor.remove_reader(reader)
    monitor.remove_reader(reader)
    clock.advance(1)
    assert reader.pieces == []


def test_a_failing_reader_is_reported_dropped_and_harms_nobody(
    clock: Clock, monitor: LogMonitor, logged_failures: LoggedFailures
) -> None:
    reader = Reader()
    monitor.add_reader(BrokenReader(), with_history=False)
    monitor.add_reader(reader, with_history=False)
    for _ in range(2):
        monitor.write(b"a\n")
        clock.advance(1)
    assert reader.text == b"a\na\n"
    assert len(logged_failures.flush(ValueError)) == 1


def test_a_failing_end_keeps_nobody_from_theirs(monitor: LogMonitor, logged_failures: LoggedFailures) -> None:
    reader = Reader()
    monitor.add_reader(BrokenReader(), with_history=False)
    monitor.add_reader(reader, with_history=False)
    monitor.end_readers()
    assert reader.ended == 1
    assert len(logged_failures.flush(ValueError)) == 1


def test_the_end_brings_the_last_lines_first_and_comes_once(clock: Clock, monitor: LogMonitor) -> None:
    reader = Reader()
    monitor.add_reader(reader, with_history=False)
    monitor.write(b"last\n")
    monitor.end_readers()
    assert (reader.text, reader.ended) == (b"last\n", 1)
    monitor.write(b"later\n")
    monitor.end_readers()
    clock.advance(1)
    assert (reader.text, reader.ended) == (b"last\n", 1)


def test_a_reader_that_comes_after_the_end_gets_history_and_end(monitor: LogMonitor) -> None:
    reader = Reader()
    monitor.write(b"a\n")
    monitor.end_readers()
    monitor.add_reader(reader, with_history=True)
    assert (reader.text, reader.ended) == (b"a\n", 1)


@pytest.mark.parametrize(
    ("to_stdout", "expected"),
    [
        ("proxy", b"[INFO] own\n"),
        ("upstream", b"model\n"),
        ("both", b"[INFO] own\nmodel\n"),
        ("none", b""),
    ],
)
def test_log_to_stdout_decides_what_reaches_stdout_and_the_combined_log(
    clock: Clock, to_stdout: Literal["proxy", "upstream", "both", "none"], expected: bytes
) -> None:
    logs, stdout = make_logs(clock, to_stdout)
    logs.line(LogLevel.info, "own")
    logs.model(A).write(b"model\n")
    assert b"".join(stdout) == expected
    assert logs.combined.history() == expected
    assert logs.proxy.history() == b"[INFO] own\n"
    assert logs.upstream.history() == logs.model(A).history() == b"model\n"


def test_h92_every_model_has_its_own_log(clock: Clock) -> None:
    logs, _ = make_logs(clock)
    logs.model(A).write(b"from a\n")
    logs.model(B).write(b"from b\n")
    assert logs.model(A).history() == b"from a\n"
    assert logs.model(B).history() == b"from b\n"
    assert logs.upstream.history() == b"from a\nfrom b\n"


def test_new_settings_change_the_way_but_keep_history_and_readers(clock: Clock) -> None:
    logs, stdout = make_logs(clock, "none")
    reader = Reader()
    logs.combined.add_reader(reader, with_history=True)
    logs.line(LogLevel.info, "before")
    logs.apply(Config(log_to_stdout="proxy", log_level="warn"))
    logs.line(LogLevel.info, "too low")
    logs.line(LogLevel.warn, "after")
    clock.advance(1)
    assert reader.text == b"".join(stdout) == b"[WARN] after\n"
    assert logs.proxy.history() == b"[INFO] before\n[WARN] after\n"


def test_the_history_has_the_configured_size(clock: Clock) -> None:
    logs = Logs(Config(log_buffer_kib=2), clock, clock_call(clock), lambda _: None)
    for number in range(1000):
        logs.proxy.write(b"line %d\n" % number)
    assert 2000 < len(logs.proxy.history()) <= 2048


def test_h82_every_reader_of_every_log_ends_at_shutdown_and_the_logs_go_on(clock: Clock) -> None:
    logs, stdout = make_logs(clock)
    readers = [Reader() for _ in range(5)]
    sources = (logs.proxy, logs.upstream, logs.combined, logs.model(A))
    for reader, source in zip(readers, sources, strict=False):
        source.add_reader(reader, with_history=True)
    logs.end_readers()
    logs.model(B).add_reader(readers[4], with_history=True)
    assert [reader.ended for reader in readers] == [1] * 5
    logs.line(LogLevel.info, "shutdown complete")
    assert stdout == [b"[INFO] shutdown complete\n"]
    assert clock.getDelayedCalls() == []


def test_the_log_of_a_model_that_is_gone_ends_and_a_later_one_begins_empty() -> None:
    logs = Logs(Config(), Clock(), lambda *_: None, lambda _: None)
    model = ModelId("a")
    reader = mock.Mock()
    logs.model(model).write(b"old\n")
    logs.model(model).add_reader(reader, with_history=False)
    logs.forget(model)
    logs.forget(model)
    reader.end.assert_called_once_with()
    assert logs.model(model).history() == b""
