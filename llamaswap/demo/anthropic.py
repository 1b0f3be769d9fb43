"""The Anthropic-style routes of a toy server: messages and their token count."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncGenerator
from typing import Any, Final

from llamaswap.demo.generation import Engine, Generation
from llamaswap.demo.http import Answer, event_stream, json_answer
from llamaswap.demo.openai import Payload, conversation_of, plain_text
from llamaswap.demo.text import tokens_of

_STOP_REASONS: Final = {"stop": "end_turn", "length": "max_tokens"}


async def messages(engine: Engine, payload: Payload) -> Answer:
    """Answer ``POST /v1/messages``."""
    generation = engine.generate(_prompt_of(payload), payload.get("max_tokens"), payload.get("stop_sequences") or ())
    if payload.get("stream"):
        return event_stream(_events(engine, generation))
    content = [{"type": "text", "text": await generation.text()}]
    return json_answer(_message(engine, generation, content, **_end(generation)))


async def count_tokens(engine: Engine, payload: Payload) -> Answer:  # noqa: ARG001 - all routes have one form
    """Answer ``POST /v1/messages/count_tokens``."""
    return json_answer({"input_tokens": len(tokens_of(_prompt_of(payload)))})


async def _events(engine: Engine, generation: Generation) -> AsyncGenerator[bytes]:
    def event(kind: str, **fields: Any) -> bytes:
        return f"event: {kind}\ndata: {json.dumps({'type': kind, **fields})}\n\n".encode()

    yield event("message_start", message=_message(engine, generation, [], stop_reason=None, stop_sequence=None))
    yield event("content_block_start", index=0, content_block={"type": "text", "text": ""})
    yield event("ping")
    async for piece in generation.pieces():
        yield event("content_block_delta", index=0, delta={"type": "text_delta", "text": piece})
    yield event("content_block_stop", index=0)
    yield event("message_delta", delta=_end(generation), usage={"output_tokens": generation.predicted_tokens})
    yield event("message_stop")


def _prompt_of(payload: Payload) -> str:
    system = plain_text(payload.get("system"))
    conversation = conversation_of(payload)
    return f"{system}\n{conversation}" if system else conversation


def _message(engine: Engine, generation: Generation, content: list[Payload], **end: Any) -> Payload:
    return {
        "id": f"msg_{time.time_ns():x}",
        "type": "message",
        "role": "assistant",
        "model": engine.name,
        "content": content,
        **end,
        "usage": {"input_tokens": generation.prompt_tokens, "output_tokens": generation.predicted_tokens},
    }


def _end(generation: Generation) -> Payload:
    if generation.stop_sequence is not None:
        return {"stop_reason": "stop_sequence", "stop_sequence": generation.stop_sequence}
    return {"stop_reason": _STOP_REASONS[generation.finish_reason], "stop_sequence": None}
