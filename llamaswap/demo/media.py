"""The routes of a toy server for pictures and sound: small, but what they give is a real PNG or WAV."""

from __future__ import annotations

import base64
import io
import math
import re
import struct
import time
import wave
import zlib
from typing import Any, Final

from llamaswap.demo.generation import Engine
from llamaswap.demo.http import Answer, RequestError, json_answer
from llamaswap.demo.openai import Payload
from llamaswap.demo.text import tokens_of

_SIZE: Final = re.compile(r"(\d{1,4})x(\d{1,4})")
_SIDE_PIXELS: Final = 64
_MOST_PIXELS: Final = 1024
_MOST_IMAGES: Final = 10
_RATE_HZ: Final = 8000
_TOKEN_SECONDS: Final = 0.05
_MOST_TOKENS: Final = 200
_LOUDNESS: Final = 8000
_LOW_HZ: Final = 200
_TONES: Final = 400
_HEARD_TOKENS: Final = 12
_VOICES: Final = ("keeper", "baker")


async def image_generations(engine: Engine, payload: Payload) -> Answer:
    """Answer ``POST /v1/images/generations``."""
    return _images(engine, payload, b"")


async def image_edits(engine: Engine, payload: Payload) -> Answer:
    """Answer ``POST /v1/images/edits``: another picture for another original."""
    original = payload.get("image") or payload.get("image[]")
    if not isinstance(original, bytes):
        raise RequestError(400, "'image' is required")
    return _images(engine, payload, original)


async def speech(engine: Engine, payload: Payload) -> Answer:  # noqa: ARG001 - all routes have one form
    """Answer ``POST /v1/audio/speech``: a tone for each word."""
    words = tokens_of(_text_of(payload, "input"))[:_MOST_TOKENS]
    samples = bytearray()
    for word in words:
        tone_hz = _LOW_HZ + zlib.crc32(word.encode("utf-8", "replace")) % _TONES
        for number in range(int(_RATE_HZ * _TOKEN_SECONDS)):
            samples += struct.pack("<h", int(_LOUDNESS * math.sin(math.tau * tone_hz * number / _RATE_HZ)))
    file = io.BytesIO()
    with wave.open(file, "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(_RATE_HZ)
        sound.writeframes(samples)
    return Answer(file.getvalue(), content_type="audio/wav")


async def transcriptions(engine: Engine, payload: Payload) -> Answer:
    """Answer ``POST /v1/audio/transcriptions``: the same text for the same sound."""
    sound = payload.get("file")
    if not isinstance(sound, bytes):
        raise RequestError(400, "'file' is required")
    text = await engine.generate(str(zlib.crc32(sound)), _HEARD_TOKENS).text()
    if payload.get("response_format") == "text":
        return Answer(text.encode(), content_type="text/plain; charset=utf-8")
    return json_answer({"text": text})


def voices() -> Answer:
    """Answer ``GET /v1/audio/voices``."""
    return json_answer({"voices": _VOICES})


def form_of(body: bytes, content_type: str) -> Payload:
    """Give the fields of a multipart form: texts, and bytes where a field is a file; the last of each name.

    Raises:
        RequestError: It has no boundary.
    """
    found = re.search(r'boundary="?([^";]+)', content_type)
    if found is None:
        raise RequestError(400, "the form has no boundary")
    fields: dict[str, Any] = {}
    for part in (b"\r\n" + body).split(b"\r\n--" + found[1].encode("latin-1"))[1:-1]:
        head, _, content = part.partition(b"\r\n\r\n")
        name = re.search(rb'[; ]name="([^"]*)"', head)
        if name is not None:
            fields[name[1].decode()] = content if b"filename=" in head else content.decode()
    return fields


def _images(engine: Engine, payload: Payload, original: bytes) -> Answer:
    prompt = _text_of(payload, "prompt")
    size = _SIZE.fullmatch(str(payload.get("size", "")))
    width, height = (min(int(side), _MOST_PIXELS) for side in size.groups()) if size else (_SIDE_PIXELS, _SIDE_PIXELS)
    count = min(int(payload.get("n") or 1), _MOST_IMAGES)
    seeds = [zlib.crc32(f"{engine.name}\0{number}\0{prompt}".encode(), zlib.crc32(original)) for number in range(count)]
    data = [{"b64_json": base64.b64encode(_png(seed, width, height)).decode()} for seed in seeds]
    return json_answer({"created": int(time.time()), "data": data})


def _png(seed: int, width: int, height: int) -> bytes:
    """Draw a picture in one colour that fades from top to bottom."""
    colour = seed.to_bytes(4, "big")[:3]

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    rows = (bytes(part * (height - row) // max(height, 1) for part in colour) * width for row in range(height))
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    pixels = zlib.compress(b"".join(b"\0" + row for row in rows))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def _text_of(payload: Payload, name: str) -> str:
    text = payload.get(name)
    if not isinstance(text, str):
        raise RequestError(400, f"'{name}' is required")
    return text
