"""Whether somebody listens on a port already, before our own server is started there."""

from __future__ import annotations

import errno
import ipaddress
import socket
from typing import Final
from urllib.parse import urlsplit

_LOOPBACK: Final = ("127.0.0.1", "::1")


def port_of(base_url: str) -> int:
    """Give the port of a URL, the usual one of its scheme where it has none."""
    parts = urlsplit(base_url)
    return parts.port or (443 if parts.scheme == "https" else 80)


def is_port_taken(base_url: str) -> bool:
    """Say whether somebody on this machine listens where a server is about to.

    Asks by binding, which neither waits nor disturbs the listener. A host that is not of this machine,
    or that would have to be resolved first, counts as free.
    """
    host = urlsplit(base_url).hostname or ""
    port = port_of(base_url)
    addresses = _LOOPBACK if host == "localhost" else (host,)
    return any(_is_taken(address, port) for address in addresses)


def _is_taken(address: str, port: int) -> bool:
    try:
        version = ipaddress.ip_address(address).version
    except ValueError:
        return False
    family = socket.AF_INET if version == 4 else socket.AF_INET6  # noqa: PLR2004
    try:
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            # With this only a listener is in the way, and not what is left of old connections.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((address, port))
    except OSError as error:
        return error.errno == errno.EADDRINUSE
    return False
