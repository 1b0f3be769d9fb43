"""Loading the configured models at the start."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.web.iweb import IAgent
from zope.interface import implementer
from zope.interface.verify import verifyObject

from llamaswap.core.values import ModelId, RequestId, SwapReason
from llamaswap.errors import UpstreamStartError, UpstreamUnreachableError
from llamaswap.loan import Loan
from llamaswap.preload import Preload
from tests.deferreds import failure_of, no_result, success_of

A, B = ModelId("a"), ModelId("b")


class FakeLender:
    """Lends what the test lets it."""

    def __init__(self) -> None:
        self.transcript: list[str] = []
        self.loans: list[Loan] = []

    def borrow(self, model: ModelId, reason: SwapReason) -> Loan:
        """Record."""
        self.transcript.append(f"borrow {model} {reason.value}")
        loan = Loan(lambda _: self.transcript.append(f"release {model}"))
        loan.request_id = RequestId(len(self.loans) + 1)
        self.loans.append(loan)
        return loan


@implementer(IAgent)
class FakeAgent:
    """Never answers, or fails at once."""

    def __init__(self, error: Exception | None = None) -> None:
        self.asked: list[bytes] = []
        self._error = error

    def request(self, method: bytes, uri: bytes, headers: Any = None, bodyProducer: Any = None) -> Deferred[Any]:
        """Record."""
        self.asked.append(uri)
        done: Deferred[Any] = Deferred()
        if self._error is not None:
            done.errback(self._error)
        return done


def test_the_fake_agent_is_one() -> None:
    assert verifyObject(IAgent, FakeAgent())


def begun(agent: FakeAgent) -> tuple[FakeLender, Clock, Deferred[None]]:
    """A preload of two models that has begun."""
    lender, clock = FakeLender(), Clock()
    urls = {A: "http://localhost:1/base", B: "http://localhost:2"}
    return lender, clock, Preload(lender, urls, agent, clock).run([A, B])


def test_models_are_loaded_and_visited_one_after_the_other() -> None:
    agent = FakeAgent(UpstreamUnreachableError("gone"))
    lender, _clock, done = begun(agent)
    assert lender.transcript == ["borrow a preload"]
    lender.loans[0].granted(None)
    assert lender.transcript == ["borrow a preload", "release a", "borrow b preload"]
    lender.loans[1].granted(None)
    success_of(done)
    assert agent.asked == [b"http://localhost:1/base/", b"http://localhost:2/"]


def test_h88_a_broken_model_does_not_stop_the_list() -> None:
    lender, _clock, done = begun(FakeAgent())
    lender.loans[0].refused(UpstreamStartError("no such file"))
    assert lender.transcript[-1] == "borrow b preload"
    no_result(done)
    done.cancel()
    failure_of(done, CancelledError)


def test_a_model_that_does_not_answer_is_given_back_after_a_minute() -> None:
    lender, clock, done = begun(FakeAgent())
    lender.loans[0].granted(None)
    clock.advance(59)
    assert "release a" not in lender.transcript
    clock.advance(1)
    assert lender.transcript[1:3] == ["release a", "borrow b preload"]
    done.cancel()
    failure_of(done, CancelledError)


def test_h88_shutdown_gives_up_what_waits() -> None:
    lender, _clock, done = begun(FakeAgent())
    done.cancel()
    failure_of(done, CancelledError)
    assert lender.transcript == ["borrow a preload", "release a"]


def test_h88_an_address_that_is_not_ascii_does_not_stop_the_list() -> None:
    agent, lender = FakeAgent(UpstreamUnreachableError("gone")), FakeLender()
    done = Preload(lender, {A: "http://localhost:1/b\u00e4r"}, agent, Clock()).run([A])
    lender.loans[0].granted(None)
    success_of(done)
    assert agent.asked == [b"http://localhost:1/b%C3%A4r/"]
