"""Solver for allowed sets of models: the ``matrix`` language, symbolically.

(The parser and the solver follow; :class:`Matrix` is the shape that everybody relies on.)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from llamaswap.core.values import ModelId


@dataclass(frozen=True, slots=True)
class Matrix:
    """Parsed and resolved sets, ready to be solved.

    Attributes:
        costs: Configured evict costs by model id; models that are missing cost 1.
    """

    costs: Mapping[ModelId, int]
