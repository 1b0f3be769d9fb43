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
    agent = request.getHeader(b"user-agent") or b""
    return (
        f'Request {client_address(request)} "{request.method.decode("ascii")} {path.decode("utf-8", "replace")} '
        f'{request.clientproto.decode("ascii")}" {request.code} {request.sentLength} '
        f'"{agent.decode("utf-8", "replace")}" {duration(now_mono - request.started_mono)}'
    )


def client_address(request: EdgeRequest) -> str:
    """Give the address of whom a request comes from: as proxies in front of us say, else the peer's."""
    named = request.getHeader(b"x-forwarded-for")
    if named is not None:
        named = named.partition(b",")[0].strip()
    return (named or request.getHeader(b"x-real-ip") or request.client_host).decode("utf-8", "replace")
