"""What is due from clients, and by when; and whether those that we make wait are still there."""

from __future__ import annotations

from typing import Final, Protocol

from twisted.internet.interfaces import IDelayedCall, IReactorTime

_EVERY_SECONDS: Final = 1.0
_AT_ONCE: Final = 50
"""Most clients that are told in one turn that they are late: hundreds would hold up everybody else."""


class Sender(Protocol):
    """A connection on which something may be due from the client."""

    def overdue(self) -> None:
        """Take note that it did not come."""

    def look_after(self) -> None:
        """Find out whether the client, who has to wait, has left meanwhile."""


class Deadlines:
    """Deadlines of many connections, with one timer that runs while there are any.

    Args:
        clock: Calls later.
        head_seconds: For a whole head; 0 = none.
        body_seconds: For the next piece of a body; 0 = none.
    """

    def __init__(self, clock: IReactorTime, head_seconds: float, body_seconds: float) -> None:
        self._clock = clock
        self._head_seconds = head_seconds
        self._body_seconds = body_seconds
        self._due_mono: dict[Sender, float] = {}
        self._held_up: set[Sender] = set()
        self._timer: IDelayedCall | None = None

    def change(self, head_seconds: float, body_seconds: float) -> None:
        """Have other limits; what is due already stays due."""
        self._head_seconds = head_seconds
        self._body_seconds = body_seconds

    def expect_head(self, sender: Sender) -> None:
        """Give a client time to send the rest of a head; further pieces do not gain time."""
        if sender not in self._due_mono:
            self.expect(sender, self._head_seconds)

    def expect_body(self, sender: Sender) -> None:
        """Give a client time to send the next piece of a body."""
        self.expect(sender, self._body_seconds)

    def expect(self, sender: Sender, seconds: float) -> None:
        """Set a deadline, anew if there is one; 0 = none."""
        if seconds:
            self._due_mono[sender] = self._clock.seconds() + seconds
            self._start()
        else:
            self._due_mono.pop(sender, None)

    def expect_nothing(self, sender: Sender) -> None:
        """Let a client take all the time it wants."""
        self._due_mono.pop(sender, None)

    def hold_up(self, sender: Sender) -> None:
        """Expect nothing of a client that we do not listen to, but look after it."""
        self._due_mono.pop(sender, None)
        self._held_up.add(sender)
        self._start()

    def let_go(self, sender: Sender) -> None:
        """Listen to a client again."""
        self._held_up.discard(sender)

    def forget(self, sender: Sender) -> None:
        """Forget a connection."""
        self._due_mono.pop(sender, None)
        self._held_up.discard(sender)

    def stop(self) -> None:
        """Stop the timer."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _start(self, delay_seconds: float = _EVERY_SECONDS) -> None:
        if self._timer is None:
            self._timer = self._clock.callLater(delay_seconds, self._look)

    def _look(self) -> None:
        self._timer = None
        now = self._clock.seconds()
        overdue = [sender for sender, due_mono in self._due_mono.items() if due_mono <= now]
        for sender in overdue[:_AT_ONCE]:
            if self._due_mono.pop(sender, None) is not None:  # the end of another may have changed that
                sender.overdue()
        for sender in list(self._held_up):
            sender.look_after()
        if len(overdue) > _AT_ONCE:
            self.stop()
            self._start(0)
        elif self._due_mono or self._held_up:
            self._start()
