"""Changes to JSON bodies leave everything else as it was."""

from __future__ import annotations

import contextlib
import json
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llamaswap.core.rewrite import InvalidJSONError, Patch, Segment, read_head, split_path
from llamaswap.errors import LlamaSwapError


@pytest.mark.parametrize(
    ("body", "model", "wants_stream"),
    [
        (b'{"model":"a"}', "a", False),
        (b' {"x": {"model": "no"}, "model" : "a/b:c" , "stream" : true}\n', "a/b:c", True),
        (b'{"stream":"true","model":"a"}', "a", True),
        (b'{"stream":1,"model":"a"}', "a", True),
        (b'{"stream":0,"model":"a"}', "a", False),
        (b'{"stream":"yes","model":"a"}', "a", False),
        (b'{"stream":null,"model":" a "}', " a ", False),
        (b'{"model":"\\u00e9\\"\xc3\xa9"}', 'é"é', False),
        (b'{"model":"\\ud83d"}', "\ufffd", False),
        (b'{"model":"\xff"}', "\ufffd", False),
        (b'{"model":5}', "5", False),
        (b'{"model":5.50e1}', "5.50e1", False),
        (b'{"model":true}', "true", False),
        (b'{"model":null}', "", False),
        (b'{"model":""}', "", False),
        (b"{}", "", False),
        (b'[{"model":"a"}]', "", False),
        (b'"model"', "", False),
        (b"null", "", False),
        (b"", "", False),
        (b" \r\n", "", False),
    ],
)
def test_model_and_stream_are_read_from_the_top_level(body: bytes, model: str, *, wants_stream: bool) -> None:
    assert read_head(body) == (model, wants_stream)


@pytest.mark.parametrize(
    ("body", "model"),
    [
        (b'{"model":"a","model":"b"}', "a"),
        (b'{"x":{"model":"n"},"model":"a","model":"b"}', "a"),
        (b'{"model":5,"model":"b"}', "5"),
        (b'{"model":true,"model":"b"}', "true"),
        (b'{"model":null,"model":"b"}', ""),
        (b'{"x":["model"],"model":"b"}', "b"),
        (b'{"model":["model"],"model":"b"}', '["model"]'),
        (b'{"model":"b","x":{"model":"n"},"x":1}', "b"),
        (b'{"model":"a","x":"\\ud83d","model":"b"}', "a"),
        (rb'{"model":"a\ud800","model":"b"}', "a\N{REPLACEMENT CHARACTER}"),
        (rb'{"model":["\ud800"],"model":"b"}', '["\N{REPLACEMENT CHARACTER}"]'),
        (rb'{"model":"\ud83d\ude00","model":"b"}', "\N{GRINNING FACE}"),
        (b'{"x":"model"}', ""),
        (b'{"x":"model","y":"model"}', ""),
    ],
)
def test_first_of_several_models_counts(body: bytes, model: str) -> None:
    assert read_head(body)[0] == model


@pytest.mark.parametrize(
    "body",
    [
        b'{"model":"a", bad json',
        b'{"model":"a"',
        b'{"model":"a",}',
        b'{"model":"a"} x',
        b'{"model":"a","n":NaN}',
        b'{"model":"a","x":"\x01"}',
        b'{"model":"a","\xff":"model"}',
        b'{"model":"a","x":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b"{",
        b"nonsense",
    ],
)
def test_what_is_not_json_is_an_error(body: bytes) -> None:
    with pytest.raises(InvalidJSONError, match="invalid JSON in request body") as caught:
        read_head(body)
    assert caught.value.status == 400


