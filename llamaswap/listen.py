"""Where the daemon listens: the address on the command line, with or without TLS."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any, Final

from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IListeningPort, IOpenSSLServerConnectionCreator, IProtocolFactory
from zope.interface import implementer

from llamaswap.errors import ConfigError

BACKLOG: Final = 1024
"""Connections that may wait to be accepted: a burst of agents must not see refusals."""

_LARGEST_PORT: Final = 65535


@dataclass(frozen=True, slots=True)
class Listen:
    """An address to listen at.

    Attributes:
        host: Name or IP literal; empty = every address of this machine.
        port: 0 = any free one.
        certificate: Path of a certificate chain in PEM form; empty = no TLS.
        key: Path of its private key.
    """

    host: str
    port: int
    certificate: str = ""
    key: str = ""

    @classmethod
    def parse(cls, text: str, certificate: str = "", key: str = "") -> Listen:
        """Read ``host:port``, ``:port`` or ``[v6]:port``.

        Raises:
            ConfigError: It is none of these.
        """
        host, colon, port = text.rpartition(":")
        if host.startswith("[") and host.endswith("]"):
            host = host[1:-1]
        elif ":" in host:
            colon = ""
        if not colon or not port.isascii() or not port.isdigit() or int(port) > _LARGEST_PORT:
            msg = f"-listen: expected host:port, got {text!r}"
            raise ConfigError(msg)
        return cls(host, int(port), certificate, key)

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach it."""
        if self.host == "localhost":
            return True
        try:
            return ip_address(self.host).is_loopback
        except ValueError:
            return False

    def url(self, port: int) -> str:
        """Say how to reach it, ``port`` being the one that was bound."""
        host = self.host or "localhost"
        host = f"[{host}]" if ":" in host else host
        return f"{'https' if self.certificate else 'http'}://{host}:{port}"

    def bind(self, reactor: Any, factory: IProtocolFactory, tls: ServerTLS | None = None) -> IListeningPort:
        """Start to listen.

        An empty host means both families where the system has IPv6, as one dual-stack socket.

        Raises:
            CannotListenError: The address is in use, not ours, or not allowed.
        """
        if self.host:
            return self._bind(reactor, factory, tls, "127.0.0.1" if self.host == "localhost" else self.host)
        try:
            return self._bind(reactor, factory, tls, "::")
        except CannotListenError as error:
            # Without IPv6 the address family is the trouble; a port in use fails again, and says so.
            try:
                return self._bind(reactor, factory, tls, "0.0.0.0")  # noqa: S104 - asked for by an empty host
            except CannotListenError:
                raise error from None

    def _bind(self, reactor: Any, factory: IProtocolFactory, tls: ServerTLS | None, interface: str) -> IListeningPort:
        port: IListeningPort
        if tls is not None:
            port = reactor.listenSSL(self.port, factory, tls, backlog=BACKLOG, interface=interface)
        else:
            port = reactor.listenTCP(self.port, factory, backlog=BACKLOG, interface=interface)
        return port

    def tls(self) -> ServerTLS | None:
        """Give our side of encrypted connections; ``None`` = there is no TLS.

        Raises:
            ConfigError: Certificate or key cannot be used.
        """
        if not self.certificate:
            return None
        tls = ServerTLS(self.certificate, self.key)
        tls.read()
        return tls


@implementer(IOpenSSLServerConnectionCreator)
class ServerTLS:
    """Our certificate, for every new connection as it was read last.

    Args:
        certificate: Path of a certificate chain in PEM form.
        key: Path of its private key.
    """

    def __init__(self, certificate: str, key: str) -> None:
        self._certificate = certificate
        self._key = key
        self._context: Any = None

    def read(self) -> None:
        """Read the files, for the first time or anew; may be called in a thread.

        Raises:
            ConfigError: They cannot be used; those that were read before stay.
        """
        # Loading OpenSSL takes a tenth of the daemon's start.
        from OpenSSL import SSL  # noqa: PLC0415

        context = SSL.Context(SSL.TLS_SERVER_METHOD)
        context.set_min_proto_version(SSL.TLS1_2_VERSION)
        try:
            context.use_certificate_chain_file(self._certificate)
            context.use_privatekey_file(self._key)
            context.check_privatekey()
        except SSL.Error as error:
            # It is a list of library codes; it says nothing of which file.
            msg = f"cannot use TLS certificate {self._certificate!r} with key {self._key!r}: {error}"
            raise ConfigError(msg) from error
        self._context = context

    def serverConnectionForTLS(self, tlsProtocol: object) -> Any:  # noqa: ARG002, N802, N803 - Twisted's signature
        """See :class:`twisted.internet.interfaces.IOpenSSLServerConnectionCreator`."""
        from OpenSSL import SSL  # noqa: PLC0415

        return SSL.Connection(self._context, None)
