"""The real edge, routes and relay, between a client and a model's server in memory; the router is a fake."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from itertools import count
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.error import ConnectionDone
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.python.failure import Failure

from llamaswap.config.names import find_peer_models
from llamaswap.config.problems import Problems
from llamaswap.config.schema import Config, ModelConfig, Timeouts
from llamaswap.core.fences import Fence
from llamaswap.core.records import Choice, Waiting, WhatIf
from llamaswap.core.snapshot import UpstreamSnapshot
from llamaswap.core.values import Generation, ModelId, ProcessState, RequestId, StopReason, SwapReason
from llamaswap.errors import LlamaSwapError
from llamaswap.loan import Loan
from llamaswap.proxy.hop import HopPool
from llamaswap.proxy.peers import Peers
from llamaswap.telemetry.logs import Logs
from llamaswap.waiter import Waiter
from llamaswap.web.app import App
from llamaswap.web.observers import Observers
from llamaswap.web.site import EdgeSite
from tests.fakes import InlineWorker

NOW = 1795165973.9


def config_of(*models: ModelConfig, **settings: Any) -> Config:
    aliases = {alias: model.id for model in models for alias in model.aliases}
    no_places: Any = {}
    peer_models = find_peer_models(settings.get("peers", {}), no_places, Problems())
    return Config(models={model.id: model for model in models}, aliases=aliases, peer_models=peer_models, **settings)


class FakeRouter:
    """Grants at once, refuses at once, or leaves everybody waiting.

    Attributes:
        pool: What is granted; ``None`` = everybody waits.
        error: What everybody is refused with.
        states: By model; the others are stopped.
        entered: Who came, by request.
        ended: Who left, as often as they said so.
        unloads: What was asked to stop, with the Deferred to fire.
        details: Snapshots by model; the others are plain.
        waits: Who waits for what.
        asked: Of which models it was asked what a request would cause.
        answer: What it says to that.
        counts: By model, who waits and who is served; the others have nobody.
        memory: What a model's process takes, by model; of the others it is unknown.
    """

    def __init__(self, models: Mapping[ModelId, ModelConfig]) -> None:
        self.pool: HopPool | None = None
        self.error: LlamaSwapError | None = None
        self.states: dict[str, ProcessState] = {}
        self.entered: dict[RequestId, tuple[ModelId, Waiter[HopPool], SwapReason]] = {}
        self.ended: list[RequestId] = []
        self.unloads: list[tuple[set[ModelId], StopReason, Deferred[None]]] = []
        self.details: dict[str, UpstreamSnapshot] = {}
        self.counts: dict[str, tuple[int, int]] = {}
        self.memory: dict[str, Deferred[int | None]] = {}
        self.waits: list[Waiting] = []
        self.asked: list[ModelId] = []
        self.answer = WhatIf(Choice.SERVE)
        self.standing: list[Fence] = []
        self._models = models
        self._ids = count(1)

    def enter(
        self,
        model: ModelId,
        waiter: Waiter[HopPool],
        reason: SwapReason = SwapReason.REQUEST,
    ) -> RequestId:
        waiter.request_id = request = RequestId(next(self._ids))
        self.entered[request] = (model, waiter, reason)
        if self.error is not None:
            waiter.refused(self.error)
        elif self.pool is not None:
            waiter.granted(self.pool)
        return request

    def borrow(self, model: ModelId, reason: SwapReason) -> Loan:
        loan = Loan(self.leave)
        self.enter(model, loan, reason)
        return loan

    def leave(self, request: RequestId) -> None:
        self.ended.append(request)

    def unload(self, models: Collection[ModelId], reason: StopReason = StopReason.USER) -> Deferred[None]:
        done: Deferred[None] = Deferred()
        self.unloads.append((set(models), reason, done))
        return done

    def snapshots(self) -> list[UpstreamSnapshot]:
        return [self.details.get(m, UpstreamSnapshot(m, self.state(m), Generation(1))) for m in sorted(self._models)]

    def resident_bytes(self, model: ModelId) -> Deferred[int | None]:
        return self.memory.get(model) or succeed(None)

    def config_of(self, model: ModelId) -> ModelConfig:
        return self._models[model]

    def reserved(self, model: ModelId) -> tuple[int, int]:
        return self.counts.get(model, (0, 0))

    def ready_pool(self, model: ModelId) -> HopPool | None:
        return self.pool if self.state(model) is ProcessState.READY else None

    def waiting(self) -> list[Waiting]:
        return self.waits

    def fences(self) -> list[Fence]:
        return self.standing

    def what_if(self, model: ModelId) -> WhatIf:
        self.asked.append(model)
        return self.answer

    def state(self, model: ModelId) -> ProcessState:
        return self.states.get(model, ProcessState.STOPPED)

    @property
    def waiter(self) -> Waiter[HopPool]:
        """The only one who came."""
        [(_, waiter, _)] = self.entered.values()
        return waiter

    @property
    def models(self) -> list[ModelId]:
        """Whom everybody asked for."""
        return [model for model, _, _ in self.entered.values()]


@dataclass
class FakeDaemon:
    config: Config
    router: FakeRouter
    logs: Logs
    reactor: Any = field(default_factory=MemoryReactorClock)

    def __post_init__(self) -> None:
        self.observers = Observers(self.reactor, self.config, {}, InlineWorker)
        self.peers = Peers(self.reactor, self.config.peers)

    def reload_document(self) -> Mapping[str, Any]:
        return {"serial": 1}


@dataclass
class Response:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def document(self) -> Any:
        assert self.headers["content-type"] == "application/json"
        return json.loads(self.body)


class End:
    """One end of a connection in memory: the client's, or the model's server's."""

    def __init__(self, protocol: Any) -> None:
        self.transport = StringTransport()
        self._protocol = protocol
        protocol.makeConnection(self.transport)

    def send(self, data: bytes) -> None:
        self._protocol.dataReceived(data)

    def take(self) -> bytes:
        """Give what has arrived since the last time."""
        data: bytes = self.transport.value()
        self.transport.clear()
        return data

    def leave(self) -> None:
        self._protocol.connectionLost(Failure(ConnectionDone()))

    @property
    def is_closed(self) -> bool:
        return self.transport.disconnecting or self.transport.disconnected


