"""Instants as clients write them."""

from __future__ import annotations

import pytest

from llamaswap.telemetry.rfc3339 import format_ns, parse_ns

AT_NS = 1795165965_939732754


@pytest.mark.parametrize(
    ("written", "at_ns"),
    [
        ("2026-11-20T09:12:45.939732754Z", AT_NS),
        ("2026-11-20T10:12:45.939732754+01:00", AT_NS),
        ("2026-11-20T10:12:45.939732754 01:00", AT_NS),
        ("2026-11-20T03:42:45.939732754-05:30", AT_NS),
        ("2026-11-20t09:12:45.9397327549z", AT_NS),
        ("2026-11-20T09:12:45.9Z", 1795165965_900000000),
        ("2026-11-20T09:12:45Z", 1795165965_000000000),
        ("1969-12-31T23:59:59.5Z", -500000000),
        ("9999-12-31T23:59:59Z", 253402300799_000000000),
    ],
)
def test_instants(written: str, at_ns: int) -> None:
    assert parse_ns(written) == at_ns


@pytest.mark.parametrize(
    "written",
    [
        "",
        "x",
        "2026-11-20",
        "2026-11-20T09:12:45",
        "2026-02-30T09:12:45Z",
        "2026-11-20T24:12:45Z",
        "2026-11-20T09:12:60Z",
        "2026-11-20T09:12:45+24:00",
        "2026-11-20T09:12:45.Z",
        "0000-11-20T09:12:45Z",
        "٢026-11-20T09:12:45Z",
        "2026-11-20T09:12:45Z\n",
    ],
)
def test_no_instants(written: str) -> None:
    assert parse_ns(written) is None


@pytest.mark.parametrize("at_ns", [AT_NS, 0, 1795165965_000000001])
def test_what_is_written_is_read_again_to_the_nanosecond(at_ns: int) -> None:
    assert parse_ns(format_ns(at_ns)) == at_ns
    assert format_ns(AT_NS) == "2026-11-20T09:12:45.939732754Z"
