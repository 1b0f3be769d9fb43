"""Requests and models as metrics."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Final

from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from llamaswap.config.schema import Config
from llamaswap.core.messages import Fenced
from llamaswap.core.values import ModelId, ProcessState
from llamaswap.web.daemon import Daemon
from llamaswap.web.exchange import Exchange, ExchangeEnded, Phase
from llamaswap.web.in_flight import phase_of
from llamaswap.web.openai import AUDIO_API_PATHS, POST_PATHS, QUERY_PATHS, SHORT_POST_PATHS

_ENDPOINTS: Final = {
    path.encode("ascii"): path for path in (*POST_PATHS, *SHORT_POST_PATHS, *AUDIO_API_PATHS, *QUERY_PATHS)
}
_BRANCHES: Final = ((b"/upstream/", "/upstream"), (b"/comfyui/", "/comfyui"))
_CLIENT_LEFT: Final = 499


class RequestCollector(Collector):
    """Counts requests that have ended, and those under way.

    Args:
        daemon: Has the configuration, the bus and the requests.
    """

    def __init__(self, daemon: Daemon) -> None:
        self._daemon = daemon
        self._ended: Counter[tuple[str, str, str]] = Counter()
        daemon.observers.bus.subscribe(ExchangeEnded, self._count)

    def _count(self, news: ExchangeEnded) -> None:
        exchange = news.exchange
        self._ended[_model(exchange), _endpoint(exchange.request.path), str(_status(exchange))] += 1

    def collect(self) -> Iterable[Metric]:
        """See the parent class."""
        config = self._daemon.config
        total = CounterMetricFamily(
            "llamaswap_requests", "Requests that have ended.", labels=["model", "endpoint", "code"]
        )
        for labels, count in list(self._ended.items()):
            if _is_known(config, labels[0]):
                total.add_metric(labels, count)
            else:
                del self._ended[labels]  # a reload took the model away
        yield total
        under_way = GaugeMetricFamily("llamaswap_requests_in_flight", "Requests under way.", labels=["model", "phase"])
        state_of = self._daemon.router.state
        counts = Counter({(str(model), phase.value): 0 for model in config.models for phase in Phase})
        counts.update(
            (_model(each), phase_of(each, state_of).value) for each in self._daemon.observers.ledger.exchanges()
        )
        for pair, count in counts.items():
            under_way.add_metric(pair, count)
        yield under_way


class WaitingCollector(Collector):
    """Tells who waits, and counts the fences around those who have waited for too long.

    Args:
        daemon: Has the configuration, the bus and the requests.
    """

    def __init__(self, daemon: Daemon) -> None:
        self._daemon = daemon
        self._fences: Counter[ModelId] = Counter()
        daemon.observers.bus.subscribe(Fenced, self._count)

    def _count(self, news: Fenced) -> None:
        self._fences[news.model] += news.is_raised

    def collect(self) -> Iterable[Metric]:
        """See the parent class."""
        models, ledger = self._daemon.config.models, self._daemon.observers.ledger
        now = ledger.now()
        waits: dict[str, list[float]] = {model: [] for model in models}
        for each in ledger.exchanges():
            if each.sent_mono is None and each.passage.peer is None:
                waits.setdefault(each.passage.model, []).append(now - each.resolved_mono)
        depth = GaugeMetricFamily("llamaswap_queue_depth", "Requests that wait.", labels=["model"])
        oldest = GaugeMetricFamily("llamaswap_queue_oldest_seconds", "The longest of their waits.", labels=["model"])
        for model, waited_seconds in waits.items():
            depth.add_metric([model], len(waited_seconds))
            oldest.add_metric([model], max(waited_seconds, default=0))
        fences = CounterMetricFamily(
            "llamaswap_fences", "Times that nobody might overtake a model any more.", labels=["model"]
        )
        self._fences = Counter({model: self._fences[model] for model in models})
        for model, count in self._fences.items():
            fences.add_metric([model], count)
        yield from (depth, oldest, fences)


class ModelCollector(Collector):
    """Tells the state of each model.

    Args:
        daemon: Has the configuration and the router.
    """

    def __init__(self, daemon: Daemon) -> None:
        self._daemon = daemon

    def collect(self) -> Iterable[Metric]:
        """See the parent class."""
        states = GaugeMetricFamily(
            "llamaswap_model_state", "1 for the state that the model's process is in.", labels=["model", "state"]
        )
        for model in self._daemon.config.models:
            current = self._daemon.router.state(model)
            for state in ProcessState:
                states.add_metric([model, state.value], float(state is current))
        yield states


def _model(exchange: Exchange) -> str:
    """Give the name under which a request counts: the local model's, or that of the peer."""
    peer = exchange.passage.peer
    return exchange.passage.model if peer is None else peer.id


def _is_known(config: Config, name: str) -> bool:
    return ModelId(name) in config.models or name in config.peers


def _endpoint(path: bytes) -> str:
    """Give the route of a path; what clients write must not become a label."""
    endpoint = _ENDPOINTS.get(path)
    if endpoint is not None:
        return endpoint
    return next((name for prefix, name in _BRANCHES if path.startswith(prefix)), "other")


def _status(exchange: Exchange) -> int:
    """Give the status that the client has seen, or would have."""
    if exchange.request.startedWriting:
        return exchange.request.code
    if exchange.has_left:
        return _CLIENT_LEFT
    return exchange.request.code if exchange.error is None else exchange.error.status
