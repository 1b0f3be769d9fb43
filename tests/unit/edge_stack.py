"""The edge with a resource that writes down what it is asked, in memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from klein import Klein
from twisted.internet.testing import MemoryReactorClock
from twisted.web.server import NOT_DONE_YET

from llamaswap.config.schema import HTTPConfig
from llamaswap.web.dispatch import DirectResource, direct
from llamaswap.web.edge import EdgeRequest
from llamaswap.web.errors import render_error
from llamaswap.web.site import EdgeSite
from tests.unit.ends import End

LIMITS = HTTPConfig()
PLAIN = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


def get(path: str = "/direct", headers: str = "") -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: h\r\n{headers}\r\n".encode()


def post(body: bytes, path: str = "/direct", headers: str = "") -> bytes:
    return f"POST {path} HTTP/1.1\r\nHost: h\r\nContent-Length: {len(body)}\r\n{headers}\r\n".encode() + body


def answer(request: EdgeRequest) -> None:
    """Answer as a forwarding does."""
    request.relay_head(200, PLAIN)
    request.end(2)


class Lines:
    """An access log that is kept."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def line(self, level: Any, text: str) -> None:
        assert level.name == "info"
        self.lines.append(text)


class Edge:
    """A site with one direct route ``/direct``, one of Klein's ``/klein``, and ``/upstream/`` below.

    Attributes:
        requests: Those that reached a handler.
        bodies: Theirs, as they were then.
        handle: What the direct route does after that.
        finished: Requests that have ended.
    """

    def __init__(self, limits: HTTPConfig = LIMITS, handle: Callable[[EdgeRequest], None] = answer) -> None:
        self.reactor: Any = MemoryReactorClock()
        self.log = Lines()
        self.requests: list[EdgeRequest] = []
        self.bodies: list[Any] = []
        self.finished: list[EdgeRequest] = []
        self.handle = handle
        klein = Klein()
        klein.route("/direct", methods=["GET", "POST"])(self._handle)
        klein.route("/klein", methods=["GET", "POST"])(self._klein)
        edge = self

        class Root(DirectResource):
            def render_other(self, request: EdgeRequest) -> Any:
                if request.path.startswith(b"/upstream/"):
                    edge._handle(request)
                    return NOT_DONE_YET
                return self.render_klein(request)

        self.site = EdgeSite(
            Root(klein, render_error), self.reactor, self.log, limits, on_finished=self.finished.append
        )
        self.klein: Callable[[EdgeRequest], Any] = lambda _: b"klein"

    @direct
    def _handle(self, request: EdgeRequest) -> None:
        self.requests.append(request)
        self.bodies.append(request.body)
        self.handle(request)

    def _klein(self, request: EdgeRequest) -> Any:
        self.requests.append(request)
        return self.klein(request)

    def connect(self) -> End:
        return End(self.site.buildProtocol(None))

    def ask(self, data: bytes) -> bytes:
        """Send bytes on a connection of their own; give what comes back."""
        end = self.connect()
        end.send(data)
        return end.take()

    @property
    def codes(self) -> list[int]:
        return [request.code for request in self.finished]
