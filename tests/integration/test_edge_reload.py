"""What `http` in the configuration says holds from the next request on after a reload."""

from __future__ import annotations

import socket
from pathlib import Path

from tests.integration.daemon import PATIENCE_SECONDS, Daemon

STRICT = "http: {hosts: [ai.example], cors: ['*'], maxBody: 1, maxConnections: 3, trustedProxies: [127.0.0.1]}\n"


def test_d18_limits_follow_a_reload_and_spare_what_is_under_way(tmp_path: Path) -> None:
    with Daemon(tmp_path, "models: {}\n") as daemon:
        elsewhere = {"Host": "evil.example"}
        assert daemon.ask("GET", "/health", headers=elsewhere).status == 200
        following = socket.create_connection(("127.0.0.1", daemon.port), PATIENCE_SECONDS)
        following.sendall(b"GET /logs/stream HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert following.recv(100).startswith(b"HTTP/1.1 200 ")
        assert daemon.reload(f"{STRICT}models: {{}}\n")["status"] == "ok"
        assert daemon.ask("GET", "/health", headers=elsewhere).status == 403
        allowed = daemon.ask("GET", "/health", headers={"Host": "AI.example", "X-Forwarded-For": "6.6.6.6, 7.7.7.7"})
        assert allowed.headers["Access-Control-Allow-Origin"] == "*"
        daemon.wait_line('Request 7.7.7.7 "GET /health')
        assert daemon.ask("POST", "/v1/chat/completions", "x" * (1024 * 1024 + 1)).status == 413
        idle = [socket.create_connection(("127.0.0.1", daemon.port), PATIENCE_SECONDS) for _ in range(3)]
        assert idle[0].recv(1) == b"", "the oldest idle one made room"
        for each in idle:
            each.close()
        following.settimeout(PATIENCE_SECONDS)
        assert b"GET /health" in read_until(following, b"GET /health"), "the stream goes on"
        following.close()


def read_until(sock: socket.socket, wanted: bytes) -> bytes:
    data = b""
    while wanted not in data:
        piece = sock.recv(65536)
        assert piece, "the stream ended"
        data += piece
    return data
