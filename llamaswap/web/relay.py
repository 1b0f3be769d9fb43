"""Where a request leaves the web layer: it becomes a forwarding and waits for the router's grant."""

from __future__ import annotations

from llamaswap.core.values import ModelId
from llamaswap.proxy.forward import Forwarding
from llamaswap.web.auth import Door
from llamaswap.web.daemon import Daemon
from llamaswap.web.edge import EdgeRequest
from llamaswap.web.exchange import Passage


class Relay:
    """Hands requests to the router; each leaves it again when its forwarding ends.

    Args:
        daemon: Has the router, and knows which models get the client's key.
        door: Takes the key away from the others.
    """

    def __init__(self, daemon: Daemon, door: Door) -> None:
        self._daemon = daemon
        self._router = daemon.router
        self._ledger = daemon.observers.ledger
        self._door = door

    def __call__(self, request: EdgeRequest, passage: Passage) -> None:
        """Take a request over; nothing was sent to the client yet."""
        config = self._daemon.config
        model = ModelId(passage.model)
        fields = request.fields
        if config.api_keys and not config.models[model].forward_api_key:
            fields = self._door.without_key(fields)
        exchange = self._ledger.begin(request, passage)
        forwarding = exchange.forwarding = Forwarding(
            request,
            method=request.method,
            target=passage.target,
            headers=fields,
            body=passage.body,
            on_end=self._ended,
            is_metered=passage.is_metered,
            witness=exchange,
        )
        self._router.enter(model, forwarding)

    def _ended(self, forwarding: Forwarding) -> None:
        self._router.leave(forwarding.request_id)
