"""Regular expressions of the configuration: RE2's own, as llama-swap's users write them.

RE2 takes time that grows with the length of the text alone. Python's ``re`` does not: one path of
20,000 dots would hold the reactor for seconds with the default pattern of ``upstream.ignorePaths``.
"""

from __future__ import annotations

from typing import Protocol

import re2


class Pattern(Protocol):
    """A compiled regular expression."""

    def search(self, text: str, /) -> object | None:
        """Give the first match anywhere in the text, ``None`` without one."""


def compile_pattern(pattern: str) -> Pattern:
    """Compile an RE2 regular expression.

    Raises:
        ValueError: It is none; the text says why.
    """
    options = re2.Options()
    options.log_errors = False
    try:
        compiled: Pattern = re2.compile(pattern, options)
    except re2.error as error:
        reason = error.args[0]
        raise ValueError(reason.decode("utf-8", "replace") if isinstance(reason, bytes) else str(reason)) from error
    return compiled
