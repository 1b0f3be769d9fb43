"""A tiny model server for the HTTP vectors: repeats what it is asked, or answers as some engine would.

``python tiny_upstream.py --port N --name X [--load SECONDS] [--never] [--exit SECONDS]``; port 0 = a free one, which is
printed. Standard library only, so that it is up in no time.
"""

from __future__ import annotations

import argparse
import contextlib
import gzip
import json
import os
import socket
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

TIMINGS = {
    "prompt_n": 9,
    "predicted_n": 2,
    "cache_n": 3,
    "prompt_ms": 20.0,
    "predicted_ms": 40.0,
    "prompt_per_second": 450.0,
    "predicted_per_second": 50.0,
    "draft_n": 8,
    "draft_n_accepted": 5,
}
CHAT: list[dict[str, Any]] = [
    {"choices": [{"index": 0, "delta": {"content": "one "}}]},
    {"choices": [{"index": 0, "delta": {"content": "two"}}]},
    {
        "choices": [],
        "usage": {"prompt_tokens": 12, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": 3}},
        "timings": TIMINGS,
    },
]
ANTHROPIC: list[dict[str, Any]] = [
    {
        "type": "message_start",
        "message": {"usage": {"input_tokens": 25, "cache_read_input_tokens": 4, "output_tokens": 1}},
    },
    {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "hi"}},
    {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 15}},
    {"type": "message_stop"},
]
RESPONSES: list[dict[str, Any]] = [
    {"type": "response.output_text.delta", "delta": "hi"},
    {
        "type": "response.completed",
        "response": {
            "usage": {"input_tokens": 11, "output_tokens": 22, "input_tokens_details": {"cached_tokens": 6}},
        },
    },
]
VLLM = {
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "hi"}}],
    "usage": {"prompt_tokens": 100, "completion_tokens": 50, "prompt_tokens_details": {"cached_tokens": 20}},
    "metrics": {
        "time_to_first_token_ms": 200,
        "mean_itl_ms": 10,
        "speculative_decoding": {"num_draft_tokens": 40, "num_accepted_draft_tokens": 30},
    },
}
EMBEDDINGS = {"object": "list", "data": [], "usage": {"prompt_tokens": 9, "total_tokens": 9}}
INFILL = [
    {"content": "a"},
    {
        "content": "b",
        "timings": {"prompt_n": 5, "predicted_n": 6, "prompt_per_second": 50.0, "predicted_per_second": 60.0},
    },
]
EVENTS: dict[str, list[dict[str, Any]]] = {"chat": CHAT, "anth": ANTHROPIC, "resp": RESPONSES}
DOCUMENTS: dict[str, Any] = {"vllm": VLLM, "emb": EMBEDDINGS, "infill": INFILL}


class Upstream(ThreadingHTTPServer):
    """The server, and what its command line says."""

    request_queue_size = 256
    block_on_close = False

    def __init__(self, options: argparse.Namespace) -> None:
        super().__init__(("127.0.0.1", options.port), Handler)
        self.name: str = options.name
        self.is_hopeless: bool = options.never or options.exit is not None
        self.ready_mono = time.monotonic() + options.load

    @property
    def is_healthy(self) -> bool:
        """Whether it has loaded."""
        return not self.is_hopeless and time.monotonic() >= self.ready_mono

    def handle_error(self, request: object, client_address: object) -> None:
        """Stay silent: clients of tests leave as they like."""


