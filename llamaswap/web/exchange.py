"""One request to a model from its acceptance to its end, as those see it who look on."""

from __future__ import annotations

import time
from collections.abc import Callable
from enum import StrEnum
from itertools import count
from typing import Final, NamedTuple, Protocol

from twisted.internet.defer import Deferred

from llamaswap.config.schema import Peer
from llamaswap.core.values import RequestId
from llamaswap.errors import LlamaSwapError, RequestCancelledError
from llamaswap.proxy.connection import StreamedBody
from llamaswap.proxy.headers import ResponseHead
from llamaswap.telemetry.bus import Bus
from llamaswap.web.edge import EdgeRequest

LONG_BODY_BYTES: Final = 64 * 1024
"""Longer ones are not held for as long as their answers take."""


class Passage(NamedTuple):
    """How a request goes on to a model.

    Attributes:
        model: The local model's canonical id; of a peer's, the name as requested.
        target: Path and query for the upstream.
        body: For the upstream.
        is_metered: Whether there will be a row about it; its answer must be readable for us.
        is_listed: Whether it is shown in flight, and can be cancelled.
        peer: Whose model it is; ``None`` = local.
        selector: Name of the selector that chose the model, or empty.
        wants_stream: Whether a streamed answer was asked for.
        unready: Gives what it is told instead of waiting for its model, or nothing: then it waits.
        on_end: Called once when it is over.
    """

    model: str
    target: bytes
    body: bytes | StreamedBody
    is_metered: bool = False
    is_listed: bool = False
    peer: Peer | None = None
    selector: str = ""
    wants_stream: bool = False
    unready: Callable[[], str] = str
    on_end: Callable[[], None] | None = None


class Phase(StrEnum):
    """Where a request is; the words travel on the wire."""

    QUEUE = "queue"
    LOAD = "load"
    TTFB = "ttfb"
    STREAM = "stream"


class Cancellable(Protocol):
    """What goes on for a request: a forwarding, or a load of its model.

    Attributes:
        request_id: What the router calls it.
    """

    request_id: RequestId

    def cancel(self, error: LlamaSwapError) -> None:
        """Break off; whoever waits is told the error."""


class Exchange:
    """One request to a model; see :class:`~llamaswap.proxy.forward.Witness`.

    Args:
        exchange_id: Of the request in flight; positive where it is shown.
        request: The client's side.
        passage: How it goes on.
        at_mono: When its model was found, on the reactor's clock.
        at: The same in UTC epoch seconds.
        ledger: Told of what happens.

    Attributes:
        id: As given.
        request: As given.
        passage: As given.
        path: The one that the upstream sees.
        resolved_mono: As given.
        resolved_at: As given.
        sent_mono: When it went to the upstream, or ``None``.
        first_byte_mono: When the first byte of the answer's body came, or ``None``.
        ended_mono: When it was over, or ``None``.
        head: The answer's, once it has begun.
        error: What it was refused for, or its answer was cut by.
        has_left: Whether the client went before the end.
        forwarding: What can be cancelled; ``None`` before and after.
        swap_id: Number of the swap that it waited for, or ``None``.
        path: The one that the upstream sees.
        has_let_go: Whether its body, being long, is not held any more.
        tee: Gets each piece of the answer's body, in the upstream's framing, after the client; or ``None``.
    """

    __slots__ = (
        "_ledger",
        "ended_mono",
        "error",
        "first_byte_mono",
        "forwarding",
        "has_left",
        "has_let_go",
        "head",
        "id",
        "passage",
        "path",
        "request",
        "resolved_at",
        "resolved_mono",
        "sent_mono",
        "swap_id",
        "tee",
    )

    def __init__(
        self, exchange_id: int, request: EdgeRequest, passage: Passage, at_mono: float, at: float, ledger: Ledger
    ) -> None:
        self.id = exchange_id
        self.request = request
        self.passage = passage
        self.path = passage.target.partition(b"?")[0].decode("latin-1")
        self.has_let_go = False
        self.resolved_mono = at_mono
        self.resolved_at = at
        self.sent_mono: float | None = None
        self.first_byte_mono: float | None = None
        self.ended_mono: float | None = None
        self.head: ResponseHead | None = None
        self.error: LlamaSwapError | None = None
        self.has_left = False
        self.forwarding: Cancellable | None = None
        self.swap_id: int | None = None
        self.tee: Callable[[bytes], object] | None = None
        self._ledger = ledger

    @property
    def payload_bytes(self) -> int:
        """Bytes of the answer's body so far."""
        return self.head.body.payload_bytes if self.head is not None else 0

    def sent(self) -> None:
        """See :class:`~llamaswap.proxy.forward.Witness`."""
        self.sent_mono = self._ledger.now()
        self._ledger.sent(self)
        body = self.passage.body
        if isinstance(body, bytes) and len(body) > LONG_BODY_BYTES:
            self.passage = self.passage._replace(body=b"")  # who sends it has it
            self.has_let_go = True

    def answered(self, head: ResponseHead) -> None:
        """See :class:`~llamaswap.proxy.forward.Witness`."""
        self.head = head
        self._ledger.answered(self)

    def passed(self, data: bytes) -> None:
        """See :class:`~llamaswap.proxy.forward.Witness`."""
        if self.first_byte_mono is None:
            self.first_byte_mono = self._ledger.now()
        if self.tee is not None:
            self.tee(data)

    def ended(self, error: LlamaSwapError | None, *, has_left: bool) -> None:
        """See :class:`~llamaswap.proxy.forward.Witness`."""
        self.ended_mono = self._ledger.now()
        self.error = error
        self.has_left = has_left
        self.forwarding = None
        self._ledger.ended(self)

    def cancel(self) -> bool:
        """Break off on somebody's order; False if it is over."""
        forwarding = self.forwarding
        if forwarding is None:
            return False
        forwarding.cancel(RequestCancelledError("request cancelled"))
        return True


