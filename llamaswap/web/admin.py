"""Routes for people and scripts that look after the daemon: what runs, load, unload, health."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any, Final, cast

from klein import Klein
from twisted.web.iweb import IRequest
from werkzeug.exceptions import MethodNotAllowed

from llamaswap import __version__
from llamaswap.config.schema import ModelConfig
from llamaswap.core.masking import masked
from llamaswap.core.snapshot import UpstreamSnapshot
from llamaswap.core.values import ModelId, StopReason
from llamaswap.errors import NotFoundError
from llamaswap.web import answers
from llamaswap.web.daemon import Daemon
from llamaswap.web.details import model_details
from llamaswap.web.edge import EdgeRequest
from llamaswap.web.metrics import ModelMetrics, metrics_of
from llamaswap.web.models import model_list
from llamaswap.web.paths import decoded

_OK: Final = "OK"
_UNLOAD: Final = b"/api/models/unload/"
_LOAD: Final = b"/api/models/load/"
_MODELS: Final = b"/api/models/"


class AdminRoutes:
    """The handlers.

    Args:
        daemon: Where configuration and router are.
        now: Gives UTC epoch seconds.
        model_metrics: Answers what is asked below a model's path.
    """

    def __init__(self, daemon: Daemon, now: Callable[[], float], model_metrics: ModelMetrics) -> None:
        self._daemon = daemon
        self._now = now
        self._model_metrics = model_metrics

    def register(self, app: Klein) -> None:
        """Add the routes."""
        for path, handler in (
            ("/v1/models", self.models),
            ("/models", self.models),
            ("/running", self.running),
            ("/unload", self.unload),
            ("/api/reload", self.reload),
            ("/health", _health),
            ("/wol-health", _health),
            ("/api/version", _version),
        ):
            app.route(path, methods=["GET"], endpoint=path)(handler)
        app.route("/api/models/unload", methods=["POST"])(self.unload_all)
        app.route("/api/models/unload/<path:_name>", methods=["POST"])(self.unload_one)
        app.route("/api/models/<path:_name>", methods=["GET"])(self.details)

    def models(self, request: IRequest) -> bytes:
        """Answer ``GET /v1/models``."""
        origin = request.getHeader(b"origin")
        if origin is not None:
            request.setHeader(b"access-control-allow-origin", origin)
        pins = self._daemon.observers.profiles.pins
        document = model_list(self._daemon.config, self._daemon.router.state, int(self._now()), pins)
        return answers.document(request, document)

    def running(self, request: IRequest) -> bytes:
        """Answer ``GET /running`` with the processes that exist."""
        config = self._daemon.config
        router = self._daemon.router
        shown = [
            # The router still knows a model that a reload removed, as long as there is anything of it.
            _shown(router.config_of(snapshot.model), snapshot, masked if config.mask_secrets else str)
            for snapshot in router.snapshots()
            if snapshot.state.counts_as_running
        ]
        return answers.document(request, {"running": shown})

    def reload(self, request: IRequest) -> bytes:
        """Answer ``GET /api/reload`` with what became of the last reload."""
        request.setHeader(b"cache-control", b"no-store")
        return answers.document(request, self._daemon.reload_document())

    async def unload(self, request: IRequest) -> bytes:
        """Answer ``GET /unload`` when everything is stopped; HEAD stops nothing."""
        request.setHeader(b"cache-control", b"no-store")
        if request.method == b"GET":
            await self._stop_all()
        return answers.text(request, _OK)

    async def unload_all(self, request: IRequest) -> bytes:
        """Answer ``POST /api/models/unload`` when everything is stopped."""
        await self._stop_all()
        return answers.document(request, {"msg": "ok"})

    async def unload_one(self, request: IRequest, _name: str) -> bytes:
        """Answer ``POST /api/models/unload/{model}`` when the model is stopped.

        Raises:
            NotFoundError: There is no such local model.
        """
        await self._stop([self._named(request, _UNLOAD).id])
        return answers.text(request, _OK)

    async def details(self, request: IRequest, _name: str) -> bytes:
        """Answer ``GET /api/models/{model}`` with all there is to say about it, or ``…/metrics`` as its server does.

        Raises:
            NotFoundError: There is no such local model.
        """
        measured = metrics_of(self._daemon.config, request.path)
        if measured is not None:
            return await self._model_metrics.answer(cast("EdgeRequest", request), measured)
        path = request.path + b"/"
        if path.startswith((_UNLOAD, _LOAD)) and self._daemon.config.resolve(decoded(path[len(_MODELS) : -1])) is None:
            raise MethodNotAllowed(valid_methods=["POST"])
        model = self._named(request, _MODELS)
        request.setHeader(b"cache-control", b"no-store")
        router = self._daemon.router
        snapshot = next(each for each in router.snapshots() if each.model == model.id)
        reserved, config = router.reserved(model.id), self._daemon.config
        # Last, and what is shown beside it is of one moment: a reload may come while it is measured.
        resident_bytes = await router.resident_bytes(model.id)
        shown = model_details(config, model, snapshot, reserved=reserved, resident_bytes=resident_bytes)
        return answers.document(request, shown)

    def _named(self, request: IRequest, prefix: bytes) -> ModelConfig:
        """Find the model whose name, escaped in whatever way, is the rest of the path."""
        model = self._daemon.config.resolve(decoded(request.path.removeprefix(prefix)))
        if model is None:
            raise NotFoundError("model not found")
        return model

    async def _stop_all(self) -> None:
        await self._stop([snapshot.model for snapshot in self._daemon.router.snapshots()])

    async def _stop(self, models: Collection[ModelId]) -> None:
        # Cancelled when the client leaves; the router goes on.
        await self._daemon.router.unload(models, StopReason.USER)


def _shown(model: ModelConfig, snapshot: UpstreamSnapshot, command: Callable[[str], str]) -> Mapping[str, Any]:
    return {
        "model": model.id,
        "state": snapshot.state.value,
        "cmd": command(model.cmd),
        "proxy": model.proxy,
        "ttl": model.ttl_seconds,
        "name": model.name,
        "description": model.description,
    }


def _health(request: IRequest) -> bytes:
    """Answer ``OK`` as long as the daemon lives."""
    return answers.text(request, _OK)


def _version(request: IRequest) -> bytes:
    """Answer ``GET /api/version``."""
    return answers.document(request, {"build_date": "unknown", "commit": "abcd1234", "version": __version__})
