"""What a client reads while its model is being loaded."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from random import Random
from typing import Any

import pytest

from llamaswap.config.schema import ModelConfig, Timeouts
from llamaswap.core.values import ModelId, ProcessState
from llamaswap.errors import ConcurrencyLimitError, LlamaSwapError, ModelUnloadedError, UpstreamStartError
from llamaswap.proxy.forward import Unchunking
from llamaswap.proxy.hop import HopPool
from llamaswap.proxy.loading import REMARKS, LoadingForwarding, Script, pieces
from tests.unit.web_stack import End, Stack, config_of, response_of

CHAT = "/v1/chat/completions"
BAR = "━━━━━\n"
OPENING = f"{BAR}llama-swap loading model: slow\n"
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n4\r\ndata\r\n"


@pytest.fixture
def stack() -> Stack:
    return make_stack()


def make_stack(**settings: Any) -> Stack:
    models = [
        ModelConfig(ModelId("slow"), proxy="http://127.0.0.1:5800", send_loading_state=True),
        ModelConfig(ModelId("silent"), proxy="http://127.0.0.1:5800"),
    ]
    return Stack(config_of(*models, **settings))


@dataclass
class Chat:
    """A streamed chat, and what its client has read so far."""

    stack: Stack
    client: End
    read: bytes = b""

    def wait(self, seconds: float) -> None:
        """Let time pass as a busy reactor does."""
        for _ in range(round(seconds * 20)):
            self.stack.reactor.advance(0.05)

    def take(self) -> bytes:
        self.read += self.client.take()
        return self.read

    @property
    def head(self) -> list[str]:
        return self.take().partition(b"\r\n\r\n")[0].decode().split("\r\n")

    @property
    def body(self) -> bytes:
        """The body without its chunks."""
        body = self.take().partition(b"\r\n\r\n")[2]
        return Unchunking()(body, False) if "Transfer-Encoding: chunked" in self.head else body

    @property
    def events(self) -> list[Any]:
        lines = self.body.decode().split("\n")
        return [json.loads(line.removeprefix("data: ")) for line in lines if line.startswith("data: {")]

    @property
    def text(self) -> str:
        """What was said of the loading."""
        choices = [choice for event in self.events for choice in event.get("choices", ())]
        return "".join(choice["delta"]["reasoning_content"] for choice in choices)

    @property
    def is_whole(self) -> bool:
        return self.take().endswith(b"\r\n0\r\n\r\n")

    def grant(self) -> End:
        """Have the model ready; give the server's end."""
        pool = HopPool(self.stack.reactor, "http://127.0.0.1:5800", Timeouts())
        self.stack.router.waiter.granted(pool)
        return self.stack.accept()


def begin(
    stack: Stack,
    model: str = "slow",
    path: str = CHAT,
    *,
    stream: bool = True,
    headers: Mapping[str, str] | None = None,
) -> Chat:
    chat = Chat(stack, stack.post_json(path, {"model": model, "stream": stream}, **(headers or {})))
    stack.reactor.advance(0)
    return chat


def timers(stack: Stack) -> list[Any]:
    """Give what is to be called later, what looks on at all requests apart."""
    others = ("Deadlines", "Activity")
    return [call for call in stack.reactor.getDelayedCalls() if not any(name in str(call) for name in others)]


# --------------------------------------------------------------------------- the script


def script(remarks: tuple[str, ...] = REMARKS) -> Script:
    return Script("m", remarks, Random(1), 12.9)


def test_texts_are_cut_as_they_are_typed() -> None:
    assert pieces("abcdefg\n\nhi") == ["abcde", "fg", "\n", "\n", "hi"]


def test_remarks_come_now_and_then_each_once() -> None:
    told, said_at = [], []
    ours = script()
    for tick in range(1, 400):
        text = ours.next(tick * 0.75, None)
        if text != ".":
            told.append(text.removeprefix("\n").removesuffix(" "))
            said_at.append(tick * 0.75)
    assert sorted(told) == sorted(REMARKS)
    assert 2 <= said_at[0] <= 5.75
    gaps = [b - a for a, b in pairwise(said_at)]
    assert min(gaps) >= 5
    assert max(gaps) <= 9.75


