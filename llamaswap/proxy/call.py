"""One request to an upstream and its answer, over one connection or, after a stale one, a second."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Protocol

from twisted.internet.interfaces import IConnector, IDelayedCall

from llamaswap.config.schema import Timeouts
from llamaswap.errors import LlamaSwapError, UpstreamUnreachableError
from llamaswap.proxy.connection import HopConnection, ResponseTaker, StreamedBody


class CallPool(Protocol):
    """What a call needs of the pool; see :class:`llamaswap.proxy.hop.HopPool`.

    Attributes:
        timeouts: See :class:`~llamaswap.config.schema.Timeouts`.
    """

    timeouts: Timeouts

    def serve(self, call: HopCall, /) -> None:
        """Give a call its connection."""

    def dial(self, call: HopCall, /) -> None:
        """Open a connection for a call."""

    def forget(self, call: HopCall, /) -> None:
        """Take note that a call has ended."""

    def call_later(self, delay_seconds: float, function: Callable[[], None], /) -> IDelayedCall:
        """Call something later."""


class HopCall:
    """One request and its answer, over one connection or, after a stale one, a second.

    Args:
        pool: Where to.
        taker: Told of the answer.
        method: Of the request.
        head: The request's head, ready to go.
        body: The request's; one that is held is given up when the answer's head is there.
        may_switch: Whether both sides may speak something else than HTTP behind the answer.

    Attributes:
        connector: The attempt to connect, while there is one.
        is_answered: Whether the answer's head has come.
    """

    __slots__ = (
        "_connection",
        "_is_paused",
        "_pool",
        "_timer",
        "body",
        "connector",
        "head",
        "is_answered",
        "may_switch",
        "method",
        "taker",
    )

    def __init__(
        self,
        pool: CallPool,
        taker: ResponseTaker,
        method: bytes,
        head: bytes,
        body: bytes | StreamedBody,
        *,
        may_switch: bool = False,
    ) -> None:
        self.method = method
        self.head = head
        self.body = body
        self.taker = taker
        self.may_switch = may_switch
        self.connector: IConnector | None = None
        self.is_answered = False
        self._pool: CallPool | None = pool
        self._connection: HopConnection | None = None
        self._timer: IDelayedCall | None = None
        self._is_paused = False

    def start(self) -> None:
        """Send the request, in this turn where a connection is idle; the taker may be told before this returns."""
        if self._pool is not None:
            self._pool.serve(self)

    def use(self, connection: HopConnection) -> None:
        """Send the request on this connection."""
        pool = self._pool
        if pool is None:  # cancelled while connecting
            connection.give_up()
            return
        self.connector = None
        self._connection = connection
        connection.begin(self)
        if self._is_paused and self._connection is not None:
            connection.pause()

    def send_on(self, body: StreamedBody) -> None:
        """Send more, as it comes: the answer was a switch of protocols."""
        self.body = body
        if self._connection is not None:
            self._connection.send_on(body)

    def cancel(self) -> None:
        """Break off, in this turn; the taker hears nothing more. Harmless after the end."""
        connection, connector = self._connection, self.connector
        self.parted()
        if connection is not None:
            connection.give_up()
        elif connector is not None:
            connector.disconnect()

    @property
    def is_live(self) -> bool:
        """Whether anything is still to come."""
        return self._pool is not None

    def pause(self) -> None:
        """Read no more of the answer for now."""
        self._is_paused = True
        if self._connection is not None:
            self._connection.pause()

    def resume(self) -> None:
        """Read on."""
        self._is_paused = False
        if self._connection is not None:
            self._connection.resume()

    def fail(self, error: LlamaSwapError) -> None:
        """Break off, and tell the taker why. Harmless after the end."""
        if self._pool is not None:
            self.cancel()
            self.taker.failed(error)

    def fail_later(self, seconds: float, error: LlamaSwapError) -> None:
        """Break off then, unless the end comes before, or the head of the answer; the last call counts."""
        if self._pool is not None:
            self._stop_timer()
            self._timer = self._pool.call_later(seconds, partial(self._fail_now, error))

    def _fail_now(self, error: LlamaSwapError) -> None:
        self._timer = None
        self.fail(error)

    # ----------------------------------------------------------------- for the connection

    def sent(self) -> None:
        """See :class:`~llamaswap.proxy.connection.Call`; from here on the answer is due."""
        pool = self._pool
        if pool is not None and pool.timeouts.response_header_seconds and not self.is_answered:
            self.fail_later(
                pool.timeouts.response_header_seconds,
                UpstreamUnreachableError("the upstream did not answer in time"),
            )

    def answered(self) -> None:
        """See :class:`~llamaswap.proxy.connection.Call`."""
        self.is_answered = True
        self.head = b""
        if isinstance(self.body, bytes):
            self.body = b""
        self._stop_timer()

    def parted(self) -> None:
        """See :class:`~llamaswap.proxy.connection.Call`."""
        pool, self._pool = self._pool, None
        self._connection = self.connector = None
        self._stop_timer()
        if pool is not None:
            pool.forget(self)

    def unheard(self) -> None:
        """See :class:`~llamaswap.proxy.connection.Call`: the upstream had closed before, and did not see it."""
        self._connection = None
        self._stop_timer()
        if self._pool is not None:
            self._pool.dial(self)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
