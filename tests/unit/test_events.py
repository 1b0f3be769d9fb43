"""The event stream, over the real edge and routes, in memory."""

from __future__ import annotations

import base64
import json
from collections import Counter
from collections.abc import Iterator
from typing import Any, Final

import pytest
from twisted.internet.interfaces import IPushProducer
from twisted.internet.task import Clock
from twisted.logger import LogLevel, capturedLogs, formatEvent
from zope.interface.verify import verifyObject

from llamaswap.config.schema import Capabilities, Config, ModelConfig, Peer, Profile, UIConfig
from llamaswap.core.news import ConfigChanged, ReloadChanged, RowAdded, StateChanged, SwapChanged
from llamaswap.core.snapshot import LoadError, LoadErrorKind, UpstreamSnapshot
from llamaswap.core.values import Generation, ModelId, ProcessState
from llamaswap.web.event_client import EventClient
from llamaswap.web.event_kinds import USUAL_KINDS, Kind
from llamaswap.web.feed import Feed
from tests.unit.web_stack import End, Stack, config_of

A, B = ModelId("a"), ModelId("b")
CONFIG: Final = config_of(
    ModelConfig(B, unlisted=True),
    ModelConfig(
        A,
        name="Alpha",
        description="first",
        aliases=("x",),
        capabilities=Capabilities(inputs=("text", "image"), context=9),
    ),
    profiles={"coding": Profile("coding", "", {})},
    peers={"p": Peer("p", "http://p", ("z", "m"))},
)
CHAT: Final = "/v1/chat/completions"
HEAD: Final = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n"
SECOND: Final = 1.0
STATE_OF_NOBODY: Final = {"queued": 0, "in_flight": 0, "ttl_deadline": None, "last_error": None}
NO_PROCESS: Final = {"started_at": None, "ready_at": None, "pid": None}


@pytest.fixture
def stack() -> Iterator[Stack]:
    stack = Stack(CONFIG)
    yield stack
    stack.daemon.observers.end_readers()


def undone(data: bytes) -> bytes:
    """Take the chunks apart."""
    pieces = []
    while data:
        size, _, data = data.partition(b"\r\n")
        length = int(size, 16)
        pieces.append(data[:length])
        data = data[length + 2 :]
    return b"".join(pieces)


class Reader:
    """A client of the event stream."""

    def __init__(self, stack: Stack, query: str = "", **headers: str) -> None:
        self.end: End = stack.begin("GET", f"/api/events{query}", headers=headers)
        head, _, body = self.end.take().partition(b"\r\n\r\n")
        self.head = head.decode()
        self.first = parsed(undone(body))

    def raw(self) -> bytes:
        return undone(self.end.take())

    def take(self) -> list[tuple[str, Any]]:
        """Give what came since the last time."""
        return parsed(self.raw())

    def pause(self) -> None:
        self._producer.pauseProducing()

    def resume(self) -> None:
        self._producer.resumeProducing()

    @property
    def _producer(self) -> Any:
        return self.end.transport.producer


def parsed(stream: bytes) -> list[tuple[str, Any]]:
    """Read messages in their exact form."""
    blocks = stream.decode().split("\n\n")
    assert blocks.pop() == ""
    messages = []
    for block in blocks:
        event, data = block.split("\n")
        assert event == "event:message"
        envelope = json.loads(data.removeprefix("data:"))
        assert list(envelope) == ["type", "data"]
        messages.append((envelope["type"], json.loads(envelope["data"])))
    return messages


def kinds(messages: list[tuple[str, Any]]) -> list[str]:
    return [kind for kind, _ in messages]


def publish(stack: Stack, news: object) -> None:
    stack.daemon.observers.bus.publish(news)


def become(stack: Stack, model: ModelId, state: ProcessState) -> None:
    """Let a model's process change its state."""
    old = stack.router.state(model)
    stack.router.states[model] = state
    publish(stack, StateChanged(model, Generation(1), old, state, None, 0.0))


def logs_of(messages: list[tuple[str, Any]]) -> str:
    return "".join(data["data"] for kind, data in messages if kind == "logData")


# --------------------------------------------------------------------------- the beginning


