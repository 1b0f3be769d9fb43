"""Every hazard of the specification has a test that names it; see ``hazards.md``."""

from __future__ import annotations

import ast
import re
from typing import Final

import pytest

from tests.named import names_of_tests, sources

HAZARDS: Final = {f"H{number:02}" for number in range(1, 99)}

_NAMED: Final = re.compile(r"test_((?:h\d\d_)+)")
_EXCUSES: Final = {"skip", "skipif", "xfail"}


def hazards_in(name: str) -> list[str]:
    """Give the hazards that a test's name holds."""
    named = _NAMED.match(name)
    return named[1].upper().rstrip("_").split("_") if named else []


def test_each_hazard_has_a_test_and_each_number_is_a_hazards() -> None:
    places = {"unit", "integration"}
    tested = {hazard for path, name in names_of_tests() if path.parent.name in places for hazard in hazards_in(name)}
    assert sorted(tested) == sorted(HAZARDS)


def test_no_test_of_a_hazard_is_excused() -> None:
    marks = {
        f"{path.name}::{node.name} ({mark.attr})"
        for path, text in sources().items()
        if any(f"mark.{excuse}" in text for excuse in _EXCUSES)
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and hazards_in(node.name)
        for decorator in node.decorator_list
        for mark in ast.walk(decorator)
        if isinstance(mark, ast.Attribute) and mark.attr in _EXCUSES
    }
    assert not marks


@pytest.mark.parametrize(
    ("name", "hazards"),
    [
        ("test_h07_deadline", ["H07"]),
        ("test_h11_h13_child_that_ignores_term", ["H11", "H13"]),
        ("test_head_unloads_nothing", []),
        ("test_h2c_is_not_spoken", []),
        ("test_of_h07", []),
    ],
)
def test_numbers_in_names(name: str, hazards: list[str]) -> None:
    assert hazards_in(name) == hazards
