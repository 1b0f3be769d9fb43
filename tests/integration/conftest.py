"""Daemons that several modules ask; they start when the first test needs them."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.integration import tiny_upstream
from tests.integration.daemon import Daemon, free_ports
from tests.integration.vector_world import CONFIG_A, CONFIG_B, Asker


@pytest.fixture(scope="session")
def peer_port() -> Iterator[int]:
    """Run a peer that repeats what it is asked, and give its port; on the next one nobody listens."""
    port = free_ports(2)
    words = [sys.executable, "-IS", tiny_upstream.__file__, "--port", str(port), "--name", "peer"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield port
        process.kill()


@pytest.fixture(scope="session")
def daemon_a(tmp_path_factory: pytest.TempPathFactory, peer_port: int) -> Iterator[Asker]:
    """Run the daemon without keys."""
    config = CONFIG_A.replace("PEER", str(peer_port)).replace("NOBODY", str(peer_port + 1))
    with Daemon(tmp_path_factory.mktemp("a"), config) as daemon:
        yield Asker(daemon)


@pytest.fixture(scope="session")
def daemon_b(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Asker]:
    """Run the daemon with keys."""
    with Daemon(tmp_path_factory.mktemp("b"), CONFIG_B) as daemon:
        yield Asker(daemon)


@pytest.fixture
def a(daemon_a: Asker) -> Iterator[Asker]:
    """Give the daemon without keys, and take it out of any profile afterwards."""
    yield daemon_a
    if daemon_a.get("/api/profiles").status == 200:
        daemon_a.ask("PUT", "/api/profiles/active", {"name": None})


@pytest.fixture
def b(daemon_b: Asker) -> Asker:
    """Give the daemon with keys."""
    return daemon_b
