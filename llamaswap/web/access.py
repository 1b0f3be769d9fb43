"""The access log: one line per request."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Protocol
from urllib.parse import unquote_to_bytes

from twisted.internet.interfaces import IReactorTime
from twisted.logger import LogLevel

from llamaswap.core.duration import duration

if TYPE_CHECKING:
    from llamaswap.web.edge import EdgeRequest

_UNLOGGED: Final = (b"/wol-health", b"/api/performance", b"/metrics")
_LONGEST_FIRST_LINE: Final = 200
"""Shown of what is no request."""
_LONGEST: Final = 1000
"""Shown of a path or an agent: one request does not fill a log."""


class LineLog(Protocol):
    """Where lines go."""

    def line(self, level: Any, text: str) -> None:
        """Write a line; control characters in it are escaped."""


class AccessLog:
    """Writes a line for each request that has ended.

    Args:
        log: Where to.
        clock: The one by which requests are timed.
    """

    def __init__(self, log: LineLog, clock: IReactorTime) -> None:
        self._log = log
        self._clock = clock

    def __call__(self, request: EdgeRequest) -> None:
        """Take note of the end of a request."""
        line = access_line(request, self._clock.seconds())
        if line is not None:
            self._log.line(LogLevel.info, line)

    def refused(self, client_host: bytes, head: bytes, status: int, sent_bytes: int) -> None:
        """Take note of an answer to what was no request; see :func:`refusal_line`."""
        self._log.line(LogLevel.info, refusal_line(client_host, head, status, sent_bytes))


def access_line(request: EdgeRequest, now_mono: float) -> str | None:
    """Word a finished request for the log.

    Args:
        request: The request.
        now_mono: The time of its end, on the reactor's clock.

    Returns:
        The line without its end, ``None`` for paths that are not logged. It holds what the client
        sent, control characters included.
    """
    path = request.path
    if path.startswith(_UNLOGGED):
        return None
    if b"%" in path:
        path = unquote_to_bytes(path)
    method = request.method[:_LONGEST].decode("ascii")
    agent = (request.getHeader(b"user-agent") or b"")[:_LONGEST]
    return (
        f'Request {client_address(request)} "{method} {path[:_LONGEST].decode("utf-8", "replace")} '
        f'{request.clientproto.decode("ascii")}" {request.code} {request.sentLength} '
        f'"{agent.decode("utf-8", "replace")}" {duration(now_mono - request.started_mono)}'
    )


def refusal_line(client_host: bytes, head: bytes, status: int, sent_bytes: int) -> str:
    """Word for the log what was refused before it was a request.

    Args:
        client_host: The client's address.
        head: What was received.
        status: Of the answer.
        sent_bytes: Of the answer's body.
    """
    first = head.partition(b"\r\n")[0].partition(b"?")[0][:_LONGEST_FIRST_LINE]
    return (
        f'Request {client_host.decode("utf-8", "replace")} "{first.decode("utf-8", "replace")}" '
        f'{status} {sent_bytes} "" {duration(0)}'
    )


def client_address(request: EdgeRequest) -> str:
    """Give the address of whom a request comes from: as proxies in front of us say that we believe, else the peer's."""
    return request.site.policy.client_address(  # type: ignore[no-any-return] # Twisted's attribute
        request.client_host.decode("utf-8", "replace"),
        request.getHeader(b"x-forwarded-for"),
        request.getHeader(b"x-real-ip"),
    )
