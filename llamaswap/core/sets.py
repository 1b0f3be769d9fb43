"""Solver for allowed sets of models: the ``matrix`` engine, solved symbolically.

A set denotes combinations of models; a combination allows its members, and any part of them, to
run together. Products of alternatives are never expanded: every expression is evaluated to a
*frontier*, the ordered list of those parts of the running models that it allows, of which none
contains another. Dropping the contained ones is safe because every cost is at least 1.

Combinations are bit masks over the running models here, so that containment is one operation.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, assert_never

from llamaswap.core.values import ModelId, empty_mapping

EVICT_COST: Final = 1
"""What stopping a model costs when nothing else is said."""

CANDIDATES: Final = 20
"""Compared combinations that a :class:`Solution` names at most."""


@dataclass(frozen=True, slots=True)
class Leaf:
    """One model."""

    model: ModelId


@dataclass(frozen=True, slots=True)
class Reference:
    """All combinations of another set."""

    name: str


@dataclass(frozen=True, slots=True)
class AnyOf:
    """The combinations of each part."""

    parts: tuple[Expression, ...]


@dataclass(frozen=True, slots=True)
class AllOf:
    """Every union of one combination of each part."""

    parts: tuple[Expression, ...]


Expression = Leaf | Reference | AnyOf | AllOf


@dataclass(frozen=True, slots=True)
class Matrix:
    """Parsed and resolved sets, ready to be solved.

    Attributes:
        costs: Configured evict costs by model id; models that are missing cost 1.
        sets: Name and expression in solving order: as written, but referenced ones first.
    """

    costs: Mapping[ModelId, int] = field(default_factory=empty_mapping)
    sets: tuple[tuple[str, Expression], ...] = ()


@dataclass(frozen=True, slots=True)
class Solution:
    """What must stop so that the target may run.

    Attributes:
        evict: Running models to stop; never the target.
        set_name: The winning set; empty when no set holds the target.
        cost: Sum of the costs of ``evict``; for a target in no set as well.
        candidates: The first :data:`CANDIDATES` compared (models to stop, cost), in solving order.
    """

    evict: frozenset[ModelId]
    set_name: str
    cost: int
    candidates: tuple[tuple[frozenset[ModelId], int], ...] = ()


def solve(matrix: Matrix, running: Collection[ModelId], target: ModelId) -> Solution:
    """Find the cheapest models to stop so that ``target`` may run.

    Args:
        matrix: The sets.
        running: Models that count as running.
        target: The model that is wanted.

    Returns:
        Depends on the arguments only, not on the order of ``running``.
    """
    models = sorted({*running, target})
    bits = {model: 1 << index for index, model in enumerate(models)}
    running_mask = sum(bits[model] for model in set(running))
    best: tuple[int, int, str] | None = None
    compared: list[tuple[frozenset[ModelId], int]] = []
    for name, frontier in _frontiers(matrix, bits):
        for allowed in frontier:
            if not allowed & bits[target]:
                continue
            victims = _members(running_mask & ~allowed, models)
            cost = sum(matrix.costs.get(model, EVICT_COST) for model in victims)
            if len(compared) < CANDIDATES:
                compared.append((victims, cost))
            if best is None or cost < best[0]:
                best = (cost, allowed, name)
    if target in running:
        return Solution(frozenset(), best[2] if best is not None and best[0] == 0 else "", 0)
    if best is None:
        everything = frozenset(running)
        return Solution(everything, "", sum(matrix.costs.get(model, EVICT_COST) for model in everything))
    return Solution(_members(running_mask & ~best[1], models), best[2], best[0], tuple(compared))


def allows_together(matrix: Matrix, models: Collection[ModelId]) -> bool:
    """Say whether one combination of one set holds all of ``models``."""
    bits = {model: 1 << index for index, model in enumerate(sorted(set(models)))}
    everything = (1 << len(bits)) - 1
    return any(everything in frontier for _, frontier in _frontiers(matrix, bits))


def _members(mask: int, models: Sequence[ModelId]) -> frozenset[ModelId]:
    return frozenset(model for index, model in enumerate(models) if mask >> index & 1)


def _frontiers(matrix: Matrix, bits: Mapping[ModelId, int]) -> Iterator[tuple[str, list[int]]]:
    """Evaluate each set once, in solving order."""
    known: dict[str, list[int]] = {}
    for name, expression in matrix.sets:
        known[name] = _frontier(expression, bits, known)
        yield name, known[name]


def _frontier(expression: Expression, bits: Mapping[ModelId, int], known: Mapping[str, list[int]]) -> list[int]:
    match expression:
        case Leaf(model):
            return [bits.get(model, 0)]
        case Reference(name):
            return known[name]
        case AnyOf(parts):
            return _undominated(mask for part in parts for mask in _frontier(part, bits, known))
        case AllOf(parts):
            found = [0]
            for part in parts:
                choices = _frontier(part, bits, known)
                found = _undominated(left | right for left in found for right in choices)
            return found
        case _:
            assert_never(expression)


def _undominated(masks: Iterator[int]) -> list[int]:
    """Keep what nothing else contains, in order of appearance; of equals the first."""
    kept: list[int] = []
    seen: set[int] = set()
    for mask in masks:
        if mask in seen:  # then an element that contains it is still among the kept ones
            continue
        seen.add(mask)
        if any(mask & other == mask for other in kept):
            continue
        kept = [other for other in kept if other & mask != other]
        kept.append(mask)
    return kept


def sets_with(matrix: Matrix, model: ModelId) -> tuple[str, ...]:
    """Give the names of the sets that may hold a model, in solving order."""
    found: list[str] = []
    for name, expression in matrix.sets:
        if _may_hold(expression, model, found):
            found.append(name)
    return tuple(found)


def _may_hold(expression: Expression, model: ModelId, known: Collection[str]) -> bool:
    match expression:
        case Leaf():
            return expression.model == model
        case Reference():
            return expression.name in known
        case AnyOf() | AllOf():
            return any(_may_hold(part, model, known) for part in expression.parts)
        case _:
            assert_never(expression)
