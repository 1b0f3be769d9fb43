"""Loads the models of ``hooks.on_startup.preload``, one after the other, in line with everybody else."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import ClassVar, Final, Protocol

from twisted.internet import defer
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.web.iweb import IAgent

from llamaswap.core.values import ModelId, SwapReason
from llamaswap.errors import LlamaSwapError
from llamaswap.loan import Loan
from llamaswap.process.health import BodySink, probe_url

_VISIT_SECONDS: Final = 60.0
"""Longest wait for the root page of a model that is loaded."""


class Lender(Protocol):
    """The router, as far as preloading cares."""

    def borrow(self, model: ModelId, reason: SwapReason) -> Loan:
        """Ask for a model."""


class Preload:
    """Runs the hook.

    Args:
        router: Loads, and holds what is loaded.
        urls: Where each model answers.
        agent: Asks the models.
        clock: Limits the asking.
    """

    _log: ClassVar[Logger] = Logger()

    def __init__(self, router: Lender, urls: Mapping[ModelId, str], agent: IAgent, clock: IReactorTime) -> None:
        self._router = router
        self._urls = urls
        self._agent = agent
        self._clock = clock

    def run(self, models: Iterable[ModelId]) -> Deferred[None]:
        """Load the models in order; one that fails is logged, and the next one is tried.

        Returns:
            Fires with ``None`` when all were tried. Cancelling gives up what waits.
        """
        return Deferred.fromCoroutine(self._run(models))

    async def _run(self, models: Iterable[ModelId]) -> None:
        for model in models:
            loan = self._router.borrow(model, SwapReason.PRELOAD)
            try:
                await loan.ready
                await self._visit(model)
            except LlamaSwapError as error:
                self._log.warn("preload of {model} failed: {reason}", model=model, reason=error.message)
            finally:
                loan.release()

    async def _visit(self, model: ModelId) -> None:
        """Ask for the root page, as llama-swap does: some servers do the last of their loading then."""
        url = probe_url(self._urls[model], "/").encode("ascii", "backslashreplace")
        try:
            response = await self._agent.request(b"GET", url).addTimeout(_VISIT_SECONDS, self._clock)
            response.deliverBody(BodySink(self._clock))
        except (LlamaSwapError, defer.TimeoutError) as error:
            self._log.warn("{model} was loaded, but does not answer: {reason}", model=model, reason=str(error))
        else:
            self._log.info("preloaded {model} (status {status})", model=model, status=response.code)
