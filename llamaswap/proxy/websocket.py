"""Handshakes of websockets: which requests are one.

A tunnel needs no machinery of its own. Behind a ``101`` the answer is a body that ends with its
connection, and what the client sends is a request body that goes on arriving: back-pressure, the
bytes that either side sends early, and the one end are those of every other exchange.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from llamaswap.proxy.headers import tokens

_WEBSOCKET: Final = b"websocket"


def wanted_upgrade(method: bytes, named: Mapping[bytes, bytes]) -> bytes:
    """Give the ``Upgrade`` of a websocket's handshake; empty for other requests.

    RFC 6455, section 4.1: a handshake is a GET of HTTP/1.1, without a body. What else asks for an
    upgrade goes on as if it had not.

    Args:
        method: As received, of HTTP/1.1.
        named: Header value by name in lower case; of several, joined with commas.
    """
    upgrade = named.get(b"upgrade", b"")
    if method != b"GET" or b"transfer-encoding" in named or named.get(b"content-length", b"0") != b"0":
        return b""
    options = named.get(b"connection", b"")
    return upgrade if _WEBSOCKET in tokens(upgrade) and b"upgrade" in tokens(options) else b""
