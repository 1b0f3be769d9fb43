"""The routes whose request says which model it is for: OpenAI's, Anthropic's, llama-server's and others'."""

from __future__ import annotations

from typing import Final, cast

from klein import Klein

from llamaswap.core import multipart
from llamaswap.errors import ModelNotFoundError, NotFoundError
from llamaswap.web.asked import Form, read_body, read_query
from llamaswap.web.dispatch import direct
from llamaswap.web.edge import EdgeRequest
from llamaswap.web.exchange import Passage
from llamaswap.web.plans import CurrentPlans, Plan
from llamaswap.web.relay import Relay

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
_LONGEST_NAME_SHOWN: Final = 200


class ModelRoutes:
    """Finds the model of a request, changes the body as configured, and hands it to the relay.

    Args:
        plans: What each name means.
        relay: Takes the request over.
    """

    def __init__(self, plans: CurrentPlans, relay: Relay) -> None:
        self._plans = plans
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
        plan = self._plan(read_query(request.uri.partition(b"?")[2]).model)
        self._relay(request, Passage(plan.model, request.uri, b"", is_listed=True))

    def _forward_post(self, request: EdgeRequest, target: bytes) -> None:
        body = cast("bytes", request.body)  # only streamed paths have another
        content_type = request.getHeader(b"content-type") or b""
        asked = read_body(body, content_type, request.uri.partition(b"?")[2])
        plan = self._plan(asked.model)
        if asked.form is Form.JSON:
            if plan.patch is not None:
                body = plan.patch.apply(body)
        elif asked.form is Form.MULTIPART and plan.form_model:
            parts = multipart.parse(body, multipart.boundary_of(content_type))
            body = multipart.replace(body, parts, b"model", plan.form_model)
        passage = Passage(plan.model, target, body, is_metered=True, is_listed=True, wants_stream=asked.wants_stream)
        self._relay(request, passage)

    def _plan(self, name: str) -> Plan:
        if not name:
            raise NotFoundError("no model id could be identified")
        plan = self._plans().by_name.get(name)
        if plan is None:
            raise ModelNotFoundError(f"no router for requested model: {name[:_LONGEST_NAME_SHOWN]}")
        return plan
