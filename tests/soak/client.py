"""A client that notices everything: how an answer is framed, where it breaks off, and whose it is."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import struct
import time
from collections.abc import AsyncIterator, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

PATIENCE_SECONDS: Final = 90.0
"""After that a request counts as forgotten."""

_RESET: Final = struct.pack("ii", 1, 0)


class CutError(Exception):
    """The connection ended before the answer did."""


class LeftError(Exception):
    """The client has gone, on purpose."""


@dataclass
class Plan:
    """What a client is going to do.

    Attributes:
        model: Whom it asks, or about whom.
        method: As in HTTP.
        path: As in HTTP.
        tag: Its own word, which the answer must repeat.
        body: JSON.
        fault: With which the server is to answer.
        leaves_in: Seconds after which it goes.
        leaves_at: Pieces of the answer after which it goes.
        sends_share: How much of its body it sends; less than all only if it goes.
        resets: Whether it goes with a reset.
        reads_in: Seconds between two reads.
        is_old: Whether it speaks HTTP/1.0.
    """

    model: str
    method: str
    path: str
    tag: str = ""
    body: bytes = b""
    fault: str = ""
    leaves_in: float | None = None
    leaves_at: int | None = None
    sends_share: float = 1
    resets: bool = False
    reads_in: float = 0
    is_old: bool = False


@dataclass
class Record:
    """What came of it.

    Attributes:
        plan: What was to be done.
        sent_mono: When it was sent.
        linked_mono: When its connection was made.
        ended_mono: When it was over.
        end: ``whole``, ``cut``, ``left``, ``forgotten``, ``unserved``: no byte of an answer; or
            ``behind`` the answer with which a connection ended.
        status: Of the answer, 0 without.
        headers: Of the answer, names in small letters.
        body: Of the answer, as far as it came, without framing.
    """

    plan: Plan
    sent_mono: float = 0
    linked_mono: float = 0
    ended_mono: float = 0
    end: str = ""
    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytearray = field(default_factory=bytearray)

    def json(self) -> Any:
        """Parse the body; ``None`` when it is not JSON."""
        with contextlib.suppress(ValueError):
            return json.loads(self.body)
        return None

    @property
    def code(self) -> str:
        """The code of an error of the daemon's."""
        answer = self.json()
        if isinstance(answer, dict) and answer.get("src") == "llama-swap":
            return str(answer["error"]["code"])
        return ""

    @property
    def pid(self) -> int:
        """The server's process, 0 when it is not known."""
        return int(self.headers.get("x-pid", 0))


class Client:
    """One client: asks, one thing after the other, on one connection as long as that lasts.

    Args:
        port: Of the daemon.
    """

    def __init__(self, port: int) -> None:
        self._port = port
        self._reader: asyncio.StreamReader
        self._writer: asyncio.StreamWriter | None = None
        self._linked_mono = 0.0

    async def ask(self, plan: Plan) -> Record:
        """Do what is planned, and say what came of it."""
        record = Record(plan, sent_mono=time.monotonic())
        await self._finish(record, self._exchange(record))
        return record

    async def ask_in_one_go(self, plans: Sequence[Plan]) -> list[Record]:
        """Send several requests at once, then take their answers, which come in the same order."""
        records = [Record(plan, sent_mono=time.monotonic()) for plan in plans]
        self.close()
        with contextlib.suppress(ConnectionError):  # what was answered before that can be read
            for plan in plans:
                await self._send(plan)
        for record in records:
            if self._writer is None:
                record.end, record.ended_mono = "behind", time.monotonic()
            else:
                await self._finish(record, self._receive(record))
        return records

    async def _finish(self, record: Record, course: Coroutine[Any, Any, None]) -> None:
        plan = record.plan
        try:
            async with asyncio.timeout(PATIENCE_SECONDS if plan.leaves_in is None else plan.leaves_in):
                await course
            record.end = "whole"
        except TimeoutError:
            record.end = "forgotten" if plan.leaves_in is None else "left"
        except LeftError:
            record.end = "left"
        except (CutError, ConnectionError, asyncio.IncompleteReadError):
            record.end = "cut" if record.status else "unserved"
        record.linked_mono, record.ended_mono = self._linked_mono, time.monotonic()
        is_over = record.end != "whole" or record.headers.get("connection") == "close"
        if is_over or plan.is_old or plan.sends_share < 1:
            self.close(resets=plan.resets)

    def close(self, *, resets: bool = False) -> None:
        """Leave."""
        writer, self._writer = self._writer, None
        if writer is not None:
            if resets:
                link = writer.get_extra_info("socket")
                with contextlib.suppress(OSError):  # closed by then
                    link.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            writer.transport.abort()

    async def _exchange(self, record: Record) -> None:
        await self._send(record.plan)
        await self._receive(record)

    async def _send(self, plan: Plan) -> None:
        if self._writer is None:
            self._linked_mono = time.monotonic()
            self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._port)
        self._writer.write(
            f"{plan.method} {plan.path} HTTP/1.{0 if plan.is_old else 1}\r\nHost: soak\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(plan.body)}\r\n\r\n".encode()
            + plan.body[: int(len(plan.body) * plan.sends_share)]
        )
        await self._writer.drain()

    async def _receive(self, record: Record) -> None:
        plan = record.plan
        head = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        record.headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:])}
        record.status = int(head[0].split()[1])
        count = 0
        async for piece in self._pieces(record.headers):
            record.body += piece
            count += 1
            if count == plan.leaves_at:
                raise LeftError
            if plan.reads_in:
                await asyncio.sleep(plan.reads_in)

    async def _pieces(self, headers: Mapping[str, str]) -> AsyncIterator[bytes]:
        reader = self._reader
        if headers.get("transfer-encoding") == "chunked":
            while size := int((await reader.readuntil(b"\r\n")).split(b";")[0], 16):
                yield (await reader.readexactly(size + 2))[:-2]
            await reader.readexactly(2)
        elif "content-length" in headers:
            left = int(headers["content-length"])
            while left:
                piece = await reader.read(min(left, 16384))
                if not piece:
                    raise CutError
                left -= len(piece)
                yield piece
        else:
            while piece := await reader.read(16384):
                yield piece
