"""Splitting of commands, against cases that were checked with llama-swap."""

from __future__ import annotations

import shlex
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llamaswap.core.command import split_command, strip_comment_lines
from tests.unit.configs import cases

TEXTS = st.text(st.sampled_from(" \t\n\r\\'\"#ab$`"))


@pytest.mark.parametrize("case", cases("command"), ids=lambda case: str(case["id"]))
def test_a_command_splits_as_llama_swap_does_it(case: dict[str, Any]) -> None:
    assert list(split_command(case["cmd"])) == case["argv"]


@pytest.mark.parametrize("text", ["", "  \n\t", "# only\n  # comments", "\\\n", "\\"])
def test_no_words_make_no_command(text: str) -> None:
    assert split_command(text) == ()


def test_a_line_that_ends_in_a_backslash_goes_on_even_within_quotes() -> None:
    assert split_command('a "b c\\') == ("a", "b c ")
    assert split_command('"a\\\\\nb"') == ("a\\ \nb",)


def test_comment_lines_vanish_and_other_lines_stay_as_they_are() -> None:
    assert strip_comment_lines("a\n # b\n\tc # d\n#e") == "a\n\tc # d"
    assert strip_comment_lines(" a \n") == " a \n"


@given(TEXTS)
def test_splitting_never_raises_and_is_stable_under_comment_removal(text: str) -> None:
    assert split_command(strip_comment_lines(text)) == split_command(text)


@given(st.lists(st.text(st.characters(exclude_characters="\n#\\", exclude_categories=["Cs"]), min_size=0)))
def test_quoted_words_come_back(words: list[str]) -> None:
    assert split_command(" ".join(map(shlex.quote, words))) == tuple(words)
