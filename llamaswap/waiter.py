"""What the router needs of those who want to be served, and of the connections that they get."""

from __future__ import annotations

from typing import Protocol, TypeVar

from llamaswap.config.schema import Timeouts
from llamaswap.core.values import RequestId
from llamaswap.errors import LlamaSwapError


class Pool(Protocol):
    """Connections to one generation of one upstream, as far as the router cares."""

    timeouts: Timeouts

    def close(self) -> None:
        """Drop idle connections and fail the exchanges under way."""


PoolT = TypeVar("PoolT", bound=Pool)
_GrantedT_contra = TypeVar("_GrantedT_contra", contravariant=True)


class Waiter(Protocol[_GrantedT_contra]):
    """Somebody who wants to be served, and calls :meth:`~llamaswap.router.Router.leave` once, whatever the end is.

    Attributes:
        request_id: Set by the router before anything else happens.
    """

    request_id: RequestId

    def granted(self, pool: _GrantedT_contra, /) -> None:
        """Take the connections of a ready process; in flight from here on."""

    def refused(self, error: LlamaSwapError, /) -> None:
        """Take no for an answer."""

    def moved(self, position: int, /) -> None:
        """Take note of a new 1-based place in the queue."""

    def end_tunnel(self) -> None:
        """Close a websocket's tunnel; anything else goes on."""
