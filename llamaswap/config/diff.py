"""What a reload changes: which processes serve on, which are of no use any more."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from llamaswap.config.schema import Config, ModelConfig
from llamaswap.core.values import ModelId


@dataclass(frozen=True, slots=True)
class Difference:
    """The local models of two configurations, each set sorted.

    Attributes:
        kept: In both, started in the same way.
        restarted: In both, started in another way.
        added: In the new one only.
        removed: In the old one only.
    """

    kept: tuple[ModelId, ...] = ()
    restarted: tuple[ModelId, ...] = ()
    added: tuple[ModelId, ...] = ()
    removed: tuple[ModelId, ...] = ()


NO_DIFFERENCE: Final = Difference()


def compare(old: Config, new: Config) -> Difference:
    """Compare two configurations."""
    both = sorted(old.models.keys() & new.models.keys())
    restarted = [m for m in both if effective_identity(old.models[m]) != effective_identity(new.models[m])]
    return Difference(
        kept=tuple(m for m in both if m not in restarted),
        restarted=tuple(restarted),
        added=tuple(sorted(new.models.keys() - old.models.keys())),
        removed=tuple(sorted(old.models.keys() - new.models.keys())),
    )


def effective_identity(model: ModelConfig) -> tuple[object, ...]:
    """Give what makes a process of a model the one that it is; all else can change while it runs."""
    env = dict(entry.partition("=")[::2] for entry in model.env)
    return model.argv, env, model.proxy, model.check_endpoint, model.launcher, model.launcher_settings
