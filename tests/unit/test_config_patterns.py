"""Regular expressions are RE2's."""

from __future__ import annotations

import pytest

from llamaswap.config.defaults import IGNORE_PATHS
from llamaswap.config.patterns import compile_pattern


@pytest.mark.parametrize(
    ("pattern", "text", "found"),
    [
        (IGNORE_PATHS[0], "/assets/app.js", True),
        (IGNORE_PATHS[0], "/assets/app.jsx", False),
        ("^/ws$", "/ws", True),
        (r"\pL+\z", "/é", True),
        ("[[:digit:]]", "/a1", True),
        ("(?i)/API", "/api", True),
    ],
)
def test_its_syntax_is_understood(pattern: str, text: str, *, found: bool) -> None:
    assert (compile_pattern(pattern).search(text) is not None) is found


@pytest.mark.parametrize("pattern", ["(unclosed", "(?=ahead)", r"(a)\1", "a{2,1}", "*"])
def test_what_it_has_not_is_refused_with_a_reason(pattern: str) -> None:
    with pytest.raises(ValueError, match=r"\S"):
        compile_pattern(pattern)


@pytest.mark.parametrize("pattern", [IGNORE_PATHS[0], r"^/(\w+-?)*$", "/a.*b$"])
def test_h90_no_path_takes_long(pattern: str) -> None:
    # A backtracking engine would need hours for the first and the age of the universe for the second.
    assert compile_pattern(pattern).search("/a" * 20_000 + "!") is None
