"""The matrix language: parser and solver."""

from __future__ import annotations

import itertools
import time
from collections.abc import Collection, Iterable, Mapping
from functools import cache
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llamaswap.core.setparser import MatrixError, build_matrix
from llamaswap.core.sets import (
    CANDIDATES,
    AllOf,
    AnyOf,
    Expression,
    Leaf,
    Matrix,
    Reference,
    allows_together,
    sets_with,
    solve,
)
from llamaswap.core.values import ModelId
from tests.unit.configs import cases

MODELS = tuple("abcdefgz")


def ids(names: Iterable[str]) -> list[ModelId]:
    return [ModelId(name) for name in names]


def matrix(sets: Mapping[str, str], models: Collection[str] = MODELS, **costs: int) -> Matrix:
    return build_matrix({}, costs, sets, models)


def problems(
    sets: Mapping[str, str],
    variables: Mapping[str, str] | None = None,
    costs: Mapping[str, int] | None = None,
) -> list[str]:
    with pytest.raises(MatrixError) as caught:
        build_matrix(variables or {}, costs or {}, sets, MODELS)
    assert str(caught.value).splitlines() == [text for _, text in caught.value.problems]
    return [text for _, text in caught.value.problems]


@pytest.mark.parametrize("case", cases("matrix"), ids=lambda case: str(case["id"]))
def test_the_solver_decides_as_llama_swap_does_it(case: dict[str, Any]) -> None:
    variables = case.get("vars", {})
    words = " ".join(case["sets"].values()).translate(str.maketrans("()&|", "    ")).split()
    models = {*words, *variables.values(), *case["running"], case["target"]} - variables.keys()
    built = build_matrix(variables, case.get("evict_costs", {}), case["sets"], models)
    solution = solve(built, ids(case["running"]), ModelId(case["target"]))
    assert sorted(solution.evict) == sorted(case["evict"])
    assert (solution.set_name or None) == case["set"]
    if case["cost"] is not None:
        assert solution.cost == case["cost"]


def test_a_running_target_stops_nothing_even_where_no_set_holds_it() -> None:
    built = matrix({"s": "a & b"})
    assert solve(built, ids("az"), ModelId("z")).evict == frozenset()
    assert solve(built, ids("az"), ModelId("z")).set_name == ""
    assert solve(built, ids("az"), ModelId("a")).evict == frozenset()
    assert solve(built, ids("az"), ModelId("a")).set_name == ""


def test_a_target_in_no_set_costs_all_that_stops() -> None:
    assert solve(matrix({"s": "a & b"}, a=4), ids("ab"), ModelId("z")).cost == 5


def test_the_order_of_the_running_models_does_not_matter() -> None:
    built = matrix({"s": "a & (b | c) & d", "t": "a & c"})
    found = {solve(built, order, ModelId("a")) for order in itertools.permutations(ids("bcd"))}
    assert len(found) == 1


def test_compared_combinations_are_told_up_to_a_limit() -> None:
    names = [f"m{index}" for index in range(30)]
    built = matrix({name: f"t & {name}" for name in names}, [*names, "t"])
    solution = solve(built, ids(names), ModelId("t"))
    assert len(solution.candidates) == CANDIDATES
    assert solution.candidates[0] == (solution.evict, solution.cost)


def test_models_are_allowed_together_when_one_combination_holds_them() -> None:
    built = matrix({"s": "(a | b) & c", "t": "d | e"})
    assert allows_together(built, ids("ac"))
    assert not allows_together(built, ids("ab"))
    assert not allows_together(built, ids("cd"))


