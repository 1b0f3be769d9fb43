"""The run-state file: which processes a daemon has, for the next one, should this one be killed.

There is one for each configuration and listen address, and only while there are processes. A process
is described by facts that no other one shares: its pid, its time of birth, the boot in which both
count, and the marker in its environment.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Final

import msgspec
import psutil

from llamaswap.process.table import is_alive

_BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")
_BIRTH_FIELD: Final = 19
"""Of ``/proc/PID/stat``, counted after the name: the time of birth in ticks since the boot, which no clock moves."""

_KEY_LETTERS: Final = 16


@dataclass(frozen=True, slots=True)
class Trace:
    """One process of a model.

    Attributes:
        model: The model's id.
        pid: Its pid.
        born: Its time of birth, as :func:`birth_of` gives it.
        marker: What the instance variable in its environment says.
        is_whole: Whether what it has started is ended with it.
    """

    model: str
    pid: Annotated[int, msgspec.Meta(gt=0)]
    born: str
    marker: Annotated[str, msgspec.Meta(min_length=1)]
    is_whole: bool


@dataclass(frozen=True, slots=True)
class RunRecord:
    """What the file holds.

    Attributes:
        boot: Which boot of the machine; elsewhere pids and births mean nothing.
        daemon_pid: The daemon that wrote it.
        daemon_born: Its time of birth.
        instance: With which the markers of all its processes begin that are ended with it; empty = unknown.
        processes: Those of its models.
    """

    boot: str
    daemon_pid: int
    daemon_born: str
    instance: str = ""
    processes: tuple[Trace, ...] = ()

    @property
    def is_of_this_boot(self) -> bool:
        """Whether its pids and births mean anything."""
        return self.boot == boot_id()

    @property
    def is_daemon_alive(self) -> bool:
        """Whether the daemon that wrote it is still there; one that nobody has waited for is not."""
        if not self.is_of_this_boot or birth_of(self.daemon_pid) != self.daemon_born:
            return False
        try:
            return is_alive(psutil.Process(self.daemon_pid))
        except psutil.NoSuchProcess:
            return False


def run_file_path(state_dir: str, environ: Mapping[str, str], *what: str) -> Path:
    """Say where the file of a daemon is.

    Args:
        state_dir: As configured; empty = the usual places of a service, then of a user.
        environ: The daemon's environment.
        what: What distinguishes the daemon from others: its configuration, its address.
    """
    own = environ.get("STATE_DIRECTORY", "").partition(":")[0]
    folder = Path(state_dir or own or Path(_user_state(environ), "llamaswap"))
    key = sha256("\0".join(what).encode()).hexdigest()[:_KEY_LETTERS]
    return folder.absolute() / f"run-{key}.json"


def _user_state(environ: Mapping[str, str]) -> Path:
    home = environ.get("HOME", "")
    with contextlib.suppress(RuntimeError):  # a container's user may have neither a home nor a name
        home = home or str(Path.home())
    return Path(environ.get("XDG_STATE_HOME") or Path(home or "/", ".local", "state"))


def boot_id() -> str:
    """Name the present boot of the machine."""
    try:
        return _BOOT_ID.read_text("ascii").strip()
    except OSError:
        return str(int(psutil.boot_time()))


def birth_of(pid: int) -> str | None:
    """Give the time of birth of a process, the same text each time; ``None`` when it is gone."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
        return stat.rpartition(b")")[2].split()[_BIRTH_FIELD].decode("ascii")
    except (FileNotFoundError, ProcessLookupError):
        if Path("/proc/self/stat").exists():
            return None
    try:
        return repr(psutil.Process(pid).create_time())
    except psutil.Error:
        return None


def own_record(instance: str) -> RunRecord:
    """Describe this daemon, without any process yet."""
    pid = os.getpid()
    return RunRecord(boot_id(), pid, birth_of(pid) or "", instance)


def read_run_file(path: Path) -> RunRecord | None:
    """Read a file; ``None`` when there is none, or none of ours.

    Raises:
        OSError: It is there and cannot be read.
    """
    try:
        return msgspec.json.decode(path.read_bytes(), type=RunRecord)
    except (FileNotFoundError, msgspec.DecodeError):
        return None


def write_run_file(path: Path, record: RunRecord) -> None:
    """Put a record in the place of the file, all at once.

    Raises:
        OSError: That is not possible.
    """
    draft = path.with_suffix(".new")
    with open(draft, "wb", opener=_private) as file:
        file.write(msgspec.json.encode(record))
    draft.replace(path)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
