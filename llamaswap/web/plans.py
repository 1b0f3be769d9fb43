"""What a configuration means for requests, worked out once: each name's model and body changes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from llamaswap.config.patterns import compile_pattern
from llamaswap.config.schema import Config, ModelConfig
from llamaswap.core.rewrite import Patch
from llamaswap.core.values import ModelId
from llamaswap.web.daemon import Daemon


@dataclass(frozen=True, slots=True)
class Plan:
    """What is done with a request that carries a certain name.

    Attributes:
        model: Whose request it is.
        patch: Changes to a JSON body, ``None`` = forwarded byte for byte.
        form_model: What replaces ``model`` in a form; empty = forwarded byte for byte.
    """

    model: ModelId
    patch: Patch | None
    form_model: bytes


class Plans:
    """All plans of one configuration.

    Attributes:
        config: The configuration.
        by_name: By model id and alias.
        most_segments: Parts between slashes in the longest name.
    """

    def __init__(self, config: Config) -> None:
        self.config = config
        by_name = {alias: _plan(config.models[model], alias) for alias, model in config.aliases.items()}
        by_name.update((str(model.id), _plan(model, model.id)) for model in config.models.values())
        self.by_name: Mapping[str, Plan] = by_name
        self.most_segments = max((name.count("/") + 1 for name in by_name), default=1)
        self._ignored = [compile_pattern(pattern) for pattern in config.ignore_paths]

    def is_ignored(self, path: str) -> bool:
        """Say whether a path below a model's server must not start the model."""
        return any(pattern.search(path) for pattern in self._ignored)


class CurrentPlans:
    """The plans of the configuration in force."""

    def __init__(self, daemon: Daemon) -> None:
        self._daemon = daemon
        self._plans = Plans(daemon.config)

    def __call__(self) -> Plans:
        """Give them; made anew when the configuration changed."""
        config = self._daemon.config
        if config is not self._plans.config:
            self._plans = Plans(config)
        return self._plans


def _plan(model: ModelConfig, name: str) -> Plan:
    filters = model.filters
    put = [*filters.set_params.items(), *filters.set_params_by_id.get(name, {}).items()]
    patch = Patch(filters.strip_params, put, model.use_model_name)
    return Plan(model.id, patch or None, model.use_model_name.encode())
