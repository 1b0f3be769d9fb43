"""``/ui/`` and ``/favicon.ico``: the files of the web UI, read off the reactor's thread."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple

from klein import Klein
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IPushProducer
from twisted.web.server import Request
from zope.interface import implementer

from llamaswap import __version__
from llamaswap.config.schema import Config
from llamaswap.web import answers
from llamaswap.web.assets import INDEX, PIECE_BYTES, Asset, ChangedError, find_asset, read_piece
from llamaswap.web.daemon import Daemon
from llamaswap.web.edge import EdgeRequest
from llamaswap.web.paths import decoded
from llamaswap.web.plain_page import Row, plain_page

PREFIX: Final = "/ui/"
_FAVICON: Final = "favicon.ico"
_NOT_FOUND: Final = "404 page not found\n"
_BUILT_IN: Final = Path(__file__).parent.parent / "webui"
_ENCODINGS: Final = ("br", "gzip")
_RANGE: Final = re.compile(rb"bytes[ \t]*=[ \t]*([0-9]{0,18})[ \t]*-[ \t]*([0-9]{0,18})")
_LASTING: Final = b"public, max-age=31536000, immutable"
_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; "
    "media-src 'self' blob: data:; font-src 'self'; connect-src 'self'; manifest-src 'self'; base-uri 'none'; "
    "form-action {forms}; frame-ancestors 'self'"
)


class Span(NamedTuple):
    """Bytes of a file."""

    start: int
    end: int


def ui_folder(config: Config) -> Path:
    """Give the folder with the files of the web UI; it need not exist."""
    return Path(config.ui.path) if config.ui.path else _BUILT_IN


@implementer(IPushProducer)
class Valve:
    """Says when a client that was too slow has caught up."""

    def __init__(self) -> None:
        self._is_open = True
        self._waiter: Deferred[None] | None = None

    async def opened(self) -> None:
        """Wait until more may be sent."""
        if not self._is_open:
            self._waiter = Deferred()
            await self._waiter

    def pauseProducing(self) -> None:
        """Send no more for now."""
        self._is_open = False

    def resumeProducing(self) -> None:
        """Send on."""
        self._is_open = True
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.called:
            waiter.callback(None)

    def stopProducing(self) -> None:
        """Do nothing: the end of the connection reaches the handler as a cancellation."""


class UIRoutes:
    """The handlers.

    Args:
        daemon: Knows the folder, and the models.
    """

    def __init__(self, daemon: Daemon) -> None:
        self._daemon = daemon

    def register(self, app: Klein) -> None:
        """Add the routes."""
        app.route(PREFIX, methods=["GET"], endpoint="/ui/", branch=True)(self.file)
        app.route("/favicon.ico", methods=["GET"], endpoint="/favicon.ico")(self.icon)

    async def file(self, request: EdgeRequest) -> bytes:
        """Answer ``GET /ui/{name}`` with a file, or with the start page where a page of the app is meant."""
        name = decoded(request.path.removeprefix(PREFIX.encode()))
        found = await self._find(request, name or INDEX)
        if found is None and not _may_be_page(name):
            return answers.refusal(request, 404, _NOT_FOUND)
        if found is None and name:
            found = await self._find(request, INDEX)
        return self._plain_page(request) if found is None else await _send(request, found)

    async def icon(self, request: EdgeRequest) -> bytes:
        """Answer ``GET /favicon.ico``, which browsers ask for without a key."""
        found = await self._find(request, _FAVICON)
        return answers.refusal(request, 404, _NOT_FOUND) if found is None else await _send(request, found)

    def _find(self, request: EdgeRequest, name: str) -> Deferred[Asset | None]:
        encodings = accepted(request.getHeader(b"accept-encoding") or b"")
        work = partial(find_asset, ui_folder(self._daemon.config), name, encodings)
        return request.site.in_thread(work)  # type: ignore[no-any-return] # Twisted's attribute

    def _plain_page(self, request: EdgeRequest) -> bytes:
        config, state = self._daemon.config, self._daemon.router.state
        rows = [Row(model.id, state(model.id).value) for model in config.models.values() if not model.unlisted]
        body = plain_page(__version__, rows).encode()
        _set(request, b"content-type", "text/html; charset=utf-8")
        _set(request, b"content-length", str(len(body)))
        _set(request, b"cache-control", "no-cache")
        _protect(request, "'self'")
        return body


def _may_be_page(name: str) -> bool:
    """Tell whether a name that is no file's may be a page of the app; files have a dot in theirs."""
    return "." not in name.rpartition("/")[2]