def test_no_remarks_may_be_wanted() -> None:
    ours = script(())
    assert {ours.next(tick, None) for tick in range(100)} == {"."}


def test_a_place_in_the_queue_is_told_when_it_changes() -> None:
    ours = script(())
    assert [ours.next(t, n) for t, n in enumerate([2, 2, 1, 1])] == [
        "\nQueue position: #2 ",
        ".",
        "\nQueue position: #1 ",
        ".",
    ]


def test_our_remarks_are_short() -> None:
    assert len(set(REMARKS)) == len(REMARKS) == 15
    assert all(len(remark) < 60 and "\n" not in remark for remark in REMARKS)


# --------------------------------------------------------------------------- the stream


def test_v35_from_the_opening_to_the_answer(stack: Stack) -> None:
    chat = begin(stack)
    assert chat.head[0] == "HTTP/1.1 200 OK"
    for line in (
        "Content-Type: text/event-stream",
        "Cache-Control: no-cache",
        "Connection: keep-alive",
        "X-Accel-Buffering: no",
    ):
        assert chat.head.count(line) == 1
    chat.wait(1.5)
    assert chat.text.startswith(OPENING)
    chat.wait(5.41)
    server = chat.grant()
    assert chat.text.endswith(f"\nDone! (6.90s)\n{BAR} \n")
    loading = chat.body
    server.send(ANSWER + b"0\r\n\r\n")
    assert chat.body == loading + b"data"
    assert chat.is_whole
    assert not chat.client.is_closed
    assert len(stack.router.ended) == 1


def test_strict_clients_can_read_each_event(stack: Stack) -> None:
    chat = begin(stack)
    chat.wait(2)
    first, *others = chat.events
    assert first["object"] == "chat.completion.chunk"
    assert first["model"] == "slow"
    assert isinstance(first["created"], int)
    assert first["choices"][0]["index"] == 0
    assert first["choices"][0]["finish_reason"] is None
    assert {event["id"] for event in others} == {first["id"]}


def test_texts_are_typed_and_dots_follow(stack: Stack) -> None:
    chat = begin(make_stack(loading_remarks=()))
    assert chat.text == "━━━━━"
    chat.wait(0.5)
    assert len(chat.text) < len(OPENING)
    chat.wait(5)
    assert chat.text.startswith(OPENING + "....")
    assert chat.text.count(".") == 6


def test_v36_the_place_in_the_queue(stack: Stack) -> None:
    chat = begin(stack)
    stack.router.waiter.moved(1)
    chat.wait(4)
    assert "\nQueue position: #1 " in chat.text


def test_remarks_of_ones_own() -> None:
    chat = begin(make_stack(loading_remarks=("Ours.",)))
    chat.wait(8)
    assert chat.text.count("\nOurs. ") == 1


def test_there_is_one_timer(stack: Stack) -> None:
    chat = begin(stack)
    for _ in range(50):
        chat.wait(0.1)
        assert len(timers(stack)) == 1
    chat.client.leave()
    assert not timers(stack)


# --------------------------------------------------------------------------- when there is none


@pytest.mark.parametrize(
    "settings",
    [
        {"model": "silent"},
        {"stream": False},
        {"path": "/v1/completions"},
        {"path": "/v/chat/completions"},
        {"path": "/upstream/slow/v1/chat/completions"},
    ],
)
def test_who_waits_in_silence(stack: Stack, settings: dict[str, Any]) -> None:
    chat = begin(stack, **settings)
    chat.wait(3)
    assert stack.router.entered
    assert chat.take() == b""


def test_a_ready_model_is_not_announced(stack: Stack) -> None:
    stack.be_ready("slow")
    chat = begin(stack)
    server = stack.accept()
    server.send(ANSWER + b"0\r\n\r\n")
    chat.wait(1)
    assert chat.body == b"data"


def test_h46_too_many_is_said_in_an_answer_of_its_own(stack: Stack) -> None:
    stack.router.error = ConcurrencyLimitError()
    answer = response_of(begin(stack).take())
    assert answer.status == 429
    assert answer.document["error"]["code"] == "concurrency_limit"


def test_h46_also_when_the_router_says_so_a_little_later(stack: Stack) -> None:
    client = stack.post_json(CHAT, {"model": "slow", "stream": True})
    stack.router.waiter.refused(ConcurrencyLimitError())
    stack.reactor.advance(1)
    assert response_of(client.take()).status == 429


