"""What every answer carries: the id of its request, and the date."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Mapping
from itertools import count
from typing import Final

from twisted.web.http import datetimeToString

REQUEST_ID: Final = b"X-Request-ID"
"""Names a request, in its answer and to its upstream (observability.md, C5)."""

_KEY: Final = REQUEST_ID.lower()
_WELL_FORMED: Final = re.compile(rb"[A-Za-z0-9._:-]{1,128}")
_ORIGIN_BYTES: Final = 5


class RequestIds:
    """Gives each request an id: the client's own, where it sent a usable one.

    Args:
        origin: What ours begin with; by default nothing that another run of the daemon will have.
    """

    def __init__(self, origin: str = "") -> None:
        self._origin = origin or os.urandom(_ORIGIN_BYTES).hex()
        self._numbers = count(1)

    def __call__(self, named: Mapping[bytes, bytes]) -> str:
        """Give the id of the request with these header fields, by name in lower case."""
        asked = named.get(_KEY)
        if asked is not None and _WELL_FORMED.fullmatch(asked):
            return asked.decode("ascii")
        return f"{self._origin}-{next(self._numbers)}"


class HTTPDate:
    """The time as HTTP writes it, worded once a second.

    Args:
        now: Gives UTC epoch seconds.
    """

    def __init__(self, now: Callable[[], float] = time.time) -> None:
        self._now = now
        self._at = -1
        self._text = b""

    def __call__(self) -> bytes:
        """Give the value of a ``Date``."""
        at = int(self._now())
        if at != self._at:
            self._at, self._text = at, datetimeToString(at)
        return self._text
