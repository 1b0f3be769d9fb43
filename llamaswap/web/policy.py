"""Whom the edge lets in, what it lets them send, and whom it believes: what ``http`` in the configuration says."""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Final

from llamaswap.config.schema import HTTPConfig
from llamaswap.errors import ForbiddenError, LlamaSwapError
from llamaswap.proxy.headers import Fields

FORM_BYTES: Final = 10 * 1024 * 1024
"""What an urlencoded form may have; it is looked through as a whole."""

UNLIMITED: Final = 1 << 62
"""More bytes than any body has."""

_MIB: Final = 1024 * 1024
_ALLOW_ORIGIN: Final = b"Access-Control-Allow-Origin"
_ANY: Final = "*"
_CHANGING_METHODS: Final = frozenset({b"POST", b"PUT"})
_CHANGING_PREFIX: Final = b"/api/"
_CHANGING_PATH: Final = b"/unload"
_FORM: Final = b"application/x-www-form-urlencoded"
_LONGEST_ADDRESS: Final = 200
"""Believed of what should be an address and may be anything."""

Named = Mapping[bytes, bytes]


class Policy:
    """What one configuration says about clients.

    Args:
        limits: See :class:`~llamaswap.config.schema.HTTPConfig`.

    Attributes:
        careless_bytes: A body that has no more is never too long.
    """

    def __init__(self, limits: HTTPConfig) -> None:
        self._hosts = frozenset(host.rstrip(".") for host in limits.hosts)
        self._origins = frozenset(origin.lower().encode() for origin in limits.cors if origin != _ANY)
        self._is_for_any = _ANY in limits.cors
        self._is_for_pages = bool(limits.cors)
        self._trusted = [ip_network(proxy, strict=False) for proxy in limits.trusted_proxies]
        self._most_bytes = limits.max_body_mib * _MIB or UNLIMITED
        self.careless_bytes = min(self._most_bytes, FORM_BYTES)

    # ----------------------------------------------------------------- who may come in

    def refusal(self, method: bytes, path: bytes, named: Named) -> LlamaSwapError | None:
        """Say why a request may not come in, whatever it is; ``None`` = it may.

        Args:
            method: As received.
            path: As received.
            named: Values of header fields by name in lower case.
        """
        if self._hosts and not self._is_known_host(named.get(b"host")):
            return ForbiddenError("host not allowed")
        # Browsers say so, and other clients have no other site's password to lend.
        if named.get(b"sec-fetch-site") == b"cross-site" and _changes_something(method, path):
            origin = named.get(b"origin", b"").lower()
            if origin not in self._origins:
                return ForbiddenError("cross-site request refused")
        return None

    def _is_known_host(self, host: bytes | None) -> bool:
        """Tell whether a page may have been loaded under this name; who names no host is no browser."""
        if host is None:
            return True
        name = host.decode("ascii").lower()  # a head with any other byte in it is malformed
        if name.startswith("["):
            return _address(name[1:].partition("]")[0]) is not None
        name = name.partition(":")[0].rstrip(".")
        return name in self._hosts or name == "localhost" or _address(name) is not None

    def most_bytes(self, named: Named, *, is_streamed: bool) -> int:
        """Give the longest body that a request may have; for those that may be longer than ``careless_bytes``."""
        if not is_streamed and _FORM in named.get(b"content-type", b"").lower():
            return self.careless_bytes
        return self._most_bytes

    # ----------------------------------------------------------------- who may read answers

    def answer_fields(self, origin: bytes | None) -> Fields:
        """Give what an answer needs so that a page of another site may read it, if it may.

        Args:
            origin: The page's, as the request says.
        """
        if not self._is_for_pages:
            return []
        if self._is_for_any:
            return [(_ALLOW_ORIGIN, b"*")]
        vary = (b"Vary", b"Origin")  # an answer from a cache could say what is right for another page
        if origin is None or origin.lower() not in self._origins:
            return [vary]
        return [(_ALLOW_ORIGIN, origin), vary]

    # ----------------------------------------------------------------- whom we believe

    def client_address(self, peer: str, forwarded: bytes | None, real: bytes | None) -> str:
        """Give the address of whom a request comes from.

        Args:
            peer: Of the connection.
            forwarded: The request's ``X-Forwarded-For``.
            real: The request's ``X-Real-IP``.

        Returns:
            Without ``trustedProxies`` what anybody says; with it what trusted proxies say, and of those
            addresses the one nearest to us that is not a trusted proxy itself.
        """
        if not self._trusted:
            named = forwarded.partition(b",")[0].strip() if forwarded is not None else b""
            return (named or real or b"")[:_LONGEST_ADDRESS].decode("utf-8", "replace") or peer
        if not self._trusts(peer):
            return peer
        hops = [hop.strip().decode("latin-1") for hop in (forwarded or real or b"").split(b",")]
        nearest = peer
        for hop in reversed(hops):
            address = _without_port(hop)
            if _address(address) is None:
                break  # nothing in front of what cannot be read is known
            nearest = address
            if not self._trusts(address):
                break
        return nearest

    def _trusts(self, text: str) -> bool:
        address = _address(text)
        return address is not None and any(address in network for network in self._trusted)


def _changes_something(method: bytes, path: bytes) -> bool:
    return path == _CHANGING_PATH or (path.startswith(_CHANGING_PREFIX) and method.upper() in _CHANGING_METHODS)


def _address(text: str) -> IPv4Address | IPv6Address | None:
    """Read an address; one of IPv4 in IPv6's clothes is one of IPv4."""
    try:
        address = ip_address(text)
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def _without_port(text: str) -> str:
    if text.startswith("["):
        return text[1:].partition("]")[0]
    return text.partition(":")[0] if text.count(":") == 1 else text
