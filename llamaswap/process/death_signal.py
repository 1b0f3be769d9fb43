"""Have the system end a leader when the daemon dies without a word.

Linux sends a process a signal of its choice when its parent dies, but only the process itself can ask
for that, between its creation and the program. ``setpriv`` of util-linux does it, and then becomes
the program, with the same pid and in about a millisecond; an interpreter of ours takes ten times that.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from twisted.logger import Logger

_WORDS: Final = ("--pdeathsig", "TERM", "--")
_TRIAL_SECONDS: Final = 2.0
_ELF: Final = b"\x7fELF"
_SCRIPT: Final = b"#!"
_HEAD_BYTES: Final = 256

_log: Final = Logger()


def death_signal_words(environ: Mapping[str, str]) -> tuple[str, ...]:
    """Find the words to put before a command so that it gets TERM when we die.

    Runs the program once, since one of the same name may not know how. Call it before the reactor runs.

    Returns:
        The words, the path of a program first; none where there is no way, said at debug.
    """
    found = shutil.which("setpriv", path=environ.get("PATH", os.defpath)) if sys.platform == "linux" else None
    if found is not None and _works(found):
        return (found, *_WORDS)
    _log.debug("no setpriv of util-linux here: the models of a killed daemon live until its next start")
    return ()


def _works(setpriv: str) -> bool:
    try:
        trial = subprocess.run(  # noqa: S603 - found in the path that commands are found in
            (setpriv, *_WORDS, setpriv, "--version"),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=_TRIAL_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return trial.returncode == 0


def can_be_run_by_another(executable: str) -> bool:
    """Say whether starting this file through another program hides no error.

    What the system refuses to run, such as a script whose interpreter is missing, is to be refused in
    the system's words, and not to end with a status of the program before it.
    """
    try:
        with Path(executable).open("rb") as file:
            head = file.read(_HEAD_BYTES)
    except OSError:
        return False
    if head.startswith(_SCRIPT):
        words = head.removeprefix(_SCRIPT).partition(b"\n")[0].split()
        return bool(words) and os.access(words[0], os.X_OK) and Path(os.fsdecode(words[0])).is_file()
    return head.startswith(_ELF)
