"""The local launcher does what every launcher must do."""

from __future__ import annotations

import os
import sys

from twisted.internet.interfaces import IReactorTime

from llamaswap.core.values import ModelId
from llamaswap.interfaces import IUpstreamLauncher, LaunchSpec
from llamaswap.process.local import LocalLauncher
from llamaswap.testing import LauncherConformance


def spec(program: str) -> LaunchSpec:
    return LaunchSpec(ModelId("m"), ("/bin/sh", "-c", program), dict(os.environ), "/", "http://model.invalid:1")


class TestLocalLauncher(LauncherConformance):
    def clock(self) -> IReactorTime:
        from twisted.internet import reactor

        return IReactorTime(reactor)

    def make_launcher(self) -> IUpstreamLauncher:
        return LocalLauncher(self.clock())

    def serving(self) -> LaunchSpec:
        return spec("echo here; exec sleep 600")

    def stubborn(self) -> LaunchSpec:
        ignore = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('here', flush=True)"
        return spec(f'exec "{sys.executable}" -S -c "{ignore}; time.sleep(600)"')

    def ending(self) -> LaunchSpec:
        return spec("exit 3")

    def missing(self) -> LaunchSpec:
        return LaunchSpec(ModelId("m"), ("/no/such/server",), {}, "/", "http://model.invalid:1")
