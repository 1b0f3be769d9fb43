"""When a server that was just started begins to answer."""

from __future__ import annotations

from string import punctuation
from typing import Final
from urllib.parse import quote, urlsplit, urlunsplit

from twisted.internet import defer
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.internet.protocol import Protocol, connectionDone
from twisted.internet.task import deferLater
from twisted.python.failure import Failure
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAgent, IResponse
from zope.interface import Interface

from llamaswap.core.duration import duration
from llamaswap.errors import UpstreamStartTimeoutError

_FIRST_PROBE_SECONDS: Final = 0.002
_SHORTEST_PAUSE_SECONDS: Final = 0.005
_LONGEST_PAUSE_SECONDS: Final = 0.25
_PAUSE_SHARE: Final = 0.01
"""Of the time waited so far."""

_PROBE_SECONDS: Final = 5.0
"""Longest wait for the head of one answer; connecting is limited by the agent."""

_BODY_SECONDS: Final = 1.0
_BODY_BYTES: Final = 65_536
"""An answer with a longer or slower body is cut off: only its status matters."""

_OK: Final = 200


class IAnswerOwner(Interface):
    """Optional ability of an :class:`~llamaswap.interfaces.ILaunched`: to tell who answers at its address."""

    def is_own_answer() -> Deferred[bool]:
        """Say whether what answers at ``base_url`` is this server, as far as can be told; never fails."""


class HealthCheck:
    """Asks a server until it says 200.

    Args:
        agent: Sends the probes; follows no redirects, and gives up connecting after half a second.
        clock: Monotonic time and timers.
        url: What to ask for.
        timeout_seconds: For the whole check.
        owner: Asked after a 200, unless ``None``: an answer of somebody else does not count.
    """

    def __init__(
        self, agent: IAgent, clock: IReactorTime, url: str, *, timeout_seconds: float, owner: object = None
    ) -> None:
        self._agent = agent
        self._clock = clock
        self._url = url.encode("ascii", "backslashreplace")
        self._timeout_seconds = timeout_seconds
        self._owner: IAnswerOwner | None = IAnswerOwner(owner, None)

    def wait(self) -> Deferred[None]:
        """Probe until the server is healthy, one probe after another.

        Returns:
            Fires with ``None`` after an answer with status 200. Fails with
            :class:`~llamaswap.errors.UpstreamStartTimeoutError` when the time is up, whatever is
            going on then. Cancelling ends the probe under way, too.
        """
        checked = Deferred.fromCoroutine(self._probe_until_healthy())
        return checked.addTimeout(self._timeout_seconds, self._clock).addErrback(self._too_late)

    def _too_late(self, failure: Failure) -> None:
        failure.trap(defer.TimeoutError)
        raise UpstreamStartTimeoutError(f"health check timed out after {duration(self._timeout_seconds)}")

    async def _probe_until_healthy(self) -> None:
        started = self._clock.seconds()
        pause = _FIRST_PROBE_SECONDS
        while True:
            await deferLater(self._clock, pause)
            if await self._probe() == _OK and await self._is_own_answer():
                return
            waited = self._clock.seconds() - started
            pause = min(max(_SHORTEST_PAUSE_SECONDS, _PAUSE_SHARE * waited), _LONGEST_PAUSE_SECONDS)

    async def _is_own_answer(self) -> bool:
        return self._owner is None or await self._owner.is_own_answer()

    async def _probe(self) -> int | None:
        """Ask once; gives the status, or ``None`` for any failure: not yet."""
        asked = self._agent.request(b"GET", self._url, Headers({b"User-Agent": [b"llamaswap"]}))

        # Agents dress a cancellation up as failures of their own, which are not to be taken for "not yet".
        def cancel(heard: Deferred[int | None]) -> None:
            heard.errback(CancelledError())
            asked.cancel()

        heard: Deferred[int | None] = Deferred(cancel)

        def hear(result: IResponse | Failure) -> None:
            if heard.called:
                return
            if isinstance(result, Failure):
                heard.callback(None)
            else:
                result.deliverBody(BodySink(self._clock))
                heard.callback(result.code)

        asked.addTimeout(_PROBE_SECONDS, self._clock).addBoth(hear)
        return await heard


class BodySink(Protocol):
    """Let a body pass, so that its server is not disturbed, but neither for long nor without limit."""

    def __init__(self, clock: IReactorTime) -> None:
        self._left_bytes = _BODY_BYTES
        self._timer: IDelayedCall | None = clock.callLater(_BODY_SECONDS, self._cut_off)

    def dataReceived(self, data: bytes) -> None:
        """Count."""
        self._left_bytes -= len(data)
        if self._left_bytes < 0:
            self._cut_off()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """See the parent class."""
        del reason
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None

    def _cut_off(self) -> None:
        self.connectionLost()
        if self.transport is not None:
            self.transport.loseConnection()


def probe_url(base_url: str, endpoint: str) -> str:
    """Join the path of a check endpoint to the path of a server's URL; its query is kept.

    What may not stand in a request's first line is percent-encoded; what is encoded already stays so.
    """
    base = urlsplit(base_url)
    wanted = urlsplit(endpoint)
    path = quote(f"{base.path.rstrip('/')}/{wanted.path.lstrip('/')}", safe=punctuation)
    return urlunsplit((base.scheme, base.netloc, path, quote(wanted.query, safe=punctuation), ""))
