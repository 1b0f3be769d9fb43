"""A supervisor with a real launcher and real processes, without a daemon around it."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeVar

import psutil
import treq
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater

from llamaswap.config.schema import ModelConfig
from llamaswap.core.values import ModelId, StopReason
from llamaswap.process.death_signal import death_signal_words
from llamaswap.process.local import LocalLauncher
from llamaswap.process.output import OutputPipe
from llamaswap.process.upstream import Upstream
from llamaswap.proxy.agent import HopAgent
from tests.fakes import Events
from tests.integration.daemon import free_ports

T = TypeVar("T")

PATIENCE_SECONDS: Final = 15.0
SERVER: Final = (sys.executable, "-S", "-E", str(Path(__file__).with_name("fake_upstream.py")))


class Rig:
    """One model whose server is the fake one, or a command that holds it as ``{server}``."""

    def __init__(self, folder: Path, *options: str, **fields: Any) -> None:
        from twisted.internet import reactor

        self.reactor: Any = reactor
        self.port = free_ports(1)
        self.pids_path = folder / "pids"
        self.marks_path = folder / "marks"
        self.output: list[bytes] = []
        self.events = Events()
        self.server = (
            *SERVER,
            *("--port", str(self.port), "--pids", str(self.pids_path), "--marks", str(self.marks_path)),
            *options,
        )
        settings = {
            "argv": self.server,
            "proxy": f"http://127.0.0.1:{self.port}",
            "unload_timeout_seconds": 5,
            **fields,
        }
        self.environ = {**os.environ, "FROM_DAEMON": "yes"}
        self.cwd = str(Path.cwd())
        self.config = ModelConfig(id=ModelId("m"), **settings)
        self.launcher = LocalLauncher(reactor, death_signal=death_signal_words(os.environ))
        self._upstream: Upstream | None = None

    @property
    def upstream(self) -> Upstream:
        """The supervisor, made when it is first asked for."""
        if self._upstream is None:
            self._upstream = Upstream(
                self.config,
                clock=self.reactor,
                launcher=self.launcher,
                probe_agent=HopAgent(self.reactor),
                events=self.events,
                on_output=self.output.append,
                environ=self.environ,
                cwd=self.cwd,
            )
        return self._upstream

    def within(self, deferred: Deferred[T], seconds: float = PATIENCE_SECONDS) -> Deferred[T]:
        """Wait no longer than that."""
        return deferred.addTimeout(seconds, self.reactor)

    async def start(self) -> int:
        """Bring the server up; gives its pid."""
        await self.within(self.upstream.ensure_ready())
        return self.pid

    @property
    def pid(self) -> int:
        """Of the leader."""
        pid = self.upstream.snapshot().pid
        assert pid is not None
        return pid

    async def stop(self, grace_seconds: float = 5) -> float:
        """End the server; gives the seconds that it took."""
        before = time.monotonic()
        await self.within(self.upstream.stop(grace_seconds, StopReason.USER))
        return time.monotonic() - before

    def clean_up(self) -> Deferred[None]:
        """End for good, and wait for the last of the output."""
        return Deferred.fromCoroutine(self._clean_up())

    async def _clean_up(self) -> None:
        await self.within(self.upstream.shut_down(0.5))
        await self.until(lambda: not any(isinstance(each, OutputPipe) for each in self.reactor.getReaders()))

    async def ask(self, path: str) -> dict[str, Any]:
        """GET JSON from the server."""
        url = f"{self.upstream.base_url}{path}".encode()
        response = await self.within(HopAgent(self.reactor).request(b"GET", url))
        content = await self.within(treq.content(response))
        answer: dict[str, Any] = json.loads(content)
        return answer

    async def until(self, condition: Callable[[], T]) -> T:
        """Wait until something holds; gives what the condition gave."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not (result := condition()):
            assert time.monotonic() < deadline, "waited in vain"
            await deferLater(self.reactor, 0.005)
        return result

    def pids(self) -> list[int]:
        """Pids of all servers and children so far."""
        return [int(line) for line in _lines(self.pids_path)]

    def marks(self) -> list[str]:
        """What servers took note of."""
        return [line.split()[0] for line in _lines(self.marks_path)]


def _lines(path: Path) -> list[str]:
    return path.read_text("ascii").splitlines() if path.exists() else []


def is_alive(pid: int) -> bool:
    """Say whether a process is there; a zombie is not."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def zombies() -> list[psutil.Process]:
    """Children of ours that nobody waited for."""
    return [p for p in psutil.Process().children() if p.status() == psutil.STATUS_ZOMBIE]
