"""The way out of a client connection, as Twisted's requests and the reactor know it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from twisted.internet import protocol
from twisted.internet.interfaces import IAddress, IPushProducer, ISSLTransport
from twisted.web.http_headers import Headers
from zope.interface import implementer

from llamaswap.proxy.wire import eager_writer


@implementer(IPushProducer)
class Outlet(protocol.Protocol):
    """Carries answers, and tells who makes them when the client is slow.

    Attributes:
        write: Sends bytes, at once where possible.
        is_full: Whether the client takes less than it gets.
    """

    transport: Any
    write: Callable[[bytes], None]

    def __init__(self) -> None:
        self.is_full = False
        self._producer: Any = None  # of the answer's body

    def connectionMade(self) -> None:
        """Begin to carry."""
        self.write = eager_writer(self.transport)
        self.transport.registerProducer(self, streaming=True)

    def writeSequence(self, pieces: Iterable[bytes]) -> None:
        """Send several pieces."""
        self.write(b"".join(pieces))

    def writeHeaders(self, version: bytes, code: bytes, reason: bytes, headers: Headers) -> None:
        """Send a head."""
        lines = [b"%b %b %b" % (version, code, reason)]
        lines += [b"%b: %b" % (name, value) for name, values in headers.getAllRawHeaders() for value in values]
        lines.append(b"\r\n")
        self.write(b"\r\n".join(lines))

    def registerProducer(self, producer: Any, streaming: bool) -> None:  # noqa: FBT001 - Twisted's signature
        """Tell a push producer when the client is slow."""
        if not streaming:
            raise ValueError("only push producers are served")
        self._producer = producer
        if self.is_full:
            producer.pauseProducing()

    def unregisterProducer(self) -> None:
        """Tell nobody any more."""
        self._producer = None

    def pauseProducing(self) -> None:
        """The client takes less than it gets."""
        self.is_full = True
        if self._producer is not None:
            self._producer.pauseProducing()

    def resumeProducing(self) -> None:
        """The client has caught up."""
        self.is_full = False
        if self._producer is not None:
            self._producer.resumeProducing()

    def stopProducing(self) -> None:
        """The connection is gone; ``connectionLost`` follows."""

    def getPeer(self) -> IAddress:
        """Give the client's address."""
        return self.transport.getPeer()  # type: ignore[no-any-return] # Twisted's

    def getHost(self) -> IAddress:
        """Give our address."""
        return self.transport.getHost()  # type: ignore[no-any-return] # Twisted's

    def isSecure(self) -> bool:
        """Tell whether the connection is encrypted."""
        return bool(ISSLTransport.providedBy(self.transport))
