"""Where a request says which model it wants."""

from __future__ import annotations

import time

import pytest

from llamaswap.errors import BadRequestError
from llamaswap.web.asked import Asked, Form, first_value, form_of, in_order, read_body, read_query, with_model

FORM = (
    b'--b\r\nContent-Disposition: form-data; name="model"\r\n\r\nalpha\r\n'
    b'--b\r\nContent-Disposition: form-data; name="stream"\r\n\r\ntrue\r\n--b--\r\n'
)
MULTIPART = b"multipart/form-data; boundary=b"
URLENCODED = b"application/x-www-form-urlencoded"


@pytest.mark.parametrize(
    ("content_type", "form"),
    [
        (b"application/json", Form.JSON),
        (b"Application/JSON; charset=utf-8", Form.JSON),
        (b"Multipart/Form-Data; boundary=X", Form.MULTIPART),
        (b"application/x-www-form-urlencoded;charset=utf-8", Form.URLENCODED),
        (b"text/plain", Form.OTHER),
        (b"", Form.OTHER),
    ],
)
def test_forms(content_type: bytes, form: Form) -> None:
    assert form_of(content_type) is form


@pytest.mark.parametrize(
    ("body", "content_type", "query", "asked"),
    [
        (b'{"model":"a","stream":true}', b"application/json", b"", Asked("a", True, Form.JSON)),
        (b"{}", b"application/json", b"model=q", Asked("", False, Form.JSON)),
        (FORM, MULTIPART, b"", Asked("alpha", True, Form.MULTIPART)),
        (FORM, MULTIPART, b"model=q%2Fr", Asked("q/r", True, Form.MULTIPART)),
        (b"x=1&model=a%20b+c&stream=true&model=z", URLENCODED, b"", Asked("a b c", True, Form.URLENCODED)),
        (b"x=1", URLENCODED, b"model=q&stream=true", Asked("q", True, Form.URLENCODED)),
        (b"model=a", URLENCODED, b"model=q", Asked("a", False, Form.URLENCODED)),
        (b'{"model":"a"}', URLENCODED, b"", Asked("", False, Form.URLENCODED)),
        (b'{"model":"a"}', b"", b"", Asked("", False, Form.OTHER)),
        (b'{"model":"a"}', b"text/plain", b"model=q&stream=1", Asked("q", False, Form.OTHER)),
    ],
)
def test_bodies(body: bytes, content_type: bytes, query: bytes, asked: Asked) -> None:
    assert read_body(body, content_type, query) == asked


@pytest.mark.parametrize(
    ("body", "content_type", "message"),
    [
        (b"{", b"application/json", "invalid JSON in request body"),
        (b"{}", b"multipart/form-data; boundary=b", "could not parse multipart form"),
        (FORM, b"multipart/form-data", "could not parse multipart form"),
    ],
)
def test_bodies_that_are_not_what_they_say(body: bytes, content_type: bytes, message: str) -> None:
    with pytest.raises(BadRequestError, match=message):
        read_body(body, content_type, b"")


def test_query() -> None:
    assert read_query(b"a=1&model=x%2Fy&stream=true") == Asked("x/y", True, Form.OTHER)
    assert read_query(b"") == Asked("", False, Form.OTHER)


@pytest.mark.parametrize(
    ("encoded", "value"),
    [
        (b"", ""),
        (b"model", ""),
        (b"model=", ""),
        (b"%6dodel=x", "x"),
        (b"xmodel=1&model=%FF", "\ufffd"),
        (b"&&model=a=b", "a=b"),
        (b"m%6Fde%6c=x+y&model=z", "x y"),
        (b"model&model=z", ""),
        (b"models=1&model.x=2", ""),
        (b"\xff=1&model=\xc3\xa4", "\xe4"),
    ],
)
def test_first_value(encoded: bytes, value: str) -> None:
    assert first_value(encoded, "model") == value


@pytest.mark.parametrize("piece", [b"&", b"%6d&", b"model1&", b"&%6d%6f%64%65%6d"])
def test_d9_a_form_of_ten_megabytes_does_not_hold_everybody_up(piece: bytes) -> None:
    encoded = piece * (10_000_000 // len(piece)) + b"&model=x"
    started = time.process_time()
    assert first_value(encoded, "model") == "x"
    assert time.process_time() - started < 0.2, "seconds; splitting it takes 5"


@pytest.mark.parametrize(
    ("encoded", "renamed"),
    [
        (b"z=1&model=warm&a=2", b"z=1&model=m2&a=2"),
        (b"model=a&model=b&b=2&model", b"model=m2&model=m2&b=2&model=m2"),
        (b"&&mod%65l=a&x=%C3%A4+b/%zz&y", b"&&model=m2&x=%C3%A4+b/%zz&y"),
        (b"z=1&a=2&remodel=1&models=2", b"z=1&a=2&remodel=1&models=2"),
        (b"", b""),
    ],
)
def test_a_model_is_renamed_and_what_names_none_stays(encoded: bytes, renamed: bytes) -> None:
    assert with_model(encoded, b"m2") == renamed


def test_pairs_are_put_in_order_as_they_are() -> None:
    assert in_order(b"z=1&&b=2&model=m&b=1&a%20=%20") == b"a%20=%20&b=2&b=1&model=m&z=1"


def test_a_new_name_is_escaped() -> None:
    assert with_model(b"model=a", b"org/a b&c") == b"model=org%2Fa+b%26c"
