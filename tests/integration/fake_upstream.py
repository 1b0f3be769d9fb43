"""A model server that misbehaves on demand; standard library only, so that it starts quickly.

Run as a program. It answers ``/health`` with 503 while loading, then 200; ``/facts`` with what it
finds about itself; every other path with JSON, or with an event stream where the request's body says
``"stream": true``. Every answer tells its pid, in a header and in its JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

_REASONS = {200: "OK", 503: "Loading"}


def parse(words: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("--host", default="127.0.0.1")
    add("--port", type=int, required=True)
    add("--load", type=float, default=0, metavar="S", help="time until healthy; 503 until then")
    add("--listen-after", type=float, default=0, metavar="S", help="time until the port is open")
    add("--hang", action="store_true", help="accept and never answer")
    add("--ignore-term", action="store_true")
    add("--term-delay", type=float, default=0, metavar="S", help="time from TERM to the exit")
    add("--exit", type=int, default=None, metavar="CODE", help="exit instead of serving")
    add("--exit-after", type=float, default=0, metavar="S", help="with --exit: when")
    add("--crash-after", type=int, default=0, metavar="BYTES", help="die by KILL after that much of an answer")
    add("--child", choices=["inherit", "null", "daemon"], help="a child with our output, without, in another session")
    add("--child-ignores-term", action="store_true")
    add("--pids", type=Path, help="file for the pids, this process first, one a line")
    add("--marks", type=Path, help="file for 'start', 'term' and 'end', one a line, each with a time and the pid")
    add("--print-bytes", type=int, default=0, help="print that much at the start")
    add("--chunks", type=int, default=3, help="events of a stream")
    add("--pace", type=float, default=0, metavar="S", help="pause between them")
    return parser.parse_args(words)


def append(path: Path | None, line: str) -> None:
    if path is not None:
        with path.open("a", encoding="ascii") as file:
            file.write(f"{line}\n")


class Upstream:
    """The server."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.ready_mono = time.monotonic() + options.load

    def mark(self, word: str) -> None:
        append(self.options.marks, f"{word} {time.monotonic()} {os.getpid()}")

    def run(self) -> int:
        options = self.options
        signal.signal(signal.SIGTERM, self.on_term)
        self.mark("start")
        append(options.pids, str(os.getpid()))
        if options.print_bytes:
            os.write(1, (b"x" * 63 + b"\n") * (options.print_bytes // 64))
        if options.child:
            self.start_child()
        if options.exit is not None:
            time.sleep(options.exit_after)
            os.write(2, b"giving up\n")
            return int(options.exit)
        time.sleep(options.listen_after)
        with socket.create_server((options.host, options.port)) as listener:
            while True:
                connection, _ = listener.accept()
                threading.Thread(target=self.serve, args=(connection,), daemon=True).start()

    def on_term(self, number: int, frame: object) -> None:
        self.mark("term")
        if not self.options.ignore_term:
            time.sleep(self.options.term_delay)
            self.mark("end")
            os._exit(0)

    def start_child(self) -> None:
        options = self.options
        words = [sys.executable, "-S", "-c", _CHILD, str(options.pids or ""), str(int(options.child_ignores_term))]
        output = None if options.child == "inherit" else subprocess.DEVNULL
        if options.child == "daemon":
            words = [sys.executable, "-S", "-c", _DAEMONISE, *words]
        started = subprocess.Popen(words, stdout=output, stderr=output)
        if options.child == "daemon":
            started.wait()

    def serve(self, connection: socket.socket) -> None:
        with connection, connection.makefile("rwb") as stream:
            try:
                while self.serve_one(stream):
                    pass
            except (BrokenPipeError, ConnectionResetError):
                os.write(2, b"connection reset\n")

    def serve_one(self, stream: Any) -> bool:
        """Answer one request; says whether there was one."""
        first = stream.readline()
        if not first:
            return False
        _, path, _ = first.decode("latin-1").split(" ", 2)
        headers = {}
        while line := stream.readline().strip():
            name, _, value = line.decode("latin-1").partition(":")
            headers[name.lower()] = value.strip()
        body = stream.read(int(headers.get("content-length", 0)))
        if self.options.hang:
            time.sleep(3600)
        self.answer(stream, path, body)
        return headers.get("connection") != "close"

    def answer(self, stream: Any, path: str, body: bytes) -> None:
        if path == "/health":
            self.answer_json(stream, 200 if time.monotonic() >= self.ready_mono else 503, {})
        elif path == "/facts":
            self.answer_json(stream, 200, facts())
        elif b'"stream": true' in body or b'"stream":true' in body:
            self.answer_stream(stream)
        else:
            self.answer_json(stream, 200, {"path": path, "got": len(body), "text": "x" * 200})

    def answer_json(self, stream: Any, status: int, answer: dict[str, Any]) -> None:
        body = json.dumps({"pid": os.getpid(), **answer}).encode()
        self.write(stream, head(status, f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n") + body)

    def answer_stream(self, stream: Any) -> None:
        self.write(stream, head(200, "Content-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n"))
        for number in range(self.options.chunks):
            event = f"data: {json.dumps({'pid': os.getpid(), 'n': number})}\n\n".encode()
            self.write(stream, b"%x\r\n%s\r\n" % (len(event), event))
            time.sleep(self.options.pace)
        self.write(stream, b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n")

    def write(self, stream: Any, data: bytes) -> None:
        limit = self.options.crash_after
        if limit and b"/1.1 503" not in data and b'"pid"' in data:
            stream.write(data[:limit])
            stream.flush()
            os.kill(os.getpid(), signal.SIGKILL)
        stream.write(data)
        stream.flush()


def head(status: int, headers: str) -> bytes:
    return f"HTTP/1.1 {status} {_REASONS[status]}\r\nX-Pid: {os.getpid()}\r\n{headers}\r\n".encode()


def facts() -> dict[str, Any]:
    """Say what a process can find out about its own start."""
    links = {each.name: each for each in Path("/proc/self/fd").iterdir()}
    status = dict(line.split(":\t", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return {
        "argv": sys.argv,
        "cwd": str(Path.cwd()),
        "env": dict(os.environ),
        "fds": {number: str(link.readlink()) for number, link in links.items() if link.exists() or link.is_symlink()},
        "ignored": status["SigIgn"],
        "blocked": status["SigBlk"],
        "session": os.getsid(0),
        "group": os.getpgid(0),
    }


_CHILD = """
import os, signal, sys, time
if sys.argv[2] == "1":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
if sys.argv[1]:
    with open(sys.argv[1], "a") as file:
        file.write(f"{os.getpid()}\\n")
time.sleep(600)
"""

_DAEMONISE = """
import os, sys
for _ in range(2):
    if os.fork():
        os._exit(0)
    os.setsid()
os.execv(sys.argv[1], sys.argv[1:])
"""

if __name__ == "__main__":
    sys.exit(Upstream(parse(sys.argv[1:])).run())
