"""``python -m llamaswap.demo``: one toy model server."""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
import time
from typing import Final

from llamaswap.demo.generation import Engine
from llamaswap.demo.http import Connection
from llamaswap.demo.server import DemoServer

_RATE: Final = 40.0


def main() -> None:
    """Serve until TERM or INT."""
    parser = argparse.ArgumentParser(prog="python -m llamaswap.demo", description="A toy model server on 127.0.0.1.")
    parser.add_argument("--port", type=int, required=True, help="port to listen on; 0 = a free one, which is printed")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (%(default)s)")
    parser.add_argument("--name", default="demo", help="name of the model in answers (%(default)s)")
    parser.add_argument(
        "--load", type=float, default=0.0, metavar="SECONDS", help="time until it is healthy (%(default)s)"
    )
    parser.add_argument(
        "--rate",
        type=float,
        default=_RATE,
        metavar="TOKENS",
        help="tokens per second; 0 = as fast as can be (%(default)s)",
    )
    options = parser.parse_args()
    asyncio.run(_serve(options))


async def _serve(options: argparse.Namespace) -> None:
    loop = asyncio.get_running_loop()
    told_to_end = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, told_to_end.set)
    demo = DemoServer(Engine(options.name, options.rate), time.monotonic() + options.load)
    server = await loop.create_server(lambda: Connection(demo.handle), options.host, options.port, backlog=1024)
    port = server.sockets[0].getsockname()[1]
    _say(f"main: {options.name} listens on http://{options.host}:{port}, loading takes {options.load:g} s")
    loop.call_later(options.load, _say, "main: model loaded")
    await told_to_end.wait()
    server.close()


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
