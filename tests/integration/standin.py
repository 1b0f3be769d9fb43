"""A stand-in model server for vectors: says who it is and repeats what it is asked. Standard library only.

``python standin.py --port N`` serves; other arguments are ignored but shown by ``/argv``.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit


class Handler(BaseHTTPRequestHandler):
    """Answers every method on every path."""

    protocol_version = "HTTP/1.1"

    def answer(self) -> None:
        """Answer one request."""
        url = urlsplit(self.path)
        raw = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        found: dict[str, Any]
        match url.path:
            case "/health" | "/ready":
                found = {"status": "ok"}
            case "/argv":
                found = {"argv": sys.argv[1:], "pid": os.getpid()}
            case "/env":
                found = {"env": dict(os.environ)}
            case _:
                found = {"echo": self.echo(url.path, url.query, raw)}
        body = json.dumps(found).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def echo(self, path: str, query: str, raw: bytes) -> dict[str, Any]:
        """Describe the request, after sleeping as long as it says."""
        try:
            body = json.loads(raw) if raw else None
        except ValueError:
            body = raw.decode("utf-8", "replace")
        wanted = body.get("x_sleep") if isinstance(body, dict) else None
        time.sleep(float(wanted or parse_qs(query).get("sleep", ["0"])[0]))
        headers = {name.lower(): value for name, value in self.headers.items()}
        return {"method": self.command, "path": path, "query": query, "headers": headers, "body": body}

    def log_message(self, *_: object) -> None:
        """Stay silent."""

    do_GET = do_POST = do_PUT = do_DELETE = do_PATCH = answer  # noqa: N815


def port_of(argv: list[str]) -> int:
    """Read ``--port N`` or ``--port=N``."""
    for index, word in enumerate(argv):
        if word == "--port":
            return int(argv[index + 1])
        if word.startswith("--port="):
            return int(word.partition("=")[2])
    raise SystemExit("no --port")


def main() -> None:
    """Serve until the parent is gone."""
    parent = os.getppid()
    server = ThreadingHTTPServer(("127.0.0.1", port_of(sys.argv)), Handler)
    sys.stdout.write(f"stand-in upstream on port {server.server_port}\n")
    sys.stdout.flush()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    while os.getppid() == parent:
        time.sleep(0.5)


if __name__ == "__main__":
    main()
