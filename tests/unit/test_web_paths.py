"""Raw paths: cleaning, and cutting names off the front."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llamaswap.web.paths import NamedPath, cleaned, cut_name, decoded, escaped, has_bad_escape, is_streamed


@pytest.mark.parametrize(
    ("path", "clean"),
    [
        (b"//v1//models", b"/v1/models"),
        (b"/v1/./models", b"/v1/models"),
        (b"/v1/../models", b"/models"),
        (b"/v1/models/.", b"/v1/models"),
        (b"/v1/models/./", b"/v1/models/"),
        (b"/v1/models//", b"/v1/models/"),
        (b"/..", b"/"),
        (b"/../../x", b"/x"),
        (b"//", b"/"),
        (b"/upstream/a//b%2F%2Fc", b"/upstream/a/b%2F%2Fc"),
        (b"*", b"/*"),
        (rb"/./\evil.example", b"/%5Cevil.example"),
    ],
)
def test_unclean_paths_are_cleaned(path: bytes, clean: bytes) -> None:
    assert cleaned(path) == clean


@pytest.mark.parametrize(
    "path", [b"/", b"/v1/models", b"/v1/models/", b"/a/.well-known/b", b"/a/..b", b"/a%2F%2Fb/%2E"]
)
def test_clean_paths_stay(path: bytes) -> None:
    assert cleaned(path) is None


@given(st.text("/.ab%").map(lambda text: b"/" + text.encode()))
def test_cleaning_ends(path: bytes) -> None:
    once = cleaned(path)
    if once is not None:
        assert once.startswith(b"/")
        assert cleaned(once) is None


@pytest.mark.parametrize(
    ("path", "found"),
    [
        (b"alpha/x", NamedPath("alpha", b"/x")),
        (b"alpha/", NamedPath("alpha", b"/")),
        (b"alpha", NamedPath("alpha", b"")),
        (b"author/gamma/x/y", NamedPath("author/gamma", b"/x/y")),
        (b"author/gamma/v2/zz%2Fq", NamedPath("author/gamma/v2", b"/zz%2Fq")),
        (b"author%2Fgamma%2Fv2/zz%2Fq", NamedPath("author/gamma/v2", b"/zz%2Fq")),
        (b"author%2fgamma/v2", NamedPath("author/gamma/v2", b"")),
        (b"alpha%3Ax/y", NamedPath("alpha:x", b"/y")),
        (b"%C3%A9/y", NamedPath("\u00e9", b"/y")),
        (b"author/x", None),
        (b"%FF/x", None),
        (b"", None),
        (b"alphax", None),
    ],
)
def test_longest_name_is_cut(path: bytes, found: NamedPath | None) -> None:
    names = {"alpha", "alpha:x", "author/gamma", "author/gamma/v2", "\u00e9"}
    assert cut_name(path, names, 3) == found


def test_many_segments_cost_little() -> None:
    class Names(set[str]):
        asked = 0

        def __contains__(self, name: object) -> bool:
            self.asked += 1
            return super().__contains__(name)

    names = Names({"a/b"})
    assert cut_name(b"x/" * 10_000, names, 2) is None
    assert names.asked == 2


@pytest.mark.parametrize(
    ("path", "is_bad"),
    [(b"/a%2", True), (b"/%zz", True), (b"/%", True), (b"/%2f%2F", False), (b"/x", False)],
)
def test_bad_escapes_are_seen(path: bytes, *, is_bad: bool) -> None:
    assert has_bad_escape(path) is is_bad


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_escaping_is_undone(name: str) -> None:
    assert decoded(escaped(name)) == name


def test_only_passed_through_bodies_are_streamed() -> None:
    assert is_streamed(b"/upstream/a/b")
    assert is_streamed(b"/comfyui/prompt")
    assert not is_streamed(b"/upstream")
    assert not is_streamed(b"/v1/chat/completions")
