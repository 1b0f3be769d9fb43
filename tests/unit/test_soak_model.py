"""The driver of the long random runs: finds a violation, and makes its account short."""

from __future__ import annotations

from collections.abc import Hashable

import pytest
from twisted.logger import ILogObserver
from zope.interface.verify import verifyObject

from tests.soak import model
from tests.soak.model import GAMES, Player, Report
from tests.unit.playing import Level


class Fragile:
    """Breaks at the third knock after it was opened."""

    def __init__(self) -> None:
        self.is_open = False
        self.knocks = 0

    def moves(self, level: Level) -> list[str]:
        return ["look", "knock"] if self.is_open else ["look", "open"]

    def make(self, move: str) -> None:
        self.is_open |= move == "open"
        self.knocks += move == "knock"
        if self.knocks == 3:
            raise ZeroDivisionError

    def finish(self) -> None: ...

    def fingerprint(self) -> Hashable:
        return self.is_open, self.knocks


def test_a_violation_is_found_and_told_with_as_few_moves_as_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model, "GAMES", {"fragile": Fragile})
    player, report = Player(), Report(states={"fragile": set()})
    lost = None
    while lost is None:
        lost = player.play("fragile", report.games, report)
    assert player.shorten("fragile", lost) == ["open", "knock", "knock", "knock"]
    assert player.judge("fragile", lost) == "ZeroDivisionError: "
    assert player.play("fragile", report.games - 1, report) == lost, "a seed is a game"


@pytest.mark.parametrize("name", GAMES)
def test_every_world_can_be_played(name: str) -> None:
    player, report = Player(), Report(states={name: set() for name in GAMES})
    assert player.play(name, 1, report) is None
    assert report.moves[name] > 0
    assert report.states[name]
    assert report.lines(1.0)[-1].startswith("1 s, 1 games, ")


def test_the_player_listens_to_the_log() -> None:
    verifyObject(ILogObserver, Player())
