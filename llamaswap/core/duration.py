"""Durations as Go writes them: existing clients and scripts know that form."""

from __future__ import annotations


def duration(seconds: float) -> str:
    """Write a duration as Go does, down to microseconds: ``850µs``, ``1.25ms``, ``2.5s``, ``1m3.5s``."""
    micros = max(0, round(seconds * 1_000_000))
    if micros < 1000:  # noqa: PLR2004
        return f"{micros}µs"
    if micros < 1_000_000:  # noqa: PLR2004
        return f"{micros / 1000:.3f}".rstrip("0").rstrip(".") + "ms"
    minutes, micros = divmod(micros, 60_000_000)
    hours, minutes = divmod(minutes, 60)
    text = f"{micros / 1_000_000:.6f}".rstrip("0").rstrip(".") + "s"
    if minutes or hours:
        text = f"{minutes}m{text}"
    return f"{hours}h{text}" if hours else text
