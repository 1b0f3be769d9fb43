"""Long bodies and many streams through a real daemon: what arrives is what was sent, and memory stays bounded.

``LLAMASWAP_LOAD=full`` makes the streams as long as the acceptance of the HTTP surface wants them.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import shlex
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.integration.daemon import PATIENCE_SECONDS, PYTHON, Daemon
from tests.integration.event_server import content, event

SERVER = f"{PYTHON} {shlex.quote(str(Path(__file__).with_name('event_server.py')))} --port ${{PORT}}"
CONFIG = f"models: {{m: {{cmd: '{SERVER}', useModelName: the-real-name, aliases: [m-alias], concurrencyLimit: 300}}}}\n"
IS_FULL = os.environ.get("LLAMASWAP_LOAD") == "full"
MIB = 1024 * 1024
STREAMS = 200
EVENTS = 2000 if IS_FULL else 100
SLOW_BYTES = 2048
"""What the slow reader takes at once, of a stream that is far longer than all buffers."""


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    with Daemon(tmp_path_factory.mktemp("load"), CONFIG) as running:
        assert running.ask("GET", "/upstream/m/health").body == b"ok"
        yield running


class Memory:
    """The most memory that a process had at any time, against what it had at the beginning."""

    def __init__(self, daemon: Daemon) -> None:
        self._process = psutil.Process(daemon.process.pid)
        self._status = Path(f"/proc/{daemon.process.pid}/status")
        Path(f"/proc/{daemon.process.pid}/clear_refs").write_text("5")  # the peak begins anew
        self._before = self._process.memory_info().rss

    def growth_mib(self) -> float:
        peak = next(line for line in self._status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(peak.split()[1]) / 1024 - self._before / MIB


def test_d9_fifty_megabytes_of_form_and_a_hundred_of_answer_keep_their_digest(daemon: Daemon) -> None:
    part = '--b\r\nContent-Disposition: form-data; name="{}"{}\r\n\r\n'
    head, file = part.format("model", ""), part.format("file", "; filename=a.wav\r\nContent-Type: audio/wav")
    payload = content(50 * MIB)

    def form(model: str) -> bytes:
        return f"{head}{model}\r\n{file}".encode() + payload + b"\r\n--b--\r\n"

    memory = Memory(daemon)
    connection = daemon.connect()
    headers = {"Content-Type": "multipart/form-data; boundary=b"}
    connection.request("POST", "/v1/audio/transcriptions", form("m-alias"), headers)
    expected = form("the-real-name")
    sent = f'{{"sha256": "{hashlib.sha256(expected).hexdigest()}", "size": {len(expected)}}}'
    assert connection.getresponse().read().decode() == sent
    up_mib = memory.growth_mib()
    count = 100 * MIB
    connection.request("GET", f"/upstream/m/bytes?count={count}")
    digest = hashlib.sha256()
    response = connection.getresponse()
    while piece := response.read(MIB):
        digest.update(piece)
    connection.close()
    assert digest.hexdigest() == hashlib.sha256(content(count)).hexdigest()
    sys.stdout.write(f"memory grew by {up_mib:.1f} MiB for the form, by {memory.growth_mib():.1f} MiB in all" + "\n")
    assert memory.growth_mib() < 24


async def read_stream(port: int, *, pause_seconds: float = 0, others: asyncio.Event | None = None) -> bytes:
    """Read a stream as it comes on the wire, slowly while the others are not through."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192 if others else 1 << 16)
    sock.setblocking(False)
    await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", port))
    reader, writer = await asyncio.open_connection(sock=sock, limit=SLOW_BYTES if others else 1 << 16)
    body = b'{"model":"m"}'
    writer.write(
        f"POST /v1/chat/completions?events={EVENTS} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n".encode()
        + body
    )
    pieces = []
    while piece := await reader.read(SLOW_BYTES if others else 1 << 16):
        pieces.append(piece)
        if others is not None and not others.is_set():
            await asyncio.sleep(pause_seconds)
    writer.close()
    return b"".join(pieces)


async def read_all(port: int) -> list[bytes]:
    others = asyncio.Event()
    slow = asyncio.create_task(read_stream(port, pause_seconds=0.05, others=others))
    wires = await asyncio.gather(*(read_stream(port) for _ in range(STREAMS - 1)))
    assert not slow.done(), "it was slow"
    others.set()
    return [*wires, await slow]


@pytest.mark.slow
def test_h70_two_hundred_streams_arrive_whole_with_a_slow_reader_among_them(daemon: Daemon) -> None:
    memory = Memory(daemon)
    started_mono = time.monotonic()
    wires = asyncio.run(asyncio.wait_for(read_all(daemon.port), 10 * PATIENCE_SECONDS))
    took_seconds = time.monotonic() - started_mono
    expected = [event(number) for number in range(EVENTS)]
    for wire in wires:
        lines = wire.partition(b"\r\n\r\n")[2].split(b"\r\n")
        assert lines[1:-3:2] == expected
        assert wire.endswith(b"\r\n0\r\n\r\n")
    grown_mib = memory.growth_mib()
    sys.stdout.write(
        f"{STREAMS} streams of {EVENTS} events in {took_seconds:.1f} s; memory grew by {grown_mib:.1f} MiB" + "\n"
    )
    assert grown_mib < 64
