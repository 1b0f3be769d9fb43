"""Router, scheduler and supervisors against arbitrary worlds: any order of events keeps the invariants."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule
from twisted.internet.task import Clock
from zope.interface.verify import verifyObject

from llamaswap.interfaces import ILaunched, ISwapPlanner, IUpstreamLauncher
from tests.unit.playing import Launcher, Level, Server
from tests.unit.together_play import LAYOUTS, MODELS, MoodyPlanner, TogetherPlay

LEVELS = st.sampled_from([*[Level.CALM] * 12, *[Level.ROUGH] * 5, Level.FINAL])


class TogetherMachine(RuleBasedStateMachine):
    """Plays clients, operators, launches, probes, exits and the time in any order."""

    play: TogetherPlay

    @initialize(layout=st.sampled_from(sorted(LAYOUTS)))
    def begin(self, layout: str) -> None:
        """Choose the rules."""
        self.play = TogetherPlay(layout)

    @rule(data=st.data(), level=LEVELS)
    def move(self, data: st.DataObject, level: Level) -> None:
        """Let something happen that is possible now."""
        self.play.make(data.draw(st.sampled_from(self.play.moves(level))))

    def teardown(self) -> None:
        """Let everything come to rest."""
        if hasattr(self, "play"):
            self.play.finish()


TestTogetherMachine = TogetherMachine.TestCase
TestTogetherMachine.settings = settings(
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=[HealthCheck.filter_too_much, HealthCheck.too_slow],
)


def test_what_the_plays_are_made_of_keeps_its_interfaces() -> None:
    launcher = Launcher(Clock())
    verifyObject(IUpstreamLauncher, launcher)
    verifyObject(ILaunched, Server("http://x", Clock(), obeys=True))
    verifyObject(ISwapPlanner, MoodyPlanner(LAYOUTS["one"](), lambda *_: None))


@pytest.mark.parametrize("layout", sorted(LAYOUTS))
def test_a_calm_day(layout: str) -> None:
    play = TogetherPlay(layout)
    for model in MODELS:
        play.make(f"ask {model}")
        play.make("wait 0.01")
        play.make(f"probe-200 {model}")
        play.make(f"answered {model}")
        play.make(f"unload {model}")
        play.make(f"gone {model}")
    play.finish()


LOST_GAMES = {
    "two targets that a planner wants to be asked about again": [
        *("planner waits", "load c", "wait 0.3", "load a", *["wait 0.3"] * 9, "wait 0.01"),
    ],
    "planner that wants to be asked again after the end": ["load c", "planner waits", "hasty a"],
}
"""Games that ended with a violation once."""


@pytest.mark.parametrize("moves", LOST_GAMES.values(), ids=LOST_GAMES)
def test_lost_games_are_won_now(moves: list[str]) -> None:
    play = TogetherPlay("one")
    for move in moves:
        play.make(move)
    play.finish()
