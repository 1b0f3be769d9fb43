"""Heads of HTTP/1.1 messages: taking them apart, and what changes in them on the way through.

Fields are lists of (name, value) as received, in order. Nothing is added, removed or respelt but
what RFC 9110, section 7.6, and the documented behaviour of the proxy ask for.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from llamaswap.errors import FramingError
from llamaswap.proxy.framing import BodyWalker, ChunkedBody, OpenBody, SizedBody

Fields = list[tuple[bytes, bytes]]

HOP_BY_HOP: Final = frozenset(
    {
        b"connection",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    },
)
"""Fields that concern one connection; with those that ``Connection`` names."""

_REQUEST_ID: Final = b"x-request-id"
_MADE_ANEW: Final = HOP_BY_HOP | {b"host", b"content-length", b"x-forwarded-for", b"accept-encoding", _REQUEST_ID}
_LEFT_OUT: Final = HOP_BY_HOP | {_REQUEST_ID}
_ALLOW_ORIGIN: Final = b"access-control-allow-origin"
_LOOKED_AT: Final = _LEFT_OUT | {b"content-length", b"content-type", b"date", b"x-accel-buffering", _ALLOW_ORIGIN}
_NO_NAMES: Final = frozenset({b"close:", b"keep-alive:", b"te:", b"upgrade:"})
TOKEN: Final = b"!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
_CONTROLS: Final = bytes(set(range(0x20)) - set(b"\t\r\n")) + b"\x7f"
_METERED_ENCODINGS: Final = (b"gzip", b"deflate")
_STATUS_LINE: Final = re.compile(rb"HTTP/1\.[0-9] [1-9][0-9][0-9](?: |$)")
_BODILESS: Final = frozenset({204, 304})
_LONGEST_LENGTH_DIGITS: Final = 18
_INTERIM_END: Final = 200
SWITCHING_PROTOCOLS: Final = 101
"""The status of an answer behind which both sides speak something else than HTTP."""


def split_head(head: bytes) -> tuple[bytes, Fields]:
    """Take a head apart.

    Args:
        head: Everything before the empty line.

    Returns:
        The first line, and the fields.

    Raises:
        FramingError: A control byte, a bare CR or LF, a folded line, or a name that is none.
    """
    lines = head.split(b"\r\n")
    ends = len(lines) - 1
    if head.count(b"\n") != ends or head.count(b"\r") != ends or len(head.translate(None, _CONTROLS)) != len(head):
        raise FramingError("control byte in a header")
    fields = []
    for line in lines[1:]:
        name, colon, value = line.partition(b":")
        if not colon or not name or name.translate(None, TOKEN):
            raise FramingError("malformed header line %.40r" % line)
        fields.append((name, value.strip(b" \t")))
    return lines[0], fields


def content_length(value: bytes) -> int:
    """Read the value of a ``Content-Length``.

    Raises:
        FramingError: It is not a plain number.
    """
    if not value.isdigit() or len(value) > _LONGEST_LENGTH_DIGITS:
        raise FramingError("malformed Content-Length %.40r" % value)
    return int(value)


def tokens(value: bytes) -> list[bytes]:
    """Split a comma-separated value into its words, in lower case."""
    return [word.strip(b" \t") for word in value.lower().split(b",")]


def metered_encodings(value: bytes) -> bytes:
    """Reduce an ``Accept-Encoding`` to what the meter can read, weights included; empty = nothing is left."""
    entries = [entry.strip(b" \t") for entry in value.split(b",")]
    return b", ".join(e for e in entries if e.partition(b";")[0].strip().lower() in _METERED_ENCODINGS)


def request_head(
    method: bytes,
    target: bytes,
    fields: Fields,
    *,
    client_host: bytes | None,
    default_host: bytes,
    body_length: int | None,
    is_metered: bool,
    more: Iterable[tuple[bytes, bytes]] = (),
) -> bytes:
    """Make the head that an upstream gets.

    Args:
        method: As received.
        target: Path and query, as they go out.
        fields: As received.
        client_host: The client's address, without port; ``None`` = not told, nor whom the request passed before.
        default_host: For ``Host`` where the client sent none.
        body_length: Length of the body; ``None`` = chunked, and sent on as it comes.
        is_metered: Whether the answer must be readable for us.
        more: Fields of ours.

    Returns:
        The head with its empty line.
    """
    special: dict[bytes, list[bytes]] = {}
    kept = []
    for field in fields:
        lower = field[0].lower()
        if lower in _MADE_ANEW:
            special.setdefault(lower, []).append(field[1])
        else:
            kept.append(b"%b: %b" % field)
    if b"connection" in special:
        kept = _without_named(kept, special[b"connection"])
    lines = [
        b"%b %b HTTP/1.1" % (method, target),
        b"Host: %b" % (special[b"host"][0] if b"host" in special else default_host),
        *kept,
    ]
    if client_host is not None:
        hops = [*special.get(b"x-forwarded-for", ()), client_host]
        lines.append(b"X-Forwarded-For: %b" % b", ".join(hops))
    encodings = b", ".join(special.get(b"accept-encoding", ()))
    if is_metered and encodings:
        encodings = metered_encodings(encodings)
    if encodings:
        lines.append(b"Accept-Encoding: %b" % encodings)
    if b"te" in special and b"trailers" in tokens(b",".join(special[b"te"])):
        lines.append(b"TE: trailers")
    lines += [b"%b: %b" % field for field in more]
    if body_length is None:
        lines.append(b"Transfer-Encoding: chunked")
    elif body_length or b"content-length" in special or b"transfer-encoding" in special:
        lines.append(b"Content-Length: %d" % body_length)
    lines.append(b"\r\n")
    return b"\r\n".join(lines)


def _without_named(lines: list[bytes], options: list[bytes]) -> list[bytes]:
    """Leave out the lines that ``Connection`` names."""
    named = {b"%b:" % word for value in options for word in tokens(value)} - _NO_NAMES
    if not named:
        return lines
    return [line for line in lines if line[: line.index(b":") + 1].lower() not in named]


@dataclass(slots=True)
class ResponseHead:
    """The head of an upstream's answer.

    Attributes:
        status: From 100 to 999.
        reason: The phrase behind it; may be empty.
        fields: Without those that concern one connection, the switch of protocols apart, and without an id of
            the request, which is our matter; ``Content-Length`` stays.
        body: Follows the body, or what is spoken behind a switch; a body of length 0 where there is none.
        is_chunked: Whether the body comes in chunks.
        is_open: Whether only the end of the connection ends the body.
        is_event_stream: Whether a client is waiting for single events.
        keeps_alive: Whether the connection may be used again.
        has_date: Whether it says when it was made.
        allows_origin: Whether it says which pages may read it.
    """

    status: int
    reason: bytes
    fields: Fields
    body: BodyWalker
    is_chunked: bool
    is_open: bool
    is_event_stream: bool
    keeps_alive: bool
    has_date: bool = False
    allows_origin: bool = False

    @property
    def is_interim(self) -> bool:
        """Whether another head follows for the same request."""
        return self.status < _INTERIM_END and self.status != SWITCHING_PROTOCOLS


def response_head(head: bytes, method: bytes) -> ResponseHead:
    """Read the head of an answer.

    Args:
        head: Everything before the empty line.
        method: Of the request: the answer to HEAD has no body.

    Raises:
        FramingError: That is none, or its body could end in two places.
    """
    first, received = split_head(head)
    if _STATUS_LINE.match(first) is None:
        raise FramingError("malformed status line %.40r" % first)
    status = int(first[9:12])
    special: dict[bytes, list[bytes]] = {}
    kept = []
    for field in received:
        lower = field[0].lower()
        if lower in _LOOKED_AT:
            special.setdefault(lower, []).append(field[1])
            if lower in _LEFT_OUT:
                continue
        kept.append(field)
    options = special.get(b"connection", [])
    is_empty = method == b"HEAD" or status in _BODILESS or status < _INTERIM_END
    body = _body(special, is_empty=is_empty)
    is_chunked, is_open = isinstance(body, ChunkedBody), isinstance(body, OpenBody)
    is_event_stream = b"text/event-stream" in b",".join(special.get(b"content-type", ())).lower()
    if options:
        kept = _without(kept, {word for value in options for word in tokens(value)} - {b"content-length"})
    lengths = special.get(b"content-length", [])
    if is_chunked or len(lengths) > 1:
        kept = _without(kept, {b"content-length"})
    if len(lengths) > 1 and not is_chunked:
        kept.append((b"Content-Length", lengths[0]))  # said twice; clients may refuse that
    if is_event_stream:
        kept = [*_without(kept, {b"x-accel-buffering"}), (b"X-Accel-Buffering", b"no")]
    if status == SWITCHING_PROTOCOLS:
        kept += [(b"Connection", b"Upgrade"), *((b"Upgrade", value) for value in special.get(b"upgrade", ()))]
        body = OpenBody()
    return ResponseHead(
        status,
        first[13:],
        kept,
        body,
        is_chunked=is_chunked,
        is_open=is_open,
        is_event_stream=is_event_stream,
        has_date=b"date" in special,
        allows_origin=_ALLOW_ORIGIN in special,
        keeps_alive=not is_open and status != SWITCHING_PROTOCOLS and _keeps_alive(first, options),
    )


def _keeps_alive(first: bytes, options: list[bytes]) -> bool:
    words = [word for value in options for word in tokens(value)]
    return b"close" not in words and (first[7:8] == b"1" or b"keep-alive" in words)


def _without(fields: Fields, names: set[bytes]) -> Fields:
    return [field for field in fields if field[0].lower() not in names]


def _body(special: dict[bytes, list[bytes]], *, is_empty: bool) -> BodyWalker:
    lengths = {content_length(value) for value in special.get(b"content-length", ())}
    if len(lengths) > 1:
        raise FramingError("conflicting Content-Length")
    if is_empty:
        return SizedBody(0)
    if b"transfer-encoding" in special:
        codings = b",".join(special[b"transfer-encoding"])
        if tokens(codings) != [b"chunked"]:
            raise FramingError("unknown Transfer-Encoding %.40r" % codings)
        return ChunkedBody()
    return SizedBody(lengths.pop()) if lengths else OpenBody()


def answer_head(head: ResponseHead, *, is_chunked: bool, closes: bool, more: Fields | None = None) -> bytes:
    """Make the head that the client gets.

    Args:
        head: The upstream's.
        is_chunked: Whether the client gets chunks.
        closes: Whether the client's connection ends with this answer.
        more: Fields of ours.

    Returns:
        The head with its empty line.
    """
    lines = [b"HTTP/1.1 %d %b" % (head.status, head.reason)]
    lines += [b"%b: %b" % field for field in (head.fields + more if more else head.fields)]
    if is_chunked:
        lines.append(b"Transfer-Encoding: chunked")
    if closes:
        lines.append(b"Connection: close")
    lines.append(b"\r\n")
    return b"\r\n".join(lines)