def test_a_grant_in_the_same_turn_shows_nothing(stack: Stack) -> None:
    chat = Chat(stack, stack.post_json(CHAT, {"model": "slow", "stream": True}))
    server = chat.grant()
    stack.reactor.advance(1)
    server.send(b"HTTP/1.1 103 Early\r\n\r\nHTTP/1.1 400 Bad\r\nContent-Length: 2\r\n\r\nno")
    assert chat.take().startswith(b"HTTP/1.1 103 Early")
    assert b"HTTP/1.1 400 Bad\r\n" in chat.take()


# --------------------------------------------------------------------------- hand-over


def test_h62_nothing_of_ours_after_the_grant(stack: Stack) -> None:
    for ticks in range(30):
        stack = make_stack()
        chat = begin(stack)
        stack.reactor.pump([0.75] * ticks)
        server = chat.grant()
        before = chat.take()
        assert not timers(stack)
        stack.router.waiter.moved(1)
        chat.wait(5)
        server.send(ANSWER)
        assert chat.take() == before + b"4\r\ndata\r\n"


def test_h64_the_upstream_is_asked_not_to_encode(stack: Stack) -> None:
    server = begin(stack, headers={"Accept-Encoding": "gzip, br"}).grant()
    request = server.take()
    assert request.count(b"Accept-Encoding:") == 1
    assert b"\r\nAccept-Encoding: identity\r\n" in request


@pytest.mark.parametrize(
    ("head", "body"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n", b"data"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"2\r\nda\r\n2\r\nta\r\n0\r\n\r\n"),
        (b"HTTP/1.1 103 Early\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n", b"data"),
        (b"HTTP/1.0 200 OK\r\n\r\n", b"data"),
    ],
)
@pytest.mark.parametrize("is_modern", [True, False])
def test_a_body_of_any_framing_goes_on_in_ours(stack: Stack, head: bytes, body: bytes, is_modern: bool) -> None:  # noqa: FBT001
    chat = begin(stack) if is_modern else begin_old(stack)
    server = chat.grant()
    loading = chat.body
    server.send(head + body)
    if head.startswith(b"HTTP/1.0"):
        server.leave()
    assert chat.body == loading + b"data"
    assert chat.is_whole is is_modern
    assert chat.client.is_closed is not is_modern


def begin_old(stack: Stack) -> Chat:
    client = stack.connect()
    body = b'{"model":"slow","stream":true}'
    client.send(b"POST %b HTTP/1.0\r\nContent-Type: application/json\r\n" % CHAT.encode())
    client.send(b"Content-Length: %d\r\n\r\n%b" % (len(body), body))
    stack.reactor.advance(0)
    return Chat(stack, client)


def test_old_clients_read_it_without_chunks(stack: Stack) -> None:
    chat = begin_old(stack)
    chat.wait(2)
    assert "Connection: close" in chat.head
    assert chat.text.startswith(OPENING)


# --------------------------------------------------------------------------- trouble


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (UpstreamStartError("unspecific error: upstream command exited prematurely"), "upstream_start_failed"),
        (ModelUnloadedError("unspecific error: group: model unloaded"), "model_unloaded"),
    ],
)
def test_h64_v37_a_failure_is_one_event(stack: Stack, error: LlamaSwapError, code: str) -> None:
    chat = begin(stack)
    chat.wait(2)
    stack.router.waiter.refused(error)
    event = chat.events[-1]
    assert event["error"]["message"] == error.message
    assert event["error"]["code"] == code
    assert "Done!" not in chat.text
    assert b"[DONE]" not in chat.take()
    assert chat.is_whole, "the stream ends in order"
    assert not chat.client.is_closed
    assert not timers(stack)
    assert len(stack.router.ended) == 1


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b'{"error":{"message":"too long","type":"x"}}', "the upstream answered 400: too long"),
        (b'{"error":"too long"}', "the upstream answered 400: too long"),
        (b"  too long\n", "the upstream answered 400: too long"),
        (b"[1]", "the upstream answered 400: Bad"),
        (b"", "the upstream answered 400: Bad"),
    ],
)
@pytest.mark.parametrize("is_chunked", [True, False])
def test_h64_a_refusal_behind_the_stream_is_one_event(
    stack: Stack,
    body: bytes,
    message: str,
    is_chunked: bool,  # noqa: FBT001
) -> None:
    chat = begin(stack)
    server = chat.grant()
    if is_chunked:
        framed = b"%x\r\n%b\r\n" % (len(body), body) if body else b""
        server.send(b"HTTP/1.1 400 Bad\r\nTransfer-Encoding: chunked\r\n\r\n" + framed[:3])
        server.send(framed[3:] + b"0\r\n\r\n")
    else:
        server.send(b"HTTP/1.1 400 Bad\r\nContent-Length: %d\r\n\r\n" % len(body) + body[:3])
        if body[3:]:
            server.send(body[3:])
    assert chat.events[-1]["error"] == {
        "message": message,
        "type": "invalid_request_error",
        "param": None,
        "code": "bad_request",
    }
    assert chat.is_whole
    assert not chat.client.is_closed


