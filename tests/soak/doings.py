"""What was done to the daemon while it worked, and when."""

from __future__ import annotations

from dataclasses import dataclass, field

from tests.soak.world import GUEST, MODELS


@dataclass(frozen=True)
class Interval:
    """Seconds on the monotonic clock."""

    begin: float
    end: float

    def touches(self, begin: float, end: float) -> bool:
        """Say whether it has a moment in common with another."""
        return self.begin <= end and begin <= self.end


@dataclass
class Doings:
    """What was done to the daemon, and when: the judge takes it for a cause.

    Attributes:
        changed: When a model was given another command, or taken away.
        absent: When the guest was unknown.
        down: When there was no daemon.
        reloads: How many reloads took place.
        wrong: What went wrong with them.
    """

    changed: dict[str, list[Interval]] = field(default_factory=lambda: {m: [] for m in (*MODELS, GUEST)})
    absent: list[Interval] = field(default_factory=list)
    down: list[Interval] = field(default_factory=list)
    reloads: int = 0
    wrong: list[str] = field(default_factory=list)

    def was_down(self, begin: float, end: float) -> bool:
        """Say whether there was no daemon at some moment between the two."""
        return any(interval.touches(begin, end) for interval in self.down)
