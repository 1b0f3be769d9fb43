"""The way to one upstream: a pool of keep-alive connections.

A :class:`HopPool` belongs to one generation of one upstream. Each request is a
:class:`~llamaswap.proxy.call.HopCall`: it takes an idle connection or opens one. No Deferred and no
timer is made for a request that finds an idle connection.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final, Protocol, cast
from urllib.parse import quote, urlsplit

from twisted.internet.interfaces import IAddress, IConnector, IDelayedCall
from twisted.internet.protocol import ClientFactory
from twisted.internet.ssl import optionsForClientTLS
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.python.failure import Failure

from llamaswap.config.schema import Timeouts
from llamaswap.errors import UpstreamDisconnectedError, UpstreamUnreachableError
from llamaswap.proxy.call import HopCall
from llamaswap.proxy.connection import HopConnection, is_repeatable
from llamaswap.proxy.headers import Fields, request_head
from llamaswap.proxy.secure import SecureConnection

IDLE_SECONDS: Final = 4.0
"""Longest rest of a connection: llama-server closes after about 5 seconds."""

_LOOPBACK: Final = ("127.0.0.1", "::1")
"""What ``localhost`` stands for, without asking a resolver; servers rarely listen on both."""

_PLAIN: Final = "%/:@!$&'()*+,;=~"
"""Stays as it was written in a base URL; a percent sign is an escape already."""

_PORTS: Final = {"http": 80, "https": 443}


class HopReactor(Protocol):
    """What is needed of a reactor: ``IReactorTCP`` and ``IReactorTime``."""

    def connectTCP(self, host: str, port: int, factory: Any, timeout: float | None = 30) -> IConnector:
        """Open a connection."""

    def callLater(self, delay: float, callable: Callable[..., object], *args: object) -> IDelayedCall:  # noqa: A002
        """Call something later."""

    def seconds(self) -> float:
        """Give the time."""


class HopPool:
    """Keep-alive connections to one generation of one upstream.

    Args:
        reactor: Opens connections and gives the time.
        base_url: Such as ``http://localhost:5800/base?key=1``; path and query come before those of requests.
        timeouts: See :class:`~llamaswap.config.schema.Timeouts`.
        idle_seconds: Longest rest of a connection; 0 = without limit.
        trust: An ``IOpenSSLTrustRoot`` for ``https``; ``None`` = whom the system trusts.

    Attributes:
        host: For requests without a ``Host``.
        timeouts: As given.
        is_closed: Whether nothing goes on here any more.
    """

    def __init__(
        self,
        reactor: HopReactor,
        base_url: str,
        timeouts: Timeouts,
        *,
        idle_seconds: float = IDLE_SECONDS,
        trust: Any = None,
    ) -> None:
        parts = urlsplit(base_url)
        self.host = parts.netloc.rpartition("@")[2].encode("idna")
        self.base_url = base_url
        self.timeouts = timeouts
        self._reactor = reactor
        self._hostname = (parts.hostname or "localhost").encode("idna").decode("ascii")
        self._port = parts.port or _PORTS.get(parts.scheme, 80)
        self._is_tls = parts.scheme == "https"
        self._trust = trust
        self._tls: Any = None  # made once: reading the certificates of all authorities takes its time
        self._idle_seconds = idle_seconds
        self._path = quote(parts.path.rstrip("/"), safe=_PLAIN).encode("ascii")
        self._query = quote(parts.query, safe=_PLAIN + "?").encode("ascii")
        self._idle: list[HopConnection] = []  # the one used last is the last
        self._calls: set[HopCall] = set()
        self._reaper: IDelayedCall | None = None
        self.is_closed = self._is_retired = False

    def request_head(
        self,
        method: bytes,
        target: bytes,
        fields: Fields,
        *,
        client_host: bytes,
        body_length: int | None,
        is_metered: bool,
        more: Iterable[tuple[bytes, bytes]] = (),
    ) -> bytes:
        """Make the head that the upstream gets; see :func:`~llamaswap.proxy.headers.request_head`."""
        return request_head(
            method,
            self.target(target),
            fields,
            client_host=client_host,
            default_host=self.host,
            body_length=body_length,
            is_metered=is_metered,
            more=more,
        )

    def target(self, target: bytes) -> bytes:
        """Join a request's path and query to those of the base URL."""
        if self._path:
            target = self._path + target
        if self._query:
            target = b"%b&%b" % (target, self._query) if b"?" in target else b"%b?%b" % (target, self._query)
        return target

    def close(self) -> None:
        """Drop idle connections, and fail the exchanges under way: the generation is over."""
        self.is_closed = True
        if self._reaper is not None:
            self._reaper.cancel()
            self._reaper = None
        idle, self._idle = self._idle, []
        for connection in idle:
            connection.give_up()
        for call in list(self._calls):
            call.fail(
                UpstreamDisconnectedError("the upstream was stopped in mid-answer")
                if call.is_answered
                else UpstreamUnreachableError("the upstream was stopped"),
            )

    def retire(self) -> None:
        """Close when the last of the exchanges under way has ended; there will be no others."""
        self._is_retired = True
        if not self._calls:
            self.close()

    # ----------------------------------------------------------------- for calls and connections

    def serve(self, call: HopCall) -> None:
        """Give a call its connection, in this turn where one is idle."""
        if self.is_closed:
            call.fail(UpstreamUnreachableError("the upstream was stopped"))
            return
        self._calls.add(call)
        # A body that passes by cannot be sent twice: its connection must not be a stale one.
        connection = self._take_idle() if is_repeatable(call.body) else None
        if connection is not None:
            call.use(connection)
        else:
            self.dial(call)

    def dial(self, call: HopCall, hosts: tuple[str, ...] = ()) -> None:
        """Open a connection for a call: to the first of the hosts that lets us, the base URL's by default."""
        if not hosts:
            hosts = _LOOPBACK if self._hostname == "localhost" else (self._hostname,)
        call.connector = self._reactor.connectTCP(
            hosts[0],
            self._port,
            self._secured(_Dialer(self, call, hosts[1:])),
            timeout=self.timeouts.connect_seconds or None,
        )

    def _secured(self, factory: ClientFactory) -> Any:
        if not self._is_tls:
            return factory
        self._prepare()
        return TLSMemoryBIOFactory(self._tls, True, factory, clock=cast("Any", self._reactor))  # noqa: FBT003

    def _prepare(self) -> None:
        """Make what TLS needs, if it is needed.

        Raises:
            ValueError: No certificate can be for this host.
        """
        if self._is_tls and self._tls is None:
            self._tls = optionsForClientTLS(self._hostname, trustRoot=self._trust)

    def connection(self, call: HopCall) -> HopConnection:
        """Make the protocol of a connection that a call waits for."""
        limits = self.timeouts
        if not self._is_tls:
            return HopConnection(self, call.use, limits.keepalive_seconds)
        return SecureConnection(
            self,
            call.use,
            call.fail,
            keepalive_seconds=limits.keepalive_seconds,
            handshake_seconds=limits.tls_handshake_seconds,
        )

    def forget(self, call: HopCall) -> None:
        """Take note that a call has ended."""
        self._calls.discard(call)
        if self._is_retired and not self._calls:
            self.close()

    def call_later(self, delay_seconds: float, function: Callable[[], None]) -> IDelayedCall:
        """Call something later."""
        return self._reactor.callLater(delay_seconds, function)

    # ----------------------------------------------------------------- idle connections

    def _take_idle(self) -> HopConnection | None:
        idle = self._idle
        while idle:
            connection = idle.pop()
            rest_seconds = self._reactor.seconds() - connection.idle_since_mono
            if (rest_seconds <= self._idle_seconds or not self._idle_seconds) and connection.is_usable():
                return connection
            connection.give_up()
        return None

    def connection_free(self, connection: HopConnection) -> None:
        """See :class:`~llamaswap.proxy.connection.Owner`."""
        if self.is_closed:
            connection.give_up()
            return
        connection.idle_since_mono = self._reactor.seconds()
        self._idle.append(connection)
        if self._reaper is None and self._idle_seconds:
            self._reaper = self._reactor.callLater(self._idle_seconds, self._reap)

    def connection_gone(self, connection: HopConnection) -> None:
        """See :class:`~llamaswap.proxy.connection.Owner`."""
        if connection in self._idle:
            self._idle.remove(connection)

    def _reap(self) -> None:
        """Drop what has rested for too long; come back when the next one will have."""
        self._reaper = None
        now = self._reactor.seconds()
        fresh = [c for c in self._idle if now - c.idle_since_mono < self._idle_seconds]
        stale = [c for c in self._idle if now - c.idle_since_mono >= self._idle_seconds]
        self._idle = fresh
        for connection in stale:
            connection.give_up()
        if fresh:
            self._reaper = self._reactor.callLater(fresh[0].idle_since_mono + self._idle_seconds - now, self._reap)


class _Dialer(ClientFactory):
    """Makes the connection that a call waits for.

    Args:
        pool: Will own it.
        call: Uses it.
        more_hosts: To be tried when this one does not let us.
    """

    noisy = False

    def __init__(self, pool: HopPool, call: HopCall, more_hosts: tuple[str, ...]) -> None:
        self._pool = pool
        self._call = call
        self._more_hosts = more_hosts

    def buildProtocol(self, addr: IAddress | None) -> HopConnection:  # noqa: ARG002 - Twisted's signature
        """Make the connection's protocol."""
        return self._pool.connection(self._call)

    def clientConnectionFailed(self, connector: IConnector, reason: Failure) -> None:  # noqa: ARG002
        """Try the next host, or give up."""
        if not self._call.is_live:
            return
        if self._more_hosts:
            self._pool.dial(self._call, self._more_hosts)
        else:
            self._call.fail(UpstreamUnreachableError(f"cannot connect to the upstream: {reason.getErrorMessage()}"))
