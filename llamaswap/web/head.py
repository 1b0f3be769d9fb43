"""Heads of requests, read strictly: what two readers could understand differently is refused."""

from __future__ import annotations

import re
from http import HTTPStatus
from typing import Final, NamedTuple

from llamaswap.errors import FramingError
from llamaswap.proxy.headers import TOKEN, Fields, content_length, split_head, tokens

REASONS: Final = {status.value: status.phrase.encode("ascii") for status in HTTPStatus}
"""What stands behind the status in an answer of ours; Twisted knows fewer of them."""

_VERSIONS: Final = {b"HTTP/1.1": True, b"HTTP/1.0": False}
_SINGLE: Final = frozenset({b"host", b"content-length", b"transfer-encoding"})
_HOST: Final = b"!$%&'()*+,-.:;=[]_~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
"""What stands in the address of a server."""

_ABSOLUTE: Final = re.compile(rb"https?://([^/?#]+)", re.IGNORECASE)


class RequestHead(NamedTuple):
    """What a request says before its body.

    Attributes:
        method: As written.
        uri: Path and query, as written.
        path: The path, as written.
        version: ``HTTP/1.1`` or ``HTTP/1.0``.
        fields: As written, in order.
        named: Value by name in lower case; of several, joined with commas.
        length: Bytes of the body; ``None`` = in chunks.
        is_modern: Whether it is HTTP/1.1.
        keeps_alive: Whether the connection outlives the answer.
    """

    method: bytes
    uri: bytes
    path: bytes
    version: bytes
    fields: Fields
    named: dict[bytes, bytes]
    length: int | None
    is_modern: bool
    keeps_alive: bool

    @property
    def expects_continue(self) -> bool:
        """Whether the client waits to be told that it may send the body."""
        return self.is_modern and self.named.get(b"expect", b"").lower() == b"100-continue"


def read_head(head: bytes) -> RequestHead:
    """Read the head of a request.

    Args:
        head: Everything before the empty line.

    Raises:
        FramingError: It is not HTTP/1.1 or HTTP/1.0 in every detail.
    """
    first, fields = split_head(head)
    words = first.split(b" ")
    if len(words) != 3 or words[2] not in _VERSIONS or not words[0] or words[0].translate(None, TOKEN):  # noqa: PLR2004
        raise FramingError("malformed request line %.80r" % first)
    method, uri, version = words
    if b"\t" in uri:
        raise FramingError("blank in a request target")
    is_modern = _VERSIONS[version]
    named = _by_name(fields)
    if b"host" not in named and is_modern:
        raise FramingError("missing Host")
    authority, uri = _split_target(method, uri)
    if authority:  # RFC 9112, section 3.2.2: then the header does not count
        fields = [(b"Host", authority), *(field for field in fields if field[0].lower() != b"host")]
        named[b"host"] = authority
    host = named.get(b"host")
    if host and host.translate(None, _HOST):
        raise FramingError("malformed Host %.80r" % host)
    return RequestHead(
        method,
        uri,
        uri.partition(b"?")[0],
        version,
        fields,
        named,
        _length(named, is_modern=is_modern),
        is_modern,
        is_modern and (b"connection" not in named or b"close" not in tokens(named[b"connection"])),
    )


def _by_name(fields: Fields) -> dict[bytes, bytes]:
    named: dict[bytes, bytes] = {}
    repeated: dict[bytes, list[bytes]] = {}  # joined once: a head may repeat one of them 200,000 times
    for name, value in fields:
        lower = name.lower()
        if lower not in named:
            named[lower] = value
        elif lower in _SINGLE:
            raise FramingError("repeated header %.40r" % name)
        else:
            repeated.setdefault(lower, [named[lower]]).append(value)
    for lower, values in repeated.items():
        named[lower] = b", ".join(values)
    return named


def _split_target(method: bytes, uri: bytes) -> tuple[bytes, bytes]:
    """Split host from path of an address as proxies get it; the host is mostly empty."""
    if method == b"CONNECT":  # RFC 9112, section 3.2.3: it names no path, and an upstream might open a tunnel
        raise FramingError("no tunnels here")
    if uri[:1] == b"/" or (uri == b"*" and method == b"OPTIONS"):
        return b"", uri
    match = _ABSOLUTE.match(uri)
    if match is None:
        raise FramingError("malformed request target %.80r" % uri)
    rest = uri[match.end() :]
    return match[1], rest if rest[:1] == b"/" else b"/" + rest


def _length(named: dict[bytes, bytes], *, is_modern: bool) -> int | None:
    coding = named.get(b"transfer-encoding")
    if coding is None:
        return content_length(named[b"content-length"]) if b"content-length" in named else 0
    if coding.lower() != b"chunked" or b"content-length" in named or not is_modern:
        raise FramingError("cannot tell where the body ends")
    return None
