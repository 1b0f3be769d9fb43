"""Parser of the ``matrix`` language: from text to resolved sets.

::

    expression = and-part , { "|" , and-part } ;
    and-part   = factor , { "&" , factor } ;
    factor     = identifier | "+" identifier | "(" , expression , ")" ;

A plus sign refers to another set. ``&`` binds tighter than ``|``; white space only separates.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Final, assert_never

from llamaswap.core.sets import AllOf, AnyOf, Expression, Leaf, Matrix, Reference
from llamaswap.core.values import ModelId
from llamaswap.errors import ConfigError

_DEEPEST: Final = 100
"""Parentheses within parentheses, a guard for the stack."""

_VAR_LENGTH: Final = 32
_OPERATORS: Final = "&|()"
_END: Final = ""


class MatrixError(ConfigError):
    """Sets, variables or costs that cannot be used.

    Args:
        problems: (keys below the matrix that lead to the place, sentence) of each problem, in order.
    """

    def __init__(self, problems: Sequence[tuple[tuple[str, ...], str]]) -> None:
        super().__init__("\n".join(text for _, text in problems))
        self.problems = tuple(problems)


def build_matrix(
    variables: Mapping[str, str],
    costs: Mapping[str, int],
    sets: Mapping[str, str],
    models: Collection[str],
) -> Matrix:
    """Parse and resolve a matrix.

    Args:
        variables: Short name to model id.
        costs: Variable or model id to evict cost.
        sets: Name to expression, in written order.
        models: Every configured model id.

    Raises:
        MatrixError: With every problem that was found.
    """
    problems: list[tuple[tuple[str, ...], str]] = []
    known = {name: ModelId(name) for name in models}
    for name, target in variables.items():
        if not _is_variable_name(name):
            text = (
                f"var key \"{name}\" must contain only alphanumeric, '-' or '.' characters and be 1-32 characters long"
            )
            problems.append((("vars", name), text))
        elif target not in models:
            problems.append((("vars", name), f'var key "{name}" references unknown model "{target}"'))
    known.update((name, ModelId(target)) for name, target in variables.items())
    found_costs = _resolve_costs(costs, known, problems)
    if not sets:
        problems.append((("sets",), "matrix must define at least one set"))
    expressions = _parse_sets(sets, known, problems)
    if len(expressions) == len(sets):
        ordered = _solving_order(expressions, problems)
        if not problems:
            return Matrix(MappingProxyType(found_costs), tuple((name, expressions[name]) for name in ordered))
    raise MatrixError(problems)


def _is_variable_name(name: str) -> bool:
    return 1 <= len(name) <= _VAR_LENGTH and all(c in "-." or (c.isascii() and c.isalnum()) for c in name)


def _resolve_costs(
    costs: Mapping[str, int],
    known: Mapping[str, ModelId],
    problems: list[tuple[tuple[str, ...], str]],
) -> dict[ModelId, int]:
    found: dict[ModelId, int] = {}
    said_by: dict[ModelId, str] = {}
    for name, cost in costs.items():
        where = ("evict_costs", name)
        model = known.get(name)
        if cost <= 0:
            problems.append((where, f'evict_cost for "{name}" must be a positive integer, got {cost}'))
        elif model is None:
            problems.append((where, f'evict_costs: unknown var or model "{name}"'))
        elif model in said_by:
            problems.append((where, f'evict_costs: "{said_by[model]}" and "{name}" are the same model "{model}"'))
        else:
            found[model] = cost
            said_by[model] = name
    return found


def _parse_sets(
    sets: Mapping[str, str],
    known: Mapping[str, ModelId],
    problems: list[tuple[tuple[str, ...], str]],
) -> dict[str, Expression]:
    expressions: dict[str, Expression] = {}
    for name, text in sets.items():
        try:
            parser = _Parser(text, known)
            expressions[name] = parser.parse()
            parser.require_known()
        except _ParseError as error:
            problems.append((("sets", name), f'set "{name}": {error}'))
            continue
        problems.extend(
            (("sets", name), f'set "{name}" references undefined set "{missing}"')
            for missing in _references(expressions[name])
            if missing not in sets
        )
    return expressions


class _ParseError(Exception):
    """Why an expression cannot be read."""


def _tokens(text: str) -> Iterator[str]:
    """Yield operators, names, and references with their plus sign, then the empty end token."""
    position = 0
    while position < len(text):
        char = text[position]
        start = position
        position += 1
        if char.isspace():
            continue
        if char in _OPERATORS:
            yield char
            continue
        if char != "+" and not _is_name_char(char):
            raise _ParseError(f"tokenize: unexpected character '{char}' at position {start}")
        while position < len(text) and _is_name_char(text[position]):
            position += 1
        if text[start:position] == "+":
            raise _ParseError(f"tokenize: expected set name after '+' at position {start}")
        yield text[start:position]
    yield _END


def _is_name_char(char: str) -> bool:
    return char in "_-." or char.isalpha() or char.isdecimal()


class _Parser:
    """Recursive descent over the tokens of one expression."""

    def __init__(self, text: str, known: Mapping[str, ModelId]) -> None:
        trimmed = text.strip()
        if not trimmed:
            raise _ParseError("empty DSL expression")
        self._tokens = list(_tokens(trimmed))
        self._next = 0
        self._depth = 0
        self._known = known
        self._unknown = ""

    def parse(self) -> Expression:
        """Read the whole text."""
        expression = self._any_of()
        if self._peek() != _END:
            raise _ParseError(f'parse: unexpected token "{self._peek()}" after expression')
        return expression

    def require_known(self) -> None:
        """Complain about the first name that is neither variable nor model."""
        if self._unknown:
            raise _ParseError(f'unknown var or model "{self._unknown}"')

    def _any_of(self) -> Expression:
        parts = self._separated("|", self._all_of)
        return parts[0] if len(parts) == 1 else AnyOf(parts)

    def _all_of(self) -> Expression:
        parts = self._separated("&", self._factor)
        return parts[0] if len(parts) == 1 else AllOf(parts)

    def _separated(self, operator: str, part: Callable[[], Expression]) -> tuple[Expression, ...]:
        parts = [part()]
        while self._peek() == operator:
            self._next += 1
            parts.append(part())
        return tuple(parts)

    def _factor(self) -> Expression:
        if self._peek() == "(":
            return self._parenthesised()
        token = self._peek()
        if token == _END or token in _OPERATORS:
            raise _ParseError(f'parse: unexpected token "{token}"')
        self._next += 1
        if token.startswith("+"):
            return Reference(token[1:])
        model = self._known.get(token)
        if model is None:
            self._unknown = self._unknown or token
        return Leaf(model if model is not None else ModelId(token))

    def _parenthesised(self) -> Expression:
        self._depth += 1
        if self._depth > _DEEPEST:
            raise _ParseError("parse: parentheses are nested too deeply")
        self._next += 1
        inner = self._any_of()
        if self._peek() != ")":
            raise _ParseError("parse: missing closing parenthesis")
        self._next += 1
        self._depth -= 1
        return inner

    def _peek(self) -> str:
        return self._tokens[self._next]


def _references(expression: Expression) -> Iterator[str]:
    match expression:
        case Reference(name):
            yield name
        case AnyOf(parts) | AllOf(parts):
            for part in parts:
                yield from _references(part)
        case Leaf():
            return
        case _:
            assert_never(expression)


def _solving_order(
    expressions: Mapping[str, Expression],
    problems: list[tuple[tuple[str, ...], str]],
) -> list[str]:
    """Put referenced sets before those that refer to them, otherwise as written."""
    done: dict[str, None] = {}
    for first in expressions:
        path = {first: _references(expressions[first])} if first not in done else {}
        while path:
            name, others = next(reversed(path.items()))
            following = next((other for other in others if other in expressions and other not in done), None)
            if following is None:
                del path[name]
                done[name] = None
            elif following in path:
                problems.append((("sets", following), f'circular reference detected involving set "{following}"'))
                return list(done)
            else:
                path[following] = _references(expressions[following])
    return list(done)
