"""Routes for Prometheus: our own metrics, and those of models' servers without waking or keeping them."""

from __future__ import annotations

from typing import Final

from klein import Klein
from prometheus_client import exposition
from prometheus_client.openmetrics import exposition as openmetrics
from twisted.web.iweb import IRequest

from llamaswap.config.schema import Config, ModelConfig
from llamaswap.process.health import probe_url
from llamaswap.proxy.agent import HopAgent
from llamaswap.proxy.fetch import fetch
from llamaswap.web import answers
from llamaswap.web.auth import Door
from llamaswap.web.daemon import Daemon
from llamaswap.web.edge import EdgeRequest
from llamaswap.web.paths import decoded, escaped
from llamaswap.web.request_metrics import ModelCollector, RequestCollector, WaitingCollector

_OFF: Final = "# performance monitor not available\n"
_MODELS: Final = b"/api/models/"
_METRICS: Final = b"/metrics"
_TARGETS: Final = b"/api/prometheus/targets"
_PASSED_ON: Final = frozenset({b"accept", b"authorization", b"x-api-key"})


class MetricsRoutes:
    """The handlers.

    Args:
        daemon: Has configuration, router and metrics.
    """

    def __init__(self, daemon: Daemon) -> None:
        self._daemon = daemon
        self._registry = daemon.observers.metrics
        self._registry.register(RequestCollector(daemon))
        self._registry.register(WaitingCollector(daemon))
        self._registry.register(ModelCollector(daemon))

    def register(self, app: Klein) -> None:
        """Add the routes; that of a model's metrics belongs to :class:`~llamaswap.web.admin.AdminRoutes`."""
        app.route("/metrics", methods=["GET"], endpoint="/metrics")(self.metrics)
        app.route("/api/prometheus/targets", methods=["GET"], endpoint="targets")(self.targets)

    def metrics(self, request: IRequest) -> bytes:
        """Answer ``GET /metrics`` in Prometheus' text format, or in OpenMetrics' for those who ask for it."""
        config = self._daemon.config
        is_on = config.metrics_enabled if config.metrics_enabled is not None else not config.performance.disabled
        if not is_on:
            return answers.text(request, _OFF, 503)
        if wants_openmetrics(request.getHeader(b"accept") or b""):
            body = openmetrics.generate_latest(self._registry)
            return answers.encoded(request, body, openmetrics.CONTENT_TYPE_LATEST.encode("ascii"))
        body = exposition.generate_latest(self._registry)
        return answers.encoded(request, body, exposition.CONTENT_TYPE_PLAIN_0_0_4.encode("ascii"))

    def targets(self, request: IRequest) -> bytes:
        """Answer ``GET /api/prometheus/targets`` with the models that are ready, for Prometheus' service discovery."""
        host = (request.getHeader(b"host") or b"").decode("latin-1")
        router = self._daemon.router
        shown = [
            {
                "targets": [host],
                "labels": {"__metrics_path__": (_MODELS + escaped(model) + _METRICS).decode("ascii"), "model": model},
            }
            for model in self._daemon.config.models
            if router.ready_pool(model) is not None
        ]
        request.setHeader(b"cache-control", b"no-store")
        return answers.document(request, shown)


class ModelMetrics:
    """Fetches the metrics of models' servers: no request of a client, nothing waits for it, nothing counts it.

    Args:
        daemon: Has configuration and router.
        door: Takes our keys out of what the servers get.
    """

    def __init__(self, daemon: Daemon, door: Door) -> None:
        self._daemon = daemon
        self._door = door
        self._reactor = daemon.observers.reactor
        self._agent = HopAgent(self._reactor)

    async def answer(self, request: EdgeRequest, model: ModelConfig) -> bytes:
        """Answer with what the model's server says, or with 204 when it is not ready.

        Raises:
            LlamaSwapError: The server does not answer properly.
        """
        request.setHeader(b"cache-control", b"no-store")
        pool = self._daemon.router.ready_pool(model.id)
        if pool is None:
            request.setResponseCode(204)
            return b""
        fields = request.fields if model.forward_api_key else self._door.without_key(request.fields)
        passed = [(name, value) for name, value in fields if name.lower() in _PASSED_ON]
        url = probe_url(pool.base_url, "/metrics").encode("ascii")
        fetched = await fetch(self._agent, self._reactor, url, passed)
        return answers.encoded(request, fetched.body, fetched.media_type or answers.PLAIN_TEXT, fetched.status)


def metrics_of(config: Config, path: bytes) -> ModelConfig | None:
    """Give the model whose server's metrics a path is about; the name of a model may itself end like such a path."""
    if not (path.startswith(_MODELS) and path.endswith(_METRICS)):
        return None
    written = path[len(_MODELS) :]
    if config.resolve(decoded(written)) is not None:
        return None
    return config.resolve(decoded(written.removesuffix(_METRICS)))


def is_for_scrapers(config: Config, path: bytes) -> bool:
    """Say whether a path is open to scrapers that have no key, where ``metrics.public`` is set."""
    return config.metrics_public and (path in {_METRICS, _TARGETS} or metrics_of(config, path) is not None)


def wants_openmetrics(accept: bytes) -> bool:
    """Say whether a scraper understands version 1 of OpenMetrics."""
    for offer in accept.lower().split(b","):
        kind, *parameters = (part.strip() for part in offer.split(b";"))
        if kind == b"application/openmetrics-text":
            values = dict(parameter.partition(b"=")[::2] for parameter in parameters)
            if values.get(b"version", b"1").startswith(b"1") and values.get(b"q") not in {b"0", b"0.0"}:
                return True
    return False
