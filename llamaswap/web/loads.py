"""Loading a model on purpose: ``POST /api/models/load/{model}``."""

from __future__ import annotations

from typing import Final

from klein import Klein
from twisted.internet.defer import CancelledError
from twisted.python.failure import Failure

from llamaswap.core.values import SwapReason
from llamaswap.errors import LlamaSwapError, NotFoundError
from llamaswap.loan import Loan
from llamaswap.web import answers
from llamaswap.web.asked import first_value
from llamaswap.web.daemon import Daemon
from llamaswap.web.edge import EdgeRequest
from llamaswap.web.exchange import Exchange, Passage
from llamaswap.web.paths import decoded

_PREFIX: Final = b"/api/models/load/"


class LoadRoutes:
    """The handler.

    A load goes the way of every request and is shown in flight; cancelling it there gives it up.

    Args:
        daemon: Where configuration and router are.
    """

    def __init__(self, daemon: Daemon) -> None:
        self._daemon = daemon
        self._ledger = daemon.observers.ledger

    def register(self, app: Klein) -> None:
        """Add the route."""
        app.route("/api/models/load/<path:_name>", methods=["POST"])(self.load)

    async def load(self, request: EdgeRequest, _name: str) -> bytes:
        """Answer ``POST /api/models/load/{model}`` at once, with ``?wait=1`` when the model is ready.

        Raises:
            LlamaSwapError: There is no such local model, or it cannot be loaded, or somebody cancelled the load.
        """
        model = self._daemon.config.resolve(decoded(request.path.removeprefix(_PREFIX)))
        if model is None:
            raise NotFoundError("model not found")
        request.setHeader(b"cache-control", b"no-store")
        router = self._daemon.router
        exchange = self._ledger.begin(request, Passage(model.id, request.uri, b"", is_listed=True))
        exchange.forwarding = loan = Loan(router.leave)
        loan.ready.addBoth(_over, loan, exchange)
        router.enter(model.id, loan, SwapReason.USER)
        if loan.ready.called or first_value(request.uri.partition(b"?")[2], "wait") == "1":
            # Cancelled when the client leaves, and so is the load.
            await loan.ready
            status = 200
        else:
            # Nobody is told any more: the failed start is in the log, and the next request will see it.
            loan.ready.addErrback(lambda _: None)
            status = 202
        shown = {"id": str(exchange.id), "model": model.id, "state": router.state(model.id).value}
        return answers.document(request, shown, status)


def _over(result: Failure | None, loan: Loan, exchange: Exchange) -> Failure | None:
    """End it, whatever came of it; the result goes on."""
    loan.release()
    error = result.value if isinstance(result, Failure) else None
    exchange.ended(error if isinstance(error, LlamaSwapError) else None, has_left=isinstance(error, CancelledError))
    return result
