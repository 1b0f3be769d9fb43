"""The scheduler against arbitrary worlds: any order of events keeps the invariants."""

from __future__ import annotations

from math import inf
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from llamaswap.core.values import SwapReason
from tests.unit.scheduler_world import World, groups

MODELS = ["a", "b", "c", "d", "e"]

LAYOUTS: list[dict[str, dict[str, Any]]] = [
    groups(all=MODELS),
    groups(one=["a", "b"], two=["c", "d"], free={"members": ["e"], "exclusive": False}),
    groups(
        many={"members": ["a", "b", "c"], "swap": False},
        keep={"members": ["d"], "persistent": True},
        rest=["e"],
    ),
    groups(open={"members": MODELS, "swap": False, "exclusive": False}),
]


class SchedulerMachine(RuleBasedStateMachine):
    """Plays arrivals, hang-ups, swaps, unloads, crashes, TTL, reloads and shutdown in any order."""

    world: World

    @initialize(layout=st.sampled_from(LAYOUTS), limit=st.integers(1, 4), data=st.data())
    def begin(self, layout: dict[str, dict[str, Any]], limit: int, data: st.DataObject) -> None:
        """Choose the rules."""
        priority = data.draw(st.dictionaries(st.sampled_from(MODELS), st.integers(-2, 2)))
        self.world = World(MODELS, layout, limit=limit, priority=priority)

    @rule(model=st.sampled_from(MODELS), reason=st.sampled_from(list(SwapReason)))
    def arrive(self, model: str, reason: SwapReason) -> None:
        """Let a request come."""
        self.world.arrive(model, reason)

    @precondition(lambda self: self.world.waiting)
    @rule(data=st.data())
    def hang_up(self, data: st.DataObject) -> None:
        """Let a waiting client leave."""
        self.world.leave(data.draw(st.sampled_from(sorted(self.world.waiting))))

    @precondition(lambda self: any(self.world.in_flight.values()))
    @rule(data=st.data())
    def answer_ends(self, data: st.DataObject) -> None:
        """Let an answer end; telling of it twice is harmless."""
        request = data.draw(st.sampled_from(sorted(r for s in self.world.in_flight.values() for r in s)))
        self.world.leave(request)
        self.world.leave(request)

    @precondition(lambda self: any(not r.is_starting for r in self.world.swaps.values()))
    @rule(data=st.data())
    def victims_are_gone(self, data: st.DataObject) -> None:
        """Let a swap go on to its start."""
        self.world.evicted(data.draw(st.sampled_from([s for s, r in self.world.swaps.items() if not r.is_starting])))

    @precondition(lambda self: any(r.is_starting for r in self.world.swaps.values()))
    @rule(data=st.data(), failure=st.sampled_from(["", "", "upstream command exited prematurely"]))
    def swap_ends(self, data: st.DataObject, failure: str) -> None:
        """Let a swap end well or badly."""
        swap = data.draw(st.sampled_from([s for s, r in self.world.swaps.items() if r.is_starting]))
        self.world.finish(swap, failure)

    @rule(models=st.sets(st.sampled_from(MODELS), min_size=1))
    def unload(self, models: set[str]) -> None:
        """Ask for an unload."""
        self.world.unload(*models)

    @precondition(lambda self: self.world.unloads)
    @rule(data=st.data())
    def unload_ends(self, data: st.DataObject) -> None:
        """Let an unload be done."""
        self.world.unloaded(data.draw(st.sampled_from(sorted(self.world.unloads))))

    @precondition(lambda self: self.world.ready)
    @rule(data=st.data())
    def crash(self, data: st.DataObject) -> None:
        """Let a ready process die."""
        self.world.crash(data.draw(st.sampled_from(sorted(self.world.ready))))

    @precondition(lambda self: self.world.ready)
    @rule(data=st.data())
    def expire(self, data: st.DataObject) -> None:
        """Let an idle time be over."""
        self.world.expire(data.draw(st.sampled_from(sorted(self.world.ready))))

    @precondition(lambda self: not self.world.has_ended)
    @rule(layout=st.sampled_from(LAYOUTS), models=st.sets(st.sampled_from(MODELS), min_size=1), data=st.data())
    def reload(self, layout: dict[str, dict[str, Any]], models: set[str], data: st.DataObject) -> None:
        """Change rules, limits and priorities, take models away and bring them back, change some."""
        world = self.world
        kept = sorted(world.configured & models)
        restarted = data.draw(st.sets(st.sampled_from(kept))) if kept else set()
        world.priority = data.draw(st.dictionaries(st.sampled_from(MODELS), st.integers(-2, 2)))
        settings = {name: {**g, "members": sorted(models.intersection(g["members"]))} for name, g in layout.items()}
        world.reload(
            *sorted(models),
            settings=settings,
            restarted=restarted,
            limit=data.draw(st.integers(1, 4)),
            drain=data.draw(st.sampled_from([0.0, 5.0, 1000.0])),
            enforces=data.draw(st.booleans()),
        )

    @precondition(lambda self: self.world.wake != inf)
    @rule()
    def time_passes(self) -> None:
        """Let the time come that the scheduler waits for."""
        self.world.wait()

    @precondition(lambda self: len(self.world.transcript) > 30)
    @rule(really=st.integers(0, 9))
    def shut_down(self, really: int) -> None:
        """Let the end begin, now and then."""
        if really == 0:
            self.world.shut_down()

    def teardown(self) -> None:
        """Let everything come to rest: then nobody waits any more."""
        if not hasattr(self, "world"):
            return
        world = self.world
        for _ in range(1000):
            if not (world.swaps or world.unloads or any(world.in_flight.values())):
                break
            world.settle()
            for request in [r for s in world.in_flight.values() for r in s]:
                world.leave(request)
        assert not world.waiting, "somebody waits although nothing happens"
        assert len(world.outcomes) == len(world.model_of), "I2: every request has one outcome"


TestSchedulerMachine = SchedulerMachine.TestCase
TestSchedulerMachine.settings = settings(
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=[HealthCheck.filter_too_much, HealthCheck.too_slow],
)
