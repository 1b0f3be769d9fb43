"""The Klein application: every route, and what holds for all of them."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from random import Random
from typing import Any, Final, cast
from urllib.parse import unquote_to_bytes

from klein import Klein
from twisted.python.failure import Failure
from twisted.web.iweb import IRequest
from twisted.web.server import NOT_DONE_YET
from werkzeug.exceptions import MethodNotAllowed, NotFound

from llamaswap.errors import LlamaSwapError, UnauthorizedError
from llamaswap.web import answers
from llamaswap.web.activity import ActivityRoutes
from llamaswap.web.admin import AdminRoutes
from llamaswap.web.auth import Door
from llamaswap.web.comfyui import ComfyUIRoutes
from llamaswap.web.daemon import Daemon
from llamaswap.web.dispatch import DirectResource, Handler
from llamaswap.web.edge import EdgeRequest
from llamaswap.web.errors import render_error
from llamaswap.web.events import EventRoutes
from llamaswap.web.explain import ExplainRoutes
from llamaswap.web.in_flight import InFlightRoutes
from llamaswap.web.loads import LoadRoutes
from llamaswap.web.logs import STREAM_PATH, LogRoutes
from llamaswap.web.machine import READY_PATH, MachineRoutes
from llamaswap.web.metrics import MetricsRoutes, ModelMetrics, is_for_scrapers
from llamaswap.web.names import Names
from llamaswap.web.openai import ModelRoutes
from llamaswap.web.paths import COMFYUI_PREFIX, PASSED_PREFIXES, UPSTREAM_PREFIX, cleaned, has_bad_escape, is_proper
from llamaswap.web.plans import CurrentPlans
from llamaswap.web.profiles import ProfileRoutes
from llamaswap.web.relay import Relay
from llamaswap.web.selectors import Selectors
from llamaswap.web.ui import UIRoutes
from llamaswap.web.upstream import UpstreamRoutes

_NOT_FOUND: Final = "404 page not found\n"
_UI: Final = b"/ui"
_GUARDED: Final = (b"/v1/", b"/models", b"/running", b"/unload", b"/ui/", b"/metrics", b"/logs", b"/comfyui", b"/api/")
"""Paths below these need a key, besides those of the direct routes and of ``/upstream/``."""

_NAMING: Final = (b"/api/", b"/logs/", b"/ui/")
"""Below these, of the guarded paths, a name may be written with escapes."""

_TOKEN: Final = re.compile(r"[A-Za-z0-9!#$%&'*+\-.^_`|~]+")
_CORS_METHODS: Final = b"GET, POST, PUT, PATCH, DELETE, OPTIONS"
_CORS_HEADERS: Final = "Content-Type, Authorization, Accept, X-Requested-With"
_CORS_SECONDS: Final = b"86400"


class App:
    """All routes of one daemon.

    Args:
        daemon: What the routes look at.
        now: Gives UTC epoch seconds.

    Attributes:
        klein: The routes.
    """

    def __init__(self, daemon: Daemon, now: Callable[[], float] = time.time) -> None:
        self.klein = Klein()
        self.klein.url_map.merge_slashes = False  # that is our own redirect's work
        self._daemon = daemon
        plans = CurrentPlans(daemon)
        self._door = Door(daemon)
        relay = Relay(daemon, self._door, now, Random())  # noqa: S311 - chooses remarks
        profiles = daemon.observers.profiles
        ModelRoutes(Names(plans, profiles, Selectors(daemon)), relay).register(self.klein)
        MachineRoutes(daemon.observers).register(self.klein)
        MetricsRoutes(daemon).register(self.klein)
        ProfileRoutes(profiles).register(self.klein)
        AdminRoutes(daemon, now, ModelMetrics(daemon, self._door)).register(self.klein)
        InFlightRoutes(daemon.observers.ledger).register(self.klein)
        LoadRoutes(daemon).register(self.klein)
        explained = ExplainRoutes(daemon)
        explained.register(self.klein)
        events = EventRoutes(daemon)
        events.feed.queue = explained.queue_document
        events.register(self.klein)
        ActivityRoutes(daemon.observers.activity).register(self.klein)
        self._upstream = UpstreamRoutes(plans, profiles, daemon.router.state, relay)
        self._comfyui = ComfyUIRoutes(daemon, relay)
        self._comfyui.register(self.klein)
        self._register_logs(LogRoutes(daemon))
        UIRoutes(daemon).register(self.klein)
        self.klein.route("/", methods=["GET"], endpoint="/")(_to_ui)
        self.klein.route("/upstream", methods=["GET"], endpoint="/upstream")(_to_models_page)
        self.klein.handle_errors(LlamaSwapError)(_failed)
        self.klein.handle_errors(MethodNotAllowed)(_method_not_allowed)
        self.klein.handle_errors(NotFound)(_not_found)

    def _register_logs(self, logs: LogRoutes) -> None:
        self.klein.route("/logs", methods=["GET"], endpoint="/logs")(logs.history)
        self.klein.route(STREAM_PATH, methods=["GET"], branch=True, endpoint=STREAM_PATH)(logs.stream)
        self.klein.route(STREAM_PATH + "/", methods=["GET"], endpoint=STREAM_PATH + "/")(logs.stream)

    def resource(self) -> Root:
        """Give the resource for a :class:`~llamaswap.web.site.EdgeSite`."""
        passed = {UPSTREAM_PREFIX: self._upstream.passthrough, COMFYUI_PREFIX: self._comfyui.passthrough}
        return Root(self.klein, self._door, passed, self._is_open)

    def _is_open(self, path: bytes) -> bool:
        """Say whether a path needs no key although what is around it does."""
        return path == READY_PATH or is_for_scrapers(self._daemon.config, path)


class Root(DirectResource):
    """The root of the site: what concerns any path, before Klein looks for the path's route.

    Args:
        klein: The routes.
        door: Knows who may come in.
        passed: Handles what is below a prefix, on the path as it was written.
        is_open: Says of a path whether it needs no key.
    """

    def __init__(
        self, klein: Klein, door: Door, passed: Mapping[bytes, Handler], is_open: Callable[[bytes], bool]
    ) -> None:
        super().__init__(klein, render_error)
        self._door = door
        self._passed = passed
        self._is_open = is_open

    def find(self, request: EdgeRequest) -> Handler | None:
        """Find the direct handler of a request; all that is below a prefix has one."""
        handler = super().find(request)
        if handler is None and request.path.startswith(PASSED_PREFIXES) and request.method != b"OPTIONS":
            prefix = request.path[: request.path.index(b"/", 1) + 1]
            handler = self._passed[prefix] if is_proper(request.path) else None
        return handler if handler is None or self._door.admits(request) else _turned_away

    def wants_body(self, request: EdgeRequest) -> bool:
        """Say whether a request may come in: nobody else's body is gathered."""
        return self._door.admits(request)

    def render_other(self, request: EdgeRequest) -> bytes | int:
        """Render a request for which there is no direct route."""
        if request.method == b"OPTIONS":
            return _preflight(request)
        path = request.path
        if has_bad_escape(path):
            answers.close_after(request)
            return answers.refusal(request, 400, "bad escape in the path\n")
        clean = cleaned(path) if path != _UI else _UI + b"/"
        if clean is not None:
            return answers.redirect(request, clean + request.uri[len(path) :], 307)
        if path.startswith(_GUARDED) and not (self._door.admits(request) or self._is_open(path)):
            raise UnauthorizedError
        # Klein undoes escapes before it looks for the route, and would so find one that is guarded.
        is_plain = b"%" not in path or path.startswith(_NAMING)
        return self.render_klein(request) if is_plain and _is_text(path) else answers.refusal(request, 404, _NOT_FOUND)