def test_what_comes_first_and_in_which_form(stack: Stack) -> None:
    stack.daemon.logs.proxy.write("grüße\n".encode())
    reader = Reader(stack)
    assert reader.head.split("\r\n")[0] == "HTTP/1.1 200 OK"
    headers = dict(line.lower().split(": ") for line in reader.head.split("\r\n")[1:])
    wanted = {
        "content-type": "text/event-stream",
        "cache-control": "no-cache",
        "connection": "keep-alive",
        "x-content-type-options": "nosniff",
        "x-accel-buffering": "no",
    }
    assert headers.items() >= wanted.items()
    assert reader.first == [
        ("logData", {"data": "grüße\n", "source": "proxy"}),
        ("logData", {"data": "", "source": "upstream"}),
        ("modelStatus", reader.first[2][1]),
        ("uiConfig", {"activity": {"session_id": list(Config().ui.session_id_headers)}}),
        ("profileChanged", {"active": None}),
        ("inflight", {"operation": "snapshot", "requests": [], "total": 0}),
    ]


def test_d13_the_state_of_all_models_with_those_of_peers_sorted(stack: Stack) -> None:
    [local, other, *remote] = dict(Reader(stack).first)["modelStatus"]
    assert local == {
        "id": "a",
        "name": "Alpha",
        "description": "first",
        "state": "stopped",
        "unlisted": False,
        "peerID": "",
        "aliases": ["x"],
        "capabilities": {"vision": True},
        "context_length": 9,
        **STATE_OF_NOBODY,
        **NO_PROCESS,
    }
    assert (other["id"], other["unlisted"], "aliases" in other) == ("b", True, False)
    blank = {"name": "", "description": "", "state": "", "unlisted": False, "peerID": "p"}
    assert remote == [{"id": "p/m", **blank}, {"id": "p/z", **blank}]


def test_a_state_tells_times_counts_and_the_last_error(stack: Stack) -> None:
    error = LoadError(1795165973.9, LoadErrorKind.EXITED, "--api-key s3cret", 3)
    stack.router.details["a"] = UpstreamSnapshot(
        A, ProcessState.READY, 1, 42, 1795165970.0, 1795165971.5, expires_at=1795165999.0, last_error=error
    )
    stack.router.counts["a"] = (2, 1)
    [local, *_] = dict(Reader(stack).first)["modelStatus"]
    assert (local["queued"], local["in_flight"], local["pid"]) == (2, 1, 42)
    assert (local["started_at"], local["ready_at"]) == ("2026-11-20T09:12:50.000Z", "2026-11-20T09:12:51.500Z")
    assert local["ttl_deadline"] is None
    assert local["last_error"]["message"] == "--api-key [REDACTED]"
    stack.router.counts["a"] = (0, 0)
    [local, *_] = dict(Reader(stack).first)["modelStatus"]
    assert local["ttl_deadline"] == "2026-11-20T09:13:19.000Z"


def test_topics_choose(stack: Stack) -> None:
    assert kinds(Reader(stack, "?topics=models,inflight,activity").first) == ["modelStatus", "inflight"]
    assert kinds(Reader(stack, "?topics=logs").first) == ["logData", "logData"]
    assert kinds(Reader(stack, "?topics=config&topics=models").first) == ["modelStatus", "uiConfig", "profileChanged"]
    assert kinds(Reader(stack, "?topics=swaps%2Cqueue").first) == ["queue"]
    assert len(Reader(stack, "?topics=").first) == 6


@pytest.mark.parametrize("written", ["x", "models,x", "models,,logs", "Models"])
def test_an_unknown_topic_is_refused(stack: Stack, written: str) -> None:
    answer = stack.ask("GET", f"/api/events?topics={written}", headers={"Accept": "text/plain"})
    unknown = next(topic for topic in written.split(",") if topic not in {"models", "logs"})
    assert (answer.status, answer.body.decode()) == (400, f'llama-swap: unknown topic "{unknown}"')


def test_head_answers_headers_only(stack: Stack) -> None:
    end = stack.begin("HEAD", "/api/events")
    head, _, body = end.take().partition(b"\r\n\r\n")
    assert b"text/event-stream" in head
    assert body == b""
    assert not stack.daemon.observers.bus.is_wanted(ReloadChanged)


