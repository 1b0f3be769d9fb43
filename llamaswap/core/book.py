"""Book of the admitted requests: who is in, who waits in which place, who is being served.

Requests are kept by id in sets and maps, never as counters, so that nothing is released twice.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Set  # noqa: PYI025
from dataclasses import dataclass

from llamaswap.core.values import ModelFacts, ModelId, QueueView, RequestId, SwapReason


@dataclass(slots=True, eq=False)
class Request:
    """An admitted request.

    Attributes:
        id: Its number.
        model: What it wants.
        admitted_mono: When it was admitted.
        reason: On whose behalf it came.
        position: Its place in the queue as last told, 0 = never queued.
    """

    id: RequestId
    model: ModelId
    admitted_mono: float
    reason: SwapReason
    position: int = 0


class RequestBook:
    """Keeps reservations, the queue, and the requests in flight.

    A reservation lasts from admission to the one end of the request.

    Args:
        facts: By id, every model that requests may name.
    """

    def __init__(self, facts: Mapping[ModelId, ModelFacts]) -> None:
        self._facts = facts
        self._requests: dict[RequestId, Request] = {}
        self._reserved: dict[ModelId, set[RequestId]] = {m: set() for m in facts}
        self._in_flight: dict[ModelId, set[RequestId]] = {m: set() for m in facts}
        self.queue: list[Request] = []
        self.last_used_mono: dict[ModelId, float] = {}

    def reconfigure(self, facts: Mapping[ModelId, ModelFacts]) -> None:
        """Follow other facts from now on; the queue is put into the order of the new priorities."""
        self._facts = facts
        for model in facts:
            self._reserved.setdefault(model, set())
            self._in_flight.setdefault(model, set())
        self.queue.sort(key=lambda request: -facts[request.model].priority)

    def forget(self, model: ModelId) -> None:
        """Forget a model that has no request."""
        del self._reserved[model], self._in_flight[model]
        self.last_used_mono.pop(model, None)

    def is_full(self, model: ModelId) -> bool:
        """Whether the model's limit is reached."""
        return len(self._reserved[model]) >= self._facts[model].limit

    def reserved(self, model: ModelId) -> int:
        """Count the model's admitted requests: queued, waiting for a swap, or in flight."""
        return len(self._reserved[model])

    def in_flight(self, model: ModelId) -> int:
        """Count the model's requests that are being served."""
        return len(self._in_flight[model])

    def served(self, model: ModelId) -> Set[RequestId]:
        """Give the model's requests that are being served."""
        return self._in_flight[model]

    def admit(self, request: Request) -> None:
        """Take a reservation."""
        self._requests[request.id] = request
        self._reserved[request.model].add(request.id)
        self.last_used_mono[request.model] = request.admitted_mono

    def find(self, request: RequestId) -> Request | None:
        """Give the admitted request of this id, or ``None`` when it is over."""
        return self._requests.get(request)

    def is_in_flight(self, request: Request) -> bool:
        """Whether the request is being served."""
        return request.id in self._in_flight[request.model]

    def serve(self, request: Request) -> None:
        """Note that the request is being served."""
        self._in_flight[request.model].add(request.id)

    def release(self, request: Request) -> None:
        """Forget the request and its reservation; the caller has taken it out of the queue."""
        del self._requests[request.id]
        self._reserved[request.model].discard(request.id)
        self._in_flight[request.model].discard(request.id)

    def enqueue(self, request: Request) -> None:
        """Put the request behind all that have its model's priority or a higher one."""
        priority = self._facts[request.model].priority
        for place, other in enumerate(self.queue):
            if self._facts[other.model].priority < priority:
                self.queue.insert(place, request)
                return
        self.queue.append(request)

    def take_waiting(self, is_wanted: Callable[[Request], bool]) -> list[Request]:
        """Remove those that fit from the queue, and give them in order."""
        taken = [r for r in self.queue if is_wanted(r)]
        if taken:
            self.queue = [r for r in self.queue if not is_wanted(r)]
        return taken

    def moved(self) -> list[Request]:
        """Number the queue anew; give those whose position changed."""
        changed = []
        for position, request in enumerate(self.queue, 1):
            if request.position != position:
                request.position = position
                changed.append(request)
        return changed

    def queue_view(self, now: float) -> tuple[QueueView, ...]:
        """Show the queue to planners."""
        return tuple(QueueView(r.id, r.model, now - r.admitted_mono, place) for place, r in enumerate(self.queue, 1))