def test_h64_the_upstream_breaks_off(stack: Stack) -> None:
    for head in (ANSWER, b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\ndata", b"HTTP/1.1 500 X\r\n\r\nda"):
        stack = make_stack()
        chat = begin(stack)
        server = chat.grant()
        server.send(head)
        stack.router.pool = None
        server.leave() if not head.endswith(b"da") else cut(server)
        assert chat.events[-1]["error"]["code"] == "upstream_disconnected"
        assert not chat.is_whole
        assert chat.client.is_closed


def cut(end: End) -> None:
    """Lose a connection without its end."""
    from twisted.internet.error import ConnectionLost
    from twisted.python.failure import Failure

    end._protocol.connectionLost(Failure(ConnectionLost()))


def test_h64_the_upstream_refuses_the_connection(stack: Stack) -> None:
    chat = begin(stack)
    server = chat.grant()
    server.leave()
    assert chat.events[-1]["error"]["code"] == "upstream_unreachable"
    assert chat.is_whole


def test_h61_who_leaves_at_any_moment_is_written_to_no_more(stack: Stack) -> None:
    random = Random(7)
    for round_ in range(200):
        client = stack.post_json(CHAT, {"model": "slow", "stream": True})
        for _ in range(random.randrange(12)):
            stack.reactor.advance(random.random() / 3)
        client.leave()
        client.take()
        stack.reactor.advance(1)
        assert client.take() == b""
        assert len(stack.router.ended) == round_ + 1
        assert not timers(stack)


def test_a_client_that_does_not_read_gets_no_more_of_it(stack: Stack) -> None:
    chat = begin(stack)
    producer: Any = chat.client.transport.producer
    producer.pauseProducing()
    before = chat.take()
    chat.wait(10)
    assert chat.take() == before
    producer.resumeProducing()
    chat.wait(1)
    assert len(chat.take()) > len(before)


def test_cancelled_while_it_waits(stack: Stack) -> None:
    chat = begin(stack)
    [exchange] = stack.daemon.observers.ledger.exchanges()
    assert exchange.cancel()
    assert chat.events[-1]["error"]["code"] == "request_cancelled"
    assert chat.is_whole


def test_who_looks_on_sees_what_it_always_sees(stack: Stack) -> None:
    chat = begin(stack)
    [exchange] = stack.daemon.observers.ledger.exchanges()
    chat.wait(2)
    assert exchange.head is None
    assert exchange.first_byte_mono is None, "what we say ourselves is no answer"
    server = chat.grant()
    chat.wait(1)
    server.send(ANSWER)
    assert exchange.first_byte_mono == stack.reactor.seconds()
    server.send(b"0\r\n\r\n")
    assert exchange.payload_bytes == 4
    [line] = stack.access_lines
    assert f'" 200 {len(chat.body)} ' in line


def test_it_is_a_forwarding_of_its_own(stack: Stack) -> None:
    begin(stack)
    assert isinstance(stack.router.waiter, LoadingForwarding)
    stack = make_stack()
    stack.be_ready("silent")
    begin(stack, "silent")
    assert stack.router.state(ModelId("silent")) is ProcessState.READY
    assert not isinstance(stack.router.waiter, LoadingForwarding)
