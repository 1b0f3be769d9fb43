"""Who lives when: seen from outside in ``/proc``, and told by the servers' own marks."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Final, NamedTuple, Self

_PAUSE_SECONDS: Final = 0.01
_TICKS: Final = os.sysconf("SC_CLK_TCK")
_UNDECIDED_SECONDS: Final = 1.0
"""A process this young may still be the daemon's fork: it has its environment only after the exec."""


class Being(NamedTuple):
    """A process, not to be confused with another that gets its pid."""

    pid: int
    born_ticks: int


@dataclass
class Life:
    """One life of a server, from its marks.

    Attributes:
        model: Whose server it is.
        pid: Its process.
        start_mono: When it began to run.
        marks: The others, by word.
    """

    model: str
    pid: int
    start_mono: float
    marks: dict[str, float] = field(default_factory=dict)


class Watcher:
    """Looks at all processes of the models, all the time, as long as the block.

    Args:
        run: Value of ``SOAK_RUN`` in their environment.
        exclusive: Pairs of models that must not be alive together.

    Attributes:
        overlaps: What was seen that must not be, with the two processes.
        last_seen_mono: When each process was last seen alive.
        looks: Number of looks.
    """

    def __init__(self, run: str, exclusive: Iterable[frozenset[str]]) -> None:
        self.overlaps: dict[str, str] = {}
        self.last_seen_mono: dict[Being, float] = {}
        self.looks = 0
        self._mark = f"SOAK_RUN={run}".encode()
        self._exclusive = frozenset(exclusive)
        self._first_seen_mono: dict[int, float] = {}
        self._strangers: set[int] = set()
        self._ours: dict[int, tuple[Being, str]] = {}
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        """Begin."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """End."""
        self._is_over.set()
        self._thread.join()

    def alive(self) -> dict[int, str]:
        """Find who is alive now: pid to model."""
        found = {pid: (being, model) for pid, (being, model) in list(self._ours.items()) if is_alive(being)}
        return {pid: model for pid, (_, model) in found.items()}

    def _run(self) -> None:
        while not self._is_over.wait(_PAUSE_SECONDS):
            self._look()

    def _look(self) -> None:
        self.looks += 1
        now = time.monotonic()
        pids = {int(name) for name in os.listdir("/proc") if name.isdigit()}  # noqa: PTH208 - a hundred times a second
        self._strangers &= pids
        for pid in pids - self._strangers - self._ours.keys():
            self._classify(pid, now)
        alive = []
        for pid, (being, model) in list(self._ours.items()):
            if is_alive(being):
                self.last_seen_mono[being] = time.monotonic()
                alive.append((being, model))
            else:
                del self._ours[pid]
        for (one, model), (other, rival) in combinations(alive, 2):
            # The first was looked at earlier: only when it still lives, they live together.
            if frozenset((model, rival)) in self._exclusive and is_alive(one) and is_alive(other):
                what = f"{model} (pid {one.pid}) and {rival} (pid {other.pid}) alive together"
                self.overlaps.setdefault(what, f"{what}, seen at {now:.3f}")

    def _classify(self, pid: int, now: float) -> None:
        first = self._first_seen_mono.setdefault(pid, now)
        being = being_of(pid)
        try:
            words = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        except OSError:
            words = []
        if being is not None and self._mark in words:
            model = next(word for word in words if word.startswith(b"SOAK_MODEL=")).partition(b"=")[2].decode()
            self._ours[pid] = (being, model)
        elif now - first < _UNDECIDED_SECONDS:
            return
        else:
            self._strangers.add(pid)
        del self._first_seen_mono[pid]


def being_of(pid: int) -> Being | None:
    """Find a process; ``None`` when it is gone, or a zombie."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else Being(pid, int(fields[19]))


def is_alive(being: Being) -> bool:
    """Say whether it still is there and no zombie."""
    return being_of(being.pid) == being


def lives(path: Path, model: str) -> list[Life]:
    """Read a model's marks."""
    found: dict[int, Life] = {}
    done = []
    for line in path.read_text().splitlines() if path.exists() else []:
        word, mono, pid = line.split()
        if word == "start":
            found[int(pid)] = Life(model, int(pid), float(mono))
            done.append(found[int(pid)])
        else:
            # A server marks only the reason that ends it, or hinders it, so a start comes first or not at all.
            life = found.setdefault(int(pid), Life(model, int(pid), float(mono)))
            life.marks.setdefault(word, float(mono))
            if life not in done:
                done.append(life)
    return done


def overlaps(
    all_lives: Iterable[Life], last_seen_mono: Mapping[Being, float], pairs: Iterable[frozenset[str]]
) -> list[str]:
    """Find servers that began while a rival had not ended, by the clock in their marks."""
    exclusive = frozenset(pairs)
    ordered = sorted(all_lives, key=lambda life: life.start_mono)
    found = []
    open_: list[tuple[float, Life]] = []
    for life in ordered:
        open_ = [(end, other) for end, other in open_ if end > life.start_mono]
        found += [
            f"{life.model} (pid {life.pid}) began at {life.start_mono:.3f}, {other.model} (pid {other.pid}) was there "
            f"until {end:.3f}"
            for end, other in open_
            if frozenset((life.model, other.model)) in exclusive
        ]
        # Whoever was killed could not say so; then it lived at least as long as it was seen.
        told = max(life.marks.get("end", 0), life.marks.get("crash", 0))
        open_.append((told or _seen_until(life, last_seen_mono), life))
    return found


def _seen_until(life: Life, last_seen_mono: Mapping[Being, float]) -> float:
    """Say when a life was last seen; its number may have been another's before, and may be again."""
    born = {being.born_ticks / _TICKS: being for being in last_seen_mono if being.pid == life.pid}
    before = [seconds for seconds in born if seconds <= life.start_mono]
    return last_seen_mono[born[max(before)]] if before else life.start_mono
