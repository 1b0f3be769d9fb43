"""The helpers that look into Deferreds tell the three cases apart."""

from __future__ import annotations

import pytest
from twisted.internet.defer import Deferred, fail, succeed

from tests.deferreds import failure_of, no_result, success_of


def chained() -> Deferred[int]:
    """Give a Deferred that was called, but waits on another."""
    outer: Deferred[int] = succeed(1)
    inner: Deferred[int] = Deferred()
    outer.addCallback(lambda _: inner)
    return outer


def test_success_of_gives_the_result_again_and_again() -> None:
    done = succeed(5)
    assert success_of(done) == 5
    assert success_of(done) == 5


def test_success_of_refuses_a_failure() -> None:
    with pytest.raises(pytest.fail.Exception, match="ValueError"):
        success_of(fail(ValueError("no")))


def test_success_of_refuses_a_pending_one() -> None:
    with pytest.raises(AssertionError, match="has not fired"):
        success_of(chained())


def test_failure_of_gives_the_failure() -> None:
    assert failure_of(fail(ValueError("no")), ValueError).getErrorMessage() == "no"


def test_failure_of_refuses_another_type() -> None:
    with pytest.raises(pytest.fail.Exception, match="expected KeyError"):
        failure_of(fail(ValueError("no")), KeyError)


def test_failure_of_refuses_a_result() -> None:
    with pytest.raises(AssertionError, match="got 5"):
        failure_of(succeed(5))


def test_failure_of_refuses_a_pending_one() -> None:
    with pytest.raises(AssertionError, match="has not fired"):
        failure_of(chained())


def test_no_result_accepts_one_that_waits_on_another() -> None:
    no_result(chained())


def test_no_result_refuses_a_result() -> None:
    with pytest.raises(AssertionError, match="got 5"):
        no_result(succeed(5))


def test_no_result_refuses_a_failure() -> None:
    with pytest.raises(pytest.fail.Exception, match="ValueError"):
        no_result(fail(ValueError("no")))
