"""A model that the daemon itself uses for a while, as for preloading."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import Deferred

from llamaswap.core.values import RequestId
from llamaswap.errors import LlamaSwapError


class Loan:
    """A model asked for on our own behalf; in flight from the grant until it is given back.

    Args:
        leave: Ends the request.

    Attributes:
        request_id: Set by the router.
        ready: Fires with ``None`` at the grant; fails with the
            :class:`~llamaswap.errors.LlamaSwapError` of the refusal. Cancelling leaves the queue.
    """

    def __init__(self, leave: Callable[[RequestId], None]) -> None:
        self.request_id = RequestId(0)
        self.ready: Deferred[None] = Deferred(lambda _: self.release())
        self._leave = leave
        self._is_over = False

    def release(self) -> None:
        """Give the model back; harmless when called again."""
        if not self._is_over:
            self._is_over = True
            self._leave(self.request_id)

    def cancel(self, error: LlamaSwapError) -> None:
        """Give it up on somebody's order; ``ready`` fails with the error."""
        if not self.ready.called:
            self.refused(error)

    def granted(self, _pool: object, /) -> None:
        """See :class:`llamaswap.router.Waiter`."""
        self.ready.callback(None)

    def refused(self, error: LlamaSwapError, /) -> None:
        """See :class:`llamaswap.router.Waiter`."""
        self.release()
        self.ready.errback(error)

    def moved(self, _position: int, /) -> None:
        """See :class:`llamaswap.router.Waiter`; nobody looks at it."""

    def end_tunnel(self) -> None:
        """See :class:`llamaswap.router.Waiter`; it is none."""
