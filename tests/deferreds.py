"""Look into a Deferred without a reactor.

``Deferred.called`` is true for one that waits on another, so it must not be asked.
"""

from __future__ import annotations

from typing import Final, TypeVar

import pytest
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

T = TypeVar("T")

_PENDING: Final = object()


def _peek(deferred: Deferred[T]) -> object:
    """Give the result, a Failure among them, or ``_PENDING``; the Deferred keeps its result."""
    seen: list[object] = []

    def look(result: T | Failure) -> T | Failure:
        seen.append(result)
        return result

    deferred.addBoth(look)
    return seen[0] if seen else _PENDING


def success_of(deferred: Deferred[T]) -> T:
    """Give the result of a Deferred that has fired; anything else fails the test.

    The result stays in the Deferred; a failure is taken out of it, so that it is not reported again.
    """
    result = _peek(deferred)
    assert result is not _PENDING, "expected a result, but the Deferred has not fired"
    if isinstance(result, Failure):
        deferred.addErrback(lambda _: None)
        pytest.fail(f"expected a result, got:\n{result.getTraceback()}")
    return result  # type: ignore[return-value]  # what is no Failure is the result


def failure_of(deferred: Deferred[T], *expected: type[BaseException]) -> Failure:
    """Take the failure out of a Deferred that has failed, with one of ``expected`` where given."""
    result = _peek(deferred)
    assert result is not _PENDING, "expected a failure, but the Deferred has not fired"
    assert isinstance(result, Failure), f"expected a failure, got {result!r}"
    deferred.addErrback(lambda _: None)
    if expected and result.check(*expected) is None:
        names = ", ".join(e.__name__ for e in expected)
        pytest.fail(f"expected {names}, got:\n{result.getTraceback()}")
    return result


def no_result(deferred: Deferred[T]) -> None:
    """Check that a Deferred has not fired."""
    result = _peek(deferred)
    if isinstance(result, Failure):
        deferred.addErrback(lambda _: None)
        pytest.fail(f"expected no result yet, got:\n{result.getTraceback()}")
    assert result is _PENDING, f"expected no result yet, got {result!r}"
