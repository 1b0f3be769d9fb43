"""The YAML dialect: scalars, tags, anchors, duplicate keys, marks."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llamaswap.config.dialect import DialectError, parse
from llamaswap.config.nodes import ListNode, MapNode, Node, ScalarNode
from llamaswap.config.problems import Mark
from llamaswap.config.scalars import Timestamp, resolve_plain, text_form
from tests.unit.configs import Loader, cases


def read(text: str) -> Node | None:
    duplicates: list[str] = []
    root = parse(text, "f.yaml", lambda mark, said: duplicates.append(f"{mark}: {said}"))
    assert not duplicates
    return root


def plain(node: Node | None) -> Any:
    match node:
        case ScalarNode(value):
            return value
        case ListNode(items):
            return [plain(item) for item in items]
        case MapNode():
            return {name: plain(entry.value) for name, entry in node.entries.items()}
    return None


def refusal(text: str) -> str:
    with pytest.raises(DialectError) as caught:
        read(text)
    return f"{caught.value.mark}: {caught.value.text}"


@pytest.mark.parametrize("case", cases("number"), ids=lambda case: str(case["scalar"]))
def test_a_scalar_inside_a_longer_string_looks_as_with_llama_swap(case: dict[str, str]) -> None:
    assert text_form(resolve_plain(case["scalar"])) == case["text"]


def test_plain_scalars_resolve_to() -> None:
    expected: dict[str, object] = {
        **dict.fromkeys(("", "~", "null", "Null", "NULL")),
        **dict.fromkeys(("true", "True", "TRUE"), True),
        **dict.fromkeys(("false", "False", "FALSE"), False),
        **{word: word for word in ("yes", "No", "ON", "off", "y", "N", "tRue", "nUll")},
        "+12": 12,
        "-12": -12,
        "1__0": 10,
        "1_": 1,
        "0x1F": 31,
        "-0x1A": -26,
        "0b101": 5,
        "-0o17": -15,
        "-010": -8,
        "0777": 511,
        "0": 0,
        "9223372036854775808": 2**63,
        "18446744073709551615": 2**64 - 1,
        **{word: word for word in ("1:30", "=", "0b12", "0o8", "1.2.3", "1,000", "_1", "-", "+", ".", "0x", "1e999")},
        "9" * 5000: "9" * 5000,
        "08": 8.0,
        "09.5": 9.5,
        "1.": 1.0,
        "-.5": -0.5,
        "1.5e+3": 1500.0,
        "1_0.5": 10.5,
        "18446744073709551616": 2.0**64,
        "-9223372036854775809": -(2.0**63),
        "+.inf": math.inf,
        "-.INF": -math.inf,
    }
    found = {text: resolve_plain(text) for text in expected}
    assert found == expected
    assert {text: type(value) for text, value in found.items()} == {text: type(v) for text, v in expected.items()}


def test_not_a_number_is_a_number() -> None:
    found = resolve_plain(".NaN")
    assert isinstance(found, float)
    assert math.isnan(found)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("2024-01-02", "2024-01-02T00:00:00Z"),
        ("2024-1-2", "2024-01-02T00:00:00Z"),
        ("2024-01-02 03:04:05", "2024-01-02T03:04:05Z"),
        ("2024-01-02T03:04:05+02:00", "2024-01-02T03:04:05+02:00"),
        ("2024-01-02t3:4:5.120-00:30", "2024-01-02T03:04:05.12-00:30"),
        ("2024-01-02T03:04:05Z", "2024-01-02T03:04:05Z"),
    ],
)
def test_dates_become_rfc_3339(text: str, shown: str) -> None:
    found = resolve_plain(text)
    assert isinstance(found, Timestamp)
    assert found == shown


@pytest.mark.parametrize(
    "text", ["2024-13-02", "2024-02-30", "2024-1-2-3", "2024-01-02T03:04:05", "2024-01-02T25:00:00Z"]
)
def test_what_is_no_date_stays_a_string(text: str) -> None:
    assert type(resolve_plain(text)) is str


@pytest.mark.parametrize(
    ("value", "text"), [(None, ""), (math.inf, "+Inf"), (-math.inf, "-Inf"), (math.nan, "NaN"), (-0.0, "-0")]
)
def test_rare_values_have_a_text_form(value: float | None, text: str) -> None:
    assert text_form(value) == text


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_the_text_form_of_a_float_reads_back(value: float) -> None:
    assert float(text_form(value)) == value


@given(st.text())
def test_resolving_never_raises(text: str) -> None:
    text_form(resolve_plain(text))


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("!!str 5", "5"),
        ('!!int "5"', 5),
        ("!!float 5", 5.0),
        ('!!bool "true"', True),
        ('!!null ""', None),
        ("!!binary aGk=", "hi"),
        ("!custom 5", 5),
        ("!custom 'x'", "x"),
        ("! 5", "5"),
        ("'5'", "5"),
        ('"true"', "true"),
        ("|-\n 5", "5"),
    ],
)
def test_tags_and_quotes(text: str, value: object) -> None:
    root = read(f"k: {text}\n")
    assert plain(root) == {"k": value}
    assert type(plain(root)["k"]) is type(value)


@pytest.mark.parametrize("text", ["!!int x", "!!bool 5", "!!timestamp x", "!!binary '*'"])
def test_a_tag_that_does_not_fit_is_refused(text: str) -> None:
    assert refusal(f"\nk: {text}\n").startswith("f.yaml:2: line 2: ")


@pytest.mark.parametrize("text", ["a:\t1", "a: {b:\t1}", "a:\t[1]", "a: 1\t# c", "a: 1\r\n"])
def test_tabs_and_line_ends_between_tokens_are_fine(text: str) -> None:
    assert isinstance(read(text), MapNode)


@pytest.mark.parametrize("text", ["", "# nothing\n", "~", "---\n...\n", "null"])
def test_nothing_is_nothing(text: str) -> None:
    assert read(text) is None


def test_only_the_first_document_is_read() -> None:
    assert plain(read("a: 1\n---\nb: [\n")) == {"a": 1}


def test_lines_are_remembered() -> None:
    root = read("a:\n  b:\n  - x\n  - y: 1\n")
    assert isinstance(root, MapNode)
    inner = root.get("a")
    assert isinstance(inner, MapNode)
    items = inner.get("b")
    assert isinstance(items, ListNode)
    assert [item.mark for item in items.items] == [Mark("f.yaml", 3), Mark("f.yaml", 4)]


def test_a_plain_scalar_keeps_its_spelling_and_a_quoted_one_has_none() -> None:
    root = read("a: 1.50\nb: '1.50'\n")
    assert isinstance(root, MapNode)
    assert [entry.value.spelling for entry in root.entries.values() if isinstance(entry.value, ScalarNode)] == [
        "1.50",
        None,
    ]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('a: "x\n', "f.yaml:2: line 2: "),
        ("a: @x\n", "f.yaml:1: line 1: "),
        ("a: \x07\n", "f.yaml:1: line 1: "),
        ("a: *nobody\n", "f.yaml:1: line 1: unknown anchor 'nobody' referenced"),
        ("a: &x [*x]\n", "f.yaml:1: line 1: anchor 'x' value contains itself"),
        ("? [a]\n: 1\n", "f.yaml:1: line 1: a list cannot be a mapping key"),
        ("a:\n  <<: 5\n", "f.yaml:2: line 2: map merge requires map or sequence of maps as the value"),
        ("[" * 200 + "]" * 200, "f.yaml:1: line 1: nested too deeply"),
    ],
)
def test_what_is_no_yaml_says_where(text: str, said: str) -> None:
    assert refusal(text).startswith(said)


def test_aliases_cannot_explode() -> None:
    text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
        f"a{level}: &a{level} [{', '.join([f'*a{level - 1}'] * 10)}]\n" for level in range(1, 8)
    )
    assert "document contains excessive aliasing" in refusal(text)


def test_anchors_may_be_redefined() -> None:
    assert plain(read("a: &x 1\nb: *x\nc: &x 2\nd: *x\n")) == {"a": 1, "b": 1, "c": 2, "d": 2}


def test_merge_keys_are_weaker_than_own_keys_and_earlier_ones_stronger_than_later() -> None:
    text = """
    one: &one {a: 1, b: {x: 1}}
    two: &two {a: 2, b: {y: 2}, c: 2}
    all:
      b: own
      <<: [*one, *two]
    quoted: {"<<": 1}
    """
    assert plain(read(text))["all"] == {"b": "own", "a": 1, "c": 2}
    assert plain(read(text))["quoted"] == {"<<": 1}


def test_every_key_that_is_written_twice_is_told(loaded: Loader) -> None:
    text = "models:\n  m:\n    ttl: 1\n    ttl: 2\n  m: {}\nx-a: {<<: {}, <<: {}}\n"
    assert loaded.errors(text) == [
        'config.yaml:4: mapping key "ttl" already defined at line 3',
        'config.yaml:5: mapping key "m" already defined at line 2',
        'config.yaml:6: mapping key "<<" already defined at line 6',
    ]


def test_quotes_do_not_make_another_key(loaded: Loader) -> None:
    assert loaded.error("models:\n  1: {}\n  '1': {}\n") == 'config.yaml:3: mapping key "1" already defined at line 2'


def test_the_message_of_a_syntax_error_holds_no_text_of_the_file(loaded: Loader) -> None:
    (said,) = loaded.errors("apiKeys: [sk-hidden\nmodels: {}\n")
    assert "sk-hidden" not in said
    assert said.startswith("config.yaml:")