def _turned_away(_request: EdgeRequest) -> None:
    raise UnauthorizedError


def _preflight(request: EdgeRequest) -> int:
    """Allow whatever a page on another site wants to ask; nobody else sees the request."""
    asked = request.getHeader(b"access-control-request-headers")
    allowed = _CORS_HEADERS
    if asked is not None:
        words = (word.strip() for word in asked.decode("latin-1").split(","))
        allowed = ", ".join(word for word in words if _TOKEN.fullmatch(word))
    request.setHeader(b"access-control-allow-origin", b"*")
    request.setHeader(b"access-control-allow-methods", _CORS_METHODS)
    request.setHeader(b"access-control-allow-headers", allowed.encode())
    request.setHeader(b"access-control-max-age", _CORS_SECONDS)
    request.setResponseCode(204)
    request.finish()
    return NOT_DONE_YET


def _to_ui(request: IRequest) -> bytes:
    """Send a browser to the UI."""
    return answers.redirect(request, _UI, 302)


def _to_models_page(request: IRequest) -> bytes:
    """Send a browser to the models of the UI."""
    return answers.redirect(request, _UI + b"/models", 302)


def _failed(request: Any, failure: Failure) -> bytes:
    return render_error(request, cast("LlamaSwapError", failure.value))


def _not_found(request: IRequest, failure: Failure) -> bytes:  # noqa: ARG001 - as Klein calls it
    return answers.refusal(request, 404, _NOT_FOUND)


def _method_not_allowed(request: IRequest, failure: Failure) -> bytes:
    allowed = cast("MethodNotAllowed", failure.value).valid_methods or ()
    request.setHeader(b"allow", ", ".join(sorted(allowed)).encode())
    return answers.refusal(request, 405, "Method Not Allowed\n")


def _is_text(path: bytes) -> bool:
    """Say whether a path is UTF-8 when its escapes are undone."""
    try:
        unquote_to_bytes(path).decode()
    except UnicodeDecodeError:
        return False
    return True
