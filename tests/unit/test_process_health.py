"""When a server counts as healthy."""

from __future__ import annotations

from itertools import pairwise

import pytest
from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.task import Clock
from zope.interface import implementer
from zope.interface.verify import verifyObject

from llamaswap.errors import UpstreamStartTimeoutError
from llamaswap.process.health import HealthCheck, IAnswerOwner, probe_url
from tests.deferreds import failure_of, no_result, success_of
from tests.fakes import FakeAgent, FakeResponse

URL = "http://127.0.0.1:5800/health"


@implementer(IAnswerOwner)
class Owner:
    def __init__(self, *answers: bool) -> None:
        self.answers = list(answers)

    def is_own_answer(self) -> Deferred[bool]:
        return succeed(self.answers.pop(0))


class World:
    """A check, its clock and its agent."""

    def __init__(self, timeout_seconds: float = 15, owner: object = None) -> None:
        self.clock = Clock()
        self.agent = FakeAgent()
        check = HealthCheck(self.agent, self.clock, URL, timeout_seconds=timeout_seconds, owner=owner)
        self.done = check.wait()

    def wait(self, seconds: float) -> None:
        """Let time pass in steps of a millisecond, refusing nothing and answering nothing."""
        for _ in range(round(seconds * 1000)):
            self.clock.advance(0.001)

    def refuse_for(self, seconds: float) -> list[float]:
        """Let time pass, refuse each probe at once, and give the times of the probes."""
        times = []
        for _ in range(round(seconds * 1000)):
            self.clock.advance(0.001)
            if self.agent.probes and not self.agent.probes[-1].result.called:
                self.agent.probes[-1].refuse()
                times.append(self.clock.seconds())
        return times


def test_healthy_after_a_few_milliseconds() -> None:
    world = World()
    assert world.agent.probes == []
    world.clock.advance(0.003)
    (probe,) = world.agent.probes
    assert (probe.method, probe.uri) == (b"GET", URL.encode())
    probe.answer(200)
    success_of(world.done)
    assert not world.clock.getDelayedCalls()


@pytest.mark.parametrize("status", [503, 404, 204, 301, 500])
def test_any_other_status_is_not_yet(status: int) -> None:
    world = World()
    world.wait(0.01)
    world.agent.probes[0].answer(status)
    no_result(world.done)
    world.wait(0.01)
    world.agent.probes[1].answer(200)
    success_of(world.done)


def test_h08_refusals_are_not_yet_however_long() -> None:
    world = World(timeout_seconds=120)
    times = world.refuse_for(60)
    assert len(times) > 200
    no_result(world.done)
    world.wait(0.3)
    world.agent.probes[-1].answer(200)
    success_of(world.done)


def test_probes_get_rarer_but_never_rarer_than_four_a_second() -> None:
    world = World(timeout_seconds=120)
    times = world.refuse_for(10)
    pauses = [later - earlier for earlier, later in pairwise(times)]
    assert pauses[0] == pytest.approx(0.005, abs=0.0011)
    assert max(pauses) <= 0.2511
    for start, pause in zip(times, pauses, strict=False):
        assert pause <= max(0.005, 0.01 * start) + 0.0011


def test_one_probe_at_a_time() -> None:
    world = World()
    world.wait(4)
    assert len(world.agent.probes) == 1


def test_h07_a_probe_has_a_limit_of_its_own() -> None:
    world = World()
    world.wait(5.3)
    assert world.agent.probes[0].was_cancelled
    assert len(world.agent.probes) == 2
    world.agent.probes[1].answer(200)
    success_of(world.done)


def test_h07_a_hanging_server_fails_at_the_deadline() -> None:
    world = World(timeout_seconds=15)
    world.wait(14.9)
    no_result(world.done)
    world.wait(0.2)
    error = failure_of(world.done, UpstreamStartTimeoutError).value
    assert str(error) == "health check timed out after 15s"
    assert world.agent.probes[-1].was_cancelled
    assert not world.clock.getDelayedCalls()


def test_deadline_holds_between_probes() -> None:
    world = World(timeout_seconds=15)
    world.refuse_for(15.1)
    failure_of(world.done, UpstreamStartTimeoutError)
    assert not world.clock.getDelayedCalls()


@pytest.mark.parametrize("seconds", [0.0, 0.01], ids=["between probes", "in mid-probe"])
def test_cancelling_ends_it_in_the_same_turn(seconds: float) -> None:
    world = World()
    world.wait(seconds)
    world.done.cancel()
    failure_of(world.done, CancelledError)
    assert [probe.was_cancelled for probe in world.agent.probes] == [True] * bool(seconds)
    assert not world.clock.getDelayedCalls()


def test_h09_answer_of_somebody_else_does_not_count() -> None:
    owner = Owner(False, True)
    verifyObject(IAnswerOwner, owner)
    world = World(owner=owner)
    world.wait(0.01)
    world.agent.probes[0].answer(200)
    no_result(world.done)
    world.wait(0.01)
    world.agent.probes[1].answer(200)
    success_of(world.done)
    assert owner.answers == []


def test_long_body_is_cut_off() -> None:
    world = World()
    world.wait(0.01)
    response = FakeResponse(200)
    world.agent.probes[0].result.callback(response)
    success_of(world.done)
    assert response.taker is not None
    cut_off = []
    for piece in (b"x" * 65_536, b"x"):
        response.taker.dataReceived(piece)
        cut_off.append(response.transport.disconnecting)
    assert cut_off == [False, True]
    assert not world.clock.getDelayedCalls()


def test_slow_body_is_cut_off() -> None:
    world = World()
    world.wait(0.01)
    response = FakeResponse(200)
    world.agent.probes[0].result.callback(response)
    world.wait(1.1)
    assert response.transport.disconnecting


@pytest.mark.parametrize(
    ("base_url", "endpoint", "expected"),
    [
        ("http://localhost:5800", "/health", "http://localhost:5800/health"),
        ("http://localhost:5800/", "health", "http://localhost:5800/health"),
        ("http://h:1/base/", "/v1/ok?full=1", "http://h:1/base/v1/ok?full=1"),
        ("https://h/base", "/", "https://h/base/"),
        ("http://h:1/b\u00e4r", "/a b?x=1 2%20", "http://h:1/b%C3%A4r/a%20b?x=1%202%20"),
    ],
)
def test_url_of_the_probe(base_url: str, endpoint: str, expected: str) -> None:
    assert probe_url(base_url, endpoint) == expected
