"""The supervisor against arbitrary worlds: any order of events keeps the invariants."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from tests.unit.playing import Level
from tests.unit.upstream_play import UpstreamPlay

LEVELS = st.sampled_from([*[Level.CALM] * 8, *[Level.ROUGH] * 7, Level.FINAL])


class UpstreamMachine(RuleBasedStateMachine):
    """Plays callers, launches, probes, exits and the time in any order."""

    play: UpstreamPlay

    @initialize(probes=st.booleans())
    def begin(self, probes: bool) -> None:  # noqa: FBT001
        """Choose the kind of server."""
        self.play = UpstreamPlay(probes=probes)

    @rule(data=st.data(), level=LEVELS)
    def move(self, data: st.DataObject, level: Level) -> None:
        """Let something happen that is possible now."""
        self.play.make(data.draw(st.sampled_from(self.play.moves(level))))

    def teardown(self) -> None:
        """Let everything come to rest."""
        if hasattr(self, "play"):
            self.play.finish()


TestUpstreamMachine = UpstreamMachine.TestCase
TestUpstreamMachine.settings = settings(
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=[HealthCheck.filter_too_much, HealthCheck.too_slow],
)


LOST_GAMES = {
    "launcher that gives up late and in its own words": [
        *("launcher lingering", "ensure", "stop 1", "ensure", "launched", "gives up in its own words", "exit"),
    ],
    "leader that exits while its start is stopped": [
        *("ensure", "wait 0.01", "servers obey", "on news stop 1", "stop 1", "ensure"),
    ],
    "exit out of which the next start is wanted": ["ensure", "wait 0.01", "probe 200", "on news ensure", "exit"],
    "failed start out of which the next one is wanted": [
        *("launcher slow", "ensure", "launcher quick", "on news ensure", "launch fails"),
    ],
    "end out of which the next start is wanted, and stopped": [
        *("ensure", "stop 1", "on news ensure", "on news touch", "on news stop 1", "gone"),
    ],
    "leftovers, an end, and a start wanted out of its news": [
        *("ensure", "on news ensure", "exit", "on news ensure", "on news shut down 2", "stop 1", "wait 6"),
    ],
}
"""Games that ended with a violation once."""


@pytest.mark.parametrize("probes", [True, False], ids=["probed", "unprobed"])
@pytest.mark.parametrize("moves", LOST_GAMES.values(), ids=LOST_GAMES)
def test_lost_games_are_won_now(moves: list[str], probes: bool) -> None:  # noqa: FBT001
    play = UpstreamPlay(probes=probes)
    for move in moves:
        if move in play.moves(Level.FINAL):
            play.make(move)
    play.finish()
