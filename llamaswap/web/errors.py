"""Errors as clients see them: the one place that turns an exception into a response."""

from __future__ import annotations

from html import escape
from typing import Final, NamedTuple, Protocol

from msgspec.json import encode

from llamaswap.errors import LlamaSwapError, ShuttingDownError, UnauthorizedError
from llamaswap.web.answers import Closable, close_after

_SOURCE: Final = "llama-swap"
"""Tells a client that the error is ours and not the upstream's."""

_CHALLENGE: Final = b'Basic realm="llama-swap"'
"""Makes a browser ask for a password, with which its event streams work, too."""

_ANTHROPIC_PATHS: Final = (b"/v1/messages", b"/v/messages")
_ANTHROPIC_TYPES: Final[dict[int, str]] = {
    401: "authentication_error",
    403: "authentication_error",
    404: "not_found_error",
    429: "rate_limit_error",
    503: "overloaded_error",
}
_TOO_MANY: Final = 429
_SERVER_ERROR_LEAST: Final = 500


class ErrorBody(NamedTuple):
    """A body with its media type."""

    media_type: bytes
    content: bytes


class Request(Closable, Protocol):
    """What an error needs of the request that it answers."""

    path: bytes

    def getHeader(self, key: bytes, /) -> bytes | None:
        """Give the value of a header of the request."""

    def setResponseCode(self, code: int, /) -> None:
        """Set the status of the response."""


def render_error(request: Request, error: LlamaSwapError) -> bytes:
    """Set an error's status and headers on a response that has not begun.

    Returns:
        The body, in the form that the request's ``Accept`` asks for.
    """
    body = error_body(error, request.getHeader(b"accept") or b"", request.path)
    request.setResponseCode(error.status)
    request.setHeader(b"content-type", body.media_type)
    request.setHeader(b"content-length", b"%d" % len(body.content))
    if error.retry_after_seconds is not None:
        request.setHeader(b"retry-after", b"%d" % error.retry_after_seconds)
    if isinstance(error, UnauthorizedError):
        request.setHeader(b"www-authenticate", _CHALLENGE)
    if isinstance(error, ShuttingDownError):
        close_after(request)
    return body.content


def error_body(error: LlamaSwapError, accept: bytes, path: bytes) -> ErrorBody:
    """Choose the form of an error.

    Args:
        error: What happened. Refusals for too many requests are always JSON.
        accept: The request's ``Accept``, empty when it has none.
        path: The request's path; Anthropic's clients find the members they need on their routes.
    """
    if error.status != _TOO_MANY:
        if b"text/plain" in accept:
            return ErrorBody(b"text/plain", f"{_SOURCE}: {error.message}".encode())
        if b"text/html" in accept:
            page = f"<html><body><h1>{_SOURCE}</h1><p>{escape(error.message)}</p></body></html>"
            return ErrorBody(b"text/html", page.encode())
    return ErrorBody(b"application/json", encode(_envelope(error, path)))


def error_event(error: LlamaSwapError, path: bytes) -> bytes:
    """Word an error as the last event of an event stream, as the clients of the route understand it.

    The empty line in front ends the event in the midst of which the stream may have broken off.
    """
    kind = b"event: error\n" if path.startswith(_ANTHROPIC_PATHS) else b""
    return b"\n\n%bdata: %b\n\n" % (kind, encode(_envelope(error, path)))


def _envelope(error: LlamaSwapError, path: bytes) -> dict[str, object]:
    """Give the JSON form; Anthropic's is a superset of OpenAI's, with a ``type`` of its own set."""
    is_anthropic = path.startswith(_ANTHROPIC_PATHS)
    details = {
        "message": error.message,
        "type": _anthropic_type(error.status) if is_anthropic else error.wire_type,
        "param": error.param,
        "code": error.wire_code,
    }
    if is_anthropic:
        return {"type": "error", "src": _SOURCE, "error": details}
    return {"src": _SOURCE, "error": details}


def _anthropic_type(status: int) -> str:
    kind = _ANTHROPIC_TYPES.get(status)
    if kind is not None:
        return kind
    return "api_error" if status >= _SERVER_ERROR_LEAST else "invalid_request_error"
