"""A real daemon as a child process, for tests: started, asked over HTTP, ended."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import psutil

PATIENCE_SECONDS = 30.0
"""Longest wait for anything; tests on a loaded machine are slow, never endless."""

PYTHON = shlex.quote(sys.executable)
DEMO = f"{PYTHON} -m llamaswap.demo --port ${{PORT}} --name ${{MODEL_ID}}"
CLI = (sys.executable, "-m", "llamaswap.cli")


def free_ports(count: int) -> int:
    """Find the first of several neighbouring ports that nobody uses."""
    low, high = 20000, 32000
    start = low + os.getpid() * 37 % (high - low - count)
    candidates: list[int] = [*range(start, high - count, count), *range(low, start, count)]
    for first in candidates:
        with contextlib.ExitStack() as stack:
            try:
                for port in range(first, first + count):
                    probe = stack.enter_context(socket.socket())
                    probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return first
    msg = "no free ports"
    raise RuntimeError(msg)


JSON = {"Content-Type": "application/json"}


def chat_body(model: str, **more: Any) -> str:
    """Write a small question to a model."""
    return json.dumps({"model": model, "messages": [{"role": "user", "content": "hi"}], "max_tokens": 4, **more})


class Daemon:
    """A daemon that runs as long as the block.

    Args:
        folder: Where its configuration is written and where it runs.
        config: Text of the configuration; ``startPort`` is put in front of it.
        command: Words before the flags.
        env: Added to the environment.
        flags: Further flags.
        port: Where it listens; its models have the ports after it. 0 = where there is room.

    Attributes:
        path: Its configuration file.
        port: Where it listens.
        lines: What it printed so far.
    """

    def __init__(
        self,
        folder: Path,
        config: str,
        *,
        command: Sequence[str] = CLI,
        env: Mapping[str, str] | None = None,
        flags: Sequence[str] = (),
        port: int = 0,
    ) -> None:
        self.port = port or free_ports(12)
        self.folder = folder
        self.lines: list[str] = []
        self.path = folder / "config.yaml"
        self.write(config)
        self._words = [*command, "-config", str(self.path), "-listen", f"127.0.0.1:{self.port}", *flags]
        self._env = {**os.environ, **(env or {})}
        self._news = threading.Condition()
        self.process: subprocess.Popen[str]

    def __enter__(self) -> Self:
        """Start it, and wait until it listens."""
        self.process = subprocess.Popen(
            self._words,
            cwd=self.folder,
            env=self._env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        threading.Thread(target=self._read, daemon=True).start()
        try:
            self.wait_line("listening on")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """End it and everything it started."""
        tree = self.tree()
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(PATIENCE_SECONDS)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        for child in tree:
            with contextlib.suppress(psutil.NoSuchProcess):
                child.kill()

    def _read(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as lines:
            for line in lines:
                with self._news:
                    self.lines.append(line)
                    self._news.notify_all()
        with self._news:
            self.lines.append("(end of output)\n")
            self._news.notify_all()

    def wait_line(self, pattern: str) -> str:
        """Wait until it has printed a line that fits, and give it."""

        def found() -> str | None:
            return next((line for line in self.lines if re.search(pattern, line)), None)

        def over() -> bool:
            return found() is not None or "(end of output)\n" in self.lines

        with self._news:
            self._news.wait_for(over, PATIENCE_SECONDS)
            line = found()
        assert line is not None, f"no line {pattern!r} in:\n{''.join(self.lines)}"
        return line

    def count(self, pattern: str) -> int:
        """Count the lines that fit so far."""
        return sum(bool(re.search(pattern, line)) for line in self.lines)

    def tree(self) -> list[psutil.Process]:
        """Give all its descendants that are alive now."""
        with contextlib.suppress(psutil.NoSuchProcess):
            found: list[psutil.Process] = psutil.Process(self.process.pid).children(recursive=True)
            return found
        return []

    def write(self, config: str) -> None:
        """Write another configuration."""
        self.path.write_text(f"startPort: {self.port + 1}\n{config}")

    def reload(self, config: str | None = None) -> Any:
        """Write another configuration, if one is given, reload, and give the report."""
        if config is not None:
            self.write(config)
        serial = self.ask("GET", "/api/reload").json()["serial"]
        self.process.send_signal(signal.SIGHUP)
        return self.wait_reload(serial + 1)

    def wait_reload(self, serial: int) -> Any:
        """Wait until a reload of this number is over, or a later one, and give the report."""
        end_mono = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < end_mono:
            report = self.ask("GET", "/api/reload").json()
            if report["serial"] >= serial and report["status"] != "running":
                return report
            with self._news:
                self._news.wait_for(lambda: False, 0.02)
        msg = f"no reload {serial} in:\n{''.join(self.lines)}"
        raise AssertionError(msg)

    def pids(self) -> dict[str, int]:
        """Give the pid of each model's process, by what the command line says."""
        found = {}
        for process in self.tree():
            with contextlib.suppress(psutil.NoSuchProcess):
                words = process.cmdline()
                if "--name" in words:
                    found[words[words.index("--name") + 1]] = process.pid
        return found

    def connect(self) -> http.client.HTTPConnection:
        """Open a connection of one's own."""
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE_SECONDS)

    def ask(self, method: str, path: str, body: str | None = None, headers: Mapping[str, str] | None = None) -> Answer:
        """Ask once, and take the whole answer."""
        connection = self.connect()
        try:
            connection.request(method, path, body, {**JSON, **(headers or {})})
            response = connection.getresponse()
            return Answer(response.status, dict(response.getheaders()), response.read())
        finally:
            connection.close()

    def chat(self, model: str, **more: Any) -> Answer:
        """Ask a model something small."""
        return self.ask("POST", "/v1/chat/completions", chat_body(model, **more))

    def stream(self, model: str, max_tokens: int) -> http.client.HTTPConnection:
        """Ask a model for a stream, on a connection of its own."""
        connection = self.connect()
        body = chat_body(model, max_tokens=max_tokens, stream=True)
        connection.request("POST", "/v1/chat/completions", body, JSON)
        return connection

    def running(self) -> list[str]:
        """Give the models whose process exists."""
        return [entry["model"] for entry in self.ask("GET", "/running").json()["running"]]


class Answer:
    """A whole answer.

    Attributes:
        status: Its status.
        headers: Its headers.
        body: Its body.
    """

    def __init__(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        self.status = status
        self.headers = headers
        self.body = body

    def json(self) -> Any:
        """Parse the body."""
        return json.loads(self.body)


def events(response: http.client.HTTPResponse) -> Iterator[str]:
    """Give the payloads of a stream of server-sent events as they come."""
    for raw in response:
        line = raw.decode().rstrip("\n")
        if line.startswith("data: "):
            yield line.removeprefix("data: ")


def alive(processes: Sequence[psutil.Process]) -> list[psutil.Process]:
    """Give those that still exist, zombies apart."""
    result = []
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            if process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
                result.append(process)
    return result
