"""The names of all tests, read from their sources: some say which rows of the specification they are for."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Final

_TESTS: Final = Path(__file__).parent

_TEST: Final = re.compile(r"^ *(?:async )?def (test_\w+)", flags=re.MULTILINE)


@cache
def sources() -> dict[Path, str]:
    """Give the text of every module of tests."""
    return {path: path.read_text(encoding="utf-8") for path in sorted(_TESTS.glob("*/test_*.py"))}


def names_of_tests() -> Iterator[tuple[Path, str]]:
    """Give every test there is, by the file that it stands in."""
    for path, text in sources().items():
        for name in _TEST.findall(text):
            yield path, name
