"""A short way from a request to its handler, for the routes that every answer of a model takes.

Klein's own way costs a URL match, a handful of Deferreds and header objects per request. A route with
a fixed path and a handler marked :func:`direct` is looked up in a table instead, made from the same
Klein application; all others go Klein's way.
"""

from __future__ import annotations

from collections.abc import Callable
from inspect import unwrap
from typing import Any, Final, TypeVar

from klein import Klein
from klein.resource import KleinResource
from twisted.web.server import NOT_DONE_YET

from llamaswap.errors import LlamaSwapError
from llamaswap.web import answers
from llamaswap.web.edge import EdgeRequest

Handler = Callable[[EdgeRequest], None]
HandlerT = TypeVar("HandlerT", bound=Callable[..., None])

_MARK: Final = "llamaswap_is_direct"


def direct(handler: HandlerT) -> HandlerT:
    """Mark a handler that takes its request over: it answers now or later, and returns nothing.

    What it raises of :class:`~llamaswap.errors.LlamaSwapError`, before it has handed the request on,
    becomes the answer.
    """
    setattr(handler, _MARK, True)
    return handler


class DirectResource(KleinResource):
    """The root of a site whose direct routes are short; to be subclassed for what concerns every path.

    Args:
        klein: All routes are there already; it is bound to no instance, so its handlers are bound themselves.
        render_error: Sets status and headers of a response that has not begun, and gives its body.
    """

    def __init__(self, klein: Klein, render_error: Callable[[EdgeRequest, LlamaSwapError], bytes]) -> None:
        super().__init__(klein)
        self._render_error = render_error
        self._direct = _direct_routes(klein)

    def find(self, request: EdgeRequest) -> Handler | None:
        """Find the direct handler of a request's method and path."""
        return self._direct.get((request.method, request.path))

    def wants_body(self, request: EdgeRequest) -> bool:  # noqa: ARG002 - for those that refuse without looking
        """Say whether a request's body may be of any use; otherwise its handler does not wait for it."""
        return True

    def render(self, request: Any) -> Any:
        """Render any request; see :class:`twisted.web.resource.IResource`."""
        handler = self.find(request)
        try:
            if handler is None:
                return self.render_other(request)
            handler(request)
        except LlamaSwapError as error:
            return self._render_error(request, error)
        return NOT_DONE_YET

    def render_other(self, request: EdgeRequest) -> Any:
        """Render a request for which there is no direct route."""
        return self.render_klein(request)

    def render_klein(self, request: EdgeRequest) -> Any:
        """Render a request as Klein does, but for methods in lower case, which it would take for others."""
        if not request.method.isupper():
            return answers.refusal(request, 501, "Not Implemented\n")
        return super().render(request)


def _direct_routes(klein: Klein) -> dict[tuple[bytes, bytes], Handler]:
    """Table of method and path to handler, of the routes that are direct and have a fixed path."""
    routes: dict[tuple[bytes, bytes], Handler] = {}
    for rule in klein.url_map.iter_rules():
        endpoint = klein.endpoints[rule.endpoint]
        if not getattr(endpoint, _MARK, False) or rule.arguments:
            continue
        handler: Handler = unwrap(endpoint)  # Klein's wrapper serves what a direct handler does not need
        for method in rule.methods or ():
            routes[method.encode("ascii"), rule.rule.encode("ascii")] = handler
    return routes
