"""Public conformance kits: what the parts that third parties write must do, as test classes to subclass.

A test method that waits returns a Deferred, so the kits run under pytest with pytest-twisted as well
as under trial.
"""

from __future__ import annotations

import json
from typing import Final, TypeVar

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime
from zope.interface.verify import verifyObject

from llamaswap.errors import UpstreamStartError
from llamaswap.interfaces import ExitStatus, ILaunched, IUpstreamLauncher, LaunchSpec

T = TypeVar("T")

_SOON_SECONDS: Final = 5.0
"""What a launcher may need beyond the grace of a stop."""

_SHORT_GRACE_SECONDS: Final = 0.5
_LONG_GRACE_SECONDS: Final = 60.0


class LauncherConformance:
    """What every :class:`~llamaswap.interfaces.IUpstreamLauncher` must do.

    Subclass it in a test module, under a name that the test runner collects, and override what raises
    ``NotImplementedError``. Each test makes a launcher of its own and leaves nothing running.
    """

    # ----------------------------------------------------------------- to override

    def clock(self) -> IReactorTime:
        """Give the reactor that runs the tests."""
        raise NotImplementedError

    def make_launcher(self) -> IUpstreamLauncher:
        """Make the launcher under test."""
        raise NotImplementedError

    def serving(self) -> LaunchSpec:
        """Describe a server that prints something, and runs until it is asked to end, which it then does."""
        raise NotImplementedError

    def stubborn(self) -> LaunchSpec:
        """Describe a server that prints something, and does not end when asked from then on."""
        raise NotImplementedError

    def ending(self) -> LaunchSpec:
        """Describe a server that ends by itself at once, with exit status 3."""
        raise NotImplementedError

    def missing(self) -> LaunchSpec:
        """Describe a server that cannot be brought up."""
        raise NotImplementedError

    # ----------------------------------------------------------------- the tests

    def test_provides_the_interface(self) -> None:
        """The launcher has all that it needs, with the right signatures."""
        verifyObject(IUpstreamLauncher, self.make_launcher())

    def test_what_cannot_be_brought_up_fails_with_a_start_error(self) -> Deferred[None]:
        """Nothing else is a failure that the supervisor understands."""
        return Deferred.fromCoroutine(self._cannot_be_brought_up())

    def test_server_describes_itself(self) -> Deferred[None]:
        """It provides its interface, and what it says of itself can be shown as JSON."""
        return Deferred.fromCoroutine(self._describes_itself())

    def test_server_ends_when_asked(self) -> Deferred[None]:
        """Long before the grace is over; a stop after the end is done at once."""
        return Deferred.fromCoroutine(self._ends_when_asked())

    def test_server_that_does_not_end_is_ended_by_force(self) -> Deferred[None]:
        """When the grace is over, and not before."""
        return Deferred.fromCoroutine(self._is_ended_by_force())

    def test_shorter_grace_wins(self) -> Deferred[None]:
        """A second stop joins the first one; each caller has a Deferred of his own."""
        return Deferred.fromCoroutine(self._shorter_grace_wins())

    def test_caller_who_cancels_ends_his_waiting_alone(self) -> Deferred[None]:
        """The stop goes on."""
        return Deferred.fromCoroutine(self._one_caller_cancels())

    def test_server_that_ends_by_itself_is_told_of(self) -> Deferred[None]:
        """With its exit status where that is known; there is still something to stop: what it left."""
        return Deferred.fromCoroutine(self._ends_by_itself())

    def test_cancelled_launch_leaves_nothing(self) -> Deferred[None]:
        """It fails in the same turn, unless the server was there already."""
        return Deferred.fromCoroutine(self._launch_is_cancelled())

    # ----------------------------------------------------------------- how

    async def _cannot_be_brought_up(self) -> None:
        try:
            await self._within(_SOON_SECONDS, self.make_launcher().launch(self.missing(), lambda _: None))
        except UpstreamStartError as error:
            _check(bool(error.message), "the error says why")
        else:
            raise AssertionError("not so: the launch fails")

    async def _describes_itself(self) -> None:
        launched = await self._launch(self.serving())
        try:
            verifyObject(ILaunched, launched)
            json.dumps(dict(launched.describe()))
            resident_bytes = await self._within(_SOON_SECONDS, launched.resident_bytes())
            _check(resident_bytes is None or resident_bytes > 0, "resident_bytes() gives bytes or None")
        finally:
            await self._within(_SOON_SECONDS, launched.stop(_SHORT_GRACE_SECONDS))

    async def _ends_when_asked(self) -> None:
        launched = await self._launch(self.serving())
        exits = _collect(launched)
        await self._within(_SOON_SECONDS, launched.stop(_LONG_GRACE_SECONDS))
        _check(len(exits) == 1, "exited has fired, once, by the time of the stop")
        _check(launched.stop(_LONG_GRACE_SECONDS).called, "a stop after the end is done at once")

    async def _is_ended_by_force(self) -> None:
        launched = await self._launch(self.stubborn())
        before = self.clock().seconds()
        await self._within(_SHORT_GRACE_SECONDS + _SOON_SECONDS, launched.stop(_SHORT_GRACE_SECONDS))
        _check(self.clock().seconds() - before >= _SHORT_GRACE_SECONDS, "the grace is kept")

    async def _shorter_grace_wins(self) -> None:
        launched = await self._launch(self.stubborn())
        first = launched.stop(_LONG_GRACE_SECONDS)
        second = launched.stop(_SHORT_GRACE_SECONDS)
        _check(first is not second, "each caller has a Deferred of his own")
        await self._within(_SHORT_GRACE_SECONDS + _SOON_SECONDS, second)
        await self._within(_SOON_SECONDS, first)

    async def _one_caller_cancels(self) -> None:
        launched = await self._launch(self.serving())
        first, second = launched.stop(_LONG_GRACE_SECONDS), launched.stop(_LONG_GRACE_SECONDS)
        first.addErrback(lambda failure: failure.trap(CancelledError))
        first.cancel()
        await self._within(_SOON_SECONDS, second)

    async def _ends_by_itself(self) -> None:
        launched = await self.make_launcher().launch(self.ending(), lambda _: None)
        exited: Deferred[ExitStatus] = Deferred()
        launched.exited.addCallback(exited.callback)
        status = await self._within(_SOON_SECONDS, exited)
        _check(status.exit_code in {3, None}, "the exit status is 3, or not known")
        await self._within(_SOON_SECONDS, launched.stop(_SHORT_GRACE_SECONDS))

    async def _launch_is_cancelled(self) -> None:
        launching = self.make_launcher().launch(self.serving(), lambda _: None)
        launching.cancel()
        _check(launching.called, "a cancelled launch is over in the same turn")
        try:
            launched = await launching
        except CancelledError:
            return
        await self._within(_SOON_SECONDS, launched.stop(_SHORT_GRACE_SECONDS))

    async def _launch(self, spec: LaunchSpec) -> ILaunched:
        """Launch a server and wait until it prints something."""
        printed: Deferred[None] = Deferred()

        def take(data: bytes) -> None:
            _check(isinstance(data, bytes), "output is bytes")
            if not printed.called:
                printed.callback(None)

        launched = await self._within(_LONG_GRACE_SECONDS, self.make_launcher().launch(spec, take))
        await self._within(_LONG_GRACE_SECONDS, printed)
        return launched

    def _within(self, seconds: float, deferred: Deferred[T]) -> Deferred[T]:
        return deferred.addTimeout(seconds, self.clock())


def _collect(launched: ILaunched) -> list[ExitStatus]:
    exits: list[ExitStatus] = []
    launched.exited.addCallback(exits.append)
    return exits


def _check(condition: bool, promise: str) -> None:  # noqa: FBT001  # as the assert statement has it
    """Fail a test; works where assert statements are left out, and reads well without a plugin's rewriting."""
    if not condition:
        raise AssertionError(f"not so: {promise}")
