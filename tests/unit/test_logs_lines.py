from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from threading import Thread

import pytest
from twisted.logger import ILogObserver, Logger, LogLevel, LogPublisher
from zope.interface.verify import verifyObject

from llamaswap.config.schema import Config
from llamaswap.telemetry.lines import OwnLines
from llamaswap.telemetry.timeformat import find_time_format

# Sat 7 March 2026 09:05:06.123456789 and Wed 4 March 2026 14:06:07.123456789, both UTC.
SATURDAY = 1_772_874_306_123_456_789
WEDNESDAY = 1_772_633_167_123_456_789


@pytest.fixture
def zone(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    def set_zone(name: str) -> None:
        monkeypatch.setenv("TZ", name)
        time.tzset()

    yield set_zone
    monkeypatch.undo()
    time.tzset()


class Written:
    """Own lines, kept, with a clock that stands."""

    def __init__(self, *, config: Config | None = None, now: int = SATURDAY) -> None:
        self.text = b""
        self.passed: list[tuple[object, ...]] = []
        self.lines = OwnLines(config or Config(), self._write, self._pass, lambda: now)
        publisher = LogPublisher(self.lines)
        self.log = Logger(namespace="llamaswap.router", observer=publisher)
        self.foreign_log = Logger(namespace="twisted.web.http", observer=publisher)

    def _write(self, data: bytes) -> None:
        self.text += data

    def _pass(self, *call: object) -> None:
        self.passed.append(call)


def fail(text: str) -> None:
    raise ValueError(text)


def render(name: str, moment: int) -> str:
    time_format = find_time_format(name)
    assert time_format is not None
    return time_format(moment)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("ansic", "Sat Mar  7 09:05:06 2026"),
        ("unixdate", "Sat Mar  7 09:05:06 UTC 2026"),
        ("rubydate", "Sat Mar 07 09:05:06 +0000 2026"),
        ("rfc822", "07 Mar 26 09:05 UTC"),
        ("rfc822z", "07 Mar 26 09:05 +0000"),
        ("rfc850", "Saturday, 07-Mar-26 09:05:06 UTC"),
        ("rfc1123", "Sat, 07 Mar 2026 09:05:06 UTC"),
        ("rfc1123z", "Sat, 07 Mar 2026 09:05:06 +0000"),
        ("rfc3339", "2026-03-07T09:05:06Z"),
        ("rfc3339nano", "2026-03-07T09:05:06.123456789Z"),
        ("kitchen", "9:05AM"),
        ("stamp", "Mar  7 09:05:06"),
        ("stampmilli", "Mar  7 09:05:06.123"),
        ("stampmicro", "Mar  7 09:05:06.123456"),
        ("stampnano", "Mar  7 09:05:06.123456789"),
    ],
)
def test_every_time_format_in_utc(zone: Callable[[str], None], name: str, expected: str) -> None:
    zone("UTC")
    assert render(name, SATURDAY) == expected
    assert render(f" {name.upper()}\t", SATURDAY) == expected


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("ansic", "Wed Mar  4 15:06:07 2026"),
        ("unixdate", "Wed Mar  4 15:06:07 CET 2026"),
        ("rubydate", "Wed Mar 04 15:06:07 +0100 2026"),
        ("rfc822", "04 Mar 26 15:06 CET"),
        ("rfc822z", "04 Mar 26 15:06 +0100"),
        ("rfc850", "Wednesday, 04-Mar-26 15:06:07 CET"),
        ("rfc1123", "Wed, 04 Mar 2026 15:06:07 CET"),
        ("rfc1123z", "Wed, 04 Mar 2026 15:06:07 +0100"),
        ("rfc3339", "2026-03-04T15:06:07+01:00"),
        ("rfc3339nano", "2026-03-04T15:06:07.123456789+01:00"),
        ("kitchen", "3:06PM"),
        ("stamp", "Mar  4 15:06:07"),
        ("stampmilli", "Mar  4 15:06:07.123"),
        ("stampmicro", "Mar  4 15:06:07.123456"),
        ("stampnano", "Mar  4 15:06:07.123456789"),
    ],
)
def test_every_time_format_in_a_zone_east_of_utc(zone: Callable[[str], None], name: str, expected: str) -> None:
    zone("CET-1CEST,M3.5.0,M10.5.0/3")
    assert render(name, WEDNESDAY) == expected


def test_an_offset_west_of_utc_with_minutes(zone: Callable[[str], None]) -> None:
    zone("NST3:30")
    assert render("rfc3339", SATURDAY) == "2026-03-07T05:35:06-03:30"
    assert render("rubydate", SATURDAY) == "Sat Mar 07 05:35:06 -0330 2026"


@pytest.mark.parametrize(
    ("nanoseconds", "expected"),
    [
        (0, "2026-03-07T09:05:06Z"),
        (120_000_000, "2026-03-07T09:05:06.12Z"),
        (7, "2026-03-07T09:05:06.000000007Z"),
    ],
)
def test_zeros_at_the_end_of_nanoseconds_are_dropped(
    zone: Callable[[str], None], nanoseconds: int, expected: str
) -> None:
    zone("UTC")
    assert render("rfc3339nano", SATURDAY - 123_456_789 + nanoseconds) == expected


