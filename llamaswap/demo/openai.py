"""The OpenAI-style routes of a toy server: chat, completions, embeddings, responses."""

from __future__ import annotations

import base64
import json
import math
import struct
import time
import zlib
from collections.abc import AsyncGenerator, Sequence
from typing import Any, Final

from llamaswap.demo.generation import Engine, Generation
from llamaswap.demo.http import Answer, RequestError, event_stream, json_answer
from llamaswap.demo.text import tokens_of

Payload = dict[str, Any]

_DIMENSIONS: Final = 64
_DONE: Final = b"data: [DONE]\n\n"
_FINGERPRINT: Final = "llamaswap-demo"


async def chat_completions(engine: Engine, payload: Payload) -> Answer:
    """Answer ``POST /v1/chat/completions``."""
    generation = engine.generate(
        conversation_of(payload),
        payload.get("max_completion_tokens") or payload.get("max_tokens"),
        stop_texts_of(payload),
        payload.get("seed"),
    )
    if payload.get("stream"):
        return event_stream(_chat_events(engine, generation, with_usage=_wants_usage(payload)))
    message = {"role": "assistant", "content": await generation.text()}
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": generation.finish_reason}
    document = {**_frame(engine, "chat.completion", "chatcmpl"), "choices": [choice]}
    return json_answer({**document, "usage": generation.usage(), "timings": generation.timings()})


async def completions(engine: Engine, payload: Payload) -> Answer:
    """Answer ``POST /v1/completions``."""
    prompt = payload.get("prompt", "")
    text = prompt if isinstance(prompt, str) else " ".join(map(str, prompt))
    generation = engine.generate(text, payload.get("max_tokens"), stop_texts_of(payload), payload.get("seed"))
    if payload.get("stream"):
        return event_stream(_completion_events(engine, generation, with_usage=_wants_usage(payload)))
    choice = {"index": 0, "text": await generation.text(), "logprobs": None, "finish_reason": generation.finish_reason}
    document = {**_frame(engine, "text_completion", "cmpl"), "choices": [choice]}
    return json_answer({**document, "usage": generation.usage(), "timings": generation.timings()})


async def embeddings(engine: Engine, payload: Payload) -> Answer:
    """Answer ``POST /v1/embeddings``: texts that share words have vectors that are near."""
    given = payload.get("input")
    if given is None:
        raise RequestError(400, "'input' must be provided")
    # One text, one text as tokens, or a list of either.
    many = given if isinstance(given, list) and given and not isinstance(given[0], int) else [given]
    dimensions = payload.get("dimensions") or _DIMENSIONS
    words = [tokens_of(each.lower()) if isinstance(each, str) else [str(token) for token in each] for each in many]
    vectors = [_embed(each, dimensions) for each in words]
    as_base64 = payload.get("encoding_format") == "base64"
    data = [
        {"object": "embedding", "index": index, "embedding": _packed(vector) if as_base64 else vector}
        for index, vector in enumerate(vectors)
    ]
    count = sum(map(len, words))
    engine.prompt_tokens += count
    usage = {"prompt_tokens": count, "total_tokens": count}
    return json_answer({"object": "list", "model": engine.name, "data": data, "usage": usage})


def conversation_of(payload: Payload) -> str:
    """Give the messages of a chat as one text.

    Raises:
        RequestError: There are none.
    """
    messages = payload.get("messages")
    if not isinstance(messages, list) or not messages:
        raise RequestError(400, "'messages' is required")
    lines = [f"{each.get('role')}: {plain_text(each.get('content'))}" for each in messages if isinstance(each, dict)]
    return "\n".join(lines)


def plain_text(content: object) -> str:
    """Give the text of a message's content, which may be a list of parts."""
    if isinstance(content, list):
        return " ".join(str(part.get("text", "")) for part in content if isinstance(part, dict))
    return "" if content is None else str(content)


def stop_texts_of(payload: Payload) -> Sequence[str]:
    """Give the texts before which an answer is to end."""
    stop = payload.get("stop") or ()
    return (stop,) if isinstance(stop, str) else tuple(map(str, stop))


def data_event(document: object) -> bytes:
    """Frame a JSON document as a server-sent event without a name."""
    return b"data: " + json.dumps(document).encode() + b"\n\n"


async def _chat_events(engine: Engine, generation: Generation, *, with_usage: bool) -> AsyncGenerator[bytes]:
    frame = _frame(engine, "chat.completion.chunk", "chatcmpl")

    def chunk(delta: Payload, finish_reason: str | None = None, **more: object) -> bytes:
        choice = {"index": 0, "delta": delta, "finish_reason": finish_reason}
        return data_event({**frame, "choices": [choice], **more})

    yield chunk({"role": "assistant", "content": ""})
    async for piece in generation.pieces():
        yield chunk({"content": piece})
    yield chunk({}, generation.finish_reason, timings=generation.timings())
    if with_usage:
        yield data_event({**frame, "choices": [], "usage": generation.usage(), "timings": generation.timings()})
    yield _DONE


async def _completion_events(engine: Engine, generation: Generation, *, with_usage: bool) -> AsyncGenerator[bytes]:
    frame = _frame(engine, "text_completion", "cmpl")

    def chunk(text: str, finish_reason: str | None = None, **more: object) -> bytes:
        choice = {"index": 0, "text": text, "logprobs": None, "finish_reason": finish_reason}
        return data_event({**frame, "choices": [choice], **more})

    async for piece in generation.pieces():
        yield chunk(piece)
    yield chunk("", generation.finish_reason, timings=generation.timings())
    if with_usage:
        yield data_event({**frame, "choices": [], "usage": generation.usage(), "timings": generation.timings()})
    yield _DONE


def _wants_usage(payload: Payload) -> bool:
    return bool((payload.get("stream_options") or {}).get("include_usage"))


def _frame(engine: Engine, kind: str, prefix: str) -> Payload:
    return {
        "id": f"{prefix}-{time.time_ns():x}",
        "object": kind,
        "created": int(time.time()),
        "model": engine.name,
        "system_fingerprint": _FINGERPRINT,
    }


def _embed(words: Sequence[str], dimensions: int) -> list[float]:
    """Count words into buckets that their checksums choose, and make the vector one long."""
    vector = [0.0] * dimensions
    for word in words:
        checksum = zlib.crc32(word.strip().encode("utf-8", "replace"))
        vector[checksum % dimensions] += 1.0 if checksum >> 31 else -1.0
    length = math.hypot(*vector) or 1.0
    return [value / length for value in vector]


def _packed(vector: Sequence[float]) -> str:
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()
