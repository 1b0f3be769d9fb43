"""A log as the event stream carries it: text, which may only be cut between characters."""

from __future__ import annotations

from codecs import getincrementaldecoder
from collections.abc import Callable

from llamaswap.telemetry.logs import LogMonitor

_Decoder = getincrementaldecoder("utf-8")


class LogText:
    """Follows one log as long as somebody is there who wants it.

    Args:
        monitor: The log.
        on_text: Called with each piece of text as it is written.
    """

    def __init__(self, monitor: LogMonitor, on_text: Callable[[str], object]) -> None:
        self._monitor = monitor
        self._on_text = on_text
        self._decoder = _Decoder("replace")
        self._is_following = False

    def history(self) -> str:
        """Give the newest text; what was called back for so far ends where it ends."""
        written = self._monitor.history()
        # A character of which only a part was written comes whole with the next piece.
        cut_bytes = len(self._decoder.getstate()[0]) if self._is_following else 0
        return written[: len(written) - cut_bytes].decode("utf-8", "replace")

    def join(self) -> str:
        """Give the newest text; from now on there are calls for all that follows it."""
        if self._is_following:
            return self.history()
        self._is_following = True
        self._decoder.reset()
        text = self._decoder.decode(self._monitor.history())
        self._monitor.add_reader(self, with_history=False)
        return text

    def leave(self) -> None:
        """Follow no more; harmless when called again."""
        self._is_following = False
        self._monitor.remove_reader(self)

    def write(self, data: bytes) -> None:
        """See :class:`~llamaswap.telemetry.logs.LogReader`."""
        text = self._decoder.decode(data)
        if text:
            self._on_text(text)

    def end(self) -> None:
        """See :class:`~llamaswap.telemetry.logs.LogReader`; the streams have an end of their own."""