@pytest.mark.parametrize(("hour", "expected"), [(0, "12:05AM"), (11, "11:05AM"), (12, "12:05PM"), (23, "11:05PM")])
def test_hours_of_the_kitchen_clock(zone: Callable[[str], None], hour: int, expected: str) -> None:
    zone("UTC")
    assert render("kitchen", SATURDAY + (hour - 9) * 3_600_000_000_000) == expected


def test_one_format_follows_the_clock(zone: Callable[[str], None]) -> None:
    zone("UTC")
    stamp = find_time_format("stamp")
    milli = find_time_format("stampmilli")
    assert stamp is not None
    assert milli is not None
    assert [stamp(SATURDAY), stamp(SATURDAY + 1), stamp(SATURDAY + 10**9)] == [
        "Mar  7 09:05:06",
        "Mar  7 09:05:06",
        "Mar  7 09:05:07",
    ]
    assert [milli(SATURDAY), milli(SATURDAY + 10**6)] == ["Mar  7 09:05:06.123", "Mar  7 09:05:06.124"]


@pytest.mark.parametrize("name", ["", "iso", "rfc 3339"])
def test_other_names_are_no_formats(name: str) -> None:
    assert find_time_format(name) is None


def test_it_is_an_observer() -> None:
    assert verifyObject(ILogObserver, Written().lines)


def test_a_line_without_time() -> None:
    written = Written()
    written.lines.line(LogLevel.info, "Request from 127.0.0.1")
    assert written.text == b"[INFO] Request from 127.0.0.1\n"


def test_a_line_with_time(zone: Callable[[str], None]) -> None:
    zone("UTC")
    written = Written(config=Config(log_time_format="RFC3339"))
    written.lines.line(LogLevel.warn, "text")
    assert written.text == b"2026-03-07T09:05:06Z [WARN] text\n"


def test_control_characters_are_escaped_and_letters_are_not() -> None:
    written = Written()
    written.lines.line(LogLevel.info, 'agent "a\nb\x1b[31m\x85\u2028\x7f" größer 模型 \udc80')
    assert written.text.decode() == '[INFO] agent "a\\nb\\x1b[31m\\x85\\u2028\\x7f" größer 模型 \\udc80\n'


@pytest.mark.parametrize(
    ("level", "expected"),
    [
        ("debug", "DEBUG INFO WARN ERROR ERROR"),
        ("info", "INFO WARN ERROR ERROR"),
        ("warn", "WARN ERROR ERROR"),
        ("error", "ERROR ERROR"),
        ("loud", "INFO WARN ERROR ERROR"),
    ],
)
def test_the_level_decides_what_is_written(level: str, expected: str) -> None:
    written = Written(config=Config(log_level=level))
    for constant in LogLevel.iterconstants():
        written.log.emit(constant, "said")
        assert written.lines.shows(constant) == written.text.endswith(b"said\n")
        written.text += b"."
    shown = written.text.replace(b".", b"").decode()
    assert shown == "".join(f"[{word}] said\n" for word in expected.split())


def test_an_event_is_formatted_with_its_fields() -> None:
    written = Written()
    written.log.info("[{model}] is {state}", model="a\nb", state="ready")
    assert written.text == b"[INFO] [a\\nb] is ready\n"


def test_events_of_libraries_count_as_debug_unless_they_warn() -> None:
    written = Written()
    written.foreign_log.info("Site starting")
    written.foreign_log.warn("careful")
    assert written.text == b"[WARN] careful\n"
    written.lines.apply(Config(log_level="debug"))
    written.foreign_log.info("Site starting")
    assert written.text == b"[WARN] careful\n[DEBUG] Site starting\n"


def test_a_failure_is_a_summary_and_its_traceback() -> None:
    written = Written()
    with written.log.failuresHandled("while planning {model}:", model="a"):
        fail("two\nlines")
    summary, head, *rest = written.text.decode().splitlines()
    assert summary == "[ERROR] while planning a: ValueError: two\\nlines"
    assert head == "    Traceback (most recent call last):"
    assert rest
    assert all(line.startswith("    ") for line in rest)
    assert "test_logs_lines.py" in written.text.decode()


def test_json_lines_carry_fields(zone: Callable[[str], None]) -> None:
    zone("UTC")
    written = Written(config=Config(log_format="json", log_time_format="kitchen"))
    written.log.error("swap {swap_id} of {model}\n", swap_id=3, model="a", other="hidden")
    written.lines.line(LogLevel.info, "Request", request_id="r-1")
    assert [json.loads(line) for line in written.text.splitlines()] == [
        {"ts": "2026-03-07T09:05:06.123456789Z", "level": "error", "msg": "swap 3 of a\n", "model": "a", "swap_id": 3},
        {"ts": "2026-03-07T09:05:06.123456789Z", "level": "info", "msg": "Request", "request_id": "r-1"},
    ]


def test_a_failure_in_json_is_one_line() -> None:
    written = Written(config=Config(log_format="json"))
    with written.log.failuresHandled("oops"):
        fail("text")
    record = json.loads(written.text)
    assert record["msg"] == "oops: ValueError: text"
    assert record["traceback"].startswith("Traceback")
    assert written.text.count(b"\n") == 1


def test_an_event_of_another_thread_goes_through_the_reactor() -> None:
    written = Written()
    thread = Thread(target=written.log.info, args=("from {where}",), kwargs={"where": "a thread"})
    thread.start()
    thread.join()
    assert written.text == b""
    [(function, *arguments)] = written.passed
    assert callable(function)
    function(*arguments)
    assert written.text == b"[INFO] from a thread\n"
