"""The routes whose request says which model it is for: OpenAI's, Anthropic's, llama-server's and others'."""

from __future__ import annotations

from typing import Final, cast

from klein import Klein

from llamaswap.errors import LONGEST_NAME_SHOWN, ModelNotFoundError
from llamaswap.web.asked import Asked, Form, first_value, in_order, read_body, read_query, with_model
from llamaswap.web.dispatch import direct
from llamaswap.web.edge import EdgeRequest
from llamaswap.web.exchange import Passage
from llamaswap.web.names import Found, Names
from llamaswap.web.plans import Plan
from llamaswap.web.relay import Relay
from llamaswap.web.spool import SpooledBody, with_field

POST_PATHS: Final = (
    "/v1/chat/completions",
    "/v1/responses",
    "/v1/completions",
    "/v1/messages",
    "/v1/messages/count_tokens",
    "/v1/embeddings",
    "/v1/rerank",
    "/v1/reranking",
    "/rerank",
    "/reranking",
    "/infill",
    "/completion",
    "/v1/audio/speech",
    "/v1/audio/voices",
    "/v1/audio/transcriptions",
    "/v1/images/generations",
    "/v1/images/edits",
    "/sdapi/v1/txt2img",
    "/sdapi/v1/img2img",
)
"""The upstream gets the same path."""

SHORT_POST_PATHS: Final = (
    "/v/chat/completions",
    "/v/responses",
    "/v/completions",
    "/v/messages",
    "/v/messages/count_tokens",
    "/v/embeddings",
    "/v/rerank",
    "/v/reranking",
)
"""The upstream gets the path without ``/v``: for servers that have no version in theirs."""

AUDIO_API_PATHS: Final = ("/audioapi/v1/tasks/run",)
"""The upstream gets the path without ``/audioapi``."""

QUERY_PATHS: Final = ("/v1/audio/voices", "/sdapi/v1/loras", "/props")
"""The model is in the query, there is no body."""

_SHORT_PREFIX: Final = b"/v"
_AUDIO_API_PREFIX: Final = b"/audioapi"


class ModelRoutes:
    """Finds the model of a request, changes the body as configured, and hands it to the relay.

    Args:
        names: Finds the models.
        relay: Takes the request over.
    """

    def __init__(self, names: Names, relay: Relay) -> None:
        self._names = names
        self._relay = relay

    def register(self, app: Klein) -> None:
        """Add the routes."""
        for paths, post in (
            (POST_PATHS, self.post),
            (SHORT_POST_PATHS, self.post_short),
            (AUDIO_API_PATHS, self.post_audio_api),
        ):
            for path in paths:
                app.route(path, methods=["POST"], endpoint=f"POST {path}")(post)
        for path in QUERY_PATHS:
            app.route(path, methods=["GET"], endpoint=f"GET {path}")(self.get)

    @direct
    def post(self, request: EdgeRequest) -> None:
        """Forward a request whose body says which model it is for.

        Raises:
            LlamaSwapError: It cannot be forwarded.
        """
        self._forward_post(request, request.uri)

    @direct
    def post_short(self, request: EdgeRequest) -> None:
        """Forward a request without the ``/v`` in front of its path; otherwise as :meth:`post`."""
        self._forward_post(request, request.uri.removeprefix(_SHORT_PREFIX))

    @direct
    def post_audio_api(self, request: EdgeRequest) -> None:
        """Forward a request without the ``/audioapi`` in front of its path; otherwise as :meth:`post`."""
        self._forward_post(request, request.uri.removeprefix(_AUDIO_API_PREFIX))

    @direct
    def get(self, request: EdgeRequest) -> None:
        """Forward a request whose query says which model it is for.

        Raises:
            LlamaSwapError: It cannot be forwarded.
        """
        asked = read_query(request.uri.partition(b"?")[2])
        found = self._names.find(asked.model)
        target = _renamed(request.uri, found.plan)
        self._relay(request, self._passage(found, target, b"", wants_stream=asked.wants_stream))

    def _forward_post(self, request: EdgeRequest, target: bytes) -> None:
        body = cast("bytes | SpooledBody", request.body)  # only streamed paths have another
        content_type = request.getHeader(b"content-type") or b""
        asked = read_body(body, content_type, request.uri.partition(b"?")[2])
        try:
            found = self._names.find(asked.model)
        except ModelNotFoundError as error:
            self._relay.take_note(
                request, Passage(asked.model[:LONGEST_NAME_SHOWN], target, body, is_metered=True), error
            )
            raise
        plan = found.plan
        if asked.form is Form.JSON and isinstance(body, bytes):
            if plan.patch is not None:
                body = plan.patch.apply(body)
        elif plan.form_model:
            body = _rewritten(body, content_type, asked, plan)
            target = _renamed(target, plan)
        passage = self._passage(found, target, body, wants_stream=asked.wants_stream, is_metered=True)
        self._relay(request, passage)

    def _passage(
        self, found: Found, target: bytes, body: bytes | SpooledBody, *, wants_stream: bool, is_metered: bool = False
    ) -> Passage:
        """Say how a request goes on that is about to: a selector counts it from here on."""
        return Passage(
            found.plan.model,
            target,
            body,
            is_metered=is_metered,
            is_listed=True,
            peer=found.plan.peer,
            selector=found.selector.name_id if found.selector is not None else "",
            wants_stream=wants_stream,
            on_end=self._names.hold(found),
        )


def _rewritten(body: bytes | SpooledBody, content_type: bytes, asked: Asked, plan: Plan) -> bytes | SpooledBody:
    """Give a form with the name by which the upstream knows its model."""
    if asked.form is Form.MULTIPART:
        return with_field(body, content_type, b"model", plan.form_model)
    is_encoded = asked.form is Form.URLENCODED and plan.query_model
    return with_model(body, plan.query_model) if is_encoded and isinstance(body, bytes) else body


def _renamed(target: bytes, plan: Plan) -> bytes:
    """Give path and query with that name in the query, if that names a model."""
    path, mark, query = target.partition(b"?")
    if not (mark and plan.query_model and first_value(query, "model")):
        return target
    return path + mark + in_order(with_model(query, plan.query_model))
