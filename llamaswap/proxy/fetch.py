"""A small answer of a model's server as a whole, for questions of our own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from twisted.web.client import ResponseDone
from twisted.web.http import PotentialDataLoss
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAgent, IResponse

from llamaswap.errors import UpstreamDisconnectedError, UpstreamUnreachableError

LONGEST_SECONDS: Final = 10.0
"""As long as Prometheus waits by default."""

MOST_BYTES: Final = 16 * 1024 * 1024


class Fetched(NamedTuple):
    """An answer.

    Attributes:
        status: Its status.
        media_type: Its ``Content-Type``, empty when it has none.
        body: As it was sent.
    """

    status: int
    media_type: bytes
    body: bytes


def fetch(
    agent: IAgent, clock: IReactorTime, url: bytes, fields: Sequence[tuple[bytes, bytes]] = ()
) -> Deferred[Fetched]:
    """Ask with GET, on a connection of its own.

    Args:
        agent: Makes the request.
        clock: Limits the time.
        url: Absolute.
        fields: Header fields to send.

    Returns:
        Fires with the answer, whatever its status. Fails with
        :class:`~llamaswap.errors.UpstreamUnreachableError` when there is none in time, and with
        :class:`~llamaswap.errors.UpstreamDisconnectedError` when it breaks off or is too long.
        Cancelling breaks off.
    """
    headers = Headers()
    for name, value in fields:
        headers.addRawHeader(name, value)
    fetched = Deferred.fromCoroutine(_fetch(agent, url, headers))
    return fetched.addTimeout(LONGEST_SECONDS, clock, onTimeoutCancel=_too_late)


async def _fetch(agent: IAgent, url: bytes, headers: Headers) -> Fetched:
    response: IResponse = await agent.request(b"GET", url, headers)
    media_type = (response.headers.getRawHeaders(b"content-type") or [b""])[0]
    reader = _BodyReader()
    response.deliverBody(reader)
    return Fetched(response.code, media_type, await reader.done)


def _too_late(_result: object, seconds: float) -> Fetched:
    raise UpstreamUnreachableError(f"the upstream took longer than {seconds:g} s to answer")


class _BodyReader(Protocol):
    """Gathers a body.

    Attributes:
        done: Fires with it.
    """

    def __init__(self) -> None:
        self.done: Deferred[bytes] = Deferred(lambda _: self._break_off())
        self._pieces: list[bytes] = []
        self._left_bytes = MOST_BYTES

    def dataReceived(self, data: bytes) -> None:
        """Keep a piece."""
        self._left_bytes -= len(data)
        if self._left_bytes < 0:
            self._fail(UpstreamDisconnectedError("the upstream's answer is too long"))
            self._break_off()
        else:
            self._pieces.append(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """See the parent class."""
        if reason.check(ResponseDone, PotentialDataLoss) is None:
            self._fail(UpstreamDisconnectedError("the upstream broke off in mid-answer"))
        elif not self.done.called:
            self.done.callback(b"".join(self._pieces))

    def _fail(self, error: Exception) -> None:
        if not self.done.called:
            self.done.errback(error)

    def _break_off(self) -> None:
        if self.transport is not None:
            self.transport.loseConnection()
