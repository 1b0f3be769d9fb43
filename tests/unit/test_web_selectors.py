"""Selectors: which target each strategy chooses, and what is counted for how long."""

from __future__ import annotations

import json

import pytest

from llamaswap.config.schema import ModelConfig, Peer, Selector
from llamaswap.core.values import ModelId, ProcessState
from tests.unit.web_stack import End, Stack, config_of, response_of

CHAT = "/v1/chat/completions"
READY, STARTING, STOPPING, STOPPED = (
    ProcessState.READY,
    ProcessState.STARTING,
    ProcessState.STOPPING,
    ProcessState.STOPPED,
)
MODELS = (ModelConfig(ModelId("a"), aliases=("al",)), ModelConfig(ModelId("b")), ModelConfig(ModelId("c")))


def stack_with(strategy: str, *targets: str, spillover: int = 1, **states: ProcessState) -> Stack:
    selector = Selector("sel", strategy, targets, spillover)  # type: ignore[arg-type]  # the tests' own words
    peer = Peer("p1", "http://127.0.0.1:5900", ("far",))
    stack = Stack(config_of(*MODELS, selectors={"sel": selector}, peers={"p1": peer}))
    stack.router.states.update(states)
    return stack


def ask(stack: Stack) -> End:
    return stack.post_json(CHAT, {"model": "sel"})


# --------------------------------------------------------------------------- pin and warm


def test_pin_is_the_first_target_as_it_is_written() -> None:
    stack = stack_with("pin", "al", "b")
    stack.be_ready("a", "b")
    ask(stack)
    assert stack.router.models == ["a"]
    assert json.loads(stack.accept().take().partition(b"\r\n\r\n")[2]) == {"model": "al"}


@pytest.mark.parametrize(
    ("states", "chosen"),
    [
        ({}, "a"),
        ({"b": STARTING}, "b"),
        ({"b": STARTING, "c": READY}, "c"),
        ({"b": READY, "c": READY}, "b"),
        ({"a": STOPPING, "b": STOPPING}, "a"),
    ],
)
def test_warm_is_the_first_that_is_ready_or_starting(states: dict[str, ProcessState], chosen: str) -> None:
    stack = stack_with("warm", "al", "b", "c")
    stack.router.states.update(states)
    ask(stack)
    assert stack.router.models == [chosen]


def test_selectors_are_not_chained() -> None:
    stack = stack_with("pin", "al", "b")
    chained = Selector("outer", "pin", ("a",))
    stack.daemon.config = config_of(*MODELS, selectors={"outer": chained, "a2": Selector("a2", "pin", ("b",))})
    stack.post_json(CHAT, {"model": "outer"})
    assert stack.router.models == ["a"]


# --------------------------------------------------------------------------- spillover


def test_spillover_begins_with_the_first_and_spills_when_it_is_busy() -> None:
    stack = stack_with("spillover", "a", "b", "c")
    ends = [ask(stack) for _ in range(4)]
    assert stack.router.models == ["a", "b", "c", "a"]
    assert all(end.take() == b"" for end in ends)


def test_spillover_fills_what_is_up_before_it_takes_what_is_not() -> None:
    stack = stack_with("spillover", "a", "b", "c", spillover=2, b=READY)
    for _ in range(5):
        ask(stack)
    assert stack.router.models == ["b", "b", "a", "a", "c"]


def test_spillover_lets_equals_take_turns() -> None:
    stack = stack_with("spillover", "a", "b", "c", spillover=1, a=READY, b=STARTING, c=READY)
    for _ in range(4):
        ask(stack).leave()
    assert stack.router.models == ["a", "b", "c", "a"]


def test_spillover_skips_what_is_about_to_stop() -> None:
    stack = stack_with("spillover", "a", "b", a=STOPPING)
    ask(stack)
    ask(stack)
    assert stack.router.models == ["b", "b"]


def test_spillover_without_any_target_is_refused() -> None:
    stack = stack_with("spillover", "a", "b", a=STOPPING, b=ProcessState.SHUTDOWN)
    answer = response_of(ask(stack).take())
    assert answer.status == 503
    assert answer.headers["retry-after"] == "1"
    assert answer.document["error"]["message"] == 'selector "sel" has no available spillover targets'


def test_spillover_counts_only_what_came_through_the_selector() -> None:
    stack = stack_with("spillover", "a", "b", a=READY)
    stack.post_json(CHAT, {"model": "a"})
    ask(stack)
    assert stack.router.models == ["a", "a"]


def test_a_count_ends_with_the_answer() -> None:
    stack = stack_with("spillover", "a", "b")
    stack.be_ready("a")
    client = ask(stack)
    server = stack.accept()
    server.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n")
    ask(stack)
    server.send(b"ok")
    assert client.take().endswith(b"ok")
    ask(stack)
    assert stack.router.models == ["a", "b", "a"]


def test_a_count_ends_with_a_refusal() -> None:
    stack = stack_with("spillover", "a", "b")
    for _ in range(2):
        client = stack.post_json("/v1/chat/completions", {"model": "sel"})
        client.leave()
    assert stack.router.models == ["a", "a"]


def test_a_body_that_cannot_be_changed_is_not_counted() -> None:
    stack = stack_with("spillover", "a", "b")
    client = stack.post_json(CHAT, b'{"model":"sel","x":[1],')
    assert response_of(client.take()).status == 400
    form = b'--b\r\nContent-Disposition: form-data; name="model"\r\n\r\nsel'
    client = stack.begin(
        "POST", CHAT, form, {"Content-Type": "multipart/form-data; boundary=b", "Content-Length": str(len(form))}
    )
    assert response_of(client.take()).status == 400
    ask(stack)
    assert stack.router.models == ["a"]


def test_counts_outlive_a_reload_and_turns_of_removed_selectors_do_not() -> None:
    stack = stack_with("spillover", "a", "b", a=READY)
    ask(stack)
    stack.daemon.config = config_of(*MODELS, selectors=stack.config.selectors, unload_timeout_seconds=7)
    stack.daemon.observers.apply(stack.daemon.config)
    ask(stack)
    assert stack.router.models == ["a", "b"]
