"""Who decides what may run together, and which request goes first."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final, Literal, TypeVar

from llamaswap.config import defaults
from llamaswap.config.fields import Record
from llamaswap.config.kinds import Anything
from llamaswap.config.nodes import is_null
from llamaswap.config.problems import Place, Problems, Stage
from llamaswap.config.schema import Group, RouterConfig, SchedulerConfig
from llamaswap.core.setparser import MatrixError, build_matrix
from llamaswap.core.sets import Matrix
from llamaswap.core.values import ModelId, empty_mapping
from llamaswap.errors import ConfigError

BUILT_IN: Final[Mapping[str, Literal["group", "matrix"]]] = MappingProxyType({"group": "group", "matrix": "matrix"})
"""Planners of ours, which nobody can replace."""

_FIFO: Final = "fifo"
_BOTH_STYLES: Final = (
    "config uses both the legacy top-level 'matrix'/'groups' keys and the new 'routing.router' block; use one of them"
)

T = TypeVar("T")

Resolve = Callable[[str], ModelId | None]
"""Finds the model of an id or an alias."""


@dataclass(frozen=True, slots=True)
class _Blocks:
    """Which planner is chosen, and where the settings of the built-in ones stand.

    Attributes:
        use: The chosen planner.
        groups: Section by name.
        groups_place: Where they stand.
        matrix: The section, ``None`` when it is missing or null.
    """

    use: str
    groups: Mapping[str, Record]
    groups_place: Place
    matrix: Record | None


class RouterBuilder:
    """Makes the router's settings.

    Args:
        root: The whole configuration.
        models: Every model id, sorted.
        resolve: See :data:`Resolve`.
        planners: Names of the installed planners.
        problems: Gets errors and warnings.
    """

    def __init__(
        self,
        root: Record,
        models: Collection[ModelId],
        resolve: Resolve,
        planners: Collection[str],
        problems: Problems,
    ) -> None:
        self._root = root
        self._models = models
        self._resolve = resolve
        self._planners = sorted(planners)
        self._problems = problems
        self._router: Record = root["routing"]["router"]

    def build(self) -> RouterConfig:
        """Make the settings, and close the stage of the routing.

        Unknown group members are noted for the last stage.

        Raises:
            ConfigError: The rules contradict each other or name things that do not exist.
        """
        blocks = self._blocks()
        self._problems.close(Stage.ROUTING)
        is_built_in = blocks.use in BUILT_IN
        deciding = BUILT_IN[blocks.use if is_built_in else self._router["fallback"]]
        groups: Mapping[str, Group] = empty_mapping()
        matrix: Matrix | None = None
        if deciding == "group":
            groups = _groups(blocks, self._models, self._resolve, self._problems)
        elif blocks.matrix is not None:
            matrix = _matrix(blocks.matrix, self._models, self._problems)
        if not is_built_in:
            groups, matrix = self._facts(blocks, groups, matrix)
        settings = empty_mapping() if is_built_in else self._settings(blocks.use)
        self._problems.close(Stage.ROUTING)
        return RouterConfig(
            use=blocks.use,
            groups=groups,
            matrix=matrix,
            settings=settings,
            fallback=deciding,
            isolation="inline" if is_built_in else self._router["isolation"],
            plan_timeout_seconds=self._router["planTimeout"],
            enforce_on_reload=self._router["enforceOnReload"],
        )

    def _blocks(self) -> _Blocks:
        """Find out which style is written, and note what is wrong with it."""
        settings: Record = self._router["settings"]
        has_matrix, has_groups = self._root.has("matrix"), bool(self._root["groups"])
        self._warn_unknown(settings)
        if has_matrix or has_groups:
            if self._router["use"] or settings.has("matrix") or settings["groups"]:
                place = self._root.place("matrix" if has_matrix else "groups")
                self._problems.add(Stage.ROUTING, place, _BOTH_STYLES)
            elif has_matrix and has_groups:
                place = self._root.place("matrix")
                self._problems.add(Stage.ROUTING, place, "config cannot use both 'groups' and 'matrix'")
            use = "matrix" if has_matrix else "group"
            return _Blocks(use, self._root["groups"], self._root.place("groups"), self._root["matrix"])
        use = self._router["use"] or "group"
        matrix = settings["matrix"] if settings.has("matrix") else None
        if use not in BUILT_IN and use not in self._planners:
            valid = ", ".join((*BUILT_IN, *self._planners))
            text = f'routing.router.use: unknown router "{use}" (valid: {valid})'
            self._problems.add(Stage.ROUTING, self._router.place("use"), text)
        elif matrix is None and "matrix" in {use, "" if use in BUILT_IN else self._router["fallback"]}:
            key = "use" if use == "matrix" else "fallback"
            text = f"routing.router.{key} is 'matrix' but routing.router.settings.matrix is not set"
            self._problems.add(Stage.ROUTING, self._router.place(key), text)
        return _Blocks(use, settings["groups"], settings.place("groups"), matrix)

    def _warn_unknown(self, settings: Record) -> None:
        known = (*BUILT_IN, "groups", *self._planners)
        for name in settings.rest:
            if name not in self._planners:
                nearest = difflib.get_close_matches(name, known, 1)
                self._problems.warn_unknown_key(settings.place(name), nearest[0] if nearest else None)

    def _settings(self, planner: str) -> Mapping[str, Any]:
        """Give what an installed planner is told."""
        settings: Record = self._router["settings"]
        node = settings.rest.get(planner)
        if node is None or is_null(node):
            return empty_mapping()
        found: Mapping[str, Any] = Anything(is_mapping=True).convert(node, settings.place(planner), self._problems)
        return found

    def _facts(
        self,
        blocks: _Blocks,
        groups: Mapping[str, Group],
        matrix: Matrix | None,
    ) -> tuple[Mapping[str, Group], Matrix | None]:
        """Add what an installed planner sees of the block that its fallback does not use."""
        section = blocks.matrix
        if matrix is None and section is not None:
            matrix = self._tried("matrix", lambda scratch: _matrix(section, self._models, scratch))
        if not groups and blocks.groups:
            found = self._tried("groups", lambda scratch: _groups(blocks, self._models, self._resolve, scratch))
            groups = groups if found is None else found
        return groups, matrix

    def _tried(self, key: str, make: Callable[[Problems], T]) -> T | None:
        """Make something of a block that need not be right; warn when it is not."""
        scratch = Problems()
        try:
            made = make(scratch)
            scratch.close(Stage.WORLD)
        except ConfigError as error:
            place = self._router["settings"].place(key)
            self._problems.warn(place, f"not used, since it is not right: {str(error).splitlines()[0]}")
            return None
        return made


def _groups(
    blocks: _Blocks,
    models: Collection[ModelId],
    resolve: Resolve,
    problems: Problems,
) -> Mapping[str, Group]:
    """Make the groups as written, then the one of all models that no group names."""
    group_of: dict[ModelId, str] = {}
    found: dict[str, Group] = {}
    for name, record in blocks.groups.items():
        if name == defaults.DEFAULT_GROUP:
            text = f'"{name}" is the group of all models that no group names, and cannot be defined'
            problems.add(Stage.ROUTING, record.path, text)
            continue
        members: list[ModelId] = []
        for index, written in enumerate(record["members"]):
            place = record.place("members", index)
            member = resolve(written) or ModelId(written)
            if member in members:
                problems.add(Stage.ROUTING, place, f"duplicate model member {member} found in group: {name}")
            elif member in group_of:
                text = f"model member {member} is used in multiple groups: {group_of[member]} and {name}"
                problems.add(Stage.ROUTING, place, text)
            elif resolve(written) is None:
                problems.add(Stage.WORLD, place, f'no model config for "{written}"')
            group_of.setdefault(member, name)
            members.append(member)
        found[name] = Group(
            name=name,
            members=tuple(members),
            swap=record["swap"],
            exclusive=record["exclusive"],
            persistent=record["persistent"],
        )
    rest = tuple(model for model in models if model not in group_of)
    found[defaults.DEFAULT_GROUP] = Group(name=defaults.DEFAULT_GROUP, members=rest)
    return MappingProxyType(found)


def _matrix(record: Record, models: Collection[ModelId], problems: Problems) -> Matrix | None:
    try:
        return build_matrix(record["vars"], record["evict_costs"], record["sets"], models)
    except MatrixError as error:
        for steps, text in error.problems:
            problems.add(Stage.ROUTING, record.place(*steps), f"matrix: {text}")
        return None


def build_scheduler(root: Record, resolve: Resolve, problems: Problems) -> SchedulerConfig:
    """Make the queue's settings, and close their stage.

    Raises:
        ConfigError: There is no such queue, or it names models that do not exist.
    """
    record: Record = root["routing"]["scheduler"]
    if record["use"] not in {"", _FIFO}:
        text = f'routing.scheduler.use: unknown scheduler "{record["use"]}" (valid: {_FIFO})'
        problems.add(Stage.SCHEDULER, record.place("use"), text)
    fifo: Record = record["settings"][_FIFO]
    config = SchedulerConfig(
        priority=_by_model(fifo, "priority", resolve, problems),
        max_wait_seconds=fifo["maxWait"],
        max_wait_per_model_seconds=_by_model(fifo, "maxWaitPerModel", resolve, problems),
        max_drain_seconds=fifo["maxDrain"],
    )
    problems.close(Stage.SCHEDULER)
    return config


def _by_model(fifo: Record, key: str, resolve: Resolve, problems: Problems) -> Mapping[ModelId, int]:
    """Replace the aliases in a mapping from models to numbers."""
    found: dict[ModelId, int] = {}
    for name, number in fifo[key].items():
        place = fifo.place(key, name)
        model = resolve(name)
        if model is None:
            text = f'routing.scheduler.settings.fifo.{key} references unknown model "{name}"'
            problems.add(Stage.SCHEDULER, place, text)
        elif found.setdefault(model, number) != number:
            text = f'model "{model}" has two different numbers, {found[model]} and {number}'
            problems.add(Stage.SCHEDULER, place, text)
    return MappingProxyType(found)