def test_a_browser_follows_with_a_password(stack: Stack) -> None:
    stack.daemon.config = config_of(api_keys=("k",))
    assert stack.ask("GET", "/api/events").status == 401
    credentials = base64.b64encode(b"me:k").decode()
    assert Reader(stack, Authorization=f"Basic {credentials}").head.startswith("HTTP/1.1 200")


# --------------------------------------------------------------------------- what happens


def test_states_are_told_after_the_turn_and_once(stack: Stack) -> None:
    reader = Reader(stack)
    become(stack, A, ProcessState.STARTING)
    become(stack, B, ProcessState.STARTING)
    become(stack, B, ProcessState.READY)
    assert reader.take() == []
    stack.reactor.advance(0)
    [(kind, states)] = reader.take()
    assert (kind, [each["state"] for each in states]) == ("modelStatus", ["starting", "ready", "", ""])
    become(stack, A, ProcessState.READY)
    stack.reactor.advance(0)
    assert kinds(reader.take()) == ["modelStatus"]


def test_a_profile_is_followed_by_the_states(stack: Stack) -> None:
    reader = Reader(stack)
    stack.daemon.observers.profiles.select("coding")
    stack.reactor.advance(0)
    messages = reader.take()
    assert kinds(messages) == ["profileChanged", "modelStatus"]
    assert messages[0][1] == {"active": "coding"}
    assert dict(Reader(stack).first)["profileChanged"] == {"active": "coding"}


def test_d12_the_stream_stays_at_a_reload_and_tells_of_it(stack: Stack) -> None:
    usual, config = Reader(stack), Reader(stack, "?topics=config")
    publish(stack, ReloadChanged({"serial": 2, "status": "running", "errors": ()}))
    stack.daemon.config = Config(ui=UIConfig(("X-Chat",)))
    publish(stack, ConfigChanged())
    publish(stack, ReloadChanged({"serial": 2, "status": "ok", "errors": ()}))
    stack.reactor.advance(0)
    assert kinds(usual.take()) == ["uiConfig", "modelStatus"]
    assert config.take() == [
        ("reload", {"serial": 2, "status": "running", "errors": []}),
        ("reload", {"serial": 2, "status": "ok", "errors": []}),
        ("uiConfig", {"activity": {"session_id": ["X-Chat"]}}),
    ]
    publish(stack, ConfigChanged())
    stack.reactor.advance(0)
    assert kinds(usual.take()) == ["modelStatus"]


def test_rows_and_swaps(stack: Stack) -> None:
    usual, swaps = Reader(stack), Reader(stack, "?topics=swaps,activity")
    publish(stack, RowAdded(7))
    publish(stack, SwapChanged({"swap_id": 17, "outcome": None}))
    publish(stack, SwapChanged({"swap_id": 18, "outcome": None}))
    stack.reactor.advance(0)
    assert usual.take() == [("activity", {"id": 7})]
    assert swaps.take() == [
        ("activity", {"id": 7}),
        ("swap", {"swap_id": 17, "outcome": None}),
        ("swap", {"swap_id": 18, "outcome": None}),
    ]
    publish(stack, RowAdded(8))
    publish(stack, RowAdded(9))
    stack.reactor.advance(0)
    assert usual.take() == []  # not so soon after the last one
    stack.reactor.advance(0.05)
    assert usual.take() == [("activity", {"id": 9})]


def test_the_queue_is_told_at_most_every_quarter_of_a_second(stack: Stack) -> None:
    documents = iter([{"queue": []}, {"queue": [1]}, {"queue": [1]}, {"queue": [2]}])
    app_feed(stack).queue = lambda: next(documents)
    reader = Reader(stack, "?topics=queue")
    assert reader.first == [("queue", {"queue": []})]
    stack.post_json(CHAT, {"model": "a"})
    stack.reactor.advance(0)
    assert reader.take() == [("queue", {"queue": [1]})]
    stack.reactor.advance(0.24)
    assert reader.take() == []
    stack.reactor.advance(0.01)  # as before
    assert reader.take() == []
    stack.reactor.advance(0.25)
    assert reader.take() == [("queue", {"queue": [2]})]


