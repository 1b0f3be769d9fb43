"""Writing to sockets at once, and looking at them: all uses of what Twisted's transports keep to themselves.

``transport.write`` only queues; the bytes leave in the reactor's next turn, after two changes to
what the kernel watches. Most of what a proxy writes fits into the socket's buffer there and then.
Everything here falls back to the public interface for a transport of another kind, such as TLS.
"""

from __future__ import annotations

import select
import socket
from collections.abc import Callable
from typing import Final

from twisted.internet import tcp
from twisted.internet.interfaces import ITransport
from twisted.protocols.tls import TLSMemoryBIOProtocol

_NO_ERROR: Final = (BlockingIOError, InterruptedError)


def eager_writer(transport: ITransport) -> Callable[[bytes], None]:
    """Make a function that writes to a transport, at once if nothing is queued there.

    Order, back-pressure and the way in which a lost connection is told are those of
    ``transport.write``: an error of the socket is left to the reactor to find.
    """
    if not isinstance(transport, tcp.Connection) or transport.TLS:
        return transport.write
    send = transport.socket.send

    def write(data: bytes) -> None:
        if transport._tempDataBuffer or transport.dataBuffer or not transport.connected or transport.disconnecting:  # noqa: SLF001
            transport.write(data)
            return
        try:
            sent = send(data)
        except OSError:
            sent = 0
        if sent < len(data):
            transport.write(data[sent:] if sent else data)

    return write


def unsent_bytes(transport: ITransport) -> int:
    """Count what is queued for the other side and not in the kernel's hands yet; 0 if unknown."""
    below: object = transport.transport if isinstance(transport, TLSMemoryBIOProtocol) else transport
    if not isinstance(below, tcp.Connection):
        return 0
    return len(below.dataBuffer) - below.offset + below._tempDataLen  # noqa: SLF001


def is_idle(transport: ITransport) -> bool:
    """Tell whether a connection on which nothing is due is still open and silent.

    False when the other side closed it, or sent what nobody asked for.
    """
    if not isinstance(transport, tcp.Connection) or transport.TLS:
        return True
    try:
        transport.socket.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
    except _NO_ERROR:
        return True
    except OSError:
        return False
    return False


def tune(transport: ITransport, keepalive_seconds: int) -> None:
    """Make a fresh connection send small pieces at once, and find out when the other side is dead.

    Args:
        transport: Of any kind; only TCP is tuned.
        keepalive_seconds: Silence after which the kernel asks; 0 = never.
    """
    if not isinstance(transport, tcp.Connection):
        return
    transport.setTcpNoDelay(True)
    if keepalive_seconds:
        transport.setTcpKeepAlive(True)
        if hasattr(socket, "TCP_KEEPIDLE"):
            transport.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, keepalive_seconds)
            transport.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, keepalive_seconds)


def has_hung_up(transport: ITransport) -> bool:
    """Tell whether the other side has closed, although nobody reads what it sent before; False if unknown."""
    return hasattr(select, "POLLRDHUP") and _has_news(transport, select.POLLRDHUP)


def is_broken(transport: ITransport) -> bool:
    """Tell whether nothing can be sent to the other side any more, although nobody reads; False if unknown."""
    return hasattr(select, "poll") and _has_news(transport, 0)


def _has_news(transport: ITransport, kinds: int) -> bool:
    """Ask the kernel about a connection; errors and the end of both directions are always told."""
    if not isinstance(transport, tcp.Connection) or transport.TLS:
        return False
    poller = select.poll()
    poller.register(transport.socket, kinds)
    return bool(poller.poll(0))
