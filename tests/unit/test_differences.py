"""Every deliberate difference to the reference, and every row of the HTTP vectors, has a test that names it."""

from __future__ import annotations

import re
from functools import cache
from typing import Final

import pytest

from tests.named import names_of_tests

DIFFERENCES: Final = {f"D{number}" for number in range(1, 20)}
VECTORS: Final = {f"V{number}" for number in range(1, 70)}

_NAMED: Final = re.compile(r"test_((?:[dv]\d{1,2}_)+)")


def named_in(name: str) -> set[str]:
    """Give the differences and vectors that a test's name begins with."""
    found = _NAMED.match(name)
    return {f"{word[0].upper()}{int(word[1:])}" for word in found[1].rstrip("_").split("_")} if found else set()


@cache
def covered() -> frozenset[str]:
    """Give what all names name."""
    return frozenset().union(*(named_in(name) for _, name in names_of_tests()))


def test_every_difference_has_a_test() -> None:
    missing = DIFFERENCES - covered()
    assert not missing, f"no test named test_dNN_... for {sorted(missing)}"


def test_every_vector_has_a_test() -> None:
    missing = VECTORS - covered()
    assert not missing, f"no test named test_vNN_... for {sorted(missing)}"


def test_what_is_named_exists() -> None:
    assert covered() <= DIFFERENCES | VECTORS


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("test_d16_head_on_unload", {"D16"}),
        ("test_v07_nothing_runs", {"V7"}),
        ("test_v57_d11_d13_events", {"V57", "D11", "D13"}),
        ("test_d6_the_head", {"D6"}),
        ("test_versions", set()),
        ("test_of_d6", set()),
    ],
)
def test_numbers_in_names(name: str, found: set[str]) -> None:
    assert named_in(name) == found
