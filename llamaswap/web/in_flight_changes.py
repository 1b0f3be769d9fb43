"""What the event stream tells of the requests in flight: all of them, or what became of some."""

from __future__ import annotations

import math
from typing import Any, Final, NamedTuple

from llamaswap.web.event_kinds import Kind, message
from llamaswap.web.exchange import Exchange, Ledger, Phase
from llamaswap.web.in_flight import StateOf, entry_of, phase_of

_SCAN_SECONDS: Final = 0.25
"""Shortest time between two messages about the bytes of one request."""
_SAME_MOMENT_SECONDS: Final = 0.001
_MOST_CHANGES: Final = 128
"""Beyond so many a list of all requests is shorter."""


class Change(NamedTuple):
    """A message about one request; ``number`` is the request's id."""

    number: int
    data: bytes


class _Figures(NamedTuple):
    phase: Phase
    payload_bytes: int


class InFlightChanges:
    """Gathers what has changed since it was last told.

    Args:
        ledger: Knows the requests.
        state_of: Gives the state of a local model.
    """

    def __init__(self, ledger: Ledger, state_of: StateOf) -> None:
        self._ledger = ledger
        self._state_of = state_of
        self._changed: dict[int, Exchange] = {}
        self._told: dict[int, _Figures] = {}
        self._scanned_mono = -math.inf

    @property
    def next_scan_mono(self) -> float:
        """When :meth:`take` looks at all requests again."""
        return self._scanned_mono + _SCAN_SECONDS

    def note(self, exchange: Exchange) -> None:
        """Take note that a request, which is shown, has begun, is being answered, or has ended."""
        self._changed[exchange.id] = exchange

    def forget(self) -> None:
        """Begin anew: nobody is left who was told anything."""
        self._changed.clear()
        self._told.clear()

    def snapshot(self) -> bytes:
        """Make the message that lists all requests, the oldest first."""
        listed = self._ledger.listed()
        for exchange in listed:
            figures = self._figures(exchange)
            if self._told.setdefault(exchange.id, figures) != figures:
                # The others are to hear it, too: even if it is as they know it again by then, this one must.
                self._changed.setdefault(exchange.id, exchange)
        entries = [self._entry(exchange) for exchange in listed]
        return message(Kind.IN_FLIGHT, {"operation": "snapshot", "requests": entries, "total": len(entries)})

    def take(self) -> list[Change] | None:
        """Give what has changed since the last time; ``None`` = so much that a snapshot shall tell it."""
        self._scan()
        changed, self._changed = self._changed, {}
        if len(changed) > _MOST_CHANGES:
            self._told.clear()
            return None
        total = len(self._ledger.listed())
        changes: list[Change] = []
        for exchange in changed.values():
            self._tell(exchange, total, changes)
        return changes

    def _scan(self) -> None:
        """Find the requests whose figures have changed; cheaper than being told of each piece that passes."""
        now_mono = self._ledger.now()
        if now_mono < self.next_scan_mono - _SAME_MOMENT_SECONDS:
            return
        self._scanned_mono = now_mono
        for exchange in self._ledger.listed():
            if self._told.get(exchange.id) != self._figures(exchange):
                self._changed.setdefault(exchange.id, exchange)

    def _tell(self, exchange: Exchange, total: int, changes: list[Change]) -> None:
        number = exchange.id
        has_ended = exchange.ended_mono is not None
        if not has_ended or number not in self._told:
            document = {"operation": "upsert", "request": self._entry(exchange), "total": total}
            changes.append(Change(number, message(Kind.IN_FLIGHT, document)))
            self._told[number] = self._figures(exchange)
        if has_ended:
            document = {"operation": "remove", "id": str(number), "total": total}
            changes.append(Change(number, message(Kind.IN_FLIGHT, document)))
            del self._told[number]

    def _figures(self, exchange: Exchange) -> _Figures:
        return _Figures(phase_of(exchange, self._state_of), exchange.payload_bytes)

    def _entry(self, exchange: Exchange) -> dict[str, Any]:
        return entry_of(exchange, phase_of(exchange, self._state_of), self._ledger.now())
