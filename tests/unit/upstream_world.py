"""A supervisor in a made-up world."""

from __future__ import annotations

from twisted.internet.task import Clock

from llamaswap.config.schema import ModelConfig
from llamaswap.core.values import ModelId, ProcessState
from llamaswap.process.upstream import Upstream
from tests.deferreds import success_of
from tests.fakes import Events, FakeAgent, FakeLaunched, FakeLauncher, FakeProbe


class World:
    """One model, ``m``, with every neighbour of its supervisor at hand."""

    def __init__(self, **fields: object) -> None:
        settings: dict[str, object] = {"argv": ("server",), "proxy": "http://127.0.0.1:5800", **fields}
        self.clock = Clock()
        self.launcher = FakeLauncher()
        self.agent = FakeAgent()
        self.events = Events()
        self.history = b""
        self.upstream = Upstream(
            ModelConfig(id=ModelId("m"), **settings),  # type: ignore[arg-type]  # fields of many types
            clock=self.clock,
            launcher=self.launcher,
            probe_agent=self.agent,
            events=self.events,
            on_output=lambda _: None,
            environ={"PATH": "/bin"},
            cwd="/srv",
            history=lambda: self.history,
        )

    @property
    def state(self) -> ProcessState:
        return self.upstream.state

    @property
    def launched(self) -> FakeLaunched:
        """The newest process."""
        return self.launcher.launched[-1]

    def probe(self) -> FakeProbe:
        """Wait for the next probe."""
        seen = len(self.agent.probes)
        for _ in range(300):
            if len(self.agent.probes) > seen:
                break
            self.clock.advance(0.001)
        return self.agent.probes[-1]

    def start(self) -> None:
        """Bring it up."""
        ready = self.upstream.ensure_ready()
        self.probe().answer(200)
        success_of(ready)
        self.events.told.clear()

    def wait(self, seconds: float) -> None:
        for _ in range(round(seconds * 10)):
            self.clock.advance(0.1)
