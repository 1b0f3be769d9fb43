"""The states of one upstream process and every way from one to another, as data.

The table is the rule: :func:`advance` looks a pair of state and event up and gives the next state.
What is not in the table is a refusal with a reason, and each pair is in exactly one of the two.
Only the supervisor of a process calls :func:`advance`; everybody else may read a state for advice.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from llamaswap.core.values import ProcessState
from llamaswap.errors import IllegalTransitionError


class LifecycleEvent(StrEnum):
    """What can happen to one upstream process."""

    START_WANTED = "start wanted"
    BECAME_HEALTHY = "became healthy"
    START_FAILED = "start failed"
    STOP_WANTED = "stop wanted"
    LEADER_EXITED = "leader exited"
    TREE_GONE = "tree gone"
    TORN_DOWN = "torn down"


_STOPPED: Final = ProcessState.STOPPED
_STARTING: Final = ProcessState.STARTING
_READY: Final = ProcessState.READY
_STOPPING: Final = ProcessState.STOPPING
_SHUTDOWN: Final = ProcessState.SHUTDOWN
_E = LifecycleEvent

Pair = tuple[ProcessState, LifecycleEvent]

TRANSITIONS: Final[Mapping[Pair, ProcessState]] = MappingProxyType(
    {
        (_STOPPED, _E.START_WANTED): _STARTING,
        (_STARTING, _E.BECAME_HEALTHY): _READY,
        # Spawn error, exit before healthy, and health deadline: the tree is gone by the time of this event.
        (_STARTING, _E.START_FAILED): _STOPPED,
        (_STARTING, _E.STOP_WANTED): _STOPPING,
        (_READY, _E.STOP_WANTED): _STOPPING,
        (_STOPPING, _E.TREE_GONE): _STOPPED,
        (_READY, _E.LEADER_EXITED): _STOPPED,
        # Running processes are stopped first; what is still up by then is not ours to wait for.
        (_STOPPED, _E.TORN_DOWN): _SHUTDOWN,
        (_STARTING, _E.TORN_DOWN): _SHUTDOWN,
        (_READY, _E.TORN_DOWN): _SHUTDOWN,
        (_STOPPING, _E.TORN_DOWN): _SHUTDOWN,
    },
)
"""Every transition there is."""

_OVER: Final = "nothing happens after the shutdown"
_NO_PROCESS: Final = "there is no process"
_UP: Final = "the process is up already"
_ENDING: Final = "the process is about to end"

REFUSALS: Final[Mapping[Pair, str]] = MappingProxyType(
    {
        (_STOPPED, _E.BECAME_HEALTHY): _NO_PROCESS,
        (_STOPPED, _E.START_FAILED): _NO_PROCESS,
        (_STOPPED, _E.STOP_WANTED): "a stop answers at once and changes nothing",
        (_STOPPED, _E.LEADER_EXITED): _NO_PROCESS,
        (_STOPPED, _E.TREE_GONE): _NO_PROCESS,
        (_STARTING, _E.START_WANTED): "joins the start under way",
        (_STARTING, _E.LEADER_EXITED): "fails the start, which ends when the rest of the tree is gone",
        (_STARTING, _E.TREE_GONE): "no stop is under way",
        (_READY, _E.START_WANTED): "a start answers at once and changes nothing",
        (_READY, _E.BECAME_HEALTHY): _UP,
        (_READY, _E.START_FAILED): _UP,
        (_READY, _E.TREE_GONE): "no stop is under way",
        (_STOPPING, _E.START_WANTED): "waits for the end of the stop",
        (_STOPPING, _E.BECAME_HEALTHY): _ENDING,
        (_STOPPING, _E.START_FAILED): _ENDING,
        (_STOPPING, _E.STOP_WANTED): "joins the stop under way",
        (_STOPPING, _E.LEADER_EXITED): "the stop ends when the whole tree is gone",
        (_SHUTDOWN, _E.START_WANTED): _OVER,
        (_SHUTDOWN, _E.BECAME_HEALTHY): _OVER,
        (_SHUTDOWN, _E.START_FAILED): _OVER,
        (_SHUTDOWN, _E.STOP_WANTED): _OVER,
        (_SHUTDOWN, _E.LEADER_EXITED): _OVER,
        (_SHUTDOWN, _E.TREE_GONE): _OVER,
        (_SHUTDOWN, _E.TORN_DOWN): _OVER,
    },
)
"""Why each other pair is no transition; joining and waiting are the supervisor's, without a change of state."""


def advance(state: ProcessState, event: LifecycleEvent) -> ProcessState:
    """Give the state that follows.

    Raises:
        IllegalTransitionError: The pair is not in :data:`TRANSITIONS`; the message names both and says why.
    """
    try:
        return TRANSITIONS[state, event]
    except KeyError:
        raise IllegalTransitionError(f"{event} while {state}: {REFUSALS[state, event]}") from None
