"""Requests in flight: how one is shown, and the route that cancels one."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final

from klein import Klein
from twisted.web.iweb import IRequest

from llamaswap.core.values import ModelId, ProcessState
from llamaswap.errors import NotFoundError
from llamaswap.web import answers
from llamaswap.web.access import client_address
from llamaswap.web.exchange import Exchange, Ledger, Phase
from llamaswap.web.shown_headers import shown_headers

StateOf = Callable[[ModelId], ProcessState]

_MS: Final = 1000
_LONGEST_ID_DIGITS: Final = 18


class InFlightRoutes:
    """The handler of ``POST /api/inflight/{id}/cancel``.

    Args:
        ledger: Knows the requests.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def register(self, app: Klein) -> None:
        """Add the route."""
        app.route("/api/inflight/<_id>/cancel", methods=["POST"])(self.cancel)

    def cancel(self, request: IRequest, _id: str) -> bytes:
        """Break off a request wherever it is: in the queue, while its model loads, or in its answer.

        Raises:
            NotFoundError: No request that is shown under this id is under way.
        """
        is_id = _id.isascii() and _id.isdigit() and len(_id) <= _LONGEST_ID_DIGITS
        exchange = self._ledger.find(int(_id)) if is_id else None
        if exchange is None or not exchange.cancel():
            raise NotFoundError("inflight request not found")
        return answers.document(request, {"msg": "ok"})


def phase_of(exchange: Exchange, state_of: StateOf) -> Phase:
    """Say where a request is.

    Args:
        exchange: The request.
        state_of: Gives the state of a local model.
    """
    if exchange.first_byte_mono is not None:
        return Phase.STREAM
    if exchange.sent_mono is not None or exchange.passage.peer is not None:
        return Phase.TTFB
    is_waiting = exchange.ended_mono is None  # afterwards its model may be gone
    if is_waiting and state_of(ModelId(exchange.passage.model)) is ProcessState.STARTING:
        return Phase.LOAD
    return Phase.QUEUE


def entry_of(exchange: Exchange, phase: Phase, now_mono: float) -> dict[str, Any]:
    """Make the entry that shows a request.

    Args:
        exchange: The request.
        phase: Where it is.
        now_mono: The reactor's time.
    """
    request, head = exchange.request, exchange.head
    until_mono = exchange.ended_mono if exchange.ended_mono is not None else now_mono
    began = datetime.fromtimestamp(exchange.resolved_at, UTC).isoformat(timespec="microseconds")
    return {
        "id": str(exchange.id),
        "timestamp": began.replace("+00:00", "Z"),
        "model": exchange.passage.model,
        "req_path": exchange.path,
        "method": request.method.decode("ascii"),
        "req_headers": shown_headers(request.fields, b"host"),
        "remote_ip": client_address(request),
        "resp_headers": shown_headers(head.fields) if head is not None else {},
        "resp_bytes": exchange.payload_bytes,
        "elapsed_ms": round((until_mono - exchange.resolved_mono) * _MS),
        "phase": phase.value,
        "request_id": request.request_id,
    }
