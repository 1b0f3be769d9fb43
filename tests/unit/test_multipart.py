"""Forms are read and changed without touching what is not meant."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llamaswap.core.multipart import FormReader, MalformedFormError, boundary_of, field, parse, replace
from llamaswap.errors import PayloadTooLargeError

BODY = (
    b"preamble\r\n"
    b"--b0\r\n"
    b'Content-Disposition: form-data; name="model"\r\n'
    b"\r\n"
    b"alias\r\n"
    b"--b0 \t\r\n"
    b"content-disposition: form-data; filename=\"a;name='model'.wav\"; name=file\r\n"
    b"Content-Type: audio/wav\r\n"
    b"X-Own: 1\r\n"
    b"\r\n"
    b"RIFF\r\n--b0x\r\n--b\r\n\x00\xff\r\n"
    b"--b0\r\n"
    b'Content-Disposition: form-data; name="stream"\r\n'
    b"\r\n"
    b"\r\n"
    b"--b0--\r\n"
    b"epilogue"
)


def test_fields_and_files_are_found() -> None:
    parts = parse(BODY, b"b0")
    assert [(p.name, p.is_file, BODY[p.start : p.end]) for p in parts] == [
        (b"model", False, b"alias"),
        (b"file", True, b"RIFF\r\n--b0x\r\n--b\r\n\x00\xff"),
        (b"stream", False, b""),
    ]
    assert field(parts, b"model") == "alias"
    assert field(parts, b"stream") == ""
    assert field(parts, b"file") == ""
    assert field(parts, b"missing") == ""


def test_replacing_keeps_everything_else() -> None:
    parts = parse(BODY, b"b0")
    assert replace(BODY, parts, b"model", b"real") == BODY.replace(b"alias", b"real")
    assert replace(BODY, parts, b"file", b"x") == BODY
    assert replace(BODY, parts, b"missing", b"x") == BODY


def test_every_field_of_the_name_is_replaced() -> None:
    part = b'--b\r\nContent-Disposition: form-data; name="model"\r\n\r\n%s\r\n'
    body = part % b"one" + part % b"" + part % b"three" + b"--b--"
    parts = parse(body, b"b")
    assert replace(body, parts, b"model", b"M") == part % b"M" * 3 + b"--b--"
    assert field(parts, b"model") == "one"


@pytest.mark.parametrize(
    ("content_type", "boundary"),
    [
        (b"multipart/form-data; boundary=abc", b"abc"),
        (b'multipart/form-data; charset=utf-8; Boundary="a b;c\\"d"', b'a b;c"d'),
        (
            b"multipart/form-data;boundary=----WebKitFormBoundary7MA4YWxkTrZu0gW",
            b"----WebKitFormBoundary7MA4YWxkTrZu0gW",
        ),
    ],
)
def test_boundary(content_type: bytes, boundary: bytes) -> None:
    assert boundary_of(content_type) == boundary


@pytest.mark.parametrize("content_type", [b"multipart/form-data", b"multipart/form-data; boundary=", b""])
def test_missing_boundary_is_an_error(content_type: bytes) -> None:
    with pytest.raises(MalformedFormError, match="could not parse multipart form"):
        boundary_of(content_type)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"--x--",
        b"--b",
        b"--b\r\n",
        b'--b\r\nContent-Disposition: form-data; name="a"',
        b'--b\r\nContent-Disposition: form-data; name="a"\r\n\r\nopen',
        b'--b\r\nContent-Disposition: form-data; name="a"\r\n\r\n--b--',
        b"{}",
    ],
)
def test_damaged_forms_are_an_error(body: bytes) -> None:
    with pytest.raises(MalformedFormError) as caught:
        parse(body, b"b")
    assert caught.value.status == 400


def test_part_without_disposition_has_no_name() -> None:
    body = b"--b\r\nX: 1\r\n\r\nvalue\r\n--b--"
    assert [(p.name, p.is_file) for p in parse(body, b"b")] == [(b"", False)]


_CONTENTS = st.lists(st.tuples(st.sampled_from([b"model", b"x"]), st.binary()), max_size=5)


@given(_CONTENTS, st.binary())
def test_any_content_survives(contents: list[tuple[bytes, bytes]], model: bytes) -> None:
    boundary = b"-boundary-that-nobody-writes"

    def form(pairs: list[tuple[bytes, bytes]]) -> bytes:
        head = b'--%s\r\nContent-Disposition: form-data; name="%s"\r\n\r\n%s\r\n'
        return b"".join(head % (boundary, name, content) for name, content in pairs) + b"--" + boundary + b"--\r\n"

    body = form(contents)
    parts = parse(body, boundary)
    assert [(p.name, body[p.start : p.end]) for p in parts] == contents
    changed = [(name, model if name == b"model" else content) for name, content in contents]
    assert replace(body, parts, b"model", model) == form(changed)


@given(st.lists(st.integers(min_value=0, max_value=len(BODY)), max_size=8))
def test_a_form_is_the_same_wherever_it_is_cut(places: list[int]) -> None:
    reader = FormReader(b"b0")
    marks = [0, *sorted(places), len(BODY)]
    for start, end in pairwise(marks):
        reader.feed(BODY[start:end])
    assert reader.parts() == parse(BODY, b"b0")


def test_only_the_beginning_of_a_field_is_kept() -> None:
    body = b'--b\r\nContent-Disposition: form-data; name="model"\r\n\r\n' + b"x" * 10_000 + b"\r\n--b--"
    [part] = parse(body, b"b")
    assert part.text == b"x" * 4096
    assert part.end - part.start == 10_000


def test_d9_fields_have_a_limit_and_files_have_none() -> None:
    piece = bytes(1024 * 1024)
    for kind, is_allowed in ((b"", False), (b"; filename=f", True)):
        reader = FormReader(b"b")
        reader.feed(b"--b\r\nContent-Disposition: form-data; name=a" + kind + b"\r\n\r\n")
        for _ in range(42):
            reader.feed(piece)
        if is_allowed:
            reader.feed(piece)
            continue
        with pytest.raises(PayloadTooLargeError):
            reader.feed(piece)


def test_a_form_has_a_limit_of_parts() -> None:
    part = b"--b\r\nA: b\r\n\r\n\r\n"
    assert len(parse(part * 10_000 + b"--b--", b"b")) == 10_000
    with pytest.raises(PayloadTooLargeError):
        parse(part * 10_001 + b"--b--", b"b")


def test_the_head_of_a_part_has_a_limit() -> None:
    reader = FormReader(b"b")
    reader.feed(b"--b\r\nX: " + b"x" * 70_000)
    reader.feed(b"\r\n\r\nx\r\n--b--")
    with pytest.raises(MalformedFormError):
        reader.parts()
