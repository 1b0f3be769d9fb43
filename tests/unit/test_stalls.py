"""When the reactor stands still, the log says for how long, and where."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from typing import Any

from twisted.internet.task import Clock
from twisted.logger import LogLevel, capturedLogs

from llamaswap.stalls import StallWatch


class World(Clock):
    """A reactor whose time also passes while it does something, and the watch over it."""

    def __init__(self) -> None:
        super().__init__()
        self.lost_seconds = 0.0
        self.watch = StallWatch(self, lambda: self.seconds() + self.lost_seconds)
        self.watch._over.set()  # the thread ends at once: the test looks itself
        self.watch.start()

    def stall(self, seconds: float) -> None:
        """Do something for so long, while another thread looks."""
        self.lost_seconds += seconds
        looking = threading.Thread(target=self.watch.look)
        looking.start()
        looking.join()

    def said(self, action: Callable[[], Any]) -> list[str]:
        """Give what is logged during an action and the next beat."""
        with capturedLogs() as events:
            action()
            self.advance(0.1)
        assert all(event["log_level"] is LogLevel.warn for event in events)
        return [f"{event['milliseconds']}{event['more']}, in:\n{event['stack']}" for event in events]


def a_long_computation(world: World) -> None:
    world.stall(0.25)


def test_h90_a_stall_is_logged_with_the_stack() -> None:
    world = World()
    [line] = world.said(lambda: a_long_computation(world))
    assert line.startswith("250, in:\n")
    assert "a_long_computation" in line
    assert world.said(lambda: None) == []


def test_h90_what_is_short_or_on_time_is_not() -> None:
    world = World()
    assert world.said(lambda: world.stall(0.09)) == []
    assert world.said(lambda: world.pump([0.1] * 20)) == []


def test_h90_waiting_for_the_machine_is_no_stall() -> None:
    world = World()
    namespace: dict[str, Any] = {"__name__": "twisted.internet.epollreactor"}
    exec("def doPoll(seen, lock):\n    seen.set()\n    lock.acquire()", namespace)
    seen, lock = threading.Event(), threading.Lock()
    with lock:
        waiting = threading.Thread(target=namespace["doPoll"], args=(seen, lock))
        waiting.start()
        seen.wait(5)
        assert waiting.ident is not None
        world.watch._watched_thread = waiting.ident
        while sys._current_frames()[waiting.ident].f_code.co_name != "doPoll":
            pass  # it is on its way out of set()
        world.lost_seconds += 1
        world.watch.look()
    waiting.join()
    assert world.said(lambda: None) == []


def test_h90_a_process_that_was_stopped_did_not_stall() -> None:
    world = World()
    world.lost_seconds += 1
    assert world.said(lambda: None) == []


def test_h90_the_log_is_not_flooded() -> None:
    world = World()
    assert len(world.said(lambda: world.stall(0.25))) == 1
    for _ in range(3):
        assert world.said(lambda: world.stall(0.25)) == []
    world.pump([0.1] * 100)
    [line] = world.said(lambda: world.stall(0.25))
    assert line.startswith("250, and 3 times before")


def test_nothing_is_left_when_it_stops() -> None:
    world = World()
    world.watch.stop()
    world.watch.stop()
    assert not world.getDelayedCalls()
