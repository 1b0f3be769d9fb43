"""Websockets through a real daemon, with the client and the server that people use."""

from __future__ import annotations

import asyncio
import os
import shlex
import signal
import socket
import struct
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from websockets.asyncio.client import connect as connect_async
from websockets.exceptions import ConnectionClosed, ConnectionClosedError, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from tests.integration.daemon import PATIENCE_SECONDS, Daemon, chat_body

MIB = 1 << 20
TALKER = f"{shlex.quote(sys.executable)} {Path(__file__).parent / 'talker.py'} --port ${{PORT}} --name ${{MODEL_ID}}"
CONFIG = f"""
healthCheckTimeout: 15
models:
  alpha: {{cmd: "{TALKER}"}}
  beta: {{cmd: "{TALKER}"}}
  wsign: {{cmd: "{TALKER}", compat: {{ignoreWebsockets: true}}}}
"""


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    with Daemon(tmp_path_factory.mktemp("daemon"), CONFIG) as daemon:
        yield daemon


def address(daemon: Daemon, path: str) -> str:
    return f"ws://127.0.0.1:{daemon.port}/upstream/{path}"


def dial(daemon: Daemon, path: str = "alpha/echo") -> ClientConnection:
    return connect(address(daemon, path), max_size=None, compression=None, proxy=None, ping_interval=None)


def eventually(holds: Callable[[], Any]) -> None:
    end_mono = time.monotonic() + PATIENCE_SECONDS
    while not holds():
        assert time.monotonic() < end_mono
        time.sleep(0.02)


def ends(daemon: Daemon, model: str = "alpha") -> list[int]:
    """Give how the tunnels of a model ended, as its server saw it."""
    found: list[int] = daemon.ask("GET", f"/upstream/{model}/closed").json()
    return found


def test_v48_text_and_16_megabytes_both_ways(daemon: Daemon) -> None:
    with dial(daemon) as tunnel:
        tunnel.send("grüße")
        assert tunnel.recv() == "grüße"
        large = os.urandom(16 * MIB)
        tunnel.send(large)
        assert tunnel.recv() == large
    eventually(lambda: ends(daemon)[-1:] == [1000])


def test_h65_extensions_are_between_the_two(daemon: Daemon) -> None:
    with connect(address(daemon, "alpha/echo"), proxy=None) as tunnel:
        tunnel.send("x" * 5000)
        assert tunnel.recv() == "x" * 5000


def test_pings_pass_untouched(daemon: Daemon) -> None:
    with dial(daemon, "alpha/ping") as tunnel:
        assert tunnel.ping("mine").wait(PATIENCE_SECONDS)
        assert tunnel.recv() == "yes", "the server's ping was answered"


def test_reasons_for_the_end_pass(daemon: Daemon) -> None:
    with dial(daemon, "alpha/close") as tunnel:
        with pytest.raises(ConnectionClosed) as caught:
            tunnel.recv()
        assert caught.value.rcvd is not None
        assert (caught.value.rcvd.code, caught.value.rcvd.reason) == (4001, "enough")
    with dial(daemon) as tunnel:
        tunnel.close(4002, "mine")
    eventually(lambda: 4002 in ends(daemon))


def test_the_client_dies(daemon: Daemon) -> None:
    client = socket.create_connection(("127.0.0.1", daemon.port), PATIENCE_SECONDS)
    client.sendall(
        b"GET /upstream/alpha/echo HTTP/1.1\r\nHost: h\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n"
        b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n",
    )
    assert client.recv(100).startswith(b"HTTP/1.1 101 ")
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()
    eventually(lambda: 1006 in ends(daemon))


def test_the_server_drops_it(daemon: Daemon) -> None:
    with dial(daemon, "alpha/drop") as tunnel:
        tunnel.send("go")
        with pytest.raises(ConnectionClosedError) as caught:
            tunnel.recv()
        assert caught.value.rcvd is None


def test_a_hundred_at_once(daemon: Daemon) -> None:
    daemon.ask("GET", "/upstream/wsign/")  # this model's tunnels are not counted against a limit

    async def talk(number: int) -> None:
        async with connect_async(address(daemon, "wsign/echo"), proxy=None) as tunnel:
            for message in (f"{number}", f"{number} again"):
                await tunnel.send(message)
                assert await tunnel.recv() == message

    async def talk_all() -> None:
        await asyncio.gather(*(talk(number) for number in range(100)))

    asyncio.run(talk_all())
    eventually(lambda: ends(daemon, "wsign").count(1000) >= 100)


def test_a_client_that_reads_slowly_costs_no_memory(daemon: Daemon) -> None:
    """The server wants to send 200 MB; nobody between it and the client keeps them."""
    count, size = 3200, 1 << 16
    process = psutil.Process(daemon.process.pid)
    with connect(address(daemon, "alpha/flood"), max_size=None, max_queue=2, compression=None, proxy=None) as tunnel:
        before = process.memory_info().rss
        tunnel.send(str(count))
        time.sleep(1)
        sent = daemon.ask("GET", "/upstream/alpha/sent").json()["messages"]
        assert sent * size < 64 * MIB, "the kernel's buffers are all there is"
        assert process.memory_info().rss - before < 32 * MIB
        for _ in range(count):
            assert len(tunnel.recv()) == size
    assert process.memory_info().rss - before < 32 * MIB


