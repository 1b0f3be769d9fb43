"""Every hazard of the specification has a test that names it, or a sentence in ``hazards.md``."""

from __future__ import annotations

import ast
import re
from functools import cache
from typing import Final

import pytest

from tests.named import TESTS, names_of_tests, sources

HAZARDS: Final = [f"H{number:02}" for number in range(1, 99)]

CANNOT: Final = "Cannot occur here"
LATER: Final = "With the feature"
IN_PART: Final = "In part"

_ENTRY: Final = re.compile(r"- \*\*(H\d\d)\*\*(?: #(\d+))?: (.+)")
_NAMED: Final = re.compile(r"test_((?:h\d\d_)+)")
_EXCUSES: Final = {"skip", "skipif", "xfail"}


@cache
def entries() -> dict[str, dict[str, tuple[str, str]]]:
    """Give the entries of ``hazards.md``: by section, by hazard, issue and sentence."""
    found: dict[str, dict[str, tuple[str, str]]] = {}
    section: dict[str, tuple[str, str]] = {}
    # A list item goes on in indented lines.
    text = (TESTS / "hazards.md").read_text(encoding="utf-8").replace("\n  ", " ")
    for line in text.splitlines():
        if line.startswith("## "):
            section = found.setdefault(line.removeprefix("## "), {})
        elif line.startswith("- "):
            entry = _ENTRY.fullmatch(line)
            assert entry is not None, f"not an entry: {line}"
            hazard, issue, sentence = entry.groups()
            assert hazard not in section, f"{hazard} stands twice in one section"
            section[hazard] = (issue or "", sentence)
    return found


@cache
def covered() -> dict[str, list[str]]:
    """Give the tests that name a hazard, by hazard."""
    found: dict[str, list[str]] = {}
    for path, name in names_of_tests():
        for hazard in hazards_in(name) if path.parent.name in {"unit", "integration"} else []:
            found.setdefault(hazard, []).append(f"{path.name}::{name}")
    return found


def hazards_in(name: str) -> list[str]:
    """Give the hazards that a test's name holds."""
    named = _NAMED.match(name)
    return named[1].upper().rstrip("_").split("_") if named else []


def verdict(hazard: str, tests: list[str], places: set[str]) -> str:
    """Say what is wrong with a hazard's tests and entries; empty = nothing."""
    excused = places & {CANNOT, LATER}
    if not tests and not excused:
        return f"{hazard} has neither a test nor an entry in tests/hazards.md"
    if tests and excused:
        return f"{hazard} has {tests[0]} by now: strike its entry out of tests/hazards.md"
    if len(excused) > 1 or (excused and IN_PART in places):
        return f"{hazard} stands in several sections of tests/hazards.md"
    return ""


def test_each_hazard_is_tested_or_explained() -> None:
    places = {hazard: {section for section, found in entries().items() if hazard in found} for hazard in HAZARDS}
    verdicts = [verdict(hazard, covered().get(hazard, []), places[hazard]) for hazard in HAZARDS]
    wrong = "\n".join(filter(None, verdicts))
    if wrong:
        pytest.fail(wrong, pytrace=False)


def test_what_is_named_is_a_hazard() -> None:
    assert entries().keys() == {CANNOT, LATER, IN_PART}
    named = {*covered(), *(hazard for section in entries().values() for hazard in section)}
    assert named <= set(HAZARDS)


def test_what_is_to_come_names_the_issue_that_brings_it() -> None:
    for section in (LATER, IN_PART):
        assert all(issue and sentence.endswith(".") for issue, sentence in entries()[section].values())


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
    ("tests", "places", "is_wrong"),
    [
        ([], set(), True),
        ([], {IN_PART}, True),
        ([], {LATER}, False),
        ([], {CANNOT}, False),
        ([], {CANNOT, LATER}, True),
        (["t"], set(), False),
        (["t"], {IN_PART}, False),
        (["t"], {LATER}, True),
        (["t"], {CANNOT}, True),
    ],
)
def test_the_rule_itself(tests: list[str], places: set[str], *, is_wrong: bool) -> None:
    assert bool(verdict("H01", tests, places)) is is_wrong


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
