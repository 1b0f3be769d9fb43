"""``/comfyui/{path}``: the page of ComfyUI and what it asks for, from the model with the fixed name."""

from __future__ import annotations

from typing import Final

from klein import Klein

from llamaswap.config.defaults import COMFYUI_MODEL
from llamaswap.core.values import ModelId, ProcessState
from llamaswap.errors import ConflictError, NotFoundError
from llamaswap.web import answers
from llamaswap.web.daemon import Daemon
from llamaswap.web.dispatch import direct
from llamaswap.web.edge import EdgeRequest
from llamaswap.web.exchange import Passage
from llamaswap.web.paths import COMFYUI_PREFIX
from llamaswap.web.relay import Relay

_MODEL: Final = ModelId(COMFYUI_MODEL)


class ComfyUIRoutes:
    """Passes requests through to the model ``comfyui_auto``; only its root page may start it.

    A browser that was left open asks on and on, and would never let another model have the memory.

    Args:
        daemon: Knows the model, and its state.
        relay: Takes the request over.
    """

    def __init__(self, daemon: Daemon, relay: Relay) -> None:
        self._daemon = daemon
        self._relay = relay

    def register(self, app: Klein) -> None:
        """Add the route that is not below the prefix."""
        app.route("/comfyui", endpoint="/comfyui")(self.add_slash)

    def add_slash(self, request: EdgeRequest) -> bytes:
        """Send the client to the root page, so that relative links work there."""
        query = request.uri[len(request.path) :]
        status = 301 if request.method in {b"GET", b"HEAD"} else 308
        return answers.redirect(request, COMFYUI_PREFIX + query, status)

    @direct
    def passthrough(self, request: EdgeRequest) -> None:
        """Forward a request below ``/comfyui/``, its body as it arrives.

        Raises:
            LlamaSwapError: It cannot be forwarded.
        """
        if _MODEL not in self._daemon.config.models:
            raise NotFoundError(f"local model {_MODEL} not found")
        unready = str if request.path == COMFYUI_PREFIX else _unready
        if unready() and self._daemon.router.state(_MODEL) is not ProcessState.READY:
            raise ConflictError(unready())
        target = request.uri[len(COMFYUI_PREFIX) - 1 :]
        self._relay(request, Passage(_MODEL, target, request.body, unready=unready))


def _unready() -> str:
    """Word why a request is refused that may not start the model."""
    return f"model {_MODEL} is not loaded; only {COMFYUI_PREFIX.decode()} can start it"