def test_a_server_that_reads_slowly_costs_no_memory(daemon: Daemon) -> None:
    process = psutil.Process(daemon.process.pid)
    before = process.memory_info().rss
    with dial(daemon, "alpha/lazy") as tunnel:
        for _ in range(50):
            tunnel.send(bytes(MIB))
        tunnel.send("how much?")
        assert tunnel.recv() == str(50 * MIB)
    assert process.memory_info().rss - before < 32 * MIB


def test_what_was_sent_before_the_end_arrives_however_slowly(daemon: Daemon) -> None:
    with dial(daemon, "alpha/lazy") as tunnel:
        for _ in range(20):
            tunnel.send(bytes(MIB))
        tunnel.socket.shutdown(socket.SHUT_WR)
        with pytest.raises(ConnectionClosedError):
            tunnel.recv(PATIENCE_SECONDS)
    eventually(lambda: daemon.ask("GET", "/upstream/alpha/sent").json()["taken"] == 20 * MIB)


def test_a_tunnel_is_a_request(daemon: Daemon) -> None:
    """It keeps its model, and lets go of it when it ends."""
    with dial(daemon) as tunnel:
        other = daemon.connect()
        other.request("GET", "/upstream/beta/")
        time.sleep(0.3)
        assert daemon.running() == ["alpha"]
        tunnel.send("still here")
        assert tunnel.recv() == "still here"
    assert other.getresponse().status == 200
    other.close()
    assert daemon.running() == ["beta"]


def test_h66_one_that_keeps_others_waiting_for_too_long_is_closed(tmp_path: Path) -> None:
    config = CONFIG + "routing: {scheduler: {settings: {fifo: {maxWait: 1, maxDrain: 1}}}}\n"
    with Daemon(tmp_path, config) as daemon, dial(daemon) as tunnel:
        began_mono = time.monotonic()
        other = daemon.connect()
        other.request("GET", "/upstream/beta/")
        with pytest.raises(ConnectionClosed) as caught:
            tunnel.recv(PATIENCE_SECONDS)
        assert time.monotonic() - began_mono >= 2
        assert caught.value.rcvd is not None
        assert (caught.value.rcvd.code, caught.value.rcvd.reason) == (1012, "another model has waited for too long")
        assert other.getresponse().status == 200
        other.close()
        assert daemon.running() == ["beta"]


def test_v49_h66_an_ignored_one_keeps_nothing(daemon: Daemon) -> None:
    daemon.ask("GET", "/upstream/alpha/")
    with pytest.raises(InvalidStatus) as refused:
        dial(daemon, "wsign/echo")
    assert refused.value.response.status_code == 409
    assert b"model wsign is not loaded; ignored websocket requests cannot start it" in refused.value.response.body
    daemon.ask("GET", "/upstream/wsign/")
    with dial(daemon, "wsign/echo") as tunnel:
        tunnel.send("a")
        assert tunnel.recv() == "a"
        assert daemon.ask("GET", "/upstream/alpha/").status == 200
        with pytest.raises(ConnectionClosed):
            tunnel.recv(PATIENCE_SECONDS)
    assert daemon.ask("GET", "/upstream/wsign/app.js").status == 409
    assert daemon.running() == ["alpha"]


def test_an_unload_cuts_it(daemon: Daemon) -> None:
    with dial(daemon) as tunnel:
        daemon.ask("POST", "/api/models/unload/alpha")
        with pytest.raises(ConnectionClosed):
            tunnel.recv(PATIENCE_SECONDS)
    assert daemon.running() == []


def test_what_fails_to_open_is_an_answer(daemon: Daemon) -> None:
    with pytest.raises(InvalidStatus) as refused:
        dial(daemon, "nope/echo")
    assert refused.value.response.status_code == 404
    assert daemon.ask("POST", "/v1/chat/completions", chat_body("nope")).status == 404


def test_the_end_of_the_daemon_waits_for_a_tunnel(tmp_path: Path) -> None:
    config = CONFIG + "matrix: {vars: {a: alpha, w: wsign}, sets: {both: a & w}}\n"
    with Daemon(tmp_path, config) as daemon:
        daemon.ask("GET", "/upstream/wsign/")
        with dial(daemon) as tunnel, dial(daemon, "wsign/echo") as ignored:
            daemon.process.send_signal(signal.SIGTERM)
            with pytest.raises(ConnectionClosed):
                ignored.recv(PATIENCE_SECONDS)
            tunnel.send("goodbye")
            assert tunnel.recv() == "goodbye"
            assert daemon.process.poll() is None
        assert daemon.process.wait(PATIENCE_SECONDS) == 0
