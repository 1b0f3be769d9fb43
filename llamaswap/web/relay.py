"""Where a request leaves the web layer: it becomes a forwarding and waits for the router's grant."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Final

from llamaswap.config.schema import Peer
from llamaswap.core.values import ModelId
from llamaswap.errors import ConflictError, LlamaSwapError, ModelNotFoundError
from llamaswap.proxy.forward import Forwarding
from llamaswap.proxy.headers import Fields
from llamaswap.proxy.loading import REMARKS, LoadingForwarding, Script
from llamaswap.proxy.peers import PeerForwarding
from llamaswap.web.auth import Door
from llamaswap.web.daemon import Daemon
from llamaswap.web.edge import EdgeRequest
from llamaswap.web.exchange import Passage

_LOADING_PATHS: Final = b"/v1/chat/completions"
"""Requests below get a loading stream where one is wanted."""


class Relay:
    """Hands requests to the router; each leaves it again when its forwarding ends.

    Args:
        daemon: Has the router, and knows which models get the client's key.
        door: Takes the key away from the others.
        now: Gives UTC epoch seconds.
        random: What the remarks of loading streams come from.
    """

    def __init__(self, daemon: Daemon, door: Door, now: Callable[[], float], random: Random) -> None:
        self._daemon = daemon
        self._router = daemon.router
        self._ledger = daemon.observers.ledger
        self._door = door
        self._now = now
        self._random = random

    def __call__(self, request: EdgeRequest, passage: Passage) -> None:
        """Take a request over; nothing was sent to the client yet.

        Raises:
            ConflictError: It is a websocket that must not start its model.
        """
        if passage.peer is not None:
            self._to_peer(request, passage, passage.peer)
            return
        config = self._daemon.config
        model = ModelId(passage.model)
        fields = request.fields
        if config.api_keys and not config.models[model].forward_api_key:
            fields = self._door.without_key(fields)
        if request.upgrade and config.models[model].ignore_websockets:
            self._tunnel_aside(request, passage, fields)
            return
        exchange = self._ledger.begin(request, passage)
        forwarding = exchange.forwarding = self._kind(request, passage)(
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
        if not forwarding.is_waiting:
            return
        unready = passage.unready()
        if unready:
            forwarding.cancel(ConflictError(unready))
        elif isinstance(forwarding, LoadingForwarding):
            remarks = REMARKS if config.loading_remarks is None else config.loading_remarks
            forwarding.show(Script(model, remarks, self._random, self._now()), request.site.reactor)

    def _to_peer(self, request: EdgeRequest, passage: Passage, peer: Peer) -> None:
        """Send a request to another server: nothing is loaded, nothing is waited for."""
        exchange = self._ledger.begin(request, passage)
        forwarding = exchange.forwarding = PeerForwarding(
            request,
            method=request.method,
            target=passage.target,
            headers=request.fields if peer.forward_api_key else self._door.without_key(request.fields),
            body=passage.body,
            on_end=_no_end,
            is_metered=passage.is_metered,
            witness=exchange,
        )
        try:
            pool = self._daemon.peers.pool(peer.id)
        except LlamaSwapError as error:
            forwarding.refused(error)
        else:
            forwarding.granted(pool)

    def _kind(self, request: EdgeRequest, passage: Passage) -> type[Forwarding]:
        """Choose between a forwarding that waits silently and one that shows what it waits for."""
        if not passage.wants_stream or not request.path.startswith(_LOADING_PATHS):
            return Forwarding
        model = self._daemon.config.models[ModelId(passage.model)]
        return LoadingForwarding if model.send_loading_state else Forwarding

    def take_note(self, request: EdgeRequest, passage: Passage, error: ModelNotFoundError) -> None:
        """Let those who look on know of a request whose model nobody knows; the caller answers it."""
        self._ledger.refuse(request, passage, error)

    def _tunnel_aside(self, request: EdgeRequest, passage: Passage, fields: Fields) -> None:
        """Open a tunnel that nobody counts, waits for or protects: it ends when the model's process does."""
        if passage.on_end is not None:
            passage.on_end()  # a selector must not count it either
        pool = self._router.ready_pool(ModelId(passage.model))
        if pool is None:
            raise ConflictError(f"model {passage.model} is not loaded; ignored websocket requests cannot start it")
        request.may_be_cut = True
        Forwarding(
            request,
            method=request.method,
            target=passage.target,
            headers=fields,
            body=b"",
            on_end=_no_end,
        ).granted(pool)

    def _ended(self, forwarding: Forwarding) -> None:
        self._router.leave(forwarding.request_id)


def _no_end(_forwarding: Forwarding) -> None:
    """Tell nobody: the router does not know of it."""
