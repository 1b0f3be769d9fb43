"""A real daemon and real peers: TLS that is verified, reloads, and an end that waits."""

from __future__ import annotations

import contextlib
import http.client
import json
import signal
import ssl
import threading
from collections.abc import Iterator
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.certificates import Signed, sign
from tests.integration.daemon import JSON, PATIENCE_SECONDS, Daemon
from tests.integration.standin import Handler

CHAT = "/v1/chat/completions"


class Arrivals(ThreadingHTTPServer):
    """Repeats what it is asked, and tells when it is asked."""

    def __init__(self) -> None:
        self.has_come = threading.Event()
        arrivals = self

        class Noting(Handler):
            def echo(self, path: str, query: str, raw: bytes) -> dict[str, Any]:
                arrivals.has_come.set()
                return super().echo(path, query, raw)

        super().__init__(("127.0.0.1", 0), Noting)


@contextlib.contextmanager
def peer(folder: Path, signed: Signed | None = None) -> Iterator[Arrivals]:
    """Run a peer, over TLS if it has a certificate."""
    server = Arrivals()
    if signed is not None:
        (folder / "peer.pem").write_bytes(signed.certificate + signed.key)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(folder / "peer.pem")
        server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def config(server: Arrivals, scheme: str = "http", key: str = "one") -> str:
    return f"peers: {{far: {{proxy: '{scheme}://127.0.0.1:{server.server_port}/base', apiKey: {key}, models: [m]}}}}\n"


def echo(daemon: Daemon) -> Any:
    answer = daemon.chat("far/m")
    assert answer.status == 200, answer.body
    return answer.json()["echo"]


def begin(daemon: Daemon, server: Arrivals) -> http.client.HTTPConnection:
    """Have a request under way that takes a while."""
    connection = daemon.connect()
    connection.request("POST", CHAT, json.dumps({"model": "m", "x_sleep": 1.5}), JSON)
    assert server.has_come.wait(PATIENCE_SECONDS)
    return connection


def test_a_peer_over_tls_is_verified_and_served(tmp_path: Path) -> None:
    signed = sign()
    (tmp_path / "authority.pem").write_bytes(signed.authority)
    trusting = {"SSL_CERT_FILE": str(tmp_path / "authority.pem")}
    with peer(tmp_path, signed) as server, Daemon(tmp_path, config(server, "https"), env=trusting) as daemon:
        for _ in range(2):
            found = echo(daemon)
            assert found["path"] == f"/base{CHAT}"
            assert found["body"]["model"] == "m"
            assert found["headers"]["authorization"] == "Bearer one"
            assert found["headers"]["host"] == f"127.0.0.1:{server.server_port}"
        assert daemon.running() == []
        long = json.dumps({"model": "m", "text": "x" * 3_000_000})
        for path in (CHAT, "/upstream/far/m/x"):
            answer = daemon.ask("POST", path, long)
            assert answer.json()["echo"]["body"] == json.loads(long)


@pytest.mark.parametrize(
    ("host", "is_trusted", "cause"),
    [
        ("elsewhere.example", True, "the certificate is for another host"),
        ("127.0.0.1", False, "certificate verify failed"),
    ],
)
def test_somebody_elses_certificate_is_refused(tmp_path: Path, host: str, cause: str, *, is_trusted: bool) -> None:
    signed = sign(host)
    (tmp_path / "authority.pem").write_bytes(signed.authority if is_trusted else sign(host).authority)
    trusting = {"SSL_CERT_FILE": str(tmp_path / "authority.pem")}
    with peer(tmp_path, signed) as server, Daemon(tmp_path, config(server, "https"), env=trusting) as daemon:
        answer = daemon.chat("far/m")
        assert not server.has_come.is_set()
    assert answer.status == 502
    assert answer.json()["error"]["message"] == f"peer proxy error: no secure connection to the upstream: {cause}"


def test_d12_a_reload_changes_the_way_to_a_peer_and_cuts_nothing(tmp_path: Path) -> None:
    with peer(tmp_path) as server, Daemon(tmp_path, config(server)) as daemon:
        assert echo(daemon)["headers"]["x-api-key"] == "one"
        server.has_come.clear()
        under_way = begin(daemon, server)
        assert daemon.reload(config(server, key="two"))["status"] == "ok"
        assert echo(daemon)["headers"]["x-api-key"] == "two"
        answer = under_way.getresponse()
        assert (answer.status, json.loads(answer.read())["echo"]["headers"]["x-api-key"]) == (200, "one")
        under_way.close()


def test_the_end_waits_for_what_a_peer_answers(tmp_path: Path) -> None:
    with peer(tmp_path) as server, Daemon(tmp_path, config(server)) as daemon:
        under_way = begin(daemon, server)
        daemon.process.send_signal(signal.SIGTERM)
        daemon.wait_line("shutting down")
        answer = under_way.getresponse()
        assert answer.status == 200
        assert json.loads(answer.read())["echo"]["body"]["x_sleep"] == 1.5
        assert daemon.process.wait(PATIENCE_SECONDS) == 0
        under_way.close()
