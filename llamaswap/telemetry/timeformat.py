"""The time formats of log lines: the names that configurations use, as Go's ``time`` package defines them."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final

_DAYS: Final = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_MONTHS: Final = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_NANOSECONDS: Final = 1_000_000_000
_MINUTE_SECONDS: Final = 60
_NOON: Final = 12

_CLOCK = "{hour:02}:{minute:02}:{second:02}"
_LAYOUTS: Final = {
    "ansic": "{ddd} {mmm} {day:2} " + _CLOCK + " {year:04}",
    "unixdate": "{ddd} {mmm} {day:2} " + _CLOCK + " {zone} {year:04}",
    "rubydate": "{ddd} {mmm} {day:02} " + _CLOCK + " {offset} {year:04}",
    "rfc822": "{day:02} {mmm} {yy:02} {hour:02}:{minute:02} {zone}",
    "rfc822z": "{day:02} {mmm} {yy:02} {hour:02}:{minute:02} {offset}",
    "rfc850": "{dddd}, {day:02}-{mmm}-{yy:02} " + _CLOCK + " {zone}",
    "rfc1123": "{ddd}, {day:02} {mmm} {year:04} " + _CLOCK + " {zone}",
    "rfc1123z": "{ddd}, {day:02} {mmm} {year:04} " + _CLOCK + " {offset}",
    "rfc3339": "{year:04}-{month:02}-{day:02}T" + _CLOCK + "{iso_offset}",
    "rfc3339nano": "{year:04}-{month:02}-{day:02}T" + _CLOCK + "{trimmed}{iso_offset}",
    "kitchen": "{hour_12}:{minute:02}{half}",
    "stamp": "{mmm} {day:2} " + _CLOCK,
    "stampmilli": "{mmm} {day:2} " + _CLOCK + ".{nanoseconds:.3}",
    "stampmicro": "{mmm} {day:2} " + _CLOCK + ".{nanoseconds:.6}",
    "stampnano": "{mmm} {day:2} " + _CLOCK + ".{nanoseconds}",
}
"""By lower-case name. English whatever the locale, so nothing here goes through ``strftime``."""


def find_time_format(name: str) -> Callable[[int], str] | None:
    """Find a format by its name in the configuration.

    Args:
        name: As in ``logTimeFormat``; blanks around it and its case do not matter.

    Returns:
        A function from UTC epoch nanoseconds to text in the local zone; ``None`` when there is no such format.
    """
    layout = _LAYOUTS.get(name.strip().lower())
    return _TimeFormat(layout).render if layout is not None else None


class _TimeFormat:
    """One layout, with its newest text: most lines fall into the second of the line before."""

    def __init__(self, layout: str) -> None:
        self._layout = layout
        self._changes_within_second = "{nanoseconds" in layout or "{trimmed}" in layout
        self._second: int | None = None
        self._text = ""

    def render(self, epoch_nanoseconds: int) -> str:
        second, nanoseconds = divmod(epoch_nanoseconds, _NANOSECONDS)
        if second != self._second or self._changes_within_second:
            self._second = second
            self._text = _render(self._layout, second, nanoseconds)
        return self._text


def _render(layout: str, second: int, nanoseconds: int) -> str:
    local = time.localtime(second)
    sign = "-" if local.tm_gmtoff < 0 else "+"
    hours, minutes = divmod(abs(local.tm_gmtoff) // _MINUTE_SECONDS, 60)
    digits = f"{nanoseconds:09}"
    return layout.format(
        dddd=_DAYS[local.tm_wday],
        ddd=_DAYS[local.tm_wday][:3],
        mmm=_MONTHS[local.tm_mon - 1],
        month=local.tm_mon,
        day=local.tm_mday,
        year=local.tm_year,
        yy=local.tm_year % 100,
        hour=local.tm_hour,
        hour_12=local.tm_hour % _NOON or _NOON,
        half="AM" if local.tm_hour < _NOON else "PM",
        minute=local.tm_min,
        second=local.tm_sec,
        zone=local.tm_zone,
        offset=f"{sign}{hours:02}{minutes:02}",
        iso_offset=f"{sign}{hours:02}:{minutes:02}" if local.tm_gmtoff else "Z",
        nanoseconds=digits,
        trimmed=f".{digits}".rstrip("0").rstrip("."),
    )


def utc_milliseconds(at: float) -> str:
    """Write UTC epoch seconds as RFC 3339 with milliseconds, such as ``2026-11-20T09:15:00.120Z``."""
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
