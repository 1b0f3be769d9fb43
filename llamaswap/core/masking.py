"""Hide what must not be shown: values of arguments and variables whose name says that they are secret."""

from __future__ import annotations

import re
from typing import Final

REDACTED: Final = "[REDACTED]"

_NAME: Final = r"(?:\w+[-_.])*(?:key|token|secret|password|passwd)(?:[-_.]\w+)*"
_VALUE: Final = r"""(?:"[^"]*"|'[^']*'|[^\s'"]+)"""
_SECRET: Final = re.compile(rf"(?<![\w-])(-{{1,2}}{_NAME}(?:=|\s+)|{_NAME}=){_VALUE}", re.IGNORECASE)


def masked(text: str) -> str:
    """Give a command, or a text that may quote one, without its secrets.

    ``--api-key x``, ``--api-key=x`` and ``API_KEY=x`` hide the ``x``; ``--max-tokens 100`` is no secret.
    """
    return _SECRET.sub(lambda found: found[1] + REDACTED, text)
