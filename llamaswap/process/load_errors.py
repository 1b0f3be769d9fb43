"""Why a model is not up: remembered until it comes up."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from llamaswap.core.snapshot import LoadError, LoadErrorKind
from llamaswap.interfaces import ExitStatus

_TAIL_LINES: Final = 20


class LoadErrors:
    """The newest error of one model.

    Args:
        history: Gives the newest output of the model.

    Attributes:
        last: The error; ``None`` since the newest successful start.
    """

    def __init__(self, history: Callable[[], bytes]) -> None:
        self.last: LoadError | None = None
        self._history = history

    def note(self, kind: LoadErrorKind, message: str, status: ExitStatus | None) -> None:
        """Keep an error, with what was printed last."""
        tail = self._history().splitlines()[-_TAIL_LINES:]
        self.last = LoadError(
            at=time.time(),
            kind=kind,
            message=message,
            exit_code=status.exit_code if status is not None else None,
            signal=status.signal if status is not None else None,
            log_tail=tuple(line.decode(errors="replace") for line in tail),
        )

    def clear(self) -> None:
        """Forget it: the model has come up."""
        self.last = None
