"""API keys: who may come in, and that the key which opened our door goes no further."""

from __future__ import annotations

import binascii
import hmac
from base64 import b64decode
from collections.abc import Sequence
from typing import Protocol

from llamaswap.config.schema import Config


class HasConfig(Protocol):
    """Whoever knows the configuration in force."""

    @property
    def config(self) -> Config:
        """The configuration in force."""


class HasHeaders(Protocol):
    """What is looked at of a request."""

    def getHeader(self, key: bytes, /) -> bytes | None:
        """Give the value of a header."""


class Door:
    """Checks keys; open to everybody while no ``apiKeys`` are configured.

    Args:
        daemon: Knows the keys.
    """

    def __init__(self, daemon: HasConfig) -> None:
        self._daemon = daemon

    def admits(self, request: HasHeaders) -> bool:
        """Say whether the request may come in."""
        keys = self._daemon.config.api_keys
        if not keys:
            return True
        key = _authorization_key(request.getHeader(b"authorization"))
        if key is None:
            key = request.getHeader(b"x-api-key")
        return key is not None and _is_known(key, keys)

    def without_key(self, fields: Sequence[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
        """Give header fields without those that hold a valid key of ours; other credentials stay."""
        keys = self._daemon.config.api_keys
        if not keys:
            return list(fields)
        return [(name, value) for name, value in fields if not _holds_key(name.lower(), value, keys)]


def _holds_key(name: bytes, value: bytes, keys: Sequence[str]) -> bool:
    if name == b"authorization":
        key = _authorization_key(value)
        return key is not None and _is_known(key, keys)
    return name == b"x-api-key" and _is_known(value, keys)


def _authorization_key(value: bytes | None) -> bytes | None:
    """Give the key of a Basic or Bearer header; ``None`` when there is none to speak of."""
    if value is None:
        return None
    scheme, _, rest = value.partition(b" ")
    match scheme.lower():
        case b"bearer":
            return rest or None
        case b"basic":
            try:
                _, colon, password = b64decode(rest, validate=True).partition(b":")
            except binascii.Error:
                return None
            return password if colon and password else None
        case _:
            return None


def _is_known(key: bytes, keys: Sequence[str]) -> bool:
    """Compare with every key in constant time, so that the time tells nothing about any of them."""
    found = False
    for known in keys:
        found |= hmac.compare_digest(key, known.encode("utf-8", "surrogateescape"))
    return found