@pytest.mark.parametrize("running", [10, 3, 0])
def test_a_product_of_twenty_factors_with_ten_alternatives_solves_at_once(running: int) -> None:
    names = [f"m{index}" for index in range(12)]
    built = matrix({"k": " | ".join(names[:10]), "huge": " & ".join(["+k"] * 20)}, names)
    started = time.perf_counter()
    solution = solve(built, ids(names[:running]), ModelId(names[9 if running < 10 else 10]))
    assert time.perf_counter() - started < 0.5
    assert len(solution.evict) == (10 if running == 10 else 0)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "empty DSL expression"),
        (" \t", "empty DSL expression"),
        ("a / b", "tokenize: unexpected character '/' at position 2"),
        ("  a ! b", "tokenize: unexpected character '!' at position 2"),
        ("a & + b", "tokenize: expected set name after '+' at position 4"),
        ("a &", 'parse: unexpected token ""'),
        ("& a", 'parse: unexpected token "&"'),
        ("(a | )", 'parse: unexpected token ")"'),
        ("a b", 'parse: unexpected token "b" after expression'),
        ("a )", 'parse: unexpected token ")" after expression'),
        ("(a & b", "parse: missing closing parenthesis"),
        ("(" * 101 + "a" + ")" * 101, "parse: parentheses are nested too deeply"),
        ("a & nobody & z0", 'unknown var or model "nobody"'),
    ],
)
def test_an_expression_that_cannot_be_read_says_why(text: str, said: str) -> None:
    assert problems({"s": text}) == [f'set "s": {said}']


@pytest.mark.parametrize(
    ("variables", "costs", "said"),
    [
        ({"a_b": "a"}, {}, "var key \"a_b\" must contain only alphanumeric, '-' or '.' characters"),
        ({"x" * 33: "a"}, {}, "and be 1-32 characters long"),
        ({"": "a"}, {}, 'var key ""'),
        ({"é": "a"}, {}, 'var key "é"'),
        ({"v": "nobody"}, {}, 'var key "v" references unknown model "nobody"'),
        ({}, {"a": 0}, 'evict_cost for "a" must be a positive integer, got 0'),
        ({}, {"nobody": 1}, 'evict_costs: unknown var or model "nobody"'),
        ({"v": "a"}, {"v": 1, "a": 2}, 'evict_costs: "v" and "a" are the same model "a"'),
    ],
)
def test_vars_and_costs_are_checked(variables: dict[str, str], costs: dict[str, int], said: str) -> None:
    (only,) = problems({"s": "a"}, variables, costs)
    assert said in only


def test_a_matrix_without_sets_is_refused() -> None:
    assert problems({}) == ["matrix must define at least one set"]


def test_all_problems_are_told_at_once_and_cycles_only_when_everything_parses() -> None:
    found = problems({"s": "a &", "t": "+u", "v": "+v"}, {"x_": "a"})
    assert [text.partition(":")[0] for text in found] == [
        "var key \"x_\" must contain only alphanumeric, '-' or '.' characters and be 1-32 characters long",
        'set "s"',
        'set "t" references undefined set "u"',
    ]


@pytest.mark.parametrize("sets", [{"s": "+s"}, {"s": "a | +t", "t": "b & +s"}, {"ok": "a", "s": "+t", "t": "+s & +ok"}])
def test_a_reference_in_a_circle_is_refused(sets: dict[str, str]) -> None:
    assert problems(sets) == ['circular reference detected involving set "s"']


def test_a_referenced_set_comes_before_the_one_that_refers_to_it() -> None:
    built = matrix({"c": "+b | +a", "a": "a", "b": "b & +a"})
    assert [name for name, _ in built.sets] == ["a", "b", "c"]


def test_a_chain_of_references_may_be_long() -> None:
    chain = {f"s{n}": f"+s{n + 1}" for n in range(3000)} | {"s3000": "a"}
    assert [name for name, _ in matrix(chain).sets] == list(reversed(chain))


def test_unicode_letters_and_digits_make_names() -> None:
    built = build_matrix({}, {}, {"s": "größe & モデル_1.5-x"}, ["größe", "モデル_1.5-x"])
    assert built.sets == (("s", AllOf((Leaf(ModelId("größe")), Leaf(ModelId("モデル_1.5-x"))))),)


# ------------------------------------------------- against brute force

NAMES = ("a", "b", "c", "d", "t")


