"""``/upstream/{model}/{path}``: one model's server as it is, nothing looked at and nothing changed."""

from __future__ import annotations

from llamaswap.core.values import ModelId, ProcessState
from llamaswap.errors import ConflictError, NotFoundError
from llamaswap.web import answers
from llamaswap.web.dispatch import direct
from llamaswap.web.edge import EdgeRequest
from llamaswap.web.exchange import Passage
from llamaswap.web.models import StateOf
from llamaswap.web.paths import UPSTREAM_PREFIX, cut_name, decoded, escaped
from llamaswap.web.plans import CurrentPlans
from llamaswap.web.relay import Relay


class UpstreamRoutes:
    """Passes requests through to the model whose name the path begins with.

    Args:
        plans: What each name means.
        state_of: Gives the state of a model.
        relay: Takes the request over.
    """

    def __init__(self, plans: CurrentPlans, state_of: StateOf, relay: Relay) -> None:
        self._plans = plans
        self._state_of = state_of
        self._relay = relay

    @direct
    def passthrough(self, request: EdgeRequest) -> None:
        """Forward a request below ``/upstream/``, its body as it arrives.

        Raises:
            LlamaSwapError: It cannot be forwarded.
        """
        plans = self._plans()
        path, mark, query = request.uri.removeprefix(UPSTREAM_PREFIX).partition(b"?")
        found = cut_name(path, plans.by_name, plans.most_segments)
        if found is None:
            raise NotFoundError("model not found")
        if not found.rest:
            _add_slash(request, found.name, mark + query)
            return
        plan = plans.by_name[found.name]
        is_up = plan.peer is not None or self._state_of(ModelId(plan.model)) is ProcessState.READY
        if not is_up and plans.is_ignored(decoded(found.rest)):
            raise ConflictError(f"model {plan.model} is not loaded; path matches upstream.ignorePaths")
        self._relay(request, Passage(plan.model, found.rest + mark + query, request.body, peer=plan.peer))


def _add_slash(request: EdgeRequest, name: str, query: bytes) -> None:
    """Send the client to the root of the model's server, so that relative links work there."""
    status = 301 if request.method in {b"GET", b"HEAD"} else 308
    request.write(answers.redirect(request, UPSTREAM_PREFIX + escaped(name) + b"/" + query, status))
    request.finish()
