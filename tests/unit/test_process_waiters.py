"""One waiter, one Deferred."""

from __future__ import annotations

from twisted.internet.defer import CancelledError, Deferred

from llamaswap.process.waiters import Waiters
from tests.deferreds import failure_of, no_result, success_of


def test_everybody_is_told_once() -> None:
    waiters: Waiters[int] = Waiters()
    first, second = waiters.add(), waiters.add()
    assert waiters
    waiters.fire(7)
    assert (success_of(first), success_of(second)) == (7, 7)
    assert not waiters
    waiters.fire(8)


def test_each_gets_an_error_of_its_own() -> None:
    waiters: Waiters[int] = Waiters()
    first, second = waiters.add(), waiters.add()
    waiters.fail(lambda: ValueError("no"))
    errors = [failure_of(d, ValueError).value for d in (first, second)]
    assert errors[0] is not errors[1]


def test_one_who_leaves_touches_no_other() -> None:
    waiters: Waiters[int] = Waiters()
    first, second = waiters.add(), waiters.add()
    first.cancel()
    failure_of(first, CancelledError)
    no_result(second)
    waiters.fire(1)
    assert success_of(second) == 1


def test_newcomer_during_the_telling_waits_for_the_next_time() -> None:
    waiters: Waiters[int] = Waiters()
    late: list[Deferred[int]] = []
    waiters.add().addCallback(lambda _: late.append(waiters.add()))
    waiters.fire(1)
    no_result(late[0])
    waiters.fire(2)
    assert success_of(late[0]) == 2


def test_one_who_was_told_may_make_another_leave() -> None:
    waiters: Waiters[int] = Waiters()
    first = waiters.add()
    second = waiters.add()
    first.addCallback(lambda _: second.cancel())
    waiters.fire(1)
    failure_of(second, CancelledError)