@cache
def expressions(references: tuple[str, ...]) -> st.SearchStrategy[Expression]:
    leaves: st.SearchStrategy[Expression] = st.sampled_from([Leaf(ModelId(name)) for name in NAMES])
    if references:
        leaves |= st.sampled_from([Reference(name) for name in references])
    return st.recursive(
        leaves,
        lambda parts: (
            st.lists(parts, min_size=2, max_size=3).map(lambda found: AnyOf(tuple(found)))
            | st.lists(parts, min_size=2, max_size=3).map(lambda found: AllOf(tuple(found)))
        ),
        max_leaves=6,
    )


@st.composite
def matrices(draw: st.DrawFn) -> Matrix:
    names: tuple[str, ...] = ()
    sets: list[tuple[str, Expression]] = []
    for name in ("s1", "s2", "s3")[: draw(st.integers(1, 3))]:
        sets.append((name, draw(expressions(names))))
        names = (*names, name)
    costs = {ModelId(name): draw(st.integers(1, 4)) for name in NAMES}
    return Matrix(costs, tuple(sets))


def expanded(expression: Expression, known: Mapping[str, list[frozenset[str]]]) -> list[frozenset[str]]:
    """Give every combination that an expression denotes, one by one."""
    match expression:
        case Leaf(model):
            return [frozenset({model})]
        case Reference(name):
            return known[name]
        case AnyOf(parts):
            return [combination for part in parts for combination in expanded(part, known)]
        case AllOf(parts):
            products = itertools.product(*(expanded(part, known) for part in parts))
            return [frozenset().union(*product) for product in products]


def all_combinations(built: Matrix) -> dict[str, list[frozenset[str]]]:
    known: dict[str, list[frozenset[str]]] = {}
    for name, expression in built.sets:
        known[name] = expanded(expression, known)
    return known


@given(matrices(), st.frozensets(st.sampled_from([name for name in NAMES if name != "t"])))
def test_the_solver_agrees_with_brute_force_on_cost_and_set(built: Matrix, running: frozenset[str]) -> None:
    def cost(combination: frozenset[str]) -> int:
        return sum(built.costs[ModelId(name)] for name in running - combination)

    combinations = all_combinations(built)
    holding = [(cost(c), name) for name, found in combinations.items() for c in found if "t" in c]
    solution = solve(built, ids(running), ModelId("t"))
    if not holding:
        assert (solution.evict, solution.set_name) == (running, "")
        return
    least = min(number for number, _ in holding)
    assert solution.cost == least == sum(built.costs[name] for name in solution.evict)
    assert solution.set_name == next(name for number, name in holding if number == least)
    left = running - solution.evict | {"t"}
    assert any(left <= c for c in combinations[solution.set_name])


@given(matrices(), st.frozensets(st.sampled_from(NAMES), min_size=1))
def test_togetherness_agrees_with_brute_force(built: Matrix, models: frozenset[str]) -> None:
    expected = any(models <= c for found in all_combinations(built).values() for c in found)
    assert allows_together(built, ids(models)) is expected


def written(expression: Expression) -> str:
    match expression:
        case Leaf(model):
            return model
        case Reference(name):
            return f"+{name}"
        case AnyOf(parts):
            return f"({' | '.join(map(written, parts))})"
        case AllOf(parts):
            return f"({'&'.join(map(written, parts))})"


@given(matrices())
def test_what_is_written_is_read_back(built: Matrix) -> None:
    costs = {str(name): cost for name, cost in built.costs.items()}
    again = build_matrix({}, costs, {name: written(found) for name, found in built.sets}, NAMES)
    assert again == built


def test_the_sets_of_a_model_are_named() -> None:
    models = [ModelId(name) for name in "abc"]
    matrix = build_matrix({}, {}, {"all": "+base & c", "base": "a | b", "other": "c"}, models)
    assert sets_with(matrix, models[0]) == ("base", "all")
    assert sets_with(matrix, models[2]) == ("all", "other")