def app_feed(stack: Stack) -> Any:
    """Give the feed behind the routes."""
    ends: list[Any] = stack.daemon.observers._ends
    return next(end.__self__ for end in ends if isinstance(end.__self__, Feed))


def timers(stack: Stack) -> list[str]:
    """Name what would be called later, the edge's own look at its clients apart."""
    names = [call.func.__qualname__ for call in stack.reactor.getDelayedCalls()]
    return [name for name in names if not name.startswith("Deadlines.")]


# --------------------------------------------------------------------------- requests in flight


def test_d11_a_request_in_flight_from_its_beginning_to_its_end(stack: Stack) -> None:
    reader = Reader(stack, "?topics=inflight")
    stack.post_json(CHAT, {"model": "a"})
    stack.reactor.advance(0)
    [(_, begun)] = reader.take()
    assert (begun["operation"], begun["total"]) == ("upsert", 1)
    assert (begun["request"]["id"], begun["request"]["phase"]) == ("1", "queue")
    stack.router.states["a"] = ProcessState.STARTING
    stack.reactor.advance(0.25)
    [(_, loading)] = reader.take()
    assert loading["request"]["phase"] == "load"
    stack.be_ready("a")
    stack.router.waiter.granted(stack.router.pool)  # type: ignore[arg-type]  # there is one
    server = stack.accept()
    server.send(HEAD + b"2\r\nab\r\n")
    stack.reactor.advance(0.05)
    [(_, answered)] = reader.take()
    assert answered["request"]["resp_headers"] == {"Content-Type": "text/plain"}
    assert (answered["request"]["phase"], answered["request"]["resp_bytes"]) == ("stream", 2)
    for _ in range(3):
        server.send(b"2\r\nab\r\n")
        stack.reactor.advance(0.05)
    assert reader.take() == []  # bytes wait for the quarter of a second
    stack.reactor.advance(0.1)
    [(_, more)] = reader.take()
    assert more["request"]["resp_bytes"] == 8
    server.send(b"0\r\n\r\n")
    stack.reactor.advance(0.05)
    assert reader.take() == [("inflight", {"operation": "remove", "id": "1", "total": 0})]


def test_a_request_that_is_over_at_once_is_told_all_the_same(stack: Stack) -> None:
    reader = Reader(stack, "?topics=inflight")
    stack.post_json(CHAT, {"model": "a"}).leave()
    stack.reactor.advance(0)
    assert [(data["operation"], data["total"]) for _, data in reader.take()] == [("upsert", 0), ("remove", 0)]


def test_who_comes_later_is_told_of_all_requests(stack: Stack) -> None:
    first = Reader(stack, "?topics=inflight")
    client = stack.post_json(CHAT, {"model": "a"})
    stack.begin("GET", "/upstream/a/private")
    [(_, snapshot)] = Reader(stack, "?topics=inflight").first
    assert ([entry["id"] for entry in snapshot["requests"]], snapshot["total"]) == (["1"], 1)
    stack.reactor.advance(0)
    client.leave()
    stack.reactor.advance(1)
    assert [data["operation"] for _, data in first.take()] == ["upsert", "remove"]


def test_who_comes_first_is_told_how_a_request_goes_on_that_was_there_before(stack: Stack) -> None:
    stack.post_json(CHAT, {"model": "a"})
    reader = Reader(stack, "?topics=inflight")
    for state, phase in ((ProcessState.STARTING, "load"), (ProcessState.STOPPED, "queue")):
        stack.router.states["a"] = state
        stack.reactor.advance(0.5)
        assert [data["request"]["phase"] for _, data in reader.take()] == [phase]


def test_who_joins_between_two_looks_is_told_when_a_request_is_as_before(stack: Stack) -> None:
    first = Reader(stack, "?topics=inflight")
    stack.post_json(CHAT, {"model": "a"})
    stack.reactor.advance(0)
    stack.router.states["a"] = ProcessState.STARTING
    second = Reader(stack, "?topics=inflight")
    assert second.first[0][1]["requests"][0]["phase"] == "load"
    stack.router.states["a"] = ProcessState.STOPPED
    stack.reactor.advance(0.5)
    for reader in (first, second):
        assert reader.take()[-1][1]["request"]["phase"] == "queue"


