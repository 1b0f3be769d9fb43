"""All client connections of a site: how many there may be, and which go first when there are too many."""

from __future__ import annotations

import resource
from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Final, Protocol

_RESERVED: Final = 128
"""Of half the descriptors, what is kept for other things than clients and their upstreams."""

_FEWEST: Final = 16
"""Connections that are taken however few descriptors there are."""

_TURNED_AWAY: Final = 64
"""Connections that may be told at once that there are too many; any further is just closed."""


class Guest(Protocol):
    """A client connection."""

    def close_if_idle(self) -> None:
        """Close unless a request is under way."""

    def make_way(self) -> None:
        """Close, being idle, soon and in any case: somebody else gets the place."""


def descriptor_limit() -> int:
    """Give the number of files that this process may have open at once."""
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


class Crowd:
    """Counts connections, and knows for how long each has been idle.

    Args:
        most: How many there may be; 0 = as the descriptors allow.
        descriptors: Gives the number of files that may be open at once.
    """

    def __init__(self, most: int, descriptors: Callable[[], int]) -> None:
        self._most = most
        self._descriptors = descriptors
        self._guests: set[Guest] = set()
        self._idle: OrderedDict[Guest, None] = OrderedDict()  # the one idle for longest is the first
        self._turned_away: set[Guest] = set()

    def __iter__(self) -> Iterator[Guest]:
        """Give all of them, as they are now."""
        return iter([*self._guests, *self._turned_away])

    def __len__(self) -> int:
        """Count all of them."""
        return len(self._guests) + len(self._turned_away)

    def change(self, most: int) -> None:
        """Have another limit, for those who come."""
        self._most = most

    def admit(self, guest: Guest) -> bool:
        """Take a connection in, if need be in the place of the one that has been idle for longest.

        Returns:
            False: There are too many; it shall be told so, or closed.
        """
        if len(self._guests) >= self._limit():
            if not self._idle:
                return False
            oldest, _ = self._idle.popitem(last=False)
            self._guests.discard(oldest)
            self._turned_away.add(oldest)
            oldest.make_way()
        self._guests.add(guest)
        self._idle[guest] = None
        return True

    def turn_away(self, guest: Guest) -> bool:
        """Take note of one that there was no room for.

        Returns:
            False: There are too many even of those.
        """
        if len(self._turned_away) >= _TURNED_AWAY:
            return False
        self._turned_away.add(guest)
        return True

    def busy(self, guest: Guest) -> None:
        """Take note that a request is being received, or under way."""
        self._idle.pop(guest, None)

    def idle(self, guest: Guest) -> None:
        """Take note that the answer was given."""
        if guest in self._guests:
            self._idle[guest] = None

    def forget(self, guest: Guest) -> None:
        """Take note that a connection is gone."""
        self._guests.discard(guest)
        self._idle.pop(guest, None)
        self._turned_away.discard(guest)

    def _limit(self) -> int:
        return self._most or max(self._descriptors() // 2 - _RESERVED, _FEWEST)
