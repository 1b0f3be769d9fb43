"""Many reloads under load: no request of a kept model may suffer, and no process may change.

``python -m tests.soak.reloads --count 1000`` reloads a daemon of three toy models while clients ask two of
them. Each reload changes nothing, something unrelated (another model comes, goes, or changes its command),
or a live setting of the models that are asked. The judge's report ends the run; status 1 = not clean.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from http.client import HTTPException
from pathlib import Path
from statistics import quantiles

from tests.integration.daemon import DEMO, Daemon, events

_KEPT = ("kept-a", "kept-b")
_CHANGING = "aaa-changing"
_CLIENTS = 8


def config_of(step: int) -> str:
    """Write the configuration of a step; four steps make a round."""
    ttl = 600 + step % 4 // 3 * step  # a live setting
    changed = step // 4 if step % 4 == 1 else 0  # another command
    models = dict.fromkeys(_KEPT, f"{DEMO} --rate 200")
    models[_CHANGING] = f"{DEMO} --rate {100 + changed}"
    if step % 4 == 2:
        models[f"a-guest-{step % 3}"] = DEMO
    lines = [
        f"  {name}: {{cmd: {json.dumps(cmd)}, ttl: {ttl}, concurrencyLimit: {50 + ttl % 7}}}\n"
        for name, cmd in models.items()
    ]
    members = ", ".join(models)
    free = f"groups: {{free: {{swap: false, exclusive: false, members: [{members}]}}}}\n"
    return f"{free}models:\n{''.join(lines)}"


class Load:
    """Clients that ask the kept models without a pause, and count what they get.

    Attributes:
        outcomes: How often each outcome came, for kept models and for the one that is restarted.
    """

    def __init__(self, daemon: Daemon) -> None:
        self.outcomes: Counter[tuple[str, str]] = Counter()
        self._daemon = daemon
        self._lock = threading.Lock()
        self._over = threading.Event()
        asked = [_KEPT[number // 2 % 2] for number in range(_CLIENTS)] + [_CHANGING] * 2
        self._threads = [threading.Thread(target=self._ask, args=args) for args in enumerate(asked)]

    def __enter__(self) -> None:
        """Begin."""
        for thread in self._threads:
            thread.start()

    def __exit__(self, *_: object) -> None:
        """End, when the answers under way have ended."""
        self._over.set()
        for thread in self._threads:
            thread.join()

    def _ask(self, number: int, model: str) -> None:
        ask: Callable[[str], str] = self._stream if number % 2 else self._whole
        while not self._over.is_set():
            try:
                outcome = ask(model)
            except (OSError, HTTPException) as error:
                outcome = f"{ask.__name__[1:]}: dropped ({type(error).__name__})"
            with self._lock:
                self.outcomes["kept" if model in _KEPT else "restarted", outcome] += 1

    def _whole(self, model: str) -> str:
        return f"whole: {self._daemon.chat(model).status}"

    def _stream(self, model: str) -> str:
        connection = self._daemon.stream(model, 40)
        try:
            response = connection.getresponse()
            last = ""
            for last in events(response):  # noqa: B007 - the last one counts
                pass
            return f"stream: {response.status}" + ("" if last == "[DONE]" else f", ended with {last[:60]!r}")
        finally:
            connection.close()


def run(count: int) -> int:
    """Reload so many times, and judge."""
    with tempfile.TemporaryDirectory() as folder, Daemon(Path(folder), config_of(0)) as daemon:
        for name in (*_KEPT, _CHANGING):
            daemon.chat(name)
        before = {name: daemon.pids()[name] for name in _KEPT}
        load = Load(daemon)
        seconds: list[float] = []
        statuses: Counter[str] = Counter()
        began_mono = time.monotonic()
        with load:
            for step in range(1, count + 1):
                report = daemon.reload(config_of(step))
                statuses[report["status"]] += 1
                seconds.append(report["duration_ms"] / 1000)
        took_seconds = time.monotonic() - began_mono
        pids = daemon.pids()
        changed = [name for name in _KEPT if pids.get(name) != before[name]]
        processes = len(daemon.tree())
    good = {"whole: 200", "stream: 200"}
    missing = good - {outcome for kind, outcome in load.outcomes if kind == "kept"}
    bad = {outcome: n for (kind, outcome), n in load.outcomes.items() if kind == "kept" and outcome not in good}
    answers = {f"{kind} {outcome}": n for (kind, outcome), n in sorted(load.outcomes.items())}
    print(f"reloads: {dict(statuses)} in {took_seconds:.0f} s, p50/p99 {_figures(seconds)}")  # noqa: T201
    print(f"answers: {answers}")  # noqa: T201
    print(f"dropped or not 2xx, of kept models: {sum(bad.values())} {bad or ''}")  # noqa: T201
    print(f"changed pids: {len(changed)} {changed or ''}; processes at the end: {processes}")  # noqa: T201
    if missing:
        print(f"never seen: {sorted(missing)}: the clients did not work")  # noqa: T201
    return 1 if bad or missing or changed or statuses["ok"] != count else 0


def _figures(seconds: list[float]) -> str:
    cuts = quantiles(seconds, n=100) if len(seconds) > 1 else seconds * 99
    return f"{cuts[49] * 1000:.0f}/{cuts[98] * 1000:.0f} ms"


def main() -> int:
    """Parse the words, and run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=1000, help="reloads (%(default)s)")
    return run(parser.parse_args().count)


if __name__ == "__main__":
    sys.exit(main())
