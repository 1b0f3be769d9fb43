"""Who looks after the daemon while it works: changes its configuration, and kills it without a word."""

from __future__ import annotations

import asyncio
import random
import signal
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

from tests.integration.daemon import Daemon
from tests.soak.client import Client, Plan
from tests.soak.doings import Doings, Interval
from tests.soak.world import DRAIN_SECONDS, GRACE_SECONDS, GUEST, MODELS, Settings

_AFTERMATH_SECONDS: Final = DRAIN_SECONDS + GRACE_SECONDS + 1.0
"""How long after a reload the old process of a changed model may be in the way."""

_PATIENCE_SECONDS: Final = 30.0


class Caretaker:
    """Reloads and kills.

    Args:
        settings: With which the daemon began.
        configuration: Writes a configuration.
        doings: Told what is done.
    """

    def __init__(self, settings: Settings, configuration: Callable[[Settings], str], doings: Doings) -> None:
        self._settings = settings
        self._configuration = configuration
        self._doings = doings
        doings.absent.append(Interval(0.0, float("inf")))

    async def reload(self, daemon: Daemon, dice: random.Random) -> None:
        """Change something, or nothing, and see that the daemon takes it."""
        kind = dice.choice(["nothing", "live", "command", "guest"])
        if kind == "live":
            self._settings = replace(self._settings, ttl_more=1 - self._settings.ttl_more)
        elif kind == "command":
            model = dice.choice(MODELS)
            nonces = {**self._settings.nonces, model: self._settings.nonces.get(model, 0) + 1}
            self._settings = replace(self._settings, nonces=nonces)
        elif kind == "guest":
            self._settings = replace(self._settings, has_guest=not self._settings.has_guest)
        client = Client(daemon.port)
        serial = await self._serial(client)
        begin = time.monotonic()
        daemon.write(self._configuration(self._settings))
        daemon.process.send_signal(signal.SIGHUP)
        report = await self._report(client, serial + 1)
        client.close()
        end = time.monotonic()
        self._doings.reloads += 1
        if report.get("status") != "ok":
            self._doings.wrong.append(f"reload ({kind}): {report}")
            return
        for model in (*report["restarted"], *report["removed"]):
            self._doings.changed[model].append(Interval(begin, end + _AFTERMATH_SECONDS))
        if GUEST in report["added"]:
            self._doings.absent[-1] = Interval(self._doings.absent[-1].begin, end)
        if GUEST in report["removed"]:
            self._doings.absent.append(Interval(begin, float("inf")))

    async def _serial(self, client: Client) -> int:
        record = await client.ask(Plan("", "GET", "/api/reload"))
        return int((record.json() or {"serial": 0})["serial"])

    async def _report(self, client: Client, serial: int) -> dict[str, Any]:
        last: dict[str, Any] = {}
        for _ in range(round(_PATIENCE_SECONDS / 0.05)):
            record = await client.ask(Plan("", "GET", "/api/reload"))
            last = record.json() or {}
            if last.get("serial") == serial and last.get("status") != "running":
                break
            await asyncio.sleep(0.05)
        return last

    async def kill(self, daemon: Daemon, successor: Daemon) -> None:
        """Kill the daemon, and start another in its place, on the same port."""
        begin = time.monotonic()
        self._doings.down.append(Interval(begin, float("inf")))
        daemon.process.kill()
        await asyncio.to_thread(daemon.process.wait)
        successor.write(self._configuration(self._settings))
        await asyncio.to_thread(successor.__enter__)
        self._doings.down[-1] = Interval(begin, time.monotonic())