@dataclass
class Stack:
    """Everything between the two ends."""

    config: Config
    reactor: Any = field(default_factory=MemoryReactorClock)
    access_lines: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.router = FakeRouter(self.config.models)
        logs = Logs(self.config, self.reactor, lambda *_: None, lambda _: None)
        self.daemon = FakeDaemon(self.config, self.router, logs, self.reactor)
        self.site = EdgeSite(App(self.daemon, lambda: NOW).resource(), self.reactor, self)

    def line(self, level: Any, text: str) -> None:
        """Keep a line of the access log."""
        self.access_lines.append(text)

    def be_ready(self, *models: str) -> None:
        """Have models up; everybody is granted from now on."""
        self.router.states.update(dict.fromkeys(models, ProcessState.READY))
        self.router.pool = HopPool(self.reactor, "http://127.0.0.1:5800", Timeouts())

    def connect(self) -> End:
        """Connect a client."""
        return End(self.site.buildProtocol(None))

    def accept(self) -> End:
        """Accept the newest connection to a model's server."""
        _, _, factory, _, _ = self.reactor.tcpClients.pop()
        return End(factory.buildProtocol(None))

    def begin(
        self,
        method: str,
        target: str,
        body: bytes = b"",
        headers: Mapping[str, str] | None = None,
    ) -> End:
        """Send a request on a connection of its own."""
        client = self.connect()
        fields = {"Host": "llama.example", **({"Content-Length": str(len(body))} if body else {}), **(headers or {})}
        head = f"{method} {target} HTTP/1.1\r\n" + "".join(f"{name}: {value}\r\n" for name, value in fields.items())
        client.send(head.encode("latin-1") + b"\r\n" + body)
        return client

    def ask(
        self,
        method: str,
        target: str,
        body: bytes = b"",
        headers: Mapping[str, str] | None = None,
    ) -> Response:
        """Send a request and read the answer, which is there at once."""
        return response_of(self.begin(method, target, body, headers).take())

    def post_json(self, target: str, document: Any, **headers: str) -> End:
        """Begin a request with a JSON body; bytes go as they are."""
        body = document if isinstance(document, bytes) else json.dumps(document).encode()
        return self.begin("POST", target, body, {"Content-Type": "application/json", **headers})


def response_of(data: bytes) -> Response:
    """Read one whole answer with a ``Content-Length`` or without a body."""
    head, _, body = data.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    assert first.startswith("HTTP/1.1 "), data
    headers: dict[str, str] = {}
    for line in lines:
        name, _, value = line.partition(": ")
        assert name.lower() not in headers, f"two {name}"
        headers[name.lower()] = value
    return Response(int(first.split(" ")[1]), headers, body)
