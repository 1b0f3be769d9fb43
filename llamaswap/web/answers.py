"""Our own answers that are no errors of ours: texts, JSON documents, redirects.

Each function sets status and headers of a response that has not begun, and gives the body.
"""

from __future__ import annotations

from html import escape
from typing import Final, Protocol

from msgspec.json import encode
from twisted.web.iweb import IRequest

from llamaswap.core.rewrite import thaw

PLAIN_TEXT: Final = b"text/plain; charset=utf-8"
JSON: Final = b"application/json"


class Closable(Protocol):
    """A request whose connection may be used for others afterwards."""

    keeps_alive: bool

    def setHeader(self, name: bytes, value: bytes, /) -> None:
        """Set a header of the response."""


def text(request: IRequest, content: str, status: int = 200) -> bytes:
    """Answer with a text."""
    return _answer(request, status, PLAIN_TEXT, content.encode())


def document(request: IRequest, value: object, status: int = 200) -> bytes:
    """Answer with a JSON document."""
    return _answer(request, status, JSON, encode(value, enc_hook=thaw))


def encoded(request: IRequest, body: bytes, media_type: bytes = JSON, status: int = 200) -> bytes:
    """Answer with what is encoded already."""
    return _answer(request, status, media_type, body)


def redirect(request: IRequest, location: bytes, status: int) -> bytes:
    """Send the client to another place.

    Args:
        request: The request.
        location: Path and query, escaped.
        status: 301, 302, 307 or 308.
    """
    request.setHeader(b"location", location)
    return _answer(
        request, status, b"text/html; charset=utf-8", b'<a href="%b">Elsewhere</a>.\n' % _attribute(location)
    )


def refusal(request: IRequest, status: int, content: str) -> bytes:
    """Answer what no route can: in plain text, whatever the client accepts."""
    request.setHeader(b"x-content-type-options", b"nosniff")
    return _answer(request, status, PLAIN_TEXT, content.encode())


def close_after(request: Closable) -> None:
    """Close the connection when the answer has ended."""
    request.keeps_alive = False
    request.setHeader(b"connection", b"close")


def _answer(request: IRequest, status: int, media_type: bytes, body: bytes) -> bytes:
    request.setResponseCode(status)
    request.setHeader(b"content-type", media_type)
    request.setHeader(b"content-length", b"%d" % len(body))
    return body


def _attribute(value: bytes) -> bytes:
    return escape(value.decode("latin-1")).encode("latin-1")
