"""What a child prints: stdout and stderr of one child through one pipe, in the order of arrival."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, Final

from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IDelayedCall, IReadDescriptor
from twisted.python.failure import Failure
from zope.interface import implementer

_CHUNK_BYTES: Final = 65_536
"""As much as a pipe holds by default."""

_MOST_CHUNKS_AT_ONCE: Final = 16
"""What :meth:`OutputPipe.drain` reads at most, so that a child that prints without end holds nobody up."""


@implementer(IReadDescriptor)
class OutputPipe:
    """Our end of a pipe that children write to.

    A child that is gone may have passed the other end on, so the end of the output is no news of the
    child; the owner closes the pipe when it has waited for long enough.

    Args:
        reactor: Says when there is something to read, and keeps time.
        on_output: Called with each piece, undecoded.

    Attributes:
        write_end: The descriptor for the child; closed by :meth:`close_write_end`.
    """

    def __init__(self, reactor: Any, on_output: Callable[[bytes], None]) -> None:
        self._reactor = reactor
        self._on_output = on_output
        self._timer: IDelayedCall | None = None
        self._read_end, self.write_end = os.pipe()
        os.set_blocking(self._read_end, False)
        self._is_open = True
        reactor.addReader(self)

    def fileno(self) -> int:
        """Give the descriptor to watch."""
        return self._read_end

    def logPrefix(self) -> str:  # noqa: N802
        """Name it in the reactor's own messages."""
        return "output"

    def close_write_end(self) -> None:
        """Close the child's end on our side, once the child has it."""
        os.close(self.write_end)

    def doRead(self) -> Exception | None:  # type: ignore[override]  # noqa: N802  # reactors take no Failure here
        """Read once; gives the reason when the output is over."""
        return ConnectionDone() if self._read() == b"" else None

    def doWrite(self) -> None:  # noqa: N802
        """Do nothing: an event of the connection that had our descriptor a moment ago may come late."""

    def drain(self) -> None:
        """Read what is there now, so that a child's last words come before the news of its end."""
        for _ in range(_MOST_CHUNKS_AT_ONCE):
            if not self._is_open or not self._read():
                return

    def _read(self) -> bytes | None:
        """Read and hand on; gives ``b""`` at the end of the output, ``None`` when there is none now."""
        try:
            data = os.read(self._read_end, _CHUNK_BYTES)
        except BlockingIOError:
            return None
        if data:
            self._on_output(data)
        return data

    def connectionLost(self, reason: Failure) -> None:
        """Close our end."""
        del reason
        self._is_open = False
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None
        os.close(self._read_end)

    def close(self) -> None:
        """Read no more; harmless after the end."""
        if self._is_open:
            self._reactor.removeReader(self)
            self.connectionLost(Failure(ConnectionDone()))

    def close_within(self, seconds: float) -> None:
        """Read on until the end of the output, but no longer than that."""
        if self._is_open and self._timer is None:
            self._timer = self._reactor.callLater(seconds, self.close)