class ExchangeBegan(NamedTuple):
    """News: a request was accepted for a model."""

    exchange: Exchange


class ExchangeSent(NamedTuple):
    """News: it went to the process that serves its model."""

    exchange: Exchange


class ExchangeAnswered(NamedTuple):
    """News: the head of its answer is there."""

    exchange: Exchange


class ExchangeEnded(NamedTuple):
    """News: it is over."""

    exchange: Exchange


class ExchangeRefused(NamedTuple):
    """News: a request that would be metered was refused because nobody knows its model; it never was under way."""

    exchange: Exchange


class Ledger:
    """All exchanges under way.

    Args:
        bus: Told of what becomes of them.
        now: Gives the reactor's time.
        wall: Gives UTC epoch seconds.

    Attributes:
        now: As given.
    """

    def __init__(self, bus: Bus, now: Callable[[], float], wall: Callable[[], float] = time.time) -> None:
        self.now = now
        self._wall = wall
        self._bus = bus
        # What is listed has ids of its own, so that those which clients see follow each other.
        self._ids, self._hidden_ids = count(1), count(-1, -1)
        self._under_way: dict[int, Exchange] = {}
        self._idle: list[Deferred[None]] = []

    def begin(self, request: EdgeRequest, passage: Passage) -> Exchange:
        """Enter a request whose model was found."""
        exchange_id = next(self._ids if passage.is_listed else self._hidden_ids)
        exchange = Exchange(exchange_id, request, passage, self.now(), self._wall(), self)
        self._under_way[exchange.id] = exchange
        self._bus.publish(ExchangeBegan(exchange))
        return exchange

    def sent(self, exchange: Exchange) -> None:
        """Take note that it goes to its model."""
        self._bus.publish(ExchangeSent(exchange))

    def refuse(self, request: EdgeRequest, passage: Passage, error: LlamaSwapError) -> None:
        """Take note of a request whose model nobody knows; the caller answers it."""
        exchange = Exchange(next(self._hidden_ids), request, passage, self.now(), self._wall(), self)
        exchange.ended_mono, exchange.error = exchange.resolved_mono, error
        self._bus.publish(ExchangeRefused(exchange))

    def answered(self, exchange: Exchange) -> None:
        """Take note of the head of the answer."""
        self._bus.publish(ExchangeAnswered(exchange))

    def ended(self, exchange: Exchange) -> None:
        """Strike a request out."""
        if self._under_way.pop(exchange.id, None) is None:
            return
        if exchange.passage.on_end is not None:
            exchange.passage.on_end()
        self._bus.publish(ExchangeEnded(exchange))
        if not self._under_way:
            waiting, self._idle = self._idle, []
            for waiter in waiting:
                waiter.callback(None)

    def drained(self) -> Deferred[None]:
        """Give a Deferred that fires with ``None`` when no exchange is left; never fails; may be cancelled."""
        done: Deferred[None] = Deferred(self._forget_idle)
        if self._under_way:
            self._idle.append(done)
        else:
            done.callback(None)
        return done

    def _forget_idle(self, waiter: Deferred[None]) -> None:
        if waiter in self._idle:
            self._idle.remove(waiter)

    def epoch(self, at_mono: float) -> float:
        """Turn a time of the reactor's clock into UTC epoch seconds."""
        return self._wall() - self.now() + at_mono

    def by_request(self) -> dict[RequestId, Exchange]:
        """Give the exchanges under way by what the router calls them."""
        found = self._under_way.values()
        return {e.forwarding.request_id: e for e in found if e.forwarding is not None}

    def find(self, exchange_id: int) -> Exchange | None:
        """Give an exchange under way."""
        return self._under_way.get(exchange_id)

    def listed(self) -> list[Exchange]:
        """Give the exchanges under way that are shown, the oldest first."""
        return [exchange for exchange in self._under_way.values() if exchange.passage.is_listed]

    def exchanges(self) -> list[Exchange]:
        """Give all exchanges under way, the oldest first."""
        return list(self._under_way.values())
