"""The kinds of requests of :mod:`tests.unit.test_edge_kinds`, sent to a real daemon through real sockets."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from tests.integration.daemon import Daemon
from tests.unit.test_edge_kinds import MALFORMED_BODIES, MALFORMED_HEADS, TAKEN

_PATIENCE_SECONDS = 10.0
_GUARD = b"GET /health HTTP/1.1\r\nHost: h\r\n\r\n"
"""Comes behind what is malformed: an answer to it would say that two readers can disagree."""


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """Give a daemon that all of them ask."""
    with Daemon(tmp_path_factory.mktemp("edge"), "models: {}\n") as daemon:
        yield daemon


def answers(daemon: Daemon, wire: bytes, *, piece_bytes: int = 0) -> bytes:
    """Send bytes as they are, in pieces of that size, and take everything until the daemon hangs up or falls silent."""
    with socket.create_connection(("127.0.0.1", daemon.port), _PATIENCE_SECONDS) as link:
        link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for start in range(0, len(wire), piece_bytes or len(wire)):
            link.sendall(wire[start : start + (piece_bytes or len(wire))])
        link.shutdown(socket.SHUT_WR)
        taken = b""
        while data := link.recv(65536):
            taken += data
    return taken


def is_refused(taken: bytes) -> bool:
    """Say whether there is one answer, that one refuses, and nothing behind it was looked at."""
    count = taken.count(b"HTTP/1.1 4") + taken.count(b"HTTP/1.1 2")
    return taken.startswith(b"HTTP/1.1 400 ") and count == 1 and b"\r\nConnection: close\r\n" in taken


def for_daemon(wire: bytes) -> bytes:
    """Ask for what a daemon without models has, where the stack of the unit tests has a route of its own."""
    return wire.replace(b"/direct", b"/health")


def test_d18_malformed_heads_are_refused_on_the_wire(daemon: Daemon) -> None:
    assert len(MALFORMED_HEADS) > 33
    wrong = {}
    for kind, head in MALFORMED_HEADS.items():
        taken = answers(daemon, for_daemon(head) + b"\r\n\r\n" + _GUARD)
        if not is_refused(taken):
            wrong[kind] = taken[:200]
    assert wrong == {}
    assert daemon.ask("GET", "/health").status == 200


def test_d18_malformed_bodies_are_refused_on_the_wire(daemon: Daemon) -> None:
    wrong = {}
    for kind, body in MALFORMED_BODIES.items():
        head = b"POST /v1/chat/completions HTTP/1.1\r\nHost: h\r\nContent-Type: application/json\r\n"
        taken = answers(daemon, head + b"Transfer-Encoding: chunked\r\n\r\n" + body + _GUARD)
        if not is_refused(taken):
            wrong[kind] = taken[:200]
    assert wrong == {}


@pytest.mark.parametrize("piece_bytes", [0, 3])
def test_what_is_right_is_taken_on_the_wire(daemon: Daemon, piece_bytes: int) -> None:
    wrong = {}
    for kind, (wire, targets) in TAKEN.items():
        taken = answers(daemon, for_daemon(wire), piece_bytes=piece_bytes)
        count = taken.count(b"HTTP/1.") - taken.count(b"HTTP/1.1 100 ")
        if count != len(targets) or b"HTTP/1.1 400" in taken:
            wrong[kind] = taken[:200]
    assert wrong == {}
