"""Processes that a killed daemon left behind: recognised beyond doubt, and ended.

Everything here blocks, for seconds where a process does not want to end.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable, Collection, Iterable
from typing import Final

import psutil

from llamaswap.process.run_file import Trace, birth_of
from llamaswap.process.table import INSTANCE_VARIABLE, is_alive

_TERM_SECONDS: Final = 2.0
_KILL_SECONDS: Final = 2.0
_LOOK_SECONDS: Final = 0.02
_FIRST_PID: Final = 1
_USERS_FIRST: Final = "systemd"
"""Within a user's session, what is left falls to the service manager of the session."""


def carriers(markers: Collection[str]) -> list[tuple[int, str, str]]:
    """Find every process that has one of these markers in its environment; gives pid, birth and marker."""
    return _carriers(markers.__contains__)


def _carriers(is_wanted: Callable[[str], bool]) -> list[tuple[int, str, str]]:
    found = []
    for pid in psutil.pids():
        marker = _marker_of(pid)
        if marker and is_wanted(marker) and (born := birth_of(pid)) is not None:
            found.append((pid, born, marker))
    return found


def remove_orphans(traces: Iterable[Trace], instance: str = "") -> list[Trace]:
    """End those processes for which all facts still hold, and, unless it is kept, what these have started.

    So is what was started too late to be noted: it has the marker, and its parent is gone. Where we
    were started by one of them, it is in use, and is left alone. The others get TERM, and KILL two
    seconds later.

    Args:
        traces: What was noted.
        instance: With which the markers begin of what was not; empty = nothing else is looked for.

    Returns:
        Those that were found.
    """
    found: list[Trace] = []
    members: set[psutil.Process] = set()
    own = psutil.Process()
    noted = list(traces)
    for trace in [*noted, *_unnoted(noted, instance)]:
        with contextlib.suppress(psutil.Error):
            process = psutil.Process(trace.pid)
            # The birth is asked for last: who has it now had it when the handle was made.
            if _marker_of(trace.pid) == trace.marker and birth_of(trace.pid) == trace.born and is_alive(process):
                tree = {process, *process.children(recursive=True)}
                if own not in tree:
                    found.append(trace)
                    members |= tree if trace.is_whole else {process}
    _end(members, signal.SIGTERM, _TERM_SECONDS)
    _end(members, signal.SIGKILL, _KILL_SECONDS)
    return found


def kill_at_once(leaders: Iterable[int], instance: str) -> None:
    """Kill process groups, and everything whose marker begins like this; who is gone by then is fine."""
    for pid in leaders:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(pid, signal.SIGKILL)
    for pid, _, _ in _carriers(lambda marker: marker.startswith(f"{instance}/")):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal.SIGKILL)


def _unnoted(noted: Collection[Trace], instance: str) -> list[Trace]:
    """Find those whose marker begins like this, that are none of these, and that were left by their parent.

    Somebody else's, who only copied an environment, has a parent.
    """
    known = {(trace.pid, trace.born) for trace in noted}
    found = []
    for pid, born, marker in _carriers(lambda marker: marker.startswith(f"{instance}/")) if instance else ():
        with contextlib.suppress(psutil.Error):
            if (pid, born) not in known and _was_left(psutil.Process(pid)):
                model = marker.split("/", 2)[-1]
                found.append(Trace(model, pid, born, marker, is_whole=True))
    return found


def _was_left(process: psutil.Process) -> bool:
    parent = process.parent()
    return parent is None or parent.pid == _FIRST_PID or parent.name() == _USERS_FIRST


def _marker_of(pid: int) -> str:
    with contextlib.suppress(psutil.Error, OSError):
        return str(psutil.Process(pid).environ().get(INSTANCE_VARIABLE, ""))
    return ""


def _end(members: Iterable[psutil.Process], signum: int, limit_seconds: float) -> None:
    left = {member for member in members if is_alive(member)}
    for member in left:
        with contextlib.suppress(psutil.Error):
            member.send_signal(signum)
    deadline = time.monotonic() + limit_seconds
    while left and time.monotonic() < deadline:
        time.sleep(_LOOK_SECONDS)
        left = {member for member in left if is_alive(member)}
