"""A small HTTP/1.1 server on asyncio: keep-alive, chunked streams, and an end to work when the client leaves."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, Final

_REASONS: Final = {
    200: "OK",
    400: "Bad Request",
    404: "Not Found",
    405: "Method Not Allowed",
    503: "Service Unavailable",
}
_HEAD_LIMIT_BYTES: Final = 64 * 1024
_END: Final = b"\r\n"
_HEAD_END: Final = b"\r\n\r\n"


@dataclass(frozen=True, slots=True)
class Request:
    """One request, complete.

    Attributes:
        method: In capitals.
        path: Without query, as written.
        headers: By lower-case name, the last of each.
        version: Such as ``HTTP/1.1``.
        body: Without framing.
    """

    method: str
    path: str
    headers: dict[str, str]
    version: str
    body: bytes = b""

    @property
    def keeps_connection(self) -> bool:
        """Whether another request may follow."""
        return self.version == "HTTP/1.1" and self.headers.get("connection", "").lower() != "close"


@dataclass(frozen=True, slots=True)
class Answer:
    """What goes back: a whole body, or pieces as they come."""

    body: bytes | AsyncGenerator[bytes]
    status: int = 200
    content_type: str = "application/json; charset=utf-8"


class RequestError(Exception):
    """A request that gets no proper answer.

    Args:
        status: HTTP status.
        message: For people.
        kind: The ``type`` of the error body.
    """

    def __init__(self, status: int, message: str, kind: str = "invalid_request_error") -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.kind = kind


def json_answer(document: Any, status: int = 200) -> Answer:
    """Make an answer of a JSON document."""
    return Answer(json.dumps(document).encode(), status)


def event_stream(events: AsyncGenerator[bytes]) -> Answer:
    """Make an answer of server-sent events."""
    return Answer(events, content_type="text/event-stream")


class Connection(asyncio.Protocol):
    """One client's connection; its requests are answered one after the other.

    Args:
        handle: Makes the answer to a request. It is cancelled when the client leaves, and so is the stream
            that it answered with.
    """

    def __init__(self, handle: Callable[[Request], Awaitable[Answer]]) -> None:
        self._handle = handle
        self._received = bytearray()
        self._task: asyncio.Task[None] | None = None
        self._may_write = asyncio.Event()
        self._may_write.set()
        self._has_continued = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the transport."""
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - for the type checker: it is a stream
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Take bytes of a request."""
        self._received += data
        if self._task is None:
            self._begin_next()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - given by asyncio
        """Give up what is being answered. An end of file from the client comes here too, as asyncio closes then."""
        if self._task is not None:
            self._task.cancel()

    def pause_writing(self) -> None:
        """Hold the stream: the client reads too slowly."""
        self._may_write.clear()

    def resume_writing(self) -> None:
        """Let the stream go on."""
        self._may_write.set()

    def _begin_next(self) -> None:
        try:
            request = self._take_request()
        except ValueError:
            self._transport.write(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
            self._transport.close()
            return
        if request is not None:
            self._task = asyncio.get_running_loop().create_task(self._answer(request))

    def _take_request(self) -> Request | None:
        """Take a whole request out of the received bytes, if there is one.

        Raises:
            ValueError: It is none.
        """
        end = self._received.find(_HEAD_END)
        if end < 0:
            if len(self._received) > _HEAD_LIMIT_BYTES:
                raise ValueError("head too long")
            return None
        first, *lines = self._received[:end].decode("latin-1").split("\r\n")
        method, target, version = first.split(" ")
        headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        body = self._find_body(end + len(_HEAD_END), headers)
        if body is None:
            if headers.get("expect", "").lower() == "100-continue" and not self._has_continued:
                self._has_continued = True
                self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            return None
        content, end = body
        del self._received[:end]
        self._has_continued = False
        return Request(method, target.partition("?")[0], headers, version, content)

    def _find_body(self, start: int, headers: dict[str, str]) -> tuple[bytes, int] | None:
        """Give the body that begins at ``start``, and where it ends; ``None`` while it is not whole."""
        if "chunked" in headers.get("transfer-encoding", "").lower():
            return self._find_chunks(start)
        end = start + _size(headers.get("content-length", "0"), 10)
        return (bytes(self._received[start:end]), end) if len(self._received) >= end else None

    def _find_chunks(self, start: int) -> tuple[bytes, int] | None:
        content = b""
        while (line_end := self._received.find(_END, start)) >= 0:
            size = _size(self._received[start:line_end].partition(b";")[0].decode("latin-1"), 16)
            data = line_end + len(_END)
            start = data + size + len(_END)
            if size == 0:
                # No trailers are expected: the empty line follows the last chunk.
                return (content, start) if len(self._received) >= start else None
            content += self._received[data : data + size]
        return None

    async def _answer(self, request: Request) -> None:
        try:
            await self._write_answer(request, await self._handle(request))
        except BaseException:
            self._transport.abort()
            raise
        self._task = None
        if request.keeps_connection:
            self._begin_next()
        else:
            self._transport.close()

    async def _write_answer(self, request: Request, answer: Answer) -> None:
        head = f"HTTP/1.1 {answer.status} {_REASONS[answer.status]}\r\ncontent-type: {answer.content_type}\r\n"
        if not request.keeps_connection:
            head += "connection: close\r\n"
        body = answer.body
        if isinstance(body, bytes):
            self._transport.write(f"{head}content-length: {len(body)}\r\n\r\n".encode())
            self._transport.write(body if request.method != "HEAD" else b"")
            return
        is_chunked = request.version == "HTTP/1.1"
        self._transport.write((head + ("transfer-encoding: chunked\r\n\r\n" if is_chunked else "\r\n")).encode())
        async with aclosing(body):
            async for piece in body:
                self._transport.write(b"%x\r\n%s\r\n" % (len(piece), piece) if is_chunked else piece)
                await self._may_write.wait()
        if is_chunked:
            self._transport.write(b"0\r\n\r\n")


def _size(written: str, base: int) -> int:
    """Read a number of bytes; one below 0 would lead back to what is read already, for ever."""
    size = int(written, base)
    if size < 0:
        raise ValueError("negative size")
    return size
