"""What a client does next, drawn by lot."""

from __future__ import annotations

import json
import random
from itertools import count
from typing import Final

from tests.soak.client import Plan
from tests.soak.world import DEMO

_LATE_FAULTS: Final = ("die-late", "drop-late")
_EARLY_FAULTS: Final = ("die", "drop", "refuse", "hang")


class Plans:
    """One client's ideas.

    Args:
        name: The client's, for its tags.
        dice: Its lots.
    """

    def __init__(self, name: str, dice: random.Random) -> None:
        self._name = name
        self._dice = dice
        self._numbers = count(1)

    def request(self, model: str, *, is_calm: bool = False) -> Plan:
        """Draw a request to a model; a calm one is stayed for, and is not to fail."""
        dice = self._dice
        tag = f"{self._name}-{next(self._numbers)}"
        fault = "" if is_calm or model == DEMO or dice.random() > 0.08 else dice.choice(_LATE_FAULTS + _EARLY_FAULTS)
        stream = dice.random() < 0.6
        chunks = dice.choice([1, 3, 10, 40])
        document = {
            "model": model,
            "messages": [{"role": "user", "content": tag}],
            "max_tokens": dice.choice([3, 20, 100]),
            "stream": stream,
            "tag": tag,
            "hold": dice.choice([0, 0, 0, 0.05, 0.3]),
            "fault": fault,
            "fault_at": dice.randrange(chunks if stream else 10) if fault in _LATE_FAULTS else None,
            "chunks": chunks,
            "pace": dice.choice([0, 0, 0.01, 0.04]),
            "size": dice.choice([10, 10, 200, 20_000]) if chunks < 40 else 10,
            "filler": "y" * dice.choice([0, 0, 0, 300, 200_000]),
        }
        in_path = dice.random() < 0.15
        plan = Plan(
            model,
            "POST",
            f"/upstream/{model}/v1/chat/completions" if in_path else "/v1/chat/completions",
            tag,
            json.dumps(document).encode(),
            fault,
            resets=dice.random() < 0.5,
            reads_in=dice.choice([0, 0, 0, 0, 0.02]),
            is_old=dice.random() < 0.05,
        )
        if not is_calm and (fault == "hang" or dice.random() < 0.25):
            self._leave(plan)
        return plan

    def load(self, model: str) -> Plan:
        """Draw a load of a model."""
        wait = self._dice.choice(["", "?wait=1"])
        plan = Plan(model, "POST", f"/api/models/load/{model}{wait}")
        if self._dice.random() < 0.3:
            self._leave(plan)
        return plan

    def unload(self, model: str) -> Plan:
        """Draw an unload, of this model or of all."""
        kind = self._dice.random()
        plan = Plan(model, "POST", f"/api/models/unload/{model}")
        if kind < 0.1:
            plan = Plan("", "POST", "/api/models/unload")
        elif kind < 0.2:
            plan = Plan("", "GET", "/unload")
        if self._dice.random() < 0.2:
            self._leave(plan)
        return plan

    def _leave(self, plan: Plan) -> None:
        if plan.fault != "hang" and self._dice.random() < 0.3:
            plan.leaves_at = self._dice.choice([1, 2, 7])
        elif plan.body and self._dice.random() < 0.1:
            plan.sends_share, plan.leaves_in = self._dice.random(), self._dice.choice([0.002, 0.2])
        else:
            plan.leaves_in = self._dice.choice([0, 0.002, 0.03, 0.2, 1, 3])
