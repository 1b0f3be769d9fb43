"""The edge and the hop between real sockets: a client that we slow down, an upstream that follows a script."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from klein import Klein
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ServerEndpoint
from twisted.internet.interfaces import IListeningPort, IPullProducer
from twisted.internet.protocol import ClientFactory, Factory, Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from llamaswap.config.schema import Timeouts
from llamaswap.proxy.forward import Forwarding
from llamaswap.proxy.hop import HopPool
from llamaswap.web.dispatch import DirectResource
from llamaswap.web.edge import EdgeRequest
from llamaswap.web.errors import render_error
from llamaswap.web.site import EdgeSite

LIMIT_SECONDS = 30


class Peer(Protocol):
    """One end of a real connection.

    Attributes:
        received: What came, unless it is only counted.
        count: How many bytes came.
        lost: Fires when the connection has ended.
    """

    transport: Any

    def __init__(self, on_data: Callable[[Peer], None] | None = None, *, keeps: bool = True) -> None:
        self.received = b""
        self.count = 0
        self.lost: Deferred[None] = Deferred()
        self._on_data = on_data
        self._keeps = keeps
        self._waiting: list[tuple[Callable[[Peer], bool], Deferred[None]]] = []

    def dataReceived(self, data: bytes) -> None:
        self.count += len(data)
        if self._keeps:
            self.received += data
        if self._on_data is not None:
            self._on_data(self)
        for waiter in self._waiting[:]:
            if waiter[0](self):
                self._waiting.remove(waiter)
                waiter[1].callback(None)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.lost.callback(None)

    def until(self, is_so: Callable[[Peer], bool]) -> Deferred[None]:
        """Fire when that holds."""
        done: Deferred[None] = Deferred()
        if is_so(self):
            done.callback(None)
        else:
            self._waiting.append((is_so, done))
        return done

    def seen(self, end: bytes) -> Deferred[None]:
        return self.until(lambda peer: end in peer.received)

    def take(self) -> bytes:
        data, self.received = self.received, b""
        return data


@implementer(IPullProducer)
class Flood:
    """Sends a lot, as fast as it is taken."""

    def __init__(self, transport: Any, size: int) -> None:
        self.sent = 0
        self._size = size
        self._transport = transport
        transport.registerProducer(self, streaming=False)

    def resumeProducing(self) -> None:
        piece = bytes(min(1 << 18, self._size - self.sent))
        self.sent += len(piece)
        self._transport.write(piece)
        if self.sent == self._size:
            self._transport.unregisterProducer()

    def stopProducing(self) -> None:
        pass


class Rig:
    """Everything in one process, on real sockets.

    Attributes:
        accepted: The upstream's ends, in order.
        in_flight: Forwardings that have not ended.
        log: The access log.
    """

    site: EdgeSite
    pool: HopPool

    def __init__(self, on_data: Callable[[Peer], None] | None = None, *, keeps: bool = True) -> None:
        from twisted.internet import reactor

        self.reactor: Any = reactor
        self.accepted: list[Peer] = []
        self.in_flight: set[Forwarding] = set()
        self.log: list[str] = []
        self._on_data = on_data
        self._keeps = keeps
        self._ports: list[IListeningPort] = []
        self._peers: list[Peer] = []

    async def listen(self, endpoint: type = TCP4ServerEndpoint, host: str = "127.0.0.1") -> None:
        """Start the upstream, and the edge in front of it."""
        rig = self

        class Accept(Factory[Peer]):
            def buildProtocol(self, addr: object) -> Peer:
                peer = Peer(rig._on_data, keeps=rig._keeps)
                rig.accepted.append(peer)
                return peer

        class Root(DirectResource):
            def find(self, request: EdgeRequest) -> Callable[[EdgeRequest], None]:
                return rig.forward

        upstream = await endpoint(self.reactor, 0, interface=host).listen(Accept())
        self.pool = HopPool(self.reactor, f"http://localhost:{upstream.getHost().port}", Timeouts())
        self.site = EdgeSite(Root(Klein(), render_error), self.reactor, self)
        self._ports = [upstream, self.reactor.listenTCP(0, self.site, interface="127.0.0.1")]

    def line(self, _level: object, text: str) -> None:
        self.log.append(text)

    def forward(self, request: EdgeRequest) -> None:
        forwarding = Forwarding(
            request,
            method=request.method,
            target=request.uri,
            headers=request.fields,
            body=request.body,
            on_end=self.in_flight.remove,
        )
        self.in_flight.add(forwarding)
        forwarding.granted(self.pool)

    async def connect(self, on_data: Callable[[Peer], None] | None = None, *, keeps: bool = True) -> Peer:
        """Connect a client."""
        made: Deferred[Peer] = Deferred()

        class Dial(ClientFactory):
            noisy = False

            def buildProtocol(self, addr: object) -> Peer:
                peer = Peer(on_data, keeps=keeps)
                self.peer = peer
                rig.reactor.callLater(0, made.callback, peer)
                return peer

        rig = self
        self.reactor.connectTCP("127.0.0.1", self._ports[1].getHost().port, Dial())  # type: ignore[attr-defined]
        peer = await made
        self._peers.append(peer)
        return peer

    async def close(self) -> None:
        """End everything."""
        self.pool.close()
        for port in self._ports:
            await port.stopListening()  # type: ignore[misc]
        for peer in [*self._peers, *self.accepted]:
            if not peer.lost.called:
                peer.transport.abortConnection()
                await peer.lost
        while self.site.crowd:
            await self.turn()

    async def turn(self) -> None:
        """Let the reactor go on."""
        later: Deferred[None] = Deferred()
        self.reactor.callLater(0, later.callback, None)
        await later
