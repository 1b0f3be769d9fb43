"""Plays the worlds of the unit tests at random for a long time: ``python -m tests.soak.model --help``.

Each game has a seed of its own, made from the first one and its number, so a game can be played again
alone. A violation ends the run; its list of moves is made as short as it goes without losing it.
"""

from __future__ import annotations

import argparse
import gc
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Final

from twisted.logger import ILogObserver, LogEvent, globalLogBeginner
from twisted.python.failure import Failure
from zope.interface import implementer

from tests.unit.playing import Level, Play
from tests.unit.together_play import LAYOUTS, TogetherPlay
from tests.unit.upstream_play import UpstreamPlay

GAMES: Final[dict[str, Callable[[], Play]]] = {
    "upstream": UpstreamPlay,
    "upstream-unprobed": lambda: UpstreamPlay(probes=False),
    **{f"together-{name}": lambda name=name: TogetherPlay(name) for name in LAYOUTS},  # type: ignore[misc]
}

LONGEST_GAME: Final = 300
"""Moves."""

TELL_EVERY_SECONDS: Final = 60.0

ROUGHNESS: Final = (0.05, 0.2, 0.5)
"""Share of the moves that may disturb; each game has one of these."""

FINALITY: Final = 0.01
"""Share of the moves that may end things for good."""


@dataclass
class Report:
    """What was played so far."""

    games: int = 0
    moves: Counter[str] = field(default_factory=Counter)
    states: dict[str, set[int]] = field(default_factory=dict)

    def lines(self, seconds: float) -> list[str]:
        """Put it in words."""
        parts = [
            f"{name:20} {self.moves[name]:10,} steps {len(self.states[name]):8,} distinct states" for name in GAMES
        ]
        total = sum(self.moves.values())
        states = sum(map(len, self.states.values()))
        return [*parts, f"{seconds:.0f} s, {self.games:,} games, {total:,} steps, {states:,} distinct states"]


@implementer(ILogObserver)
class Player:
    """Plays games, and notices what is logged as a failure."""

    def __init__(self) -> None:
        self._logged: list[str] = []

    def __call__(self, event: LogEvent) -> None:
        """Observe a log event."""
        failure = event.get("log_failure")
        if failure is not None:
            self._logged.append(failure.getTraceback() if isinstance(failure, Failure) else str(failure))

    def play(self, name: str, seed: int, report: Report) -> list[str] | None:
        """Play one game; gives the moves of a violation, or ``None``."""
        chance = Random(seed)
        length = chance.randint(10, LONGEST_GAME)
        roughness = chance.choice(ROUGHNESS)
        made: list[str] = []

        def choose(play: Play) -> str | None:
            if len(made) >= length:
                return None
            luck = chance.random()
            level = Level.FINAL if luck < FINALITY else Level.ROUGH if luck < FINALITY + roughness else Level.CALM
            made.append(chance.choice(play.moves(level)))
            return made[-1]

        is_wrong = self._run(name, choose, report.states[name])
        report.games += 1
        report.moves[name] += len(made)
        return made if is_wrong else None

    def judge(self, name: str, moves: Sequence[str]) -> str | None:
        """Play given moves, leaving out what is impossible by then; gives what went wrong."""
        left = iter(moves)

        def choose(play: Play) -> str | None:
            return next((move for move in left if move in play.moves(Level.FINAL)), None)

        return self._run(name, choose, set())

    def _run(self, name: str, choose: Callable[[Play], str | None], seen: set[int]) -> str | None:
        words = self._go_on(GAMES[name](), choose, seen)
        # A failure that nobody looked at is logged when it is collected.
        gc.collect()
        logged, self._logged = self._logged, []
        return words or next((f"logged: {failure}" for failure in logged), None)

    def _go_on(self, play: Play, choose: Callable[[Play], str | None], seen: set[int]) -> str | None:
        try:
            while (move := choose(play)) is not None:
                play.make(move)
                seen.add(hash(play.fingerprint()))
                if self._logged:
                    return None
            play.finish()
        except Exception as error:  # noqa: BLE001 - whatever it is, it is reported
            return f"{type(error).__name__}: {error}"
        return None

    def shorten(self, name: str, moves: list[str]) -> list[str]:
        """Leave out what is not needed for something to go wrong: halves, quarters and so on, then single moves."""
        size = len(moves)
        while size >= 1:
            start = 0
            while start < len(moves):
                fewer = moves[:start] + moves[start + size :]
                if self.judge(name, fewer):
                    moves = fewer
                else:
                    start += size
            size //= 2
        return moves


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--seconds", type=float, default=600, help="how long to play (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=None, help="of the first game (default: the time)")
    parser.add_argument("--only", choices=sorted(GAMES), action="append", help="play only this world; repeatable")
    return parser.parse_args(argv)


def say(*lines: str) -> None:
    """Print at once."""
    sys.stdout.write("\n".join(lines) + "\n")
    sys.stdout.flush()


def main(argv: Sequence[str] | None = None) -> int:
    """Play until the time is over or something is wrong."""
    options = arguments(argv)
    first = options.seed if options.seed is not None else int(time.time())
    names = options.only or list(GAMES)
    report = Report(states={name: set() for name in GAMES})
    player = Player()
    # Beginning keeps Twisted from collecting everything for somebody who begins later.
    globalLogBeginner.beginLoggingTo([player], redirectStandardIO=False, discardBuffer=True)
    gc.freeze()
    began = told = time.monotonic()
    say(f"seed {first}")
    while (now := time.monotonic()) - began < options.seconds:
        seed = first + report.games
        name = names[report.games % len(names)]
        moves = player.play(name, seed, report)
        if moves is not None:
            shortest = player.shorten(name, moves)
            say(f"VIOLATION in {name}, seed {seed}: {player.judge(name, shortest)}")
            say(f"{len(shortest)} of {len(moves)} moves: {shortest}")
            say(*report.lines(now - began), "violations: 1")
            return 1
        if now - told > TELL_EVERY_SECONDS:
            told = now
            say(report.lines(now - began)[-1])
    say(*report.lines(time.monotonic() - began), "violations: 0")
    return 0


if __name__ == "__main__":
    sys.exit(main())