def test_unpaired_surrogates_are_no_error() -> None:
    body = b'{"model":"a","x":"\\ud83d","y":"\\\\ud83d","z":"\\ud83d\\ude00","temperature":1}'
    assert read_head(body) == ("a", False)
    assert Patch(["temperature"]).apply(body) == b'{"model":"a","x":"\\ufffd","y":"\\\\ud83d","z":"\\ud83d\\ude00"}'


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("a", (Segment("a"),)),
        ("a.b", (Segment("a"), Segment("b"))),
        (r"a\.b.c", (Segment("a.b"), Segment("c"))),
        (r"a\\.b", (Segment("a\\"), Segment("b"))),
        ("a.0", (Segment("a"), Segment("0", 0))),
        ("a.-1", (Segment("a"), Segment("-1", -1))),
        ("a.:1", (Segment("a"), Segment("1"))),
        ("a.-2", (Segment("a"), Segment("-2"))),
        ("a.\u0661", (Segment("a"), Segment("\u0661"))),
        ("a..b", (Segment("a"), Segment(""), Segment("b"))),
    ],
)
def test_paths(name: str, path: tuple[Segment, ...]) -> None:
    assert split_path(name) == path


@pytest.mark.parametrize(
    ("name", "value", "before", "after"),
    [
        ("seed", 42, b'{"seed":1,"x":2}', b'{"seed":42,"x":2}'),
        ("seed", 42, b'{"x":2}', b'{"x":2,"seed":42}'),
        ("nested", {"a": [1, None, "\u00e9"]}, b"{}", '{"nested":{"a":[1,null,"\u00e9"]}}'.encode()),
        ("k.on", False, b"{}", b'{"k":{"on":false}}'),
        ("k.on", False, b'{"k":{"a": 1.50}}', b'{"k":{"a":1.50,"on":false}}'),
        ("k.on", False, b'{"k":5}', b'{"k":{"on":false}}'),
        ("k.on", False, b'{"k":null}', b'{"k":{"on":false}}'),
        ("arr.-1", 9, b'{"arr":[1]}', b'{"arr":[1,9]}'),
        ("arr.-1", 9, b"{}", b'{"arr":[9]}'),
        ("arr.1", 9, b'{"arr":[1,2,3]}', b'{"arr":[1,9,3]}'),
        ("arr.3", 9, b'{"arr":[1]}', b'{"arr":[1,null,null,9]}'),
        ("arr.1", 9, b"{}", b'{"arr":[null,9]}'),
        ("arr.1.x", 9, b'{"arr":[0,{"y":1}]}', b'{"arr":[0,{"y":1,"x":9}]}'),
        ("m.0", 9, b'{"m":{"0":1}}', b'{"m":{"0":9}}'),
        ("m.-1", 9, b'{"m":{}}', b'{"m":{"-1":9}}'),
        ("m.:1", 9, b"{}", b'{"m":{"1":9}}'),
        (r"a\.b", 9, b'{"a":{"b":1}}', b'{"a":{"b":1},"a.b":9}'),
        ("models", 9, b"{}", b'{"models":9}'),
    ],
)
def test_setting(name: str, value: Any, before: bytes, after: bytes) -> None:
    assert Patch(put=[(name, value)]).apply(before) == after


@pytest.mark.parametrize(
    ("name", "before", "after"),
    [
        ("t", b'{"t":1,"x":2}', b'{"x":2}'),
        ("t", b'{"x":2}', b'{"x":2}'),
        ("t", b'{"t":1,"t":2}', b"{}"),
        ("k.t", b'{"k":{"t":1,"u":2}}', b'{"k":{"u":2}}'),
        ("k.t", b'{"k":{"u" : 2}}', b'{"k":{"u" : 2}}'),
        ("k.t", b'{"k":[1]}', b'{"k":[1]}'),
        ("k.t", b'{"k":1}', b'{"k":1}'),
        ("k.t", b"{}", b"{}"),
        ("list.0", b'{"list":[1,2]}', b'{"list":[2]}'),
        ("list.2", b'{"list":[1,2]}', b'{"list":[1,2]}'),
        ("list.-1", b'{"list":[1,2]}', b'{"list":[1]}'),
        ("list.-1", b'{"list":[]}', b'{"list":[]}'),
        ("list.0.a", b'{"list":[{"a":1}]}', b'{"list":[{}]}'),
    ],
)
def test_stripping(name: str, before: bytes, after: bytes) -> None:
    assert Patch([name]).apply(before) == after


def test_order_is_model_then_strip_then_set() -> None:
    patch = Patch(["seed", "top_p"], [("seed", 1), ("seed", 2)], model="real")
    assert patch.apply(b'{"top_p":0.5,"model":"alias","seed":0}') == b'{"model":"real","seed":2}'


