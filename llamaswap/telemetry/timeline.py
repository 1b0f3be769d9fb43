"""What each model did and when, as ``GET /api/timeline`` shows it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from math import inf
from typing import Any, Final, NamedTuple, TypeVar

from llamaswap.core.news import StateChanged, SwapNoted
from llamaswap.core.values import Generation, ModelId, ProcessState, StopReason, SwapId
from llamaswap.telemetry.bus import Bus
from llamaswap.telemetry.lane import Lane
from llamaswap.telemetry.timeformat import utc_milliseconds

KEPT_SECONDS: Final = 24 * 3600.0
KEPT_ENTRIES: Final = 10_000

_SHOWN: Final = frozenset({ProcessState.STARTING, ProcessState.READY, ProcessState.STOPPING})

Document = dict[str, Any]


class Wait(NamedTuple):
    """A request that had to wait, or still does.

    Attributes:
        model: For which model.
        name: The request's, ``None`` = it has none.
        began_mono: From when.
        ended_mono: Until when, infinite = it waits.
    """

    model: ModelId
    name: str | None
    began_mono: float
    ended_mono: float = inf

    def document(self, offset: float) -> Document:
        """Show it.

        Args:
            offset: From the reactor's clock to UTC epoch seconds.
        """
        return {"model": self.model, "request_id": self.name, **_times(self, offset)}


class _Step(NamedTuple):
    model: str
    in_flight: int
    began_mono: float
    ended_mono: float = inf

    def document(self, offset: float) -> Document:
        return {"model": self.model, **_times(self, offset), "in_flight": self.in_flight}


class _Span(NamedTuple):
    model: ModelId
    generation: Generation
    state: ProcessState
    began_mono: float
    ended_mono: float = inf
    reason: StopReason | None = None
    by: ModelId | None = None
    swap: SwapId | None = None
    requests: int = 0

    def document(self, offset: float) -> Document:
        return {
            "model": self.model,
            "generation": self.generation,
            "state": self.state.value,
            **_times(self, offset),
            "reason": self.reason.value if self.reason is not None else None,
            "by": self.by,
            "swap_id": self.swap,
            "requests": self.requests,
        }


_Entry = Wait | _Step | _Span
_EntryT = TypeVar("_EntryT", Wait, _Step, _Span)


def _times(entry: _Entry, offset: float) -> Document:
    until = None if entry.ended_mono == inf else utc_milliseconds(entry.ended_mono + offset)
    return {"from": utc_milliseconds(entry.began_mono + offset), "to": until}


class Excerpt(NamedTuple):
    """What overlaps a window; belongs to whoever asked for it, on whichever thread.

    Attributes:
        now_mono: When it was taken.
        offset: From that clock to UTC epoch seconds.
        spans: States of processes.
        busy: Numbers in flight.
        waits: Waits.
    """

    now_mono: float
    offset: float
    spans: list[_Span]
    busy: list[_Step]
    waits: list[Wait]

    def document(self) -> Document:
        """Show it, the oldest first; a full day takes a tenth of a second."""
        return {
            "now": utc_milliseconds(self.now_mono + self.offset),
            "spans": self._shown(self.spans),
            "busy": self._shown(self.busy),
            "waits": self._shown(self.waits),
        }

    def _shown(self, entries: Sequence[_Entry]) -> list[Document]:
        return [entry.document(self.offset) for entry in sorted(entries, key=lambda entry: entry.began_mono)]


class _Kept(deque[_EntryT]):
    """The newest 10,000 entries of one day, in the order in which they ended."""

    def __init__(self) -> None:
        super().__init__(maxlen=KEPT_ENTRIES)

    def keep(self, entry: _EntryT) -> None:
        self.append(entry)
        while self[0].ended_mono < entry.ended_mono - KEPT_SECONDS:
            self.popleft()


class Timeline:
    """Keeps spans of states, steps of the number in flight, and waits.

    Args:
        bus: Gives the news of processes and swaps.
        now: Gives the time on the reactor's clock.
        wall: Turns a time of that clock into UTC epoch seconds.
    """

    def __init__(self, bus: Bus, now: Callable[[], float], wall: Callable[[float], float]) -> None:
        self._now = now
        self._wall = wall
        self._spans: _Kept[_Span] = _Kept()
        self._steps: _Kept[_Step] = _Kept()
        self._waits: _Kept[Wait] = _Kept()
        self._current: dict[ModelId, _Span] = {}
        self._lanes: dict[str, Lane] = {}
        self._loading: dict[ModelId, SwapId] = {}
        self._evicting: dict[ModelId, tuple[SwapId, ModelId]] = {}
        bus.subscribe(StateChanged, self._state_changed)
        bus.subscribe(SwapNoted, self._swap_noted)

    # ----------------------------------------------------------------- requests

    def served(self, model: str, at_mono: float) -> None:
        """Take note that a request goes to its model."""
        lane = self._lanes.get(model)
        if lane is None:
            lane = self._lanes[model] = Lane(at_mono)
        lane.served += 1
        lane.change(1, at_mono)
        if lane.steps:
            self._keep_steps(model, lane)

    def released(self, model: str, at_mono: float) -> None:
        """Take note that a request which was served is over."""
        lane = self._lanes.get(model)
        if lane is None:
            return
        lane.change(-1, at_mono)
        if lane.steps:
            self._keep_steps(model, lane)
        if not lane.level and model not in self._current:
            self._end_lane(model, at_mono)

    def waited(self, wait: Wait) -> None:
        """Take note of a wait that is over."""
        self._waits.keep(wait)

    def _keep_steps(self, model: str, lane: Lane) -> None:
        for step in lane.steps:
            self._steps.keep(_Step(model, step.in_flight, step.began_mono, step.ended_mono))
        lane.steps.clear()

    def _end_lane(self, model: str, at_mono: float) -> None:
        lane = self._lanes.pop(model)
        lane.end(at_mono)
        self._keep_steps(model, lane)

    # ----------------------------------------------------------------- processes

    def _swap_noted(self, news: SwapNoted) -> None:
        record = news.record
        if record.outcome is None:
            self._loading[record.target] = record.id
            for victim, _ in record.evicted:
                self._evicting[victim] = record.id, record.target
            return
        self._loading.pop(record.target, None)
        for victim, _ in record.evicted:
            self._evicting.pop(victim, None)

    def _state_changed(self, news: StateChanged) -> None:
        model = news.model
        span = self._current.pop(model, None)
        lane = self._lanes.get(model)
        if span is not None:
            self._spans.keep(self._ended(span, news, lane.served if lane is not None else 0))
        if lane is not None:
            lane.served = 0
        if news.new in _SHOWN:
            swap = self._loading.get(model) if news.new is ProcessState.STARTING else None
            self._current[model] = _Span(model, news.generation, news.new, news.at_mono, swap=swap)
        elif lane is not None and not lane.level:
            self._end_lane(model, news.at_mono)

    def _ended(self, span: _Span, news: StateChanged, served: int) -> _Span:
        swap, by = span.swap, None
        if news.reason is StopReason.SWAP and news.model in self._evicting:
            swap, by = self._evicting[news.model]
        return span._replace(ended_mono=news.at_mono, reason=news.reason, by=by, swap=swap, requests=served)

    # ----------------------------------------------------------------- what is shown

    def excerpt(self, waits: Iterable[Wait] = (), *, after: float = -inf, before: float = inf) -> Excerpt:
        """Give what overlaps a window.

        Args:
            waits: Those that go on.
            after: The window's beginning, in UTC epoch seconds.
            before: Its end.
        """
        offset = self._wall(0.0)

        def overlapping(entries: Iterable[_EntryT]) -> list[_EntryT]:
            return [e for e in entries if e.ended_mono + offset > after and e.began_mono + offset < before]

        return Excerpt(
            self._now(),
            offset,
            overlapping([*self._spans, *self._current_spans()]),
            overlapping([*self._steps, *self._current_steps()]),
            overlapping([*self._waits, *waits]),
        )

    def _current_spans(self) -> Iterator[_Span]:
        lanes = self._lanes
        return (
            span._replace(requests=lanes[model].served) if model in lanes else span
            for model, span in self._current.items()
        )

    def _current_steps(self) -> Iterator[_Step]:
        for model, lane in self._lanes.items():
            for step in lane.current():
                yield _Step(model, step.in_flight, step.began_mono, step.ended_mono)
