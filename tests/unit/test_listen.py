"""The address on the command line."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IOpenSSLServerConnectionCreator
from twisted.internet.protocol import Factory
from twisted.internet.testing import MemoryReactor
from zope.interface.verify import verifyObject

from llamaswap.errors import ConfigError
from llamaswap.listen import BACKLOG, Listen, ServerTLS
from tests.certificates import sign


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        (":8080", "", 8080),
        ("127.0.0.1:1", "127.0.0.1", 1),
        ("[::1]:8080", "::1", 8080),
        ("box.lan:65535", "box.lan", 65535),
        ("localhost:0", "localhost", 0),
    ],
)
def test_an_address_is_read(text: str, host: str, port: int) -> None:
    listen = Listen.parse(text)
    assert (listen.host, listen.port) == (host, port)


@pytest.mark.parametrize("text", ["", "8080", "host", "host:", "::1:8080", "host:65536", "host:-1", "host:٣"])
def test_a_bad_address_is_refused_and_quoted(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Listen.parse(text)
    assert repr(text) in str(caught.value)


@pytest.mark.parametrize(
    ("host", "loopback"),
    [("127.0.0.1", True), ("::1", True), ("localhost", True), ("", False), ("10.0.0.1", False), ("box.lan", False)],
)
def test_loopback_is_known(host: str, *, loopback: bool) -> None:
    assert Listen(host, 1).is_loopback is loopback


def test_the_url_shows_how_to_reach_it() -> None:
    assert Listen("", 0).url(8080) == "http://localhost:8080"
    assert Listen("::1", 0, "c.pem", "k.pem").url(1) == "https://[::1]:1"


def test_an_empty_host_binds_both_families_at_once() -> None:
    reactor = MemoryReactor()
    Listen("", 8080).bind(reactor, Factory())
    ((port, _factory, backlog, interface),) = reactor.tcpServers
    assert (port, backlog, interface) == (8080, BACKLOG, "::")


def test_without_ipv6_an_empty_host_binds_ipv4() -> None:
    reactor = mock.Mock()
    no_family = CannotListenError("::", 8080, OSError("no such family"))
    reactor.listenTCP.side_effect = [no_family, mock.sentinel.port]
    assert Listen("", 8080).bind(reactor, Factory()) is mock.sentinel.port
    assert reactor.listenTCP.call_args.kwargs["interface"] == "0.0.0.0"


def test_a_bad_certificate_is_named(tmp_path: Any) -> None:
    certificate = tmp_path / "c.pem"
    certificate.write_text("nonsense")
    with pytest.raises(ConfigError, match=r"c\.pem"):
        Listen("127.0.0.1", 1, str(certificate), str(certificate)).tls()


def test_a_certificate_is_read_anew_and_a_bad_one_changes_nothing(tmp_path: Path) -> None:
    one, other = sign(), sign()
    path = tmp_path / "c.pem"
    path.write_bytes(one.certificate + one.key)
    tls = Listen("127.0.0.1", 1, str(path), str(path)).tls()
    assert tls is not None
    verifyObject(IOpenSSLServerConnectionCreator, tls)
    assert _shown(tls) == one.certificate
    path.write_bytes(one.certificate + other.key)
    with pytest.raises(ConfigError):
        tls.read()
    assert _shown(tls) == one.certificate
    path.write_bytes(other.certificate + other.key)
    tls.read()
    assert _shown(tls) == other.certificate


def _shown(tls: ServerTLS) -> bytes:
    certificate = tls.serverConnectionForTLS(None).get_certificate()
    return bytes(certificate.to_cryptography().public_bytes(Encoding.PEM))
