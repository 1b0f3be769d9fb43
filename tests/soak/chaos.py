"""``python -m tests.soak.chaos``: play chaos with real processes, and judge it.

Two worlds, one daemon each. In rounds: a storm of clients that leave when they like, of servers that
crash, hang, linger and leave children, of unloads, loads and reloads, and in some of them of a daemon
that is killed and started again; then a calm in which nothing may be left over. It ends by itself, with
a report, and with status 1 when anything was wrong. The lots that are drawn follow from the seed; what
the machine makes of them does not.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any, Final

import psutil

from tests.integration.daemon import Daemon
from tests.soak.caretaker import Caretaker
from tests.soak.client import Client, Plan, Record
from tests.soak.doings import Doings
from tests.soak.judge import Judge
from tests.soak.plans import Plans
from tests.soak.watch import Life, Watcher, lives, overlaps
from tests.soak.world import DEMO, GROUPS, GUEST, MATRIX, MODELS, Settings, World, calm_path, marks_path

_ROUND_SECONDS: Final = 20.0
_SETTLE_LOOKS: Final = 100
"""A tenth of a second apart."""

_SLOW_SECONDS: Final = 5.0
_GROWTH_LEAST_BYTES: Final = 16 * 1024 * 1024
_MIB: Final = 1024 * 1024
_SHOWN: Final = 30
_BAD_LINE: Final = "[ERROR]"
_GUEST_SHARE: Final = 0.05
_KILL_ROUNDS: Final = 4
"""In one of so many rounds the daemon is killed, the second one for the first time."""


class Soak:
    """One daemon in one world.

    Args:
        world: Which.
        folder: Where everything is written.
        options: Of the command line.
    """

    def __init__(self, world: World, folder: Path, options: argparse.Namespace) -> None:
        self._world = world
        self._folder = folder
        self._options = options
        self._dice = random.Random(f"{options.seed}-{world.name}")
        self._records: list[Record] = []
        self._kills: list[tuple[str, float]] = []
        self._wrong: list[str] = []
        self._sizes: list[tuple[int, int, int]] = []
        self._slowest_view_seconds = 0.0
        self._wanted: tuple[str, ...] = MODELS
        self._share = 1.0
        self._is_storm = False
        self._doings = Doings()
        self._lines: list[str] = []  # of daemons that were killed
        self._daemon: Daemon
        self._watcher: Watcher
        self._caretaker: Caretaker

    def run(self) -> list[str]:
        """Play all rounds; gives what was wrong."""
        run = f"{self._world.name}-{self._options.seed}-{time.time_ns()}"
        hang_share = 0.01 if self._options.minutes >= 1 else 0.0
        settings = Settings()
        write = partial(
            self._world.configuration, folder=self._folder, run=run, seed=self._options.seed, hang_share=hang_share
        )
        self._caretaker = Caretaker(settings, write, self._doings)
        with Watcher(run, self._world.exclusive) as watcher:
            self._watcher = watcher
            self._daemon = Daemon(self._folder, write(settings))
            self._daemon.__enter__()
            try:
                asyncio.run(self._rounds())
            finally:
                self._daemon.__exit__()
            left = watcher.alive()
        daemon = self._daemon
        gone = {pid: model for pid, model in left.items() if psutil.pid_exists(pid)}
        if gone:
            self._wrong.append(f"left by the daemon's end: {gone}")
        if daemon.process.returncode != 0:
            self._wrong.append(f"the daemon ended with {daemon.process.returncode}")
        (self._folder / "daemon.log").write_text("".join([*self._lines, *daemon.lines]))
        (self._folder / "kills").write_text("".join(f"{model} {mono:.3f}\n" for model, mono in self._kills))
        self._judge()
        return self._wrong

    # ----------------------------------------------------------------- rounds

    async def _rounds(self) -> None:
        seconds = self._options.minutes * 60 / 2
        count = max(2, round(seconds / _ROUND_SECONDS))
        for number in range(count):
            await self._storm(seconds / count, is_deadly=number % _KILL_ROUNDS == 1)
            await self._settle(number)

    async def _storm(self, seconds: float, *, is_deadly: bool) -> None:
        calm_path(self._folder).unlink(missing_ok=True)
        self._is_storm = True
        async with asyncio.TaskGroup() as actors:
            for number in range(self._options.clients):
                actors.create_task(self._client(f"{number}"))
            actors.create_task(self._manager())
            actors.create_task(self._murderer())
            actors.create_task(self._viewer())
            actors.create_task(self._log_reader())
            actors.create_task(self._weather())
            actors.create_task(self._operate(time.monotonic() + seconds / 2 if is_deadly else None))
            await asyncio.sleep(seconds)
            self._is_storm = False

    async def _operate(self, kill_mono: float | None) -> None:
        """Reload now and then; at the given time kill the daemon, and start another."""
        dice = random.Random(self._dice.random())
        while self._is_storm:
            await asyncio.sleep(dice.uniform(0.2, 3))
            if kill_mono is not None and time.monotonic() > kill_mono:
                kill_mono = None
                self._judge_size()
                before, self._daemon = self._daemon, Daemon(self._folder, "", port=self._daemon.port)
                await self._caretaker.kill(before, self._daemon)
                self._lines += before.lines
            else:
                await self._caretaker.reload(self._daemon, dice)

    async def _weather(self) -> None:
        """Change between many who want everything, and few who want the same: then others fall idle."""
        dice = self._dice
        while self._is_storm:
            self._wanted, self._share = MODELS, dice.choice([1.0, 0.3])
            await asyncio.sleep(dice.uniform(1, 4))
            self._wanted, self._share = (dice.choice(MODELS),), 0.05
            await asyncio.sleep(dice.uniform(2, 5))

    async def _client(self, name: str) -> None:
        dice = random.Random(self._dice.random())
        plans = Plans(f"{self._world.name}-{len(self._records)}-{name}", dice)
        client = Client(self._daemon.port)
        while self._is_storm:
            if dice.random() > self._share:
                await asyncio.sleep(dice.uniform(0.05, 0.3))
                continue
            if dice.random() < 0.05:
                calm = [plans.request(dice.choice(self._wanted), is_calm=True) for _ in range(3)]
                for plan in calm:
                    plan.is_old = False  # which would end the connection
                self._records += await client.ask_in_one_go(calm)
                continue
            model = GUEST if dice.random() < _GUEST_SHARE else dice.choice(self._wanted)
            record = await client.ask(plans.request(model))
            self._records.append(record)
            if record.end == "unserved":
                await asyncio.sleep(dice.uniform(0, 0.3))  # there is no daemon
            if dice.random() < 0.3:
                client.close()
            if record.code:
                await asyncio.sleep(dice.uniform(0, 0.5))
        client.close()

    async def _manager(self) -> None:
        dice = random.Random(self._dice.random())
        plans = Plans("manager", dice)
        client = Client(self._daemon.port)
        while self._is_storm:
            # While few want the same, the others are left to fall idle.
            await asyncio.sleep(dice.uniform(0, 3))
            model = dice.choice(self._wanted)
            self._records.append(await client.ask(plans.load(model) if dice.random() < 0.5 else plans.unload(model)))
        client.close()

    async def _murderer(self) -> None:
        """Kill or stop one process of a model: the leader, a wrapper, a child."""
        dice = random.Random(self._dice.random())
        while self._is_storm:
            await asyncio.sleep(dice.uniform(0, 4))
            found = sorted(self._watcher.alive().items())
            if found:
                pid, model = dice.choice(found)
                number = dice.choice([signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGSTOP])
                with contextlib.suppress(ProcessLookupError):
                    if number == signal.SIGSTOP:
                        os.kill(pid, number)
                        await asyncio.sleep(dice.uniform(0, 1))
                        os.kill(pid, signal.SIGCONT)
                    else:
                        self._kills.append((model, time.monotonic()))
                        os.kill(pid, number)

    async def _log_reader(self) -> None:
        """Follow the log, slowly or not at all, and leave."""
        dice = random.Random(self._dice.random())
        while self._is_storm:
            client = Client(self._daemon.port)
            plan = Plan("", "GET", "/logs/stream", leaves_in=dice.uniform(0, 3), reads_in=dice.choice([0, 10]))
            record = await client.ask(plan)
            if self._doings.was_down(record.sent_mono, record.ended_mono):
                await asyncio.sleep(0.1)
            elif record.end != "left" or record.status not in (0, 200):
                self._wrong.append(f"/logs/stream: {record.end} {record.status}")

    async def _viewer(self) -> None:
        """Look at what runs, all the time: the answer must come quickly and be possible."""
        client = Client(self._daemon.port)
        while self._is_storm:
            record = await client.ask(Plan("", "GET", "/running"))
            await asyncio.sleep(0.05)
            if self._doings.was_down(record.sent_mono, record.ended_mono):
                continue
            self._slowest_view_seconds = max(self._slowest_view_seconds, record.ended_mono - record.sent_mono)
            running = [entry["model"] for entry in (record.json() or {"running": []})["running"]]
            rivals = [sorted(pair) for pair in self._world.exclusive if pair <= set(running)]
            if record.end != "whole" or record.status != 200 or rivals:
                self._wrong.append(f"/running: {record.end} {record.status}, rivals {rivals}")
        client.close()

    # ----------------------------------------------------------------- calm

    async def _settle(self, number: int) -> None:
        """Everything is unloaded, nothing may be left, and everything must still work."""
        calm_path(self._folder).touch()
        client = Client(self._daemon.port)
        self._records.append(await client.ask(Plan("", "POST", "/api/models/unload")))
        record = await client.ask(Plan("", "GET", "/running"))
        if record.json() != {"running": []}:
            self._wrong.append(f"round {number}: /running after the unload: {record.body.decode()}")
        for model in MODELS:
            shown = (await client.ask(Plan(model, "GET", f"/api/models/{model}"))).json()
            if shown["queued"] or shown["in_flight"]:
                self._wrong.append(
                    f"round {number}: {model} has {shown['queued']} waiting, {shown['in_flight']} served"
                )
        shown = (await client.ask(Plan("", "GET", "/api/queue"))).json()
        if shown != {"queue": [], "fences": []}:
            self._wrong.append(f"round {number}: the queue: {shown}")
        client.close()
        process = psutil.Process(self._daemon.process.pid)
        first_fds = self._sizes[0][0] if self._sizes else process.num_fds()
        for _ in range(_SETTLE_LOOKS):
            if not self._left(process, first_fds):
                break
            await asyncio.sleep(0.1)
        left = self._left(process, first_fds)
        if left:
            self._wrong.append(f"round {number}: left over: {left}")
        self._sizes.append((process.num_fds(), process.num_threads(), process.memory_info().rss))
        plans = Plans(f"last-{number}", random.Random(number))
        for model in MODELS:
            record = await client.ask(plans.request(model, is_calm=True))
            self._records.append(record)
            if record.status != 200:
                self._wrong.append(f"round {number}: the last request to {model}: {record.end} {record.status}")
        client.close()

    def _left(self, daemon: psutil.Process, first_fds: int) -> dict[str, Any]:
        found = {
            "processes": self._watcher.alive(),
            "children": [child.pid for child in daemon.children(recursive=True)],
            "descriptors": max(0, daemon.num_fds() - first_fds),
        }
        return {word: value for word, value in found.items() if value}

    # ----------------------------------------------------------------- the end

    def _judge(self) -> None:
        found = [life for model in (*MODELS, GUEST) for life in lives(marks_path(self._folder, model), model)]
        judge = Judge(self._records, found, self._kills, self._doings)
        verdicts = [(record, judge.verdict(record)) for record in self._records]
        for record, verdict in verdicts:
            if verdict:
                self._wrong.append(f"{record.sent_mono:.3f}-{record.ended_mono:.3f} {_named(record.plan)}: {verdict}")
        self._wrong += self._watcher.overlaps.values()
        self._wrong += overlaps(found, self._watcher.last_seen_mono, self._world.exclusive)
        self._wrong += self._doings.wrong
        self._wrong += [line for line in (*self._lines, *self._daemon.lines) if line.startswith(_BAD_LINE)]
        if self._slowest_view_seconds > _SLOW_SECONDS:
            self._wrong.append(f"/running took {self._slowest_view_seconds:.1f} s")
        self._judge_size()
        self._report(found)

    def _judge_size(self) -> None:
        """Compare the first and the last calm of a daemon's life."""
        sizes, self._sizes = self._sizes, []
        if sizes:
            growth = sizes[-1][2] - sizes[0][2]
            if growth > max(_GROWTH_LEAST_BYTES, sizes[0][2] // 4):
                self._wrong.append(f"the daemon grew by {growth / _MIB:.1f} MiB")
            for fds, threads, rss in (sizes[0], sizes[-1]):
                say(f"  daemon at rest: {fds} descriptors, {threads} threads, {rss / _MIB:.1f} MiB")
            say(f"  MiB in each calm: {' '.join(f'{rss / _MIB:.0f}' for _, _, rss in sizes)}")

    def _report(self, found: list[Life]) -> None:
        ends = Counter(f"{r.end} {r.status or ''} {r.code}".strip() for r in self._records)
        marks = Counter(word for life in found for word in life.marks)
        killed = sum(not {"end", "crash"} & life.marks.keys() for life in found)
        idle = self._daemon.count(r"unloading \w \(idle")
        slowest = max((r.ended_mono - r.sent_mono for r in self._records if r.end == "whole"), default=0)
        say(f"== {self._world.name}: {len(self._records)} requests, {len(found)} starts beside those of {DEMO}")
        for end, number in sorted(ends.items()):
            say(f"  {number:6d}  {end}")
        say(
            f"  starts: {dict(sorted(marks.items()))}, silent ends {killed}, idle {idle}; "
            f"{len(self._kills)} kills from outside; looks {self._watcher.looks}"
        )
        say(f"  slowest answer {slowest:.1f} s, slowest /running {self._slowest_view_seconds:.2f} s")
        say(f"  {self._doings.reloads} reloads, {len(self._doings.down)} daemons killed")
        say(f"  wrong: {len(self._wrong)}")
        for each in self._wrong[:_SHOWN]:
            say(f"    {each.rstrip()}")


def _named(plan: Plan) -> str:
    more = f" fault={plan.fault} leaves={plan.leaves_in}/{plan.leaves_at} old={plan.is_old}"
    return f"{plan.method} {plan.path} {plan.model} {plan.tag}{more}"


def say(line: str) -> None:
    """Tell whoever looks."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def main(words: list[str] | None = None) -> int:
    """Play, judge, report; gives the exit status."""
    parser = argparse.ArgumentParser(description="Chaos with real processes, and a judge.")
    parser.add_argument("--minutes", type=float, default=2.0, help="of storm, both worlds together (%(default)s)")
    parser.add_argument("--seed", type=int, default=time.time_ns() % 10**6, help="a new one unless given")
    parser.add_argument("--clients", type=int, default=50, help="(%(default)s)")
    parser.add_argument("--world", choices=["groups", "matrix"], help="only this one; the time stays")
    parser.add_argument("--folder", type=Path, help="where marks and logs are kept; else they are not")
    options = parser.parse_args(words)
    say(f"seed {options.seed}, {options.minutes:g} minutes")
    wrong: list[str] = []
    with tempfile.TemporaryDirectory() as scratch:
        for world in (GROUPS, MATRIX):
            if options.world in (None, world.name):
                folder = Path(options.folder or scratch) / world.name
                folder.mkdir(parents=True)
                wrong += Soak(world, folder, options).run()
    say(f"seed {options.seed}: {len(wrong) or 'nothing'} wrong")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
