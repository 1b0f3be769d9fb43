"""A stand-in model server that speaks websocket, for ``test_websockets``.

``/health`` and other plain requests get 200; ``/closed`` gives how tunnels ended, ``/sent`` what a flood has
sent, and how much the lazy one has taken.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
from http import HTTPStatus

from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

PIECE_BYTES = 1 << 16
closed: list[int] = []
sent = {"messages": 0, "taken": 0}


def plain(connection: ServerConnection, request: Request) -> Response | None:
    """Answer what is no handshake."""
    if "Upgrade" in request.headers:
        return None
    found = {"/closed": closed, "/sent": sent}.get(request.path, {"path": request.path})
    return connection.respond(HTTPStatus.OK, json.dumps(found))


async def talk(connection: ServerConnection) -> None:
    """Do what the path says, and keep note of the end."""
    with contextlib.suppress(ConnectionClosed):
        await play(connection)
    await connection.wait_closed()
    closed.append(connection.close_code or 0)


async def play(connection: ServerConnection) -> None:
    """Do what the path says."""
    assert connection.request is not None
    match connection.request.path:
        case "/close":
            await connection.close(4001, "enough")
        case "/drop":
            await connection.recv()
            connection.transport.abort()
        case "/ping":
            await (await connection.ping(b"are you there?"))
            await connection.send("yes")
        case "/flood":
            for _ in range(int(await connection.recv())):
                await connection.send(bytes(PIECE_BYTES))
                sent["messages"] += 1
        case "/lazy":
            await asyncio.sleep(1)
            count = 0
            async for message in connection:
                if message == "how much?":
                    await connection.send(str(count))
                count += len(message)
                sent["taken"] = count
        case _:
            async for message in connection:
                await connection.send(message)


async def main() -> None:
    """Serve until the parent is gone."""
    parent = os.getppid()
    port = int(sys.argv[sys.argv.index("--port") + 1])
    async with serve(talk, "127.0.0.1", port, process_request=plain, max_size=None, compression=None):
        while os.getppid() == parent:  # noqa: ASYNC110 - nobody tells when that changes
            await asyncio.sleep(0.5)


if __name__ == "__main__":
    asyncio.run(main())