class Handler(BaseHTTPRequestHandler):
    """Answers every method on every path."""

    protocol_version = "HTTP/1.1"
    server: Upstream

    def answer(self) -> None:
        """Answer one request."""
        if "websocket" in self.headers.get("Upgrade", "").lower():
            self.tunnel()
            return
        url = urlsplit(self.path)
        body = self.received()
        if url.path == "/health":
            self.send(200 if self.server.is_healthy else 503, b"health")
            return
        query = parse_qs(url.query)
        mode = query.get("mode", [""])[0]
        time.sleep(float(query.get("sleep", ["0"])[0]))
        if mode in {"die", "die0"}:
            self.die(CHAT[:2] if mode == "die" else [])
        elif mode in EVENTS or (not mode and wants_stream(body)):
            self.stream(EVENTS[mode or "chat"])
        elif mode == "gzip":
            self.zipped()
        else:
            self.send(200, json.dumps(DOCUMENTS.get(mode) or self.echo(body)).encode())

    def received(self) -> bytes:
        """Read the body."""
        if "chunked" not in self.headers.get("Transfer-Encoding", "").lower():
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        body = b""
        while size := int(self.rfile.readline().partition(b";")[0], 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        while self.rfile.readline() not in {b"\r\n", b""}:
            pass
        return body

    def echo(self, body: bytes) -> dict[str, Any]:
        """Describe the request."""
        return {
            "upstream": self.server.name,
            "method": self.command,
            "path": self.path,
            "headers": list(self.headers.items()),
            "body": body.decode("utf-8", "replace"),
            "usage": {"prompt_tokens": 10, "completion_tokens": 5},
        }

    def send(self, status: int, body: bytes, *more: tuple[str, str]) -> None:
        """Send a whole answer."""
        self.send_response(status)
        for name, value in (
            ("Content-Type", "application/json"),
            ("Content-Length", str(len(body))),
            ("Set-Cookie", "c=1"),
            ("X-Custom", "yes"),
            *more,
        ):
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def zipped(self) -> None:
        """Send JSON, compressed for whom takes that."""
        accepted = self.headers.get("Accept-Encoding")
        body = json.dumps({"ae": accepted, "usage": {"prompt_tokens": 7, "completion_tokens": 3}}).encode()
        if accepted is not None and "gzip" in accepted:
            self.send(200, gzip.compress(body), ("Content-Encoding", "gzip"))
        else:
            self.send(200, body)

    def begin_stream(self) -> None:
        """Send the head of a stream of events."""
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()

    def stream(self, documents: list[dict[str, Any]]) -> None:
        """Send events, and the word that it is over."""
        self.begin_stream()
        for chunk in framed(documents):
            self.wfile.write(chunk)
        self.wfile.write(b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n")
        sys.stdout.write("eval time = 40.00 ms / 2 tokens\n")
        sys.stdout.flush()

    def die(self, documents: list[dict[str, Any]]) -> None:
        """Cut the connection, after some events or before any head."""
        if documents:
            self.begin_stream()
        for chunk in framed(documents):
            self.wfile.write(chunk)
        self.wfile.flush()
        with contextlib.suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)
        self.close_connection = True

    def tunnel(self) -> None:
        """Agree to another protocol, and send back whatever comes."""
        self.wfile.write(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
        reader: Any = self.rfile
        while data := reader.read1(65536):
            self.wfile.write(data)
        self.close_connection = True

    def log_message(self, *_: object) -> None:
        """Stay silent."""

    do_GET = do_POST = do_PUT = do_DELETE = do_PATCH = do_HEAD = answer  # noqa: N815


def framed(documents: list[dict[str, Any]]) -> Iterator[bytes]:
    """Give events as chunks."""
    for document in documents:
        event = b"data: %s\n\n" % json.dumps(document).encode()
        yield b"%x\r\n%s\r\n" % (len(event), event)


def wants_stream(body: bytes) -> bool:
    """Say whether a body asks for a stream."""
    try:
        document = json.loads(body)
    except ValueError:
        return False
    return isinstance(document, dict) and document.get("stream") is True


def main() -> None:
    """Serve until the parent is gone, or the time is up."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--name", required=True)
    parser.add_argument("--load", type=float, default=0.0)
    parser.add_argument("--never", action="store_true")
    parser.add_argument("--exit", type=float)
    options = parser.parse_args()
    parent = os.getppid()
    server = Upstream(options)
    sys.stdout.write(f"tiny upstream {options.name} on port {server.server_port}\n")
    sys.stdout.flush()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    end_mono = time.monotonic() + (options.exit or float("inf"))
    while os.getppid() == parent and time.monotonic() < end_mono:
        time.sleep(min(0.5, max(end_mono - time.monotonic(), 0)))
    os._exit(1)


if __name__ == "__main__":
    main()
