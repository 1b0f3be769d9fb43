"""Where a request leaves the web layer: it becomes a forwarding and waits for the router's grant."""

from __future__ import annotations

from llamaswap.core.values import ModelId
from llamaswap.proxy.connection import StreamedBody
from llamaswap.proxy.forward import Forwarding
from llamaswap.web.auth import Door
from llamaswap.web.daemon import Daemon
from llamaswap.web.edge import EdgeRequest


class Relay:
    """Hands requests to the router; each leaves it again when its forwarding ends.

    Args:
        daemon: Has the router, and knows which models get the client's key.
        door: Takes the key away from the others.
    """

    def __init__(self, daemon: Daemon, door: Door) -> None:
        self._daemon = daemon
        self._router = daemon.router
        self._door = door

    def __call__(
        self,
        request: EdgeRequest,
        model: ModelId,
        target: bytes,
        body: bytes | StreamedBody,
        *,
        is_metered: bool,
    ) -> None:
        """Take a request over.

        Args:
            request: The client's side; nothing was sent yet.
            model: Whose request it is.
            target: Path and query for the upstream.
            body: For the upstream.
            is_metered: Whether the answer is read in passing.
        """
        config = self._daemon.config
        fields = request.fields
        if config.api_keys and not config.models[model].forward_api_key:
            fields = self._door.without_key(fields)
        forwarding = Forwarding(
            request,
            method=request.method,
            target=target,
            headers=fields,
            body=body,
            on_end=self._ended,
            is_metered=is_metered,
        )
        self._router.enter(model, forwarding)

    def _ended(self, forwarding: Forwarding) -> None:
        self._router.leave(forwarding.request_id)
