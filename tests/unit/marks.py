"""Compares what a slow reader got with what was written."""

from __future__ import annotations

import re
from typing import Final

_MARK: Final = re.compile("\n— ([0-9]+) bytes dropped —\n".encode())


def assert_accounts_for(got: bytes, written: bytes) -> None:
    """Check that ``got`` is ``written``, with marks that are right in the places of what is missing."""
    parts = _MARK.split(got)
    position = 0
    for number, part in enumerate(parts):
        if number % 2:
            position += int(part)
        else:
            assert written[position : position + len(part)] == part
            position += len(part)
    assert position == len(written)


def dropped_bytes(got: bytes) -> int:
    """Add up what the marks announce."""
    return sum(int(number) for number in _MARK.findall(got))
