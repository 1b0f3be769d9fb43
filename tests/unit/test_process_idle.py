"""The time to live of an idle model."""

from __future__ import annotations

from twisted.internet.task import Clock

from llamaswap.process.idle import IdleTimer


def seconds_of_reports(clock: Clock, timer_seconds: float) -> tuple[IdleTimer, list[float]]:
    reports: list[float] = []
    return IdleTimer(clock, timer_seconds, lambda: reports.append(clock.seconds())), reports


def pass_time(clock: Clock, seconds: float) -> None:
    clock.pump([0.5] * int(seconds * 2))


def test_reports_after_the_time_to_live_and_again_each_second() -> None:
    clock = Clock()
    _, reports = seconds_of_reports(clock, 5)
    pass_time(clock, 4.5)
    assert reports == []
    pass_time(clock, 3)
    assert reports == [5.0, 6.0, 7.0]


def test_use_counts_from_its_own_time() -> None:
    clock = Clock()
    timer, reports = seconds_of_reports(clock, 5)
    pass_time(clock, 4)
    timer.touch()
    pass_time(clock, 4.5)
    assert reports == []
    pass_time(clock, 1)
    assert reports[0] == 9.0


def test_h24_end_of_a_long_answer_counts_anew_after_a_vetoed_report() -> None:
    clock = Clock()
    timer, reports = seconds_of_reports(clock, 2)
    pass_time(clock, 6)
    assert reports[0] == 2.0
    timer.touch()
    reports.clear()
    pass_time(clock, 1.5)
    assert reports == []
    pass_time(clock, 1.5)
    assert 8.0 <= reports[0] <= 9.0


def test_h25_uses_leave_one_timer_and_cancel_none() -> None:
    clock = Clock()
    timer, reports = seconds_of_reports(clock, 5)
    for _ in range(20):
        timer.touch()
        pass_time(clock, 1)
        assert len(clock.getDelayedCalls()) == 1
    timer.cancel()
    timer.cancel()
    assert not clock.getDelayedCalls()
    assert reports == []


def test_report_may_cancel() -> None:
    clock = Clock()
    timer = IdleTimer(clock, 1, lambda: timer.cancel())  # noqa: PLW0108  # bound later
    clock.advance(1)
    assert not clock.getDelayedCalls()


def test_zero_is_for_ever() -> None:
    clock = Clock()
    IdleTimer(clock, 0, lambda: None)
    assert not clock.getDelayedCalls()


def test_another_time_to_live_counts_from_the_old_stamp() -> None:
    clock = Clock()
    timer, reports = seconds_of_reports(clock, 50)
    pass_time(clock, 4)
    timer.change(5)
    pass_time(clock, 1)
    assert reports == [5.0]


def test_a_shorter_time_to_live_that_is_over_already_reports_at_once() -> None:
    clock = Clock()
    timer, reports = seconds_of_reports(clock, 50)
    pass_time(clock, 10)
    timer.change(5)
    clock.advance(0)
    assert reports == [10.0]


def test_a_time_to_live_can_be_taken_away_and_given() -> None:
    clock = Clock()
    timer, reports = seconds_of_reports(clock, 5)
    timer.change(0)
    pass_time(clock, 10)
    assert reports == []
    timer.change(12)
    timer.change(12)
    pass_time(clock, 2)
    assert reports == [12.0]
