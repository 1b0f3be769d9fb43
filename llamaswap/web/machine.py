"""Routes about the machine: its figures, what it is, and whether the daemon takes requests."""

from __future__ import annotations

from typing import Final

from klein import Klein
from twisted.web.iweb import IRequest

from llamaswap.errors import BadRequestError, HardwareUnknownError
from llamaswap.telemetry.rfc3339 import parse_ns
from llamaswap.web import answers
from llamaswap.web.asked import first_value
from llamaswap.web.observers import Observers

READY_PATH: Final = b"/api/ready"
"""Needs no key: load balancers and orchestrators have none."""

_BEFORE_ALL_NS: Final = -(1 << 63)


class MachineRoutes:
    """The handlers.

    Args:
        observers: Have the figures.
    """

    def __init__(self, observers: Observers) -> None:
        self._observers = observers

    def register(self, app: Klein) -> None:
        """Add the routes."""
        for path, handler in (
            ("/api/performance", self.performance),
            ("/api/hardware", self.hardware),
            ("/api/ready", self.ready),
        ):
            app.route(path, methods=["GET"], endpoint=path)(handler)

    def performance(self, request: IRequest) -> bytes:
        """Answer ``GET /api/performance`` with the samples of the last hour, ``?after=`` an instant.

        Raises:
            BadRequestError: That is no instant.
        """
        monitor = self._observers.monitor
        if not monitor.is_on:
            return answers.document(request, {"enabled": False}, 503)
        written = first_value(request.uri.partition(b"?")[2], "after")
        after_ns = parse_ns(written) if written else _BEFORE_ALL_NS
        if after_ns is None:
            raise BadRequestError("invalid 'after' timestamp, use RFC3339 format")
        system, gpus = (b",".join(pieces) for pieces in monitor.history(after_ns))
        return answers.encoded(request, b'{"enabled":true,"sys_stats":[%b],"gpu_stats":[%b]}' % (system, gpus))

    def hardware(self, request: IRequest) -> bytes:
        """Answer ``GET /api/hardware`` with what was found out at the start.

        Raises:
            HardwareUnknownError: Nothing was, or not yet.
        """
        document = self._observers.hardware
        if document is None:
            raise HardwareUnknownError
        return answers.document(request, document)

    def ready(self, request: IRequest) -> bytes:
        """Answer ``GET /api/ready``: whether requests are taken."""
        request.setHeader(b"cache-control", b"no-store")
        is_ready = not self._observers.is_ending
        return answers.document(request, {"ready": is_ready}, 200 if is_ready else 503)