def test_too_many_changes_become_one_list(stack: Stack) -> None:
    reader = Reader(stack, "?topics=inflight")
    for _ in range(129):
        stack.post_json(CHAT, {"model": "a"})
    stack.reactor.advance(0)
    [(_, snapshot)] = reader.take()
    assert (snapshot["operation"], snapshot["total"], len(snapshot["requests"])) == ("snapshot", 129, 129)


def test_counts_of_models_follow_within_a_second(stack: Stack) -> None:
    reader = Reader(stack, "?topics=models")
    stack.router.counts["a"] = (1, 0)
    stack.post_json(CHAT, {"model": "a"}).leave()
    stack.reactor.advance(SECOND)
    [(_, states)] = reader.take()
    assert states[0]["queued"] == 1
    stack.post_json(CHAT, {"model": "a"}).leave()
    stack.reactor.advance(SECOND)
    assert reader.take() == []  # as before


def test_who_joins_between_two_rounds_is_told_when_all_is_as_before(stack: Stack) -> None:
    first = Reader(stack, "?topics=models")
    stack.post_json(CHAT, {"model": "a"}).leave()
    stack.reactor.advance(SECOND)
    first.take()
    stack.router.counts["a"] = (1, 0)
    client = stack.post_json(CHAT, {"model": "a"})
    second = Reader(stack, "?topics=models")
    assert second.first[0][1][0]["queued"] == 1
    stack.router.counts["a"] = (0, 0)
    client.leave()
    stack.reactor.advance(SECOND)
    assert [data[0]["queued"] for _, data in second.take()] == [0]


# --------------------------------------------------------------------------- logs


def test_history_and_what_follows_have_no_gap_and_no_duplicate(stack: Stack) -> None:
    proxy = stack.daemon.logs.proxy
    text = "".join(f"{number} é😀\n" for number in range(40)).encode()
    readers: list[tuple[Reader, int]] = []
    for number, cut in enumerate(range(0, len(text), 7)):
        proxy.write(text[cut : cut + 7])
        if number % 3 == 0:
            readers.append((Reader(stack, "?topics=logs"), cut))
    stack.reactor.advance(1)
    for reader, _ in readers:
        assert logs_of(reader.first + reader.take()) == text.decode()


def test_both_logs_are_told_apart(stack: Stack) -> None:
    reader = Reader(stack)
    stack.daemon.logs.model(A).write(b"from a\xff\n")
    stack.daemon.logs.line(LogLevel.info, "ours")
    stack.reactor.advance(0.005)
    assert sorted(data["source"] + ": " + data["data"] for _, data in reader.take()) == [
        "proxy: [INFO] ours\n",
        "upstream: from a\N{REPLACEMENT CHARACTER}\n",
    ]


# --------------------------------------------------------------------------- slow clients


def test_h91_a_slow_client_gets_the_newest_states_and_a_list_of_requests(stack: Stack) -> None:
    slow, quick = Reader(stack), Reader(stack)
    slow.pause()
    clients = []
    for number in range(140):
        clients.append(stack.post_json(CHAT, {"model": "a"}))
        become(stack, A, ProcessState.STARTING if number % 2 else ProcessState.READY)
        stack.reactor.advance(0.06)
    for client in clients[:100]:
        client.leave()
    stack.reactor.advance(0.12)
    assert slow.raw() == b""
    assert len(quick.take()) > 140
    slow.resume()
    messages = slow.take()
    assert kinds(messages) == ["modelStatus", "activity", "inflight"]
    found = dict(messages)
    assert found["modelStatus"][0]["state"] == "starting"
    assert found["activity"] == {"id": 100}
    assert (found["inflight"]["operation"], len(found["inflight"]["requests"])) == ("snapshot", 40)
    clients[-1].leave()
    stack.reactor.advance(0.06)
    assert [data["operation"] for kind, data in slow.take() if kind == "inflight"] == ["remove"]


