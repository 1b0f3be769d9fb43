"""The way to peers: other servers that offer models, each with connections of its own."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from llamaswap.config.schema import Peer
from llamaswap.config.urls import is_absolute
from llamaswap.errors import LlamaSwapError, ModelNotFoundError, PeerError, ShuttingDownError, UpstreamUnreachableError
from llamaswap.proxy.forward import Forwarding
from llamaswap.proxy.headers import Fields, request_head
from llamaswap.proxy.hop import HopPool, HopReactor

_OURS: Final = frozenset({b"host", b"forwarded", b"x-forwarded-for", b"x-forwarded-host", b"x-forwarded-proto"})
"""What concerns the way to us, and not the way to a peer."""

_SCHEMES: Final = ("http://", "https://")
_CREDENTIALS: Final = frozenset({b"authorization", b"x-api-key"})


class PeerPool(HopPool):
    """Keep-alive connections to one peer.

    Args:
        reactor: Opens connections and gives the time.
        peer: Where to.
        trust: An ``IOpenSSLTrustRoot``; ``None`` = whom the system trusts.

    Raises:
        ValueError: Nobody can be reached at its URL, or its key cannot be sent.
    """

    def __init__(self, reactor: HopReactor, peer: Peer, trust: Any = None) -> None:
        if not (is_absolute(peer.proxy) and peer.proxy.lower().startswith(_SCHEMES)):
            raise ValueError(f"{peer.proxy} is no http or https URL")
        idle_seconds = peer.timeouts.idle_connection_seconds
        super().__init__(reactor, peer.proxy, peer.timeouts, idle_seconds=idle_seconds, trust=trust)
        self._prepare()
        written = peer.api_key.strip()
        if not written.isprintable():
            raise ValueError(f"the apiKey of {peer.id} cannot be sent")
        key = written.encode()
        self._left_out = _OURS | _CREDENTIALS if key else _OURS
        self._key_fields: Fields = [(b"Authorization", b"Bearer " + key), (b"x-api-key", key)] if key else []

    def request_head(
        self,
        method: bytes,
        target: bytes,
        fields: Fields,
        *,
        client_host: bytes,  # noqa: ARG002 - a peer is not told
        body_length: int | None,
        is_metered: bool,
        more: Iterable[tuple[bytes, bytes]] = (),
    ) -> bytes:
        """Make the head that the peer gets; see :func:`~llamaswap.proxy.headers.request_head`."""
        return request_head(
            method,
            self.target(target),
            [field for field in fields if field[0].lower() not in self._left_out],
            client_host=None,
            default_host=self.host,
            body_length=body_length,
            is_metered=is_metered,
            more=[*more, *self._key_fields],
        )


class PeerForwarding(Forwarding):
    """A client request on its way to a peer."""

    def failed(self, error: LlamaSwapError) -> None:
        """See :class:`~llamaswap.proxy.connection.ResponseTaker`."""
        super().failed(PeerError(error.message) if isinstance(error, UpstreamUnreachableError) else error)


class Peers:
    """The connections to all peers; made when they are first needed.

    Args:
        reactor: Opens connections and gives the time.
        peers: By id.
        trust: An ``IOpenSSLTrustRoot``; ``None`` = whom the system trusts.
    """

    def __init__(self, reactor: HopReactor, peers: Mapping[str, Peer], trust: Any = None) -> None:
        self._reactor = reactor
        self._peers = peers
        self._trust = trust
        self._pools: dict[str, PeerPool] = {}
        self._retired: list[PeerPool] = []
        self._is_ending = False

    def pool(self, peer: str) -> PeerPool:
        """Give the connections to a peer.

        Args:
            peer: Its id.

        Raises:
            ModelNotFoundError: There is no such peer any more.
            PeerError: It cannot be reached.
            ShuttingDownError: The daemon is about to end.
        """
        if self._is_ending:
            raise ShuttingDownError("peer proxy is shutting down")
        pool = self._pools.get(peer)
        if pool is None:
            if peer not in self._peers:
                raise ModelNotFoundError("no peer found for requested model")
            try:
                pool = PeerPool(self._reactor, self._peers[peer], self._trust)
            except ValueError as error:
                raise PeerError(str(error)) from None
            self._pools[peer] = pool
        return pool

    def apply(self, peers: Mapping[str, Peer]) -> None:
        """Follow another configuration: who is reached as before keeps its connections."""
        before, self._peers = self._peers, peers
        self._retired = [pool for pool in self._retired if not pool.is_closed]
        for name in list(self._pools):
            if name not in peers or _way_to(before[name]) != _way_to(peers[name]):
                pool = self._pools.pop(name)
                pool.retire()
                self._retired.append(pool)

    def refuse(self) -> None:
        """Let what is under way go on, and nothing else."""
        self._is_ending = True

    def close(self) -> None:
        """Close all connections, and fail what is still under way."""
        self._is_ending = True
        for pool in (*self._pools.values(), *self._retired):
            pool.close()
        self._pools.clear()
        self._retired.clear()


def _way_to(peer: Peer) -> tuple[object, ...]:
    """Give what decides how a peer is reached; all else concerns single requests."""
    return peer.proxy, peer.api_key, peer.timeouts
