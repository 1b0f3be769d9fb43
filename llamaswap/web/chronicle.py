"""What became of swaps, processes and those who waited: gathers it from the news of the daemon's parts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from llamaswap.core.values import ModelId, RequestId, SwapId
from llamaswap.telemetry.bus import Bus
from llamaswap.telemetry.swaps import SwapLog
from llamaswap.telemetry.timeline import Timeline, Wait
from llamaswap.web.exchange import Exchange, ExchangeEnded, ExchangeSent, Ledger

_SHORTEST_WAIT_SECONDS: Final = 0.005
"""What is shorter is no wait, but the way of a request to a model that is ready."""


class Chronicle:
    """Feeds the records with what happens to requests.

    Args:
        bus: Gives the news.
        ledger: Knows the requests under way.

    Attributes:
        swaps: The record of swaps.
        timeline: Who did what and when.
    """

    def __init__(self, bus: Bus, ledger: Ledger) -> None:
        self._ledger = ledger
        self.swaps = SwapLog(bus, self._name_of, ledger.epoch)
        self.timeline = Timeline(bus, ledger.now, ledger.epoch)
        bus.subscribe(ExchangeSent, self._sent)
        bus.subscribe(ExchangeEnded, self._ended)

    def waits(self) -> Iterator[Wait]:
        """Give the waits that go on."""
        now_mono = self._ledger.now()
        for exchange in self._ledger.exchanges():
            if exchange.sent_mono is None and _has_waited(exchange, now_mono):
                yield Wait(ModelId(exchange.passage.model), exchange.request.request_id, exchange.resolved_mono)

    def _name_of(self, request: RequestId) -> str | None:
        exchange = self._ledger.by_request().get(request)
        return exchange.request.request_id if exchange is not None else None

    def _sent(self, news: ExchangeSent) -> None:
        exchange = news.exchange
        sent_mono, passage = exchange.sent_mono, exchange.passage
        if sent_mono is not None and passage.peer is None:
            self.timeline.served(passage.model, sent_mono)
            if sent_mono - exchange.resolved_mono >= _SHORTEST_WAIT_SECONDS:
                exchange.swap_id = self._swap_of(exchange)
                self._wait_ended(exchange, sent_mono)

    def _ended(self, news: ExchangeEnded) -> None:
        exchange = news.exchange
        ended_mono, passage = exchange.ended_mono, exchange.passage
        if ended_mono is None or passage.peer is not None:
            return
        if exchange.sent_mono is not None:
            self.timeline.released(passage.model, ended_mono)
            return
        # A start may fail faster than anything is called a wait.
        exchange.swap_id = self._swap_of(exchange)
        if _has_waited(exchange, ended_mono):
            self._wait_ended(exchange, ended_mono)

    def _swap_of(self, exchange: Exchange) -> SwapId | None:
        return self.swaps.swap_to(ModelId(exchange.passage.model), exchange.resolved_mono)

    def _wait_ended(self, exchange: Exchange, at_mono: float) -> None:
        model, name = ModelId(exchange.passage.model), exchange.request.request_id
        self.timeline.waited(Wait(model, name, exchange.resolved_mono, at_mono))


def _has_waited(exchange: Exchange, until_mono: float) -> bool:
    is_local = exchange.passage.peer is None
    return is_local and until_mono - exchange.resolved_mono >= _SHORTEST_WAIT_SECONDS
