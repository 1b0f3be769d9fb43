"""Connections to upstreams over TLS: a request goes out when it is certain who reads it."""

from __future__ import annotations

from collections.abc import Callable

from OpenSSL import SSL
from service_identity import VerificationError
from twisted.internet import protocol
from twisted.internet.interfaces import IDelayedCall, IHandshakeListener
from twisted.python.failure import Failure
from zope.interface import implementer

from llamaswap.errors import LlamaSwapError, UpstreamUnreachableError
from llamaswap.proxy.connection import HopConnection, Owner
from llamaswap.proxy.wire import tune


@implementer(IHandshakeListener)
class SecureConnection(HopConnection):
    """A connection that is there when both sides have agreed on keys, and the certificate is in order.

    Args:
        owner: As for any connection.
        on_made: As for any connection.
        on_failed: Called when there will be no connection.
        keepalive_seconds: As for any connection.
        handshake_seconds: Longest handshake; 0 = without limit.
    """

    def __init__(
        self,
        owner: Owner,
        on_made: Callable[[HopConnection], None],
        on_failed: Callable[[LlamaSwapError], None],
        *,
        keepalive_seconds: int,
        handshake_seconds: int,
    ) -> None:
        super().__init__(owner, on_made, keepalive_seconds)
        self._on_failed: Callable[[LlamaSwapError], None] | None = on_failed
        self._handshake_seconds = handshake_seconds
        self._timer: IDelayedCall | None = None

    def connectionMade(self) -> None:
        """Begin the handshake."""
        tune(self.transport.transport, self._keepalive_seconds)
        if self._handshake_seconds:
            self._timer = self._owner.call_later(self._handshake_seconds, self._too_late)

    def handshakeCompleted(self) -> None:  # noqa: N802 - Twisted's name
        """Begin to work."""
        self._settle()
        super().connectionMade()

    def connectionLost(self, reason: Failure = protocol.connectionDone) -> None:
        """Say why there is no connection, or what its end means for the request."""
        on_failed = self._settle()
        if on_failed is not None:
            on_failed(UpstreamUnreachableError(f"no secure connection to the upstream: {_cause(reason)}"))
        super().connectionLost(reason)

    def _too_late(self) -> None:
        self._timer = None
        on_failed = self._settle()
        self.transport.abortConnection()
        if on_failed is not None:
            on_failed(UpstreamUnreachableError("no secure connection to the upstream: the handshake took too long"))

    def _settle(self) -> Callable[[LlamaSwapError], None] | None:
        """End the handshake; give who waits for it."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        on_failed, self._on_failed = self._on_failed, None
        return on_failed


def _cause(reason: Failure) -> str:
    if reason.check(VerificationError):
        return "the certificate is for another host"
    if isinstance(reason.value, SSL.Error):
        return str(reason.value.args[0][-1][-1]) if reason.value.args else "closed too early"
    return reason.getErrorMessage().rstrip(".")
