"""Hide what must not be shown: values of arguments and variables whose name says that they are secret."""

from __future__ import annotations

import re
from typing import Final

REDACTED: Final = "[REDACTED]"

# Texts are whatever a model prints: each part below takes time in proportion to the text, and no more.
_NAME: Final = r"(?=(?:[\w.-]*?[-_.])?(?:(?:api)?key|token|secret|password|passwd)[-_.=\s\\])[\w.-]++"
_GAP: Final = r"(?:=|(?:\s|\\\n)++)"
_VALUE: Final = r"""(?:"[^"]*+"?|'[^']*+'?|(?:\\.|[^\s'"\\])++)"""
_SECRET: Final = re.compile(rf"(?<![\w.-])(-{{1,2}}{_NAME}{_GAP}|{_NAME}=){_VALUE}", re.IGNORECASE | re.DOTALL)
_USER: Final = re.compile(r"""(?<=://)[^\s/@'"]++@""")


def masked(text: str) -> str:
    """Give a command, or a text that may quote one, without its secrets.

    ``--api-key x``, ``--api-key=x`` and ``API_KEY=x`` hide the ``x``, and so do user and password of
    a URL; ``--max-tokens 100`` is no secret.
    """
    return _USER.sub(REDACTED + "@", _SECRET.sub(lambda found: found[1] + REDACTED, text))
