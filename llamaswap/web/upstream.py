"""``/upstream/{model}/{path}``: one model's server as it is, nothing looked at and nothing changed."""

from __future__ import annotations

from collections.abc import Container
from functools import partial
from typing import Final

from llamaswap.core.values import ModelId, ProcessState
from llamaswap.errors import ConflictError, NotFoundError
from llamaswap.web import answers
from llamaswap.web.dispatch import direct
from llamaswap.web.edge import EdgeRequest
from llamaswap.web.exchange import Passage
from llamaswap.web.models import StateOf
from llamaswap.web.openai import AUDIO_API_PATHS, POST_PATHS, QUERY_PATHS, SHORT_POST_PATHS
from llamaswap.web.paths import UPSTREAM_PREFIX, cut_name, decoded, escaped
from llamaswap.web.plans import CurrentPlans, Plans
from llamaswap.web.profiles import Profiles
from llamaswap.web.relay import Relay

_METERED: Final = frozenset(path.encode() for path in (*POST_PATHS, *SHORT_POST_PATHS, *AUDIO_API_PATHS))
"""A POST to one of these, below a model, has a row like one that says itself which model it is for."""

_LISTED: Final = frozenset(path.encode() for path in QUERY_PATHS)
"""A GET of one of these is shown in flight, as those are that say which model they are for."""


class UpstreamRoutes:
    """Passes requests through to the model whose name the path begins with.

    Args:
        plans: What each name means.
        profiles: Know the pins.
        state_of: Gives the state of a model.
        relay: Takes the request over.
    """

    def __init__(self, plans: CurrentPlans, profiles: Profiles, state_of: StateOf, relay: Relay) -> None:
        self._plans = plans
        self._profiles = profiles
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
        if self._profiles.pins:
            path = self._pinned(path, plans.config.selectors)
        found = cut_name(path, plans.by_name, plans.most_segments)
        if found is None:
            raise NotFoundError("model not found")
        if not found.rest:
            _add_slash(request, found.name, mark + query)
            return
        plan = plans.by_name[found.name]
        unready = partial(_unready, plans, plan.model, found.rest)
        is_up = plan.peer is not None or self._state_of(ModelId(plan.model)) is ProcessState.READY
        reason = "" if is_up else unready()
        if reason:
            raise ConflictError(reason)
        is_metered = request.method == b"POST" and found.rest in _METERED
        is_listed = is_metered or (request.method == b"GET" and found.rest in _LISTED)
        passage = Passage(
            plan.model,
            found.rest + mark + query,
            request.body,
            is_metered=is_metered,
            is_listed=is_listed,
            peer=plan.peer,
            unready=unready,
        )
        self._relay(request, passage)

    def _pinned(self, path: bytes, selectors: Container[str]) -> bytes:
        """Put a pin's target in the place of the longest pin that a path begins with.

        Raises:
            NotFoundError: The pin disables its name, or stands for a selector, which has no server of its own.
        """
        pins = self._profiles.pins
        found = cut_name(path, pins, max(pin.count("/") + 1 for pin in pins))
        if found is None:
            return path
        target = pins[found.name]
        if not target or target in selectors:
            raise NotFoundError("model not found")
        return escaped(target) + found.rest


def _add_slash(request: EdgeRequest, name: str, query: bytes) -> None:
    """Send the client to the root of the model's server, so that relative links work there."""
    status = 301 if request.method in {b"GET", b"HEAD"} else 308
    request.write(answers.redirect(request, UPSTREAM_PREFIX + escaped(name) + b"/" + query, status))
    request.finish()


def _unready(plans: Plans, model: str, path: bytes) -> str:
    """Word why a request is refused that may not start its model; empty where it may."""
    return f"model {model} is not loaded; path matches upstream.ignorePaths" if plans.is_ignored(decoded(path)) else ""