def test_model_is_protected() -> None:
    patch = Patch(["model", "model.x"], [("model", "no"), ("model.x", 1), (r"\model", 2)])
    assert not patch
    assert Patch(["modelx"])


def test_name_on_a_list_is_an_error() -> None:
    with pytest.raises(LlamaSwapError, match=r"^error setting parameter list\.x in request$") as caught:
        Patch(put=[("list.x", 1)]).apply(b'{"list":[]}')
    assert caught.value.status == 500


@pytest.mark.parametrize("body", [b"[1]", b"{", b"", b'{"\xff":1}'])
def test_patching_what_is_no_object_is_an_error(body: bytes) -> None:
    with pytest.raises(InvalidJSONError):
        Patch(["t"]).apply(body)


def test_frozen_values_are_encoded() -> None:
    value = MappingProxyType({"stop": ("a", MappingProxyType({"b": 1.5}))})
    assert Patch(put=[("x", value)]).apply(b"{}") == b'{"x":{"stop":["a",{"b":1.5}]}}'


def test_values_that_json_cannot_carry_are_refused() -> None:
    with pytest.raises(TypeError, match="expected a value of JSON"):
        Patch(put=[("x", object())])


def test_untouched_members_keep_their_spelling() -> None:
    body = b'{"b":1.0e+2,"a":"\\u00e9\\/\xc3\xa9", "big":123456789012345678901234567890,"z":[ 1 ,{"q" :-0.0}],"t":1}'
    assert Patch(["t"]).apply(body) == (
        b'{"b":1.0e+2,"a":"\\u00e9\\/\xc3\xa9","big":123456789012345678901234567890,"z":[ 1 ,{"q" :-0.0}]}'
    )


_TEXT = st.text(st.characters(exclude_categories=["Cs"]))
_SCALARS = (
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False, allow_infinity=False)
)
_VALUES = st.recursive(
    _SCALARS | _TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_TEXT, inner, max_size=4),
    max_leaves=10,
)
_DOCUMENTS = st.dictionaries(_TEXT, _VALUES, max_size=6)
_LITERAL_NAMES = _TEXT.filter(lambda name: name != "model" and not name.startswith(":"))
_PATHS = st.lists(st.sampled_from(["a", "b", "0", "1", ":0", r"c\.d"]), min_size=1, max_size=3).map(".".join)


@given(document=_DOCUMENTS, name=_LITERAL_NAMES, value=_VALUES, is_ascii=st.booleans())
def test_every_other_member_survives_byte_for_byte(
    *,
    document: dict[str, Any],
    name: str,
    value: Any,
    is_ascii: bool,
) -> None:
    members = {key: json.dumps(inner, ensure_ascii=is_ascii, indent=1) for key, inner in document.items()}
    body = "{" + ",".join(f"{json.dumps(key)}:{text}" for key, text in members.items()) + "}"
    changed = Patch(put=[(name.replace("\\", r"\\").replace(".", r"\."), value)]).apply(body.encode()).decode()
    at = 0
    for key, text in members.items():
        if key != name:
            at = changed.find(text, at)
            assert at >= 0, key
            at += len(text)
    expected = {**document, name: value}
    assert json.loads(changed) == expected
    assert list(json.loads(changed)) == list(expected)


@given(_DOCUMENTS, _PATHS, _VALUES)
def test_setting_twice_is_setting_once(document: dict[str, Any], path: str, value: Any) -> None:
    patch = Patch(put=[(path, value)])
    try:
        once = patch.apply(json.dumps(document).encode())
    except LlamaSwapError:
        return  # a member's name where the document has a list
    assert patch.apply(once) == once


@given(_DOCUMENTS, st.text())
def test_model_is_found_wherever_it_stands(document: dict[str, Any], model: str) -> None:
    document.pop("stream", None)
    body = json.dumps({**document, "model": model, "stream": True}).encode()
    assert read_head(body) == (model, True)


@given(st.binary())
def test_reading_never_raises_anything_else(body: bytes) -> None:
    with contextlib.suppress(InvalidJSONError):
        read_head(body)
