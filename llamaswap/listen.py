"""Where the daemon listens: the address on the command line, with or without TLS."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any, Final

from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IListeningPort, IProtocolFactory

from llamaswap.errors import ConfigError

if TYPE_CHECKING:
    from twisted.internet.ssl import DefaultOpenSSLContextFactory

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

    def bind(self, reactor: Any, factory: IProtocolFactory) -> IListeningPort:
        """Start to listen.

        An empty host means both families where the system has IPv6, as one dual-stack socket.

        Raises:
            CannotListenError: The address is in use, not ours, or not allowed.
            ConfigError: Certificate or key cannot be used.
        """
        if self.host:
            return self._bind(reactor, factory, "127.0.0.1" if self.host == "localhost" else self.host)
        try:
            return self._bind(reactor, factory, "::")
        except CannotListenError as error:
            # Without IPv6 the address family is the trouble; a port in use fails again, and says so.
            try:
                return self._bind(reactor, factory, "0.0.0.0")  # noqa: S104 - asked for by an empty host
            except CannotListenError:
                raise error from None

    def _bind(self, reactor: Any, factory: IProtocolFactory, interface: str) -> IListeningPort:
        port: IListeningPort
        if self.certificate:
            port = reactor.listenSSL(self.port, factory, self._tls(), backlog=BACKLOG, interface=interface)
        else:
            port = reactor.listenTCP(self.port, factory, backlog=BACKLOG, interface=interface)
        return port

    def _tls(self) -> DefaultOpenSSLContextFactory:
        # Loading OpenSSL takes a tenth of the daemon's start.
        from twisted.internet.ssl import DefaultOpenSSLContextFactory  # noqa: PLC0415

        try:
            made = DefaultOpenSSLContextFactory(self.key, self.certificate)
            made.getContext().use_certificate_chain_file(self.certificate)
        except Exception as error:
            # pyOpenSSL's error is a list of library codes; it says nothing of which file.
            msg = f"cannot use TLS certificate {self.certificate!r} with key {self.key!r}: {error}"
            raise ConfigError(msg) from error
        return made
