"""RE2's regular expressions in Python's syntax."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llamaswap.config.regex import UnsupportedRegexError, translate


@pytest.mark.parametrize(
    ("pattern", "hits", "misses"),
    [
        (r".*\.(js|css)$", ["/a.js", "x.css"], ["/a.jsx", "/a.js\n", "js"]),
        ("^/ws$", ["/ws"], ["/ws/", "/ws\n"]),
        (r"a\z", ["ba"], ["ab", "a\n"]),
        (r"\Aa", ["ab"], ["ba"]),
        (r"^[[:alpha:]]+$", ["abc"], ["ab1", ""]),
        (r"^[[:^digit:]]+$", ["abc"], ["a1"]),
        (r"^[^[:digit:]x]+$", ["abc"], ["a1", "x"]),
        (r"^[\w.-]+$", ["a.b-c_1"], ["a b", "é"]),
        (r"^[\D]$", ["a"], ["1"]),
        (r"^\d\s\S\W$", ["1 a-"], ["1 aé1"]),
        (r"\Qa.b*\E+", ["a.b**"], ["axb"]),
        (r"\Qrest.", ["rest."], ["restx"]),
        (r"\Q\E", [""], []),
        ("(?i)ABC", ["xabcx"], ["ab"]),
        ("(?i:A)b", ["ab"], ["aB"]),
        ("(?m)^b$", ["a\nb\nc"], ["ab"]),
        ("(?s)a.b", ["a\nb"], []),
        ("(?P<x>a)(?<y>b)(?:c)", ["abc"], []),
        ("a{2,3}?b", ["aab"], ["ab"]),
        ("a{,3}", ["a{,3}"], ["aaa"]),
        ("a{", ["a{"], ["a"]),
        (r"\x41\x{263a}\012\t", ["A☺\n\t"], []),
        (r"[\x41-\x43\t]", ["B", "\t"], ["D"]),
        ("[]a]", ["]", "a"], ["b"]),
        ("[^]a]", ["b"], ["]", "a"]),
        ("[a-]", ["-"], ["b"]),
        ("[[a]", ["["], ["b"]),
        ("[a&&b~~||]", ["&", "~", "|"], ["z"]),
        (r"\/api\-v1\/", ["/api-v1/"], []),
        (r"a\.b\|c", ["a.b|c"], ["axb"]),
        ("a|b||c", ["x"], []),
        ("é+", ["éé"], ["e"]),
    ],
)
def test_expressions_mean_the_same(pattern: str, hits: list[str], misses: list[str]) -> None:
    found = re.compile(translate(pattern))
    assert all(found.search(text) for text in hits)
    assert not any(found.search(text) for text in misses)


@pytest.mark.parametrize(
    "pattern",
    [
        "(unclosed",
        "a)",
        "a**",
        "a*+",
        "a{2}{3}",
        "a+??",
        "*a",
        "a|*",
        "(*a)",
        "(?=a)",
        "(?!a)",
        "(?<=a)",
        "(?<!a)",
        "(?>a)",
        "(?#c)",
        "(?P=x)",
        "(?P<x>a)(?P<x>b)",
        "(?U)a",
        r"(a)\1",
        r"\8",
        r"\pL",
        r"\P{Greek}",
        r"\E",
        r"\Z",
        r"\y",
        "\\",
        r"\é",
        "a{1001}",
        "[a",
        "[b-a]",
        r"[\b]",
        "[[:foo:]]",
        "[[:^punct:]]",
        r"\x{110000}",
        "x(?i)y",
        "(?i-s)a",
        "(?-i)a",
        "(?m:^a$)",
    ],
)
def test_what_either_side_cannot_do_is_refused(pattern: str) -> None:
    with pytest.raises(UnsupportedRegexError):
        translate(pattern)


@given(st.text(st.sampled_from(r"ab\(?)[]{}*+|^$.-:,1QEdpx&~")))
def test_translating_gives_an_expression_or_a_refusal(pattern: str) -> None:
    try:
        translated = translate(pattern)
    except UnsupportedRegexError:
        return
    re.compile(translated)
