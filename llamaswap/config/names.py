"""The names that requests may carry besides those of models: peers' models, selectors, profiles' pins."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final, Literal

from llamaswap.config.fields import Record
from llamaswap.config.problems import Place, Problems, Stage
from llamaswap.config.routing import BUILT_IN
from llamaswap.config.schema import Peer, PeerModel, Profile, RouterConfig, Selector
from llamaswap.core.sets import allows_together
from llamaswap.core.values import ModelId, empty_mapping

_STRATEGIES: Final[Mapping[str, Literal["warm", "pin", "spillover"]]] = MappingProxyType(
    {"warm": "warm", "pin": "pin", "spillover": "spillover"},
)


@dataclass(frozen=True, slots=True)
class Names:
    """All names that lead to a model without a choice.

    Attributes:
        models: Section of each model by id.
        aliases: Owner by alias.
        peer_models: Full names, and the bare ones that stand for one peer only.
    """

    models: Mapping[str, Record]
    aliases: Mapping[str, ModelId]
    peer_models: Mapping[str, PeerModel] = field(default_factory=empty_mapping)

    def local(self, name: str) -> ModelId | None:
        """Find the local model of an id or alias; the id wins."""
        return ModelId(name) if name in self.models else self.aliases.get(name)

    def resolved(self, name: str) -> str | None:
        """Give one spelling for all names of the same model; ``None`` for an unknown name."""
        local = self.local(name)
        if local is not None:
            return local
        found = self.peer_models.get(name)
        return f"{found.peer}/{found.model}" if found is not None else None


def find_peer_models(peers: Mapping[str, Peer], root: Record, problems: Problems) -> Mapping[str, PeerModel]:
    """Find what each name of a peer's model stands for.

    Args:
        peers: By id.
        root: The whole configuration, for places.
        problems: Gets an error for each full name that two peers produce.

    Returns:
        The full names, then the bare ones that exactly one peer has and that are no full names.
    """
    full: dict[str, PeerModel] = {}
    bare: dict[str, list[PeerModel]] = {}
    for peer in peers.values():
        for model in peer.models:
            name = f"{peer.id}/{model}"
            found = PeerModel(peer.id, model)
            known = full.setdefault(name, found)
            if known != found:
                text = (
                    f'peer model name "{name}" is ambiguous between peers.{known.peer} model "{known.model}"'
                    f' and peers.{peer.id} model "{model}"'
                )
                problems.add(Stage.PEER_NAMES, root["peers"][peer.id].place("models"), text)
            bare.setdefault(model, []).append(found)
    unique = {name: found[0] for name, found in bare.items() if len(found) == 1 and name not in full}
    return MappingProxyType(full | unique)


def check_peer_names(names: Names, root: Record, problems: Problems) -> None:
    """Refuse names of ours that are full names of peers' models, and close the stage.

    Raises:
        ConfigError: A name would mean two things.
    """
    full = {f"{found.peer}/{found.model}" for found in names.peer_models.values()}
    for name, what, place in _own_names(names, root):
        if name in full:
            problems.add(Stage.PEER_NAMES, place, f'{what} "{name}" conflicts with fully qualified peer model name')
    problems.close(Stage.PEER_NAMES)


def _own_names(names: Names, root: Record) -> Iterator[tuple[str, str, Place]]:
    for model in names.models:
        yield model, "model ID", root.place("models", model)
    for alias, owner in names.aliases.items():
        yield alias, f"model {owner} alias", names.models[owner].path
    for selector in root["selectors"]:
        yield selector, "selector ID", root.place("selectors", selector)
    for profile, record in root["profiles"].items():
        for pin in record["pins"]:
            yield pin, f"profile {profile} pin", record.place("pins", pin)


class SelectorBuilder:
    """Makes the selectors.

    Args:
        names: What targets may be.
        root: The whole configuration.
        router: Which models may run together.
        problems: Gets errors and warnings.
    """

    def __init__(self, names: Names, root: Record, router: RouterConfig, problems: Problems) -> None:
        self._names = names
        self._records: Mapping[str, Record] = root["selectors"]
        self._router = router
        self._problems = problems

    def build(self) -> Mapping[str, Selector]:
        """Make all selectors in written order, and close their stage.

        Raises:
            ConfigError: A selector cannot be used.
        """
        found = {name: self._selector(name, record) for name, record in self._records.items()}
        self._problems.close(Stage.SELECTORS)
        return MappingProxyType(found)

    def _selector(self, name: str, record: Record) -> Selector:
        if not name.strip():
            self._add(record.path, "selectors: selector names cannot be empty")
        elif name in self._names.models:
            self._add(record.path, f'selectors.{name}: name conflicts with model ID "{name}"')
        elif name in self._names.aliases:
            self._add(record.path, f'selectors.{name}: name conflicts with model alias "{name}"')
        written = record["strategy"]
        strategy = _STRATEGIES.get(written, "pin")
        if not written:
            self._add(record.path, f"selectors.{name}.strategy is required")
        elif written not in _STRATEGIES:
            text = f'selectors.{name}.strategy: unknown strategy "{written}" (valid: {", ".join(_STRATEGIES)})'
            self._add(record.place("strategy"), text)
        if not record["targets"]:
            self._add(record.path, f"selectors.{name}.targets must contain at least one entry")
        locals_ = self._targets(name, strategy, record)
        if strategy == "spillover":
            self._check_spillover(name, record, locals_)
        return Selector(
            name_id=name,
            strategy=strategy,
            targets=record["targets"],
            spillover=record["settings"]["spillover"],
            name=record["name"],
            description=record["description"],
            unlisted=record["unlisted"],
            metadata=record["metadata"],
        )

    def _targets(self, name: str, strategy: str, record: Record) -> list[ModelId]:
        """Check the targets, and give the local models among them."""
        found: list[ModelId] = []
        seen: set[str] = set()
        for index, target in enumerate(record["targets"]):
            where = f"selectors.{name}.targets[{index}]"
            place = record.place("targets", index)
            resolved = self._names.resolved(target)
            local = self._names.local(target)
            if target in self._records:
                self._add(place, f'{where} references selector "{target}"; selector chaining is not supported')
            elif resolved is None:
                self._add(place, f'{where} references unknown model "{target}"')
            elif strategy == "warm" and local is None:
                self._add(place, f'{where} must resolve to a local model for strategy "warm"')
            elif strategy == "spillover" and resolved in seen:
                self._add(place, f'selectors.{name}.targets contains duplicate resolved model "{resolved}"')
            else:
                seen.add(resolved)
                if local is not None:
                    found.append(local)
        return found

    def _check_spillover(self, name: str, record: Record, models: list[ModelId]) -> None:
        """See to it that the local targets may run together."""
        place = record.place("targets")
        if record["settings"]["spillover"] < 1:
            self._add(record["settings"].place("spillover"), f"selectors.{name}.settings.spillover must be >= 1")
        if len(models) <= 1:
            return
        if self._router.use not in BUILT_IN:
            self._problems.warn(place, "an installed planner decides whether these models may run together")
        elif self._router.use == "matrix":
            if self._router.matrix is not None and not allows_together(self._router.matrix, models):
                self._add(place, f"selectors.{name}.targets must all appear together in one expanded matrix set")
        else:
            group = next(found for found in self._router.groups.values() if models[0] in found.members)
            if group.swap:
                self._add(place, f"selectors.{name} spillover targets must share a group with swap: false")
            elif not set(models) <= set(group.members):
                self._add(place, f"selectors.{name} spillover targets must share one routing group")

    def _add(self, place: Place, text: str) -> None:
        self._problems.add(Stage.SELECTORS, place, text)


def build_profiles(names: Names, root: Record, problems: Problems) -> Mapping[str, Profile]:
    """Make the profiles in written order, and close their stage.

    Raises:
        ConfigError: A profile cannot be used.
    """
    found: dict[str, Profile] = {}
    for name, record in root["profiles"].items():
        if not name.strip():
            problems.add(Stage.PROFILES, record.path, "profiles: profile names cannot be empty")
        if not record["pins"]:
            problems.add(Stage.PROFILES, record.path, f"profiles.{name}.pins must contain at least one entry")
        for pin, target in record["pins"].items():
            place = record.place("pins", pin)
            if not pin.strip():
                problems.add(Stage.PROFILES, place, f"profiles.{name}.pins: pin names cannot be empty")
            elif target and names.resolved(target) is None and target not in root["selectors"]:
                problems.add(Stage.PROFILES, place, f'profiles.{name}.pins.{pin} references unknown model "{target}"')
        found[name] = Profile(name=name, description=record["description"], pins=record["pins"])
    problems.close(Stage.PROFILES)
    return MappingProxyType(found)


def find_preload(names: Names, root: Record, problems: Problems) -> tuple[ModelId, ...]:
    """Give the models to load at the start, in order; names of nothing local are dropped with a warning."""
    startup: Record = root["hooks"]["on_startup"]
    found: list[ModelId] = []
    for index, written in enumerate(startup["preload"]):
        name = written.strip()
        model = names.local(name)
        if model is not None:
            found.append(model)
        elif name:
            what = "a peer's model cannot be loaded" if name in names.peer_models else "unknown model"
            problems.warn(startup.place("preload", index), f'{what}: "{name}" is left out')
    return tuple(found)
