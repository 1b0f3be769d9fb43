"""What a configuration means for requests, worked out once: each name's model and body changes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from llamaswap.config.patterns import compile_pattern
from llamaswap.config.schema import Config, ModelConfig, Peer
from llamaswap.core.rewrite import Patch
from llamaswap.web.daemon import Daemon


@dataclass(frozen=True, slots=True)
class Plan:
    """What is done with a request that carries a certain name.

    Attributes:
        model: Whose request it is: a local model's id, or the name of a peer's model.
        patch: Changes to a JSON body, ``None`` = forwarded byte for byte.
        form_model: What replaces ``model`` in a multipart form; empty = forwarded byte for byte.
        query_model: What replaces it in a query and in an urlencoded form, likewise.
        peer: Whose model it is; ``None`` = ours.
    """

    model: str
    patch: Patch | None
    form_model: bytes
    query_model: bytes = b""
    peer: Peer | None = None


class Plans:
    """All plans of one configuration.

    Attributes:
        config: The configuration.
        by_name: By model id, alias, and name of a peer's model.
        by_target: By target of a selector or a pin, which takes the place of the requested name.
        most_segments: Parts between slashes in the longest name.
    """

    def __init__(self, config: Config) -> None:
        self.config = config
        names = {*config.peer_models, *config.aliases, *config.models}
        self.by_name: Mapping[str, Plan] = {name: _plan(config, name) for name in names}
        targets = {target for selector in config.selectors.values() for target in selector.targets}
        targets.update(target for profile in config.profiles.values() for target in profile.pins.values())
        self.by_target: Mapping[str, Plan] = {
            name: _plan(config, name, is_replacement=True) for name in targets & names
        }
        self.most_segments = max((name.count("/") + 1 for name in names), default=1)
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


def _plan(config: Config, name: str, *, is_replacement: bool = False) -> Plan:
    """Make the plan of a known name, which the request carries or shall carry from now on."""
    model = config.resolve(name)
    if model is not None:
        return _local_plan(model, name, name if is_replacement else "")
    found = config.peer_models[name]
    filters = config.peers[found.peer].filters
    put = [*filters.set_params.items(), *filters.set_params_by_id.get(name, {}).items()]
    new_name = found.model if is_replacement or found.model != name else ""
    patch = Patch(filters.strip_params, put, new_name)
    return Plan(name, patch or None, new_name.encode(), new_name.encode(), config.peers[found.peer])


def _local_plan(model: ModelConfig, name: str, new_name: str) -> Plan:
    filters = model.filters
    put = [*filters.set_params.items(), *filters.set_params_by_id.get(name, {}).items()]
    new_model = model.use_model_name or new_name
    patch = Patch(filters.strip_params, put, new_model)
    return Plan(model.id, patch or None, new_model.encode(), new_name.encode())