def test_h91_a_few_requests_wait_as_they_are(stack: Stack) -> None:
    slow = Reader(stack, "?topics=inflight")
    slow.pause()
    gone, there = stack.post_json(CHAT, {"model": "a"}), stack.post_json(CHAT, {"model": "a"})
    stack.reactor.advance(0.06)
    gone.leave()
    stack.reactor.advance(0.06)
    slow.resume()
    assert [(data["operation"], data["total"]) for _, data in slow.take()] == [("remove", 1), ("upsert", 2)]
    there.leave()


def test_h91_only_lines_of_logs_are_dropped_with_a_mark(stack: Stack) -> None:
    slow = Reader(stack)
    slow.pause()
    line = b"x" * 1023 + b"\n"
    for _ in range(400):
        stack.daemon.logs.upstream.write(line)
        stack.reactor.advance(0.005)
    become(stack, A, ProcessState.READY)
    stack.reactor.advance(60)
    slow.resume()
    messages = slow.take()
    assert kinds(messages) == ["logData", "modelStatus"]
    text = messages[0][1]["data"]
    assert text.startswith("\n— ")
    dropped_bytes = int(text.split()[1])
    assert dropped_bytes + text.count("x" * 1023 + "\n") * 1024 == 400 * 1024
    assert app_feed(stack).dropped_bytes == {"upstream": dropped_bytes}


def test_a_warning_about_a_slow_client_comes_at_most_every_10_seconds_and_causes_no_other() -> None:
    client, clock = client_of([])
    warned: list[float] = []

    def overflow() -> None:
        client.put_log("proxy", "x" * 300_000 + "\n", b"")
        while len(logged) > len(warned):
            warned.append(clock.seconds())
            client.put_log("proxy", "the warning, which is a line of the log\n", b"")

    with capturedLogs() as logged:
        for _ in range(6):
            client.pauseProducing()
            overflow()
            clock.advance(4)
            client.resumeProducing()
        client.pauseProducing()
        for _ in range(3):
            clock.advance(100)
            overflow()
    assert warned == [0, 12, 124]
    assert formatEvent(logged[0]) == "c is too slow for the event stream: lines of the logs are dropped"
    client.close()


def test_h91_snapshots_of_many_changes_do_not_come_before_older_messages() -> None:
    written: list[bytes] = []
    client, clock = client_of(written)
    client.make_snapshot = lambda: b"list"
    client.pauseProducing()
    client.put(Kind.IN_FLIGHT, b"old", 5)
    client.put_snapshot(b"older list")
    client.put(Kind.IN_FLIGHT, b"new", 5)
    client.resumeProducing()
    assert written == [b"list"]
    client.put_snapshot(b"another")
    assert written == [b"list", b"another"]
    client.close()
    assert clock.getDelayedCalls() == []


def test_the_records_that_wait_are_bounded() -> None:
    written: list[bytes] = []
    client, _ = client_of(written)
    client.pauseProducing()
    for number in range(1000):
        client.put(Kind.SWAP, b"%d," % number, number)
    client.resumeProducing()
    assert written == [b"".join(b"%d," % number for number in range(872, 1000))]
    client.pauseProducing()
    for number in range(5):
        client.put(Kind.SWAP, b"x" * 200_000, number)
    client.resumeProducing()
    assert len(written[1]) == 200_000
    client.close()


def client_of(written: list[bytes]) -> tuple[EventClient, Clock]:
    clock = Clock()
    return EventClient(written.append, USUAL_KINDS, clock, "c", Counter()), clock


def test_the_client_is_a_push_producer() -> None:
    client, _ = client_of([])
    assert verifyObject(IPushProducer, client)
    client.stopProducing()
    client.close()


# --------------------------------------------------------------------------- silence, and the end


def test_d6_a_silent_stream_has_a_comment_every_15_seconds(stack: Stack) -> None:
    reader = Reader(stack, "?topics=models")
    stack.reactor.advance(14)
    become(stack, A, ProcessState.READY)
    stack.reactor.advance(0)
    reader.take()
    stack.reactor.advance(14.9)
    assert reader.raw() == b""
    stack.reactor.advance(0.1)
    assert reader.raw() == b": ping\n\n"
    stack.reactor.advance(15)
    assert reader.raw() == b": ping\n\n"
    reader.pause()
    stack.reactor.advance(60)
    reader.resume()
    assert reader.raw() == b""


