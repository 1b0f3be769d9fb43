"""How long a request may be overtaken."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import inf
from typing import Final

from llamaswap.core.values import ModelId, empty_mapping


@dataclass(frozen=True, slots=True)
class Patience:
    """After which wait nobody may overtake a model's requests any more.

    Attributes:
        default_seconds: 0 = they always may.
        by_model: The same for single models.
        drain_seconds: How long a model may wait behind its fence for the tunnels of websockets; 0 = for ever.
    """

    default_seconds: float = 0
    by_model: Mapping[ModelId, float] = field(default_factory=empty_mapping)
    drain_seconds: float = 0

    def seconds(self, model: ModelId) -> float:
        """Give the longest wait of a model's requests; infinite = no limit."""
        return self.by_model.get(model, self.default_seconds) or inf


ENDLESS: Final = Patience()
"""Everybody can always be overtaken."""
