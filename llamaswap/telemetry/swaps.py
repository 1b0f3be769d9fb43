"""The record of swaps, as ``GET /api/swaps`` shows it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from math import inf
from typing import Any, Final

from llamaswap.core.news import SwapChanged, SwapNoted
from llamaswap.core.records import SwapRecord
from llamaswap.core.values import ModelId, RequestId, SwapId
from llamaswap.telemetry.bus import Bus
from llamaswap.telemetry.timeformat import utc_milliseconds

KEPT_SECONDS: Final = 24 * 3600.0
KEPT_RECORDS: Final = 10_000

_MS: Final = 1000
_DECIMALS: Final = 3

Row = Mapping[str, Any]


class SwapLog:
    """Keeps the newest swaps, at most 10,000 and of one day, and tells of each when it begins and ends.

    Args:
        bus: Gives the news, and is told with the record as it is shown.
        name_of: Gives the name of a request under way, ``None`` = it has none.
        wall: Turns a time of the reactor's clock into UTC epoch seconds.
    """

    def __init__(
        self,
        bus: Bus,
        name_of: Callable[[RequestId], str | None],
        wall: Callable[[float], float],
    ) -> None:
        self._bus = bus
        self._name_of = name_of
        self._wall = wall
        self._rows: dict[SwapId, tuple[float, Row]] = {}
        self._names: dict[SwapId, dict[RequestId, str | None]] = {}
        self._newest: dict[ModelId, tuple[float, SwapId]] = {}
        bus.subscribe(SwapNoted, self._note)

    def rows(
        self,
        *,
        after: float = -inf,
        before: float = inf,
        model: str = "",
        limit: int = KEPT_RECORDS,
    ) -> list[Row]:
        """Give the newest records first.

        Args:
            after: Only those later than this, in UTC epoch seconds.
            before: Only those earlier than this.
            model: Only swaps to this one; empty = to any.
            limit: So many at most.
        """
        found: list[Row] = []
        for at, row in self._newest_first():
            if len(found) >= limit or at <= after:
                break
            if at < before and model in {"", row["model"]}:
                found.append(row)
        return found

    @property
    def first_id(self) -> SwapId | None:
        """Number of the oldest record, ``None`` = there is none."""
        return next(iter(self._rows), None)

    def swap_to(self, model: ModelId, began_mono: float) -> SwapId | None:
        """Find the swap that a request for a model waited for, which is served or sent away now.

        Args:
            model: What it wanted.
            began_mono: When it began to wait.
        """
        changed_mono, swap = self._newest.get(model, (-inf, None))
        return swap if changed_mono >= began_mono else None

    def _newest_first(self) -> Iterator[tuple[float, Row]]:
        return reversed(self._rows.values())

    def _note(self, news: SwapNoted) -> None:
        record = news.record
        known = self._rows.get(record.id)
        if known is None:
            # As it is shown, so that a client may ask for what is later than the newest that it has.
            at = round(self._wall(record.since_mono), _DECIMALS)
            self._make_room(at)
            decision_ms = round((news.at_mono - record.since_mono) * _MS, 3)
        else:
            at, decision_ms = known[0], known[1]["decision_ms"]
        names = self._names.setdefault(record.id, {})
        for request in (record.request, *(waiter.request for waiter in record.waiters)):
            if request not in names:
                names[request] = self._name_of(request)
        self._newest[record.target] = news.at_mono, record.id
        row = _row(record, at, decision_ms, names)
        self._rows[record.id] = at, row
        if record.outcome is not None:
            del self._names[record.id]
        self._bus.publish(SwapChanged(row))

    def _make_room(self, now: float) -> None:
        """Forget what is too old, or one too many; a swap under way is neither for long."""
        while self._rows:
            oldest = next(iter(self._rows))
            if len(self._rows) < KEPT_RECORDS and self._rows[oldest][0] > now - KEPT_SECONDS:
                return
            del self._rows[oldest]


def _row(record: SwapRecord, at: float, decision_ms: float, names: Mapping[RequestId, str | None]) -> Row:
    return {
        "swap_id": record.id,
        "at": utc_milliseconds(at),
        "model": record.target,
        "planner": record.planner,
        "reason": record.reason.value,
        "explanation": record.explanation,
        "request_id": names[record.request],
        "waiters": [
            {"request_id": names[waiter.request], "waited_ms": _ms(waiter.waited_seconds)} for waiter in record.waiters
        ],
        "evicted": [{"model": model, "cost": plain_cost(cost)} for model, cost in record.evicted],
        "candidates": [{"evict": sorted(models), "cost": plain_cost(cost)} for models, cost in record.candidates],
        "decision_ms": decision_ms,
        "stop_ms": _ms(record.stop_seconds),
        "load_ms": _ms(record.load_seconds),
        "outcome": record.outcome.value if record.outcome is not None else None,
        "error": record.error or None,
    }


def plain_cost(cost: float) -> float:
    """Write a whole number without a point."""
    number = float(cost)
    return int(number) if number.is_integer() else number


def _ms(seconds: float | None) -> int | None:
    return round(seconds * _MS) if seconds is not None else None
