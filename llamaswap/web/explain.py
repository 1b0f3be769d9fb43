"""Routes by which the daemon explains itself: who waits for what, what was decided and why, what would be decided."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from math import isfinite
from typing import Any, Final

from klein import Klein
from twisted.web.iweb import IRequest

from llamaswap.core.records import Waiting, WhatIf, Why
from llamaswap.core.snapshot import UpstreamSnapshot
from llamaswap.core.values import ModelId, ProcessState
from llamaswap.errors import BadRequestError, NotFoundError
from llamaswap.registry import InstalledPlanner, known_planners
from llamaswap.telemetry.swap_store import find_swaps
from llamaswap.telemetry.swaps import plain_cost
from llamaswap.telemetry.timeformat import utc_milliseconds
from llamaswap.web import answers
from llamaswap.web.daemon import Daemon
from llamaswap.web.edge import EdgeRequest
from llamaswap.web.explain_query import Values, first, limit_of, query_values, window

Document = dict[str, Any]

_MS: Final = 1000
_ENOUGH_LOADS: Final = 3
"""With fewer past loads, nothing is said about the next."""


class ExplainRoutes:
    """The handlers.

    Args:
        daemon: What is explained.
    """

    def __init__(self, daemon: Daemon) -> None:
        self._daemon = daemon
        self._observers = daemon.observers

    def register(self, app: Klein) -> None:
        """Add the routes."""
        for path, handler in (
            ("/api/queue", self.queue),
            ("/api/swaps", self.swaps),
            ("/api/timeline", self.timeline),
            ("/api/plan", self.plan),
            ("/api/planner", self.planner),
        ):
            app.route(path, methods=["GET"], endpoint=path)(handler)

    def queue(self, request: IRequest) -> bytes:
        """Answer ``GET /api/queue``."""
        return _fresh(request, self.queue_document())

    def queue_document(self) -> Document:
        """Say who waits, in which place, for what, and how long probably."""
        waiting = self._daemon.router.waiting()
        if not waiting:
            return {"queue": [], "fences": []}
        ledger = self._observers.ledger
        known = ledger.by_request()
        estimate = _Estimate(self._daemon.router.snapshots(), ledger.epoch(ledger.now()))
        entries = []
        for each in waiting:
            exchange = known.get(each.request)
            entries.append(
                {
                    "id": str(exchange.id) if exchange is not None and exchange.passage.is_listed else None,
                    "request_id": exchange.request.request_id if exchange is not None else None,
                    "model": each.model,
                    "position": each.position,
                    "priority": each.priority,
                    "since": utc_milliseconds(ledger.epoch(each.since_mono)),
                    "waiting_for": {"why": each.why.value, "models": each.models, "text": each.text},
                    "eta_ms": estimate.eta_ms(each),
                },
            )
        fences = [
            {
                "model": fence.model,
                "since": utc_milliseconds(ledger.epoch(fence.since_mono)),
                "holds": sorted(fence.holds),
            }
            for fence in self._daemon.router.fences()
        ]
        return {"queue": entries, "fences": fences}

    async def swaps(self, request: IRequest) -> bytes:
        """Answer ``GET /api/swaps``, the newest first; what is no more in memory comes from the store.

        Raises:
            BadRequestError: The query is wrong.
            StoreError: The store cannot be read.
        """
        values = _values(request)
        after, before = window(values)
        model, limit = first(values, "model"), limit_of(values)
        known = self._daemon.config.resolve(model)
        model = known.id if known is not None else model
        log, activity = self._observers.chronicle.swaps, self._observers.activity
        rows = log.rows(after=after, before=before, model=model, limit=limit)
        if len(rows) < limit and activity.store_path:
            find = partial(
                find_swaps,
                before_id=log.first_id,
                after_ms=_epoch_ms(after),
                before_ms=_epoch_ms(before),
                model=model or None,
                limit=limit - len(rows),
            )
            rows += await activity.read(find)
        return _fresh(request, {"swaps": rows})

    async def timeline(self, request: EdgeRequest) -> bytes:
        """Answer ``GET /api/timeline``, the oldest first.

        Raises:
            BadRequestError: The query is wrong.
        """
        after, before = window(_values(request))
        chronicle = self._observers.chronicle
        excerpt = chronicle.timeline.excerpt(chronicle.waits(), after=after, before=before)
        return _fresh(request, await request.site.in_thread(excerpt.document))

    def plan(self, request: IRequest) -> bytes:
        """Answer ``GET /api/plan?model=``; nothing changes by it.

        Raises:
            BadRequestError: No model is named.
            NotFoundError: There is no such local model.
        """
        name = first(_values(request), "model")
        if not name:
            raise BadRequestError("model is required")
        model = self._daemon.config.resolve(name)
        if model is None:
            raise NotFoundError("model not found")
        found = self._daemon.router.what_if(model.id)
        return _fresh(request, _plan_document(model.id, self._daemon.config.router.use, found))

    async def planner(self, request: EdgeRequest) -> bytes:
        """Answer ``GET /api/planner``."""
        router = self._daemon.config.router
        installed = [_planner_document(each) for each in await request.site.in_thread(known_planners)]
        active = next(each for each in installed if each["name"] == router.use)
        shown = {**active, "isolation": "inline", "fallback": router.fallback, "faults": {}, "last_fault": None}
        return _fresh(request, {"active": shown, "installed": installed})


class _Estimate:
    """Says from past loads how long one will take.

    Args:
        snapshots: Of all models.
        now: UTC epoch seconds.
    """

    def __init__(self, snapshots: Sequence[UpstreamSnapshot], now: float) -> None:
        self._snapshots = {snapshot.model: snapshot for snapshot in snapshots}
        self._now = now

    def eta_ms(self, waiting: Waiting) -> int | None:
        """Estimate when a request is served; ``None`` = nobody knows."""
        if waiting.why in {Why.BUSY, Why.PLANNER}:
            return None
        parts = [self._left_seconds(waiting.model)]
        if waiting.why is Why.SWAP:
            parts += [self._left_seconds(model) for model in waiting.models]
        known = [part for part in parts if part is not None]
        return round(sum(known) * _MS) if len(known) == len(parts) else None

    def _left_seconds(self, model: ModelId) -> float | None:
        snapshot = self._snapshots.get(model)
        if snapshot is None or snapshot.load.count < _ENOUGH_LOADS or snapshot.load.ewma is None:
            return None
        is_starting = snapshot.state is ProcessState.STARTING and snapshot.started_at is not None
        passed_seconds = self._now - (snapshot.started_at or 0) if is_starting else 0
        return max(0.0, snapshot.load.ewma - passed_seconds)


def _plan_document(model: ModelId, planner: str, found: WhatIf) -> Document:
    return {
        "model": model,
        "planner": planner,
        "decision": found.choice.value,
        "evict": [{"model": victim, "cost": plain_cost(cost)} for victim, cost in found.evict],
        "candidates": [{"evict": sorted(models), "cost": plain_cost(cost)} for models, cost in found.candidates],
        "explanation": found.explanation,
        "retry_after": found.retry_after_seconds,
        "blocked_by": [{"model": other, "in_flight": number} for other, number in found.blocked_by],
    }


def _planner_document(found: InstalledPlanner) -> Document:
    shown: Mapping[str, Any] = {
        "name": found.name,
        "distribution": found.distribution,
        "version": found.version,
        "api_version": ".".join(map(str, found.api_version)) if found.api_version is not None else None,
        "status": found.status,
    }
    return {**shown, "error": found.error} if found.error else {**shown}


def _epoch_ms(at: float) -> int | None:
    return round(at * _MS) if isfinite(at) else None


def _values(request: IRequest) -> Values:
    return query_values(request.uri.partition(b"?")[2])


def _fresh(request: IRequest, document: Document) -> bytes:
    request.setHeader(b"cache-control", b"no-store")
    return answers.document(request, document)
