"""A model server whose misfortunes are drawn by lot at each start, and asked for by each request.

It is the one of the integration tests, plus: what is wrong with a start depends on the dice (a seed)
and the number of starts before it; a request's body names the fault with which it is to be answered.
Every answer repeats the request's tag. Standard library only, so that it starts quickly.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import sys
import threading
import time
import zlib
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.integration import fake_upstream


class DropError(ConnectionResetError):
    """This connection is to be closed without an end of the answer."""


class SoakServer(fake_upstream.Upstream):
    """The server.

    Args:
        words: The command line.
    """

    def __init__(self, words: list[str]) -> None:
        parser = argparse.ArgumentParser(add_help=False)
        parser.add_argument("--dice", required=True, help="seed")
        parser.add_argument("--calm", type=Path, required=True, help="nothing is wrong while this file exists")
        parser.add_argument("--hang-share", type=float, default=0, help="share of starts that never become healthy")
        parser.add_argument("--nonce", help="makes another command of it")
        own, rest = parser.parse_known_args(words)
        options = fake_upstream.parse(rest)
        starts = options.marks.read_text().count("start ") if options.marks.exists() else 0
        self.dice = random.Random(f"{own.dice}-{starts}")
        self.dies_in: float | None = None
        if not own.calm.exists():
            self.draw(options, own.hang_share)
        super().__init__(options)

    def draw(self, options: argparse.Namespace, hang_share: float) -> None:
        dice = self.dice
        options.load = dice.choice([0, 0, 0.1, 0.5])
        options.listen_after = dice.choice([0, 0, 0.1])
        options.hang = dice.random() < hang_share
        if dice.random() < 0.06:
            options.exit, options.exit_after = 3, dice.choice([0, 0.2])
        elif dice.random() < 0.12:
            self.dies_in = dice.uniform(0.1, 4)
        options.ignore_term = dice.random() < 0.15
        options.term_delay = dice.choice([0, 0, 0, 0.2, 0.7, 1.5])
        if dice.random() < 0.3:
            options.child = dice.choice(["inherit", "null", "daemon"])
            options.child_ignores_term = dice.random() < 0.5

    def run(self) -> int:
        options = self.options
        if options.hang:
            self.mark("hang")
        if options.exit is not None:
            self.mark("crash")
        if self.dies_in is not None:
            timer = threading.Timer(self.dies_in, self.die)
            timer.daemon = True
            timer.start()
        return super().run()

    def die(self) -> None:
        self.mark("crash")
        os.kill(os.getpid(), signal.SIGKILL)

    def answer(self, stream: Any, path: str, body: bytes) -> None:
        if path == "/health":
            super().answer(stream, path, body)
            return
        asked = json.loads(body)
        time.sleep(asked["hold"])
        fault = asked["fault"]
        if fault == "hang":
            time.sleep(3600)
        elif fault == "die":
            self.die()
        elif fault == "drop":
            raise DropError
        elif fault == "refuse":
            self.answer_json(stream, 503, {"tag": asked["tag"]})
        elif asked["stream"]:
            self.stream(stream, asked)
        else:
            self.plain(stream, asked, zlib.crc32(body))

    def stream(self, stream: Any, asked: dict[str, Any]) -> None:
        self.write(stream, fake_upstream.head(200, "Content-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n"))
        for number in range(asked["chunks"]):
            if number == asked["fault_at"]:
                self.half(stream, b"40\r\ndata: {", asked["fault"])
            event = f"data: {json.dumps({'tag': asked['tag'], 'n': number, 'pad': 'x' * asked['size']})}\n\n".encode()
            self.write(stream, b"%x\r\n%s\r\n" % (len(event), event))
            time.sleep(asked["pace"])
        self.write(stream, b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n")

    def plain(self, stream: Any, asked: dict[str, Any], crc: int) -> None:
        answer = {"tag": asked["tag"], "crc": crc, "pad": "x" * asked["size"], "pid": os.getpid()}
        body = json.dumps(answer).encode()
        headers = f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
        data = fake_upstream.head(200, headers) + body
        if asked["fault_at"] is not None:
            self.half(stream, data[: len(data) * asked["fault_at"] // 10], asked["fault"])
        self.write(stream, data)

    def half(self, stream: Any, data: bytes, fault: str) -> None:
        """Send the half of something, and do it."""
        self.write(stream, data)
        if fault == "die-late":
            self.die()
        raise DropError


if __name__ == "__main__":
    sys.exit(SoakServer(sys.argv[1:]).run())
