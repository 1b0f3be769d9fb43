"""A model server for load tests, quick and small: events, digests of what it gets, bytes by the megabyte.

``python event_server.py --port N`` serves; other arguments are ignored. Standard library only.

``/health`` is ``ok``; ``/bytes?count=N`` gives :func:`content`; ``?events=N`` gives an event stream, on any path;
everything else the digest of the request's body.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import sys
from collections.abc import AsyncIterator
from urllib.parse import parse_qs, urlsplit

BLOCK = bytes(range(256)) * 256
BURST = 20
PAUSE_SECONDS = 0.01


def content(count: int) -> bytes:
    """Give so many bytes, always the same."""
    return (BLOCK * (count // len(BLOCK) + 1))[:count]


def event(number: int) -> bytes:
    """Give one event of a stream."""
    return b'data: {"choices":[{"delta":{"content":"token %d"}}]}\n\n' % number


async def read_body(reader: asyncio.StreamReader, headers: dict[str, str]) -> AsyncIterator[bytes]:
    left = int(headers.get("content-length", "0"))
    while left:
        piece = await reader.read(min(left, 1 << 16))
        if not piece:
            raise EOFError
        left -= len(piece)
        yield piece


async def serve_one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:])}
    url = urlsplit(head[0].split(" ")[1])
    query = parse_qs(url.query)
    digest, size = hashlib.sha256(), 0
    async for piece in read_body(reader, headers):
        digest.update(piece)
        size += len(piece)
    if "events" in query:
        await stream(writer, int(query["events"][0]))
        return
    if url.path == "/bytes":
        body = content(int(query["count"][0]))
    elif url.path == "/health":
        body = b"ok"
    else:
        body = json.dumps({"sha256": digest.hexdigest(), "size": size}).encode()
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body))
    for start in range(0, len(body), 1 << 20):
        writer.write(body[start : start + (1 << 20)])
        await writer.drain()


async def stream(writer: asyncio.StreamWriter, count: int) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
    for start in range(0, count, BURST):
        events = (event(number) for number in range(start, min(start + BURST, count)))
        writer.write(b"".join(b"%x\r\n%b\r\n" % (len(each), each) for each in events))
        await writer.drain()
        await asyncio.sleep(PAUSE_SECONDS)
    writer.write(b"0\r\n\r\n")


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while True:
            await serve_one(reader, writer)
    except (EOFError, OSError):
        writer.close()


async def main() -> None:
    port = int(sys.argv[sys.argv.index("--port") + 1])
    server = await asyncio.start_server(serve, "127.0.0.1", port, backlog=1024)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
