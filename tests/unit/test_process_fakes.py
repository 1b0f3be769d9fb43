"""Fakes and real providers keep to the interfaces that they stand for."""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IProcessProtocol, IProcessTransport, IReactorProcess, IReadDescriptor
from twisted.web.iweb import IAgent, IResponse
from zope.interface.verify import verifyObject

from llamaswap.core.values import ModelId
from llamaswap.interfaces import ILaunched, ILiveStopCommand, IUpstreamLauncher, LaunchSpec
from llamaswap.process.health import IAnswerOwner
from llamaswap.process.local import LocalLauncher
from llamaswap.process.output import OutputPipe
from llamaswap.process.protocol import Child
from tests.deferreds import success_of
from tests.fakes import (
    FakeAgent,
    FakeLaunched,
    FakeLauncher,
    FakeProcessReactor,
    FakeResponse,
    FakeTable,
)


def test_fakes_provide_what_they_stand_for() -> None:
    reactor = FakeProcessReactor()
    verifyObject(IReactorProcess, reactor)
    verifyObject(IUpstreamLauncher, FakeLauncher())
    verifyObject(ILaunched, FakeLaunched("http://x"))
    verifyObject(IAgent, FakeAgent())
    verifyObject(IResponse, FakeResponse(200))


def test_local_launcher_and_its_parts_provide_their_interfaces() -> None:
    reactor = FakeProcessReactor()
    launcher = LocalLauncher(reactor, table=FakeTable(), spawn=reactor.spawn)
    verifyObject(IUpstreamLauncher, launcher)
    spec = LaunchSpec(ModelId("m"), ("/bin/sh",), {}, "/", "http://model.invalid")
    launched = success_of(launcher.launch(spec, lambda _: None))
    verifyObject(ILaunched, launched)
    verifyObject(ILiveStopCommand, launched)
    verifyObject(IAnswerOwner, launched)
    verifyObject(IProcessTransport, reactor.children[0])
    reactor.children[0].end()
    success_of(launched.stop(1))
    reactor.read()


def test_output_pipe_and_child_provide_their_interfaces() -> None:
    pipe = OutputPipe(FakeProcessReactor(), lambda _: None)
    verifyObject(IReadDescriptor, pipe)
    verifyObject(IProcessProtocol, Child(pipe))
    assert isinstance(Child(pipe).exited, Deferred)
    pipe.close_write_end()
    pipe.close()
