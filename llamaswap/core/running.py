"""What runs, as far as the scheduler ordered it and was told of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import count

from llamaswap.core.book import RequestBook
from llamaswap.core.departures import Departures
from llamaswap.core.swaps import ActiveSwap
from llamaswap.core.values import Generation, ModelFacts, ModelId, PlanView, ProcessState, SwapId
from llamaswap.core.views import Moment, Up, plan_view


class Running:
    """Keeps which process of each model is up, and which ones are known to be over.

    Args:
        swaps: The active ones; only read.
        departures: Who is on the way out; only read.

    Attributes:
        up: Those that may serve; only read by others.
    """

    def __init__(self, swaps: Mapping[SwapId, ActiveSwap], departures: Departures) -> None:
        self.up: dict[ModelId, Up] = {}
        self._swaps = swaps
        self._departures = departures
        self._exited: dict[ModelId, Generation] = {}
        self._newest: dict[ModelId, Generation] = {}
        self._serials = count(1)

    def came_up(self, model: ModelId, generation: Generation, now: float) -> None:
        """Take note that a process is up."""
        self.up[model] = Up(generation, now)
        self._newest[model] = generation

    def lose(self, models: Iterable[ModelId]) -> None:
        """Take note that whatever is up of these is on its way out."""
        for model in models:
            self.up.pop(model, None)

    def exited(self, model: ModelId, generation: Generation) -> bool:
        """Take note that a process is over, perhaps before it was known to be up.

        Returns:
            Whether that was the one that is up, or the one before it was heard of.
        """
        self._exited[model] = max(generation, self._exited.get(model, generation))
        up = self.up.get(model)
        if up is None or up.generation > generation:
            return False
        del self.up[model]
        return True

    def is_over(self, model: ModelId, generation: Generation) -> bool:
        """Whether this process, or a later one, is known to be over."""
        return generation <= self._exited.get(model, 0)

    def forget(self, model: ModelId) -> None:
        """Forget a model of which nothing is left."""
        self._exited.pop(model, None)
        self._newest.pop(model, None)

    def state(self, model: ModelId) -> ProcessState:
        """Give the state of a configured model as planning sees it."""
        if self._departures.holds(model):
            return ProcessState.STOPPING
        if any(model in swap.evict and swap.is_evicting for swap in self._swaps.values()):
            return ProcessState.STOPPING
        if model in self.up:
            return ProcessState.READY
        is_starting = any(swap.target == model for swap in self._swaps.values())
        return ProcessState.STARTING if is_starting else ProcessState.STOPPED

    def view(self, now: float, facts: Mapping[ModelId, ModelFacts], book: RequestBook) -> PlanView:
        """Show everything to planners."""
        states = {model: self.state(model) for model in facts}
        moment = Moment(next(self._serials), now, facts, states, self.up, self._newest, self._swaps.values())
        return plan_view(moment, book)