def test_h82_the_stream_ends_cleanly_at_the_shutdown(stack: Stack) -> None:
    reader, slow = Reader(stack), Reader(stack)
    slow.pause()
    become(stack, A, ProcessState.STOPPING)
    stack.reactor.advance(0)
    stack.daemon.logs.line(LogLevel.info, "last word")
    stack.daemon.logs.end_readers()
    stack.daemon.observers.end_readers()
    data = reader.end.take()
    assert data.endswith(b"\r\n0\r\n\r\n")
    assert kinds(parsed(undone(data))) == ["modelStatus", "logData"]
    assert slow.end.take().endswith(b"\r\n0\r\n\r\n")
    late = stack.begin("GET", "/api/events").take()
    assert late.endswith(b"\r\n0\r\n\r\n")
    assert b"last word" in late
    assert timers(stack) == []


def test_nothing_is_left_of_clients_that_left(stack: Stack) -> None:
    bus = stack.daemon.observers.bus
    before = {kind: listeners for kind, listeners in bus._listeners.items() if listeners}
    readers = [Reader(stack) for _ in range(3)]
    stack.post_json(CHAT, {"model": "a"})
    become(stack, A, ProcessState.READY)
    stack.daemon.logs.upstream.write(b"x\n")
    stack.reactor.advance(0.01)
    for reader in readers:
        reader.end.leave()
    assert timers(stack) == []
    assert {kind: listeners for kind, listeners in bus._listeners.items() if listeners} == before
    assert stack.daemon.logs.upstream._readers == []
    stack.daemon.logs.upstream.write(b"y\n")
    become(stack, A, ProcessState.STOPPED)
    assert timers(stack) == []
    assert logs_of(Reader(stack, "?topics=logs").first).endswith("x\ny\n")


def test_nothing_is_kept_for_who_comes_later(stack: Stack) -> None:
    other = Reader(stack, "?topics=models")
    for _ in range(2):
        reader = Reader(stack, "?topics=inflight,swaps,config")
        stack.post_json(CHAT, {"model": "a"})
        stack.reactor.advance(0.3)
        stack.post_json(CHAT, {"model": "a"}).leave()
        publish(stack, SwapChanged({"swap_id": 1, "outcome": None}))
        publish(stack, ReloadChanged({}))
        reader.end.leave()
        requests = app_feed(stack)._requests
        assert (requests._changed, requests._told) == ({}, {})
    late = Reader(stack, "?topics=inflight,swaps,config")
    swap = {"swap_id": 2, "outcome": None}
    publish(stack, SwapChanged(swap))
    publish(stack, ReloadChanged({"serial": 2}))
    stack.reactor.advance(1)
    assert late.take() == [("reload", {"serial": 2}), ("swap", swap)]
    other.end.leave()


def test_nothing_is_made_that_nobody_wants(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[object] = []

    def make(kind: Kind, document: object) -> bytes:
        made.append((kind, document))
        return b""

    monkeypatch.setattr("llamaswap.web.feed.message", make)
    reader = Reader(stack, "?topics=activity")
    become(stack, A, ProcessState.READY)
    stack.post_json(CHAT, {"model": "a"})
    stack.daemon.logs.upstream.write(b"x\n")
    publish(stack, SwapChanged({"swap_id": 1, "outcome": None}))
    publish(stack, ReloadChanged({}))
    stack.reactor.advance(2)
    assert made == []
    assert reader.take() == []


def test_a_client_of_http_1_0_gets_no_chunks(stack: Stack) -> None:
    end = stack.connect()
    end.send(b"GET /api/events?topics=config HTTP/1.0\r\n\r\n")
    head, _, body = end.take().partition(b"\r\n\r\n")
    assert b"chunked" not in head.lower()
    assert b"keep-alive" not in head.lower()
    assert kinds(parsed(body)) == ["uiConfig", "profileChanged"]
    stack.daemon.observers.end_readers()
    assert end.is_closed
