from __future__ import annotations

import gzip
import os
import zlib
from collections.abc import Callable

import brotli
import pytest
import zstandard

from llamaswap.telemetry.decoding import DecodingError, find_decoder

TEXT = b'{"usage":{"prompt_tokens":7}}' * 500


def raw_deflate(data: bytes) -> bytes:
    squeeze = zlib.compressobj(wbits=-15)
    return squeeze.compress(data) + squeeze.flush()


ENCODINGS: dict[bytes, Callable[[bytes], bytes]] = {
    b"gzip": gzip.compress,
    b"GZip": gzip.compress,
    b"x-gzip": gzip.compress,
    b"deflate": zlib.compress,
    b"identity, deflate": raw_deflate,
    b"br": lambda data: brotli.compress(data, quality=1),
    b"zstd": zstandard.compress,
}


def decoded(name: bytes, data: bytes, step: int) -> bytes:
    decoder = find_decoder(name)
    assert decoder is not None
    text = b"".join(decoder.feed(data[at : at + step]) for at in range(0, len(data), step))
    decoder.end()
    return text


@pytest.mark.parametrize("step", [1, 7, 1 << 20])
@pytest.mark.parametrize("name", ENCODINGS, ids=bytes.decode)
def test_an_encoding_is_undone_wherever_it_is_cut(name: bytes, step: int) -> None:
    assert decoded(name, ENCODINGS[name](TEXT), step) == TEXT


def test_gzip_may_have_several_members() -> None:
    assert decoded(b"gzip", gzip.compress(b"one ") + gzip.compress(b"two"), 5) == b"one two"


def test_what_follows_deflate_is_nothing() -> None:
    assert decoded(b"deflate", zlib.compress(b"one") + b"junk", 100) == b"one"


def test_no_encoding_needs_no_decoder() -> None:
    assert find_decoder(b"") is None
    assert find_decoder(b"identity") is None


@pytest.mark.parametrize("name", [b"lzma", b"gzip, br", b"x" * 1000])
def test_an_unknown_encoding_is_refused(name: bytes) -> None:
    with pytest.raises(DecodingError, match="unknown encoding"):
        find_decoder(name)


@pytest.mark.parametrize("name", ENCODINGS, ids=bytes.decode)
def test_what_is_not_encoded_is_refused(name: bytes) -> None:
    with pytest.raises(DecodingError):
        decoded(name, b"\xffthis is plain text, and not even long" + os.urandom(64), 1000)


@pytest.mark.parametrize("name", [b"gzip", b"deflate", b"br"], ids=bytes.decode)
def test_an_end_that_comes_too_early_is_told(name: bytes) -> None:
    with pytest.raises(DecodingError, match="unexpected end"):
        decoded(name, ENCODINGS[name](TEXT)[:-9], 1000)


@pytest.mark.parametrize("name", [b"gzip", b"deflate", b"br", b"zstd"], ids=bytes.decode)
def test_a_bomb_is_defused(name: bytes) -> None:
    with pytest.raises(DecodingError, match="more than 32 MiB"):
        decoded(name, ENCODINGS[name](bytes(40 << 20)), 1 << 20)
