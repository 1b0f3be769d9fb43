"""Clients that send next to nothing, by the hundred: each is closed when its time is up, and nobody else notices.

``LLAMASWAP_LOAD=full`` gives them 40 seconds, as the acceptance of the HTTP surface wants, and is strict about
the delay of others; on a machine that runs tests beside it that would say little.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path

import psutil
import pytest

from tests.integration.daemon import DEMO, PATIENCE_SECONDS, Daemon, chat_body

IS_FULL = os.environ.get("LLAMASWAP_LOAD") == "full"
DEADLINE_SECONDS = 30 if IS_FULL else 3
WATCH_SECONDS = 40 if IS_FULL else 6
WORST_SECONDS = 0.1 if IS_FULL else 1.0
EACH = 300
CONFIG = f"""
http: {{headerTimeout: {DEADLINE_SECONDS}, bodyTimeout: {DEADLINE_SECONDS}}}
models: {{m: {{cmd: '{DEMO} --rate 0', concurrencyLimit: 1000}}}}
"""
HEADER = b"GET /health HTTP/1.1\r\nHost: h\r\nX-Slow: "
BODIES = (
    b"POST /v1/chat/completions HTTP/1.1\r\nHost: h\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n{",
    b"POST /upstream/m/v1/chat/completions HTTP/1.1\r\nHost: h\r\nContent-Length: 1000\r\n\r\n{",
    b"POST /v1/audio/transcriptions HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab",
)


@dataclass
class Seen:
    """What became of the clients.

    Attributes:
        lives_seconds: How long each slow one was there.
        statuses: What each was told.
        delays_seconds: How long each normal request took.
    """

    lives_seconds: list[float] = field(default_factory=list)
    statuses: list[bytes] = field(default_factory=list)
    delays_seconds: list[float] = field(default_factory=list)


async def be_slow(port: int, start: bytes, *, drips: bool, seen: Seen) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    started_mono = time.monotonic()
    writer.write(start)
    reading = asyncio.ensure_future(reader.read())
    while drips and not reading.done():
        writer.write(b"x")
        await asyncio.wait([reading], timeout=DEADLINE_SECONDS / 6)
    answer = await asyncio.wait_for(reading, WATCH_SECONDS + PATIENCE_SECONDS)
    seen.lives_seconds.append(time.monotonic() - started_mono)
    seen.statuses.append(answer[:12])
    writer.close()


async def be_normal(port: int, seen: Seen, seconds: float) -> None:
    """Ask for something all the time, of the daemon and of its model, on a connection of its own each time."""
    body = chat_body("m").encode()
    chat = b"POST /v1/chat/completions HTTP/1.1\r\nHost: h\r\nConnection: close\r\nContent-Type: application/json\r\n"
    requests = [
        b"GET /health HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n",
        chat + b"Content-Length: %d\r\n\r\n" % len(body) + body,
    ]
    end_mono = time.monotonic() + seconds
    while time.monotonic() < end_mono:
        for request in requests:
            asked_mono = time.monotonic()
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(request)
            answer = await reader.read()
            seen.delays_seconds.append(time.monotonic() - asked_mono)
            writer.close()
            assert answer.startswith(b"HTTP/1.1 200 "), answer
        await asyncio.sleep(0.05)


async def play(port: int, pool: ProcessPoolExecutor) -> Seen:
    seen = Seen()
    normal = asyncio.get_running_loop().run_in_executor(pool, delays, port)
    slow = [be_slow(port, HEADER, drips=True, seen=seen) for _ in range(EACH)]
    slow += [be_slow(port, BODIES[number % len(BODIES)], drips=False, seen=seen) for number in range(EACH)]
    await asyncio.gather(*slow)
    seen.delays_seconds = await normal
    return seen


def delays(port: int, seconds: float = WATCH_SECONDS) -> list[float]:
    """Be a normal client, in a process that has nothing else to do."""
    seen = Seen()
    asyncio.run(be_normal(port, seen, seconds))
    return seen.delays_seconds


@pytest.mark.slow
def test_d18_slow_clients_are_closed_in_time_and_nobody_else_notices(tmp_path: Path) -> None:
    with Daemon(tmp_path, CONFIG) as daemon:
        assert daemon.chat("m").status == 200
        process = psutil.Process(daemon.process.pid)
        with ProcessPoolExecutor(1, get_context("spawn")) as pool:
            pool.submit(delays, daemon.port, 1).result(PATIENCE_SECONDS)  # what first requests take stays
            descriptors, memory_bytes = process.num_fds(), process.memory_info().rss
            seen = asyncio.run(asyncio.wait_for(play(daemon.port, pool), WATCH_SECONDS + 2 * PATIENCE_SECONDS))
        assert daemon.ask("GET", "/health").status == 200
        left = wait_for_descriptors(process, descriptors)
        grown_mib = (process.memory_info().rss - memory_bytes) / 1024 / 1024
        busy_seconds = cpu_while_idle(process)
    sys.stdout.write(
        f"{len(seen.lives_seconds)} slow clients, closed after {min(seen.lives_seconds):.1f} to "
        f"{max(seen.lives_seconds):.1f} s ({DEADLINE_SECONDS} s allowed), told {set(seen.statuses)}; "
        f"{len(seen.delays_seconds)} normal requests meanwhile, the slowest {max(seen.delays_seconds) * 1000:.1f} ms; "
        f"descriptors {descriptors} before, {left} after; memory grew by {grown_mib:.1f} MiB; "
        f"{busy_seconds * 1000:.0f} ms of processor in an idle second\n"
    )
    assert set(seen.statuses) == {b"HTTP/1.1 408"}
    assert len(seen.lives_seconds) == 2 * EACH
    assert max(seen.lives_seconds) < DEADLINE_SECONDS + (3 if IS_FULL else 10)
    assert max(seen.delays_seconds) < WORST_SECONDS
    assert left <= descriptors
    assert grown_mib < 16
    assert busy_seconds < 0.2


def wait_for_descriptors(process: psutil.Process, wanted: int) -> int:
    """Wait until no more are open than before; idle connections to the model go after 4 seconds."""
    end_mono = time.monotonic() + PATIENCE_SECONDS
    while process.num_fds() > wanted and time.monotonic() < end_mono:
        time.sleep(0.1)
    return int(process.num_fds())


def cpu_while_idle(process: psutil.Process) -> float:
    """Give the processor time of one second in which nothing happens."""
    before = process.cpu_times()
    time.sleep(1)
    after = process.cpu_times()
    return float(after.user + after.system - before.user - before.system)
