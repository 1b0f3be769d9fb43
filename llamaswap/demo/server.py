"""One toy server: its routes, and the loading that comes before them."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

from llamaswap.demo import anthropic, media, openai
from llamaswap.demo.generation import Engine
from llamaswap.demo.http import Answer, Request, RequestError, json_answer
from llamaswap.demo.responses import responses
from llamaswap.demo.text import tokens_of

_SLOTS: Final = 4
_CONTEXT_TOKENS: Final = 4096


class DemoServer:
    """Answer the requests to one toy model.

    Args:
        engine: The model.
        ready_mono: Monotonic seconds at which it counts as loaded.
    """

    def __init__(self, engine: Engine, ready_mono: float) -> None:
        self._engine = engine
        self._ready_mono = ready_mono
        self._started_at = int(time.time())

    async def handle(self, request: Request) -> Answer:
        """Answer one request; errors have OpenAI's form, or Anthropic's on its routes."""
        path = request.path.removeprefix("/v1")
        try:
            return await self._answer(request, path)
        except RequestError as error:
            return _refusal(path, error)
        except (AttributeError, TypeError, ValueError) as error:
            return _refusal(path, RequestError(400, f"the request has a value of a wrong type: {error}"))

    async def _answer(self, request: Request, path: str) -> Answer:
        if time.monotonic() < self._ready_mono:
            raise RequestError(503, "Loading model", "unavailable_error")
        if request.method in ("GET", "HEAD"):
            return self._get(path)
        if request.method != "POST":
            raise RequestError(405, "Method Not Allowed")
        route = _POST.get(path)
        if route is None:
            raise RequestError(404, "File Not Found", "not_found_error")
        return await route(self._engine, _payload_of(request))

    def _get(self, path: str) -> Answer:
        match path:
            case "/health":
                return json_answer({"status": "ok"})
            case "/models":
                return json_answer({"object": "list", "data": [self._model()]})
            case "/audio/voices":
                return media.voices()
            case "/props":
                return json_answer(self._props())
            case "/slots":
                return json_answer(self._slots())
            case "/metrics":
                return Answer(self._metrics().encode(), content_type="text/plain; version=0.0.4")
            case _:
                raise RequestError(404, "File Not Found", "not_found_error")

    def _model(self) -> dict[str, Any]:
        return {
            "id": self._engine.name,
            "object": "model",
            "created": self._started_at,
            "owned_by": "llamaswap-demo",
            "meta": {"n_ctx_train": _CONTEXT_TOKENS},
        }

    def _props(self) -> dict[str, Any]:
        return {
            "default_generation_settings": {"n_ctx": _CONTEXT_TOKENS},
            "total_slots": _SLOTS,
            "model_alias": self._engine.name,
            "pid": os.getpid(),
        }

    def _slots(self) -> list[dict[str, Any]]:
        busy = len(self._engine.running)
        return [
            {"id": number, "n_ctx": _CONTEXT_TOKENS, "is_processing": number < busy}
            for number in range(max(_SLOTS, busy))
        ]

    def _metrics(self) -> str:
        engine = self._engine
        figures = {
            "prompt_tokens_total": ("counter", engine.prompt_tokens),
            "tokens_predicted_total": ("counter", engine.predicted_tokens),
            "requests_processing": ("gauge", len(engine.running)),
        }
        return "".join(
            f"# TYPE llamacpp:{name} {kind}\nllamacpp:{name} {value}\n" for name, (kind, value) in figures.items()
        )


async def _tokenize(engine: Engine, payload: openai.Payload) -> Answer:  # noqa: ARG001 - all routes have one form
    return json_answer({"tokens": [sum(token.encode()) for token in tokens_of(str(payload.get("content", "")))]})


_POST: Final[Mapping[str, Callable[[Engine, openai.Payload], Awaitable[Answer]]]] = {
    "/chat/completions": openai.chat_completions,
    "/completions": openai.completions,
    "/embeddings": openai.embeddings,
    "/images/generations": media.image_generations,
    "/images/edits": media.image_edits,
    "/audio/speech": media.speech,
    "/audio/transcriptions": media.transcriptions,
    "/responses": responses,
    "/messages": anthropic.messages,
    "/messages/count_tokens": anthropic.count_tokens,
    "/tokenize": _tokenize,
}
"""Without the leading ``/v1``, which is optional."""


def _refusal(path: str, error: RequestError) -> Answer:
    fields: dict[str, Any] = {"message": error.message, "type": error.kind}
    if path.startswith("/messages"):
        return json_answer({"type": "error", "error": fields}, error.status)
    return json_answer({"error": {"code": error.status, **fields}}, error.status)


def _payload_of(request: Request) -> openai.Payload:
    content_type = request.headers.get("content-type", "")
    if content_type.lower().startswith("multipart/form-data"):
        return media.form_of(request.body, content_type)
    try:
        payload = json.loads(request.body)
    except ValueError as error:
        raise RequestError(400, f"invalid JSON: {error}") from error
    if not isinstance(payload, dict):
        raise RequestError(400, "the body must be a JSON object")
    return payload