def accepted(header: bytes) -> list[str]:
    """Give the encodings that an ``Accept-Encoding`` allows, of those that there are files in, the best first."""
    allowed = set()
    for entry in header.lower().split(b","):
        coding, *parameters = (part.strip() for part in entry.split(b";"))
        weights = (part.partition(b"=")[2] for part in parameters if part.startswith(b"q="))
        if not any(re.fullmatch(rb"0(\.0*)?", weight.strip()) for weight in weights):
            allowed.add(coding.decode("latin-1"))
    return [encoding for encoding in _ENCODINGS if encoding in allowed]


def asked_span(header: bytes | None, size: int) -> Span | None:
    """Give the bytes that a ``Range`` asks for; of none, of several and of other units: all of them.

    Returns:
        ``None`` when there is nothing at that place.
    """
    match = _RANGE.fullmatch(header) if header is not None else None
    if match is None or not (match[1] or match[2]):
        return Span(0, size)
    if not match[1]:
        count = min(int(match[2]), size)
        return Span(size - count, size) if count else None
    start, last = int(match[1]), int(match[2]) if match[2] else size - 1
    if match[2] and last < start:
        return Span(0, size)  # RFC 9110, section 14.1.1: no range at all
    return Span(start, min(last + 1, size)) if start < size else None


async def _send(request: EdgeRequest, asset: Asset) -> bytes:
    """Send a file, or what is asked for of it.

    Returns:
        What is still to be sent of the body.
    """
    _set(request, b"etag", asset.etag)
    _set(request, b"cache-control", "no-cache")
    if asset.is_lasting:
        request.setHeader(b"cache-control", _LASTING)
    if asset.varies:
        _set(request, b"vary", "Accept-Encoding")
    if asset.media_type.startswith("text/html"):
        _protect(request, "'none'")
    if _is_known(request, asset):
        request.setResponseCode(304)
        return b""
    _set(request, b"content-type", asset.media_type)
    _set(request, b"x-content-type-options", "nosniff")
    _set(request, b"accept-ranges", "bytes")
    if asset.encoding:
        _set(request, b"content-encoding", asset.encoding)
    condition = request.getHeader(b"if-range")
    wants_range = request.method == b"GET" and (condition is None or condition == asset.etag.encode())
    span = asked_span(request.getHeader(b"range") if wants_range else None, asset.size)
    if span is None:
        request.setResponseCode(416)
        _set(request, b"content-range", f"bytes */{asset.size}")
        _set(request, b"content-length", "0")
        return b""
    if span != (0, asset.size):
        request.setResponseCode(206)
        _set(request, b"content-range", f"bytes {span.start}-{span.end - 1}/{asset.size}")
    _set(request, b"content-length", str(span.end - span.start))
    if asset.content is not None:
        return asset.content[span.start : span.end]
    if request.method != b"HEAD":
        await _stream(request, asset, span)
    return b""


async def _stream(request: EdgeRequest, asset: Asset, span: Span) -> None:
    """Send a long file piece by piece, as fast as the client takes it."""
    valve = Valve()
    Request.registerProducer(request, valve, True)  # noqa: FBT003 - Twisted's signature
    place = span.start
    try:
        while place < span.end:
            await valve.opened()
            data = await request.site.in_thread(partial(read_piece, asset, place, min(PIECE_BYTES, span.end - place)))
            request.write(data)
            place += len(data)
    except (ChangedError, OSError):
        Request.unregisterProducer(request)
        request.channel.abortConnection()
        await Deferred()  # the end of the connection is near, and with it our cancellation
    Request.unregisterProducer(request)


def _is_known(request: EdgeRequest, asset: Asset) -> bool:
    known = request.getHeader(b"if-none-match")
    if known is None:
        return False
    tags = [tag.strip().removeprefix(b"W/") for tag in known.split(b",")]
    return asset.etag.encode() in tags or b"*" in tags


def _protect(request: EdgeRequest, forms: str) -> None:
    """Say what a page of ours may load, and where its forms may go (web-ui.md, C-27)."""
    _set(request, b"content-security-policy", _POLICY.format(forms=forms))
    _set(request, b"x-content-type-options", "nosniff")
    _set(request, b"referrer-policy", "no-referrer")


def _set(request: EdgeRequest, name: bytes, value: str) -> None:
    request.setHeader(name, value.encode("latin-1"))
