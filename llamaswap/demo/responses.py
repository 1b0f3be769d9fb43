"""OpenAI's responses route of a toy server."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncGenerator
from typing import Any

from llamaswap.demo.generation import Engine, Generation
from llamaswap.demo.http import Answer, RequestError, event_stream, json_answer
from llamaswap.demo.openai import Payload, plain_text


async def responses(engine: Engine, payload: Payload) -> Answer:
    """Answer ``POST /v1/responses``."""
    generation = engine.generate(_prompt_of(payload), payload.get("max_output_tokens"))
    number = f"{time.time_ns():x}"
    if payload.get("stream"):
        return event_stream(_events(engine, generation, number))
    return json_answer(_response(engine, generation, number, await generation.text()))


async def _events(engine: Engine, generation: Generation, number: str) -> AsyncGenerator[bytes]:
    sequence = 0

    def event(kind: str, **fields: Any) -> bytes:
        nonlocal sequence
        document = {"type": kind, "sequence_number": sequence, **fields}
        sequence += 1
        return f"event: {kind}\ndata: {json.dumps(document)}\n\n".encode()

    place = {"item_id": f"msg_{number}", "output_index": 0, "content_index": 0}
    yield event("response.created", response=_response(engine, generation, number, None))
    yield event("response.in_progress", response=_response(engine, generation, number, None))
    yield event("response.output_item.added", output_index=0, item=_message(number, None))
    yield event("response.content_part.added", **place, part=_part(""))
    text = ""
    async for piece in generation.pieces():
        text += piece
        yield event("response.output_text.delta", **place, delta=piece, logprobs=[])
    yield event("response.output_text.done", **place, text=text, logprobs=[])
    yield event("response.content_part.done", **place, part=_part(text))
    yield event("response.output_item.done", output_index=0, item=_message(number, text))
    yield event("response.completed", response=_response(engine, generation, number, text))


def _prompt_of(payload: Payload) -> str:
    given = payload.get("input")
    if given is None:
        raise RequestError(400, "'input' is required")
    items = [{"content": given}] if isinstance(given, str) else given
    lines = [plain_text(payload.get("instructions")), *(plain_text(item.get("content")) for item in items)]
    return "\n".join(line for line in lines if line)


def _response(engine: Engine, generation: Generation, number: str, text: str | None) -> Payload:
    """Give the response object; ``text`` is ``None`` while it is in progress."""
    done = text is not None
    usage = {
        "input_tokens": generation.prompt_tokens,
        "input_tokens_details": {"cached_tokens": 0},
        "output_tokens": generation.predicted_tokens,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": generation.prompt_tokens + generation.predicted_tokens,
    }
    return {
        "id": f"resp_{number}",
        "object": "response",
        "created_at": int(time.time()),
        "model": engine.name,
        "status": "completed" if done else "in_progress",
        "error": None,
        "incomplete_details": None,
        "instructions": None,
        "metadata": {},
        "output": [_message(number, text)] if done else [],
        "parallel_tool_calls": False,
        "tool_choice": "none",
        "tools": [],
        "usage": usage if done else None,
    }


def _message(number: str, text: str | None) -> Payload:
    return {
        "id": f"msg_{number}",
        "type": "message",
        "role": "assistant",
        "status": "in_progress" if text is None else "completed",
        "content": [] if text is None else [_part(text)],
    }


def _part(text: str) -> Payload:
    return {"type": "output_text", "text": text, "annotations": []}
