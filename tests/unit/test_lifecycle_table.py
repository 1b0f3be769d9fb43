"""The table of an upstream's states is total, and is the one of the specification."""

from __future__ import annotations

from itertools import pairwise, product

import pytest

from llamaswap.core.lifecycle import REFUSALS, TRANSITIONS, LifecycleEvent, Pair, advance
from llamaswap.core.values import ProcessState
from llamaswap.errors import IllegalTransitionError

EVERY_PAIR = list(product(ProcessState, LifecycleEvent))


@pytest.mark.parametrize("pair", EVERY_PAIR, ids=lambda pair: f"{pair[0]}-{pair[1]}")
def test_every_pair_is_a_transition_or_a_named_refusal(pair: Pair) -> None:
    assert (pair in TRANSITIONS) != (pair in REFUSALS)
    assert REFUSALS.get(pair, "a reason")


def test_tables_hold_nothing_else() -> None:
    assert TRANSITIONS.keys() | REFUSALS.keys() == set(EVERY_PAIR)


def test_refusal_names_event_state_and_reason() -> None:
    with pytest.raises(IllegalTransitionError, match="start wanted while stopping: waits for the end of the stop"):
        advance(ProcessState.STOPPING, LifecycleEvent.START_WANTED)


def test_transitions_are_those_of_the_specification() -> None:
    changes = {(old, new) for (old, _), new in TRANSITIONS.items()}
    assert changes == {
        ("stopped", "starting"),
        ("starting", "ready"),
        ("starting", "stopped"),
        ("starting", "stopping"),
        ("ready", "stopping"),
        ("ready", "stopped"),
        ("stopping", "stopped"),
        *((state, "shutdown") for state in ("stopped", "starting", "ready", "stopping")),
    }


def test_normal_life() -> None:
    state = ProcessState.STOPPED
    states = [state]
    for event in (
        LifecycleEvent.START_WANTED,
        LifecycleEvent.BECAME_HEALTHY,
        LifecycleEvent.STOP_WANTED,
        LifecycleEvent.TREE_GONE,
    ):
        state = advance(state, event)
        states.append(state)
    assert list(pairwise(states)) == [
        ("stopped", "starting"),
        ("starting", "ready"),
        ("ready", "stopping"),
        ("stopping", "stopped"),
    ]


def test_nothing_leaves_shutdown() -> None:
    assert not [pair for pair in TRANSITIONS if pair[0] is ProcessState.SHUTDOWN]
