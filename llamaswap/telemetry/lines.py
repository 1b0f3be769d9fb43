"""The daemon's own log lines: from events of ``twisted.logger``, or straight from text, to bytes."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, Final

from twisted.logger import ILogObserver, LogEvent, LogLevel, formatEvent
from zope.interface import implementer

from llamaswap.config.schema import Config
from llamaswap.telemetry.timeformat import find_time_format

_WORDS: Final[Mapping[LogLevel, str]] = {
    LogLevel.debug: "DEBUG",
    LogLevel.info: "INFO",
    LogLevel.warn: "WARN",
    LogLevel.error: "ERROR",
    LogLevel.critical: "ERROR",
}
_SHOWN: Final = {
    "debug": ("DEBUG", "INFO", "WARN", "ERROR"),
    "info": ("INFO", "WARN", "ERROR"),
    "warn": ("WARN", "ERROR"),
    "error": ("ERROR",),
}
_OWN_NAMESPACE: Final = "llamaswap"
_JSON_FIELDS: Final[tuple[str, ...]] = ("model", "request_id", "swap_id", "phase_ms")
"""Fields of events that a JSON line repeats beside the text."""

_ESCAPES: Final = {code: repr(chr(code))[1:-1] for code in (*range(0x20), *range(0x7F, 0xA0), 0x2028, 0x2029)}
"""What could end a line early or command a terminal: C0, DEL, C1 and the separators of lines and paragraphs."""


@implementer(ILogObserver)
class OwnLines:
    """Write log lines of the level that is configured, in the form that is configured.

    It is an observer of ``twisted.logger``. Events of ours keep their level; those of libraries that are
    no warnings count as ``debug``: an operator did not ask for them. An event from another thread is
    passed to the reactor's.

    Args:
        config: ``log_level``, ``log_time_format`` and ``log_format`` are read.
        write: Gets each line, as bytes with its line feed, on the reactor thread.
        call_from_thread: ``reactor.callFromThread``.
        now_nanoseconds: UTC epoch nanoseconds.
    """

    def __init__(
        self,
        config: Config,
        write: Callable[[bytes], None],
        call_from_thread: Callable[..., object],
        now_nanoseconds: Callable[[], int] = time.time_ns,
    ) -> None:
        self._write = write
        self._call_from_thread = call_from_thread
        self._now_nanoseconds = now_nanoseconds
        self._thread = threading.get_ident()
        self.apply(config)

    def apply(self, config: Config) -> None:
        """Follow these settings from now on."""
        shown = _SHOWN.get(config.log_level, _SHOWN["info"])
        self._words = {level: word for level, word in _WORDS.items() if word in shown}
        self._is_json = config.log_format == "json"
        self._render_time = find_time_format("rfc3339nano" if self._is_json else config.log_time_format)

    def shows(self, level: LogLevel) -> bool:
        """Whether lines of that level are written at all."""
        return level in self._words

    def line(self, level: LogLevel, text: str, **fields: object) -> None:
        """Write one line at once, without the cost of an event; for lines that every request causes.

        Args:
            level: A constant of :class:`twisted.logger.LogLevel`.
            text: The message; control characters are escaped.
            **fields: Repeated in a JSON line.
        """
        word = self._words.get(level)
        if word is not None:
            self._write(self._render(word, text, fields))

    def __call__(self, event: LogEvent) -> None:
        """Write an event of ``twisted.logger``, with a traceback if it carries a failure."""
        level = event.get("log_level", LogLevel.info)
        if level < LogLevel.warn and not event.get("log_namespace", "").startswith(_OWN_NAMESPACE):
            level = LogLevel.debug
        word = self._words.get(level)
        if word is None:
            return
        if threading.get_ident() == self._thread:
            self._write_event(word, event)
        else:
            self._call_from_thread(self._write_event, word, event)

    def _write_event(self, word: str, event: LogEvent) -> None:
        text = formatEvent(event)
        fields = {name: event[name] for name in _JSON_FIELDS if name in event}
        failure = event.get("log_failure")
        if failure is None:
            self._write(self._render(word, text, fields))
            return
        summary = ": ".join(part for part in (text.rstrip(": "), _describe(failure.value)) if part)
        traceback = failure.getTraceback().rstrip()
        if self._is_json:
            self._write(self._render(word, summary, {**fields, "traceback": traceback}))
            return
        rest = "".join(f"    {_escape(line)}\n" for line in traceback.split("\n"))
        self._write(self._render(word, summary, fields) + _encode(rest))

    def _render(self, word: str, text: str, fields: Mapping[str, Any]) -> bytes:
        now = self._render_time(self._now_nanoseconds()) if self._render_time is not None else ""
        if self._is_json:
            record = {"ts": now, "level": word.lower(), "msg": text, **fields}
            return json.dumps(record, default=str).encode() + b"\n"
        if not text.isprintable():
            text = _escape(text)
        return _encode(f"{now} [{word}] {text}\n" if now else f"[{word}] {text}\n")


def _describe(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"


def _escape(text: str) -> str:
    return text.translate(_ESCAPES)


def _encode(text: str) -> bytes:
    return text.encode("utf-8", "backslashreplace")
