"""Finds and checks swap planners: the built-in ones, and what is installed beside us.

Built-in names cannot be overridden. Installed ones are found by the entry points
``llamaswap.planners``; for now they are listed only, :func:`build_planner` knows the built-in ones.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import EntryPoint, entry_points
from types import MappingProxyType
from typing import Any, Final

from zope.interface.exceptions import Invalid
from zope.interface.verify import verifyObject

from llamaswap import __version__
from llamaswap.config.schema import Config, RouterConfig
from llamaswap.core.values import PLANNER_API_VERSION
from llamaswap.interfaces import ISwapPlanner, ISwapPlannerFactory
from llamaswap.planners import group, matrix

ENTRY_POINTS: Final = "llamaswap.planners"

BUILT_IN: Final[Mapping[str, ISwapPlannerFactory]] = MappingProxyType(
    {"group": group.factory, "matrix": matrix.factory},
)


@dataclass(frozen=True, slots=True)
class InstalledPlanner:
    """One planner that could be named in ``routing.router.use``.

    Attributes:
        name: Its name there.
        distribution: Who ships it.
        version: The distribution's version.
        api_version: The contract it was written for, ``None`` = unknown.
        status: ``ok``, ``incompatible`` (other contract), ``broken`` (see ``error``), ``not_loaded``.
        error: What went wrong; else empty.
    """

    name: str
    distribution: str
    version: str
    api_version: tuple[int, int] | None
    status: str
    error: str = ""


def build_planner(config: Config) -> ISwapPlanner:
    """Make the planner that the configuration chooses.

    Raises:
        PlannerConfigError: It does not like its settings.
    """
    factory = BUILT_IN[config.router.use]
    planner = factory.build(_settings(config.router), config.facts())
    verifyObject(ISwapPlanner, planner)
    return planner


def _settings(router: RouterConfig) -> Mapping[str, Any]:
    if router.use == "matrix":
        return {"matrix": router.matrix}
    return {name: asdict(members) for name, members in router.groups.items()}


def list_planners() -> Iterator[InstalledPlanner]:
    """Give every planner there is, sorted by name; imports them all, each guarded."""
    for name, factory in BUILT_IN.items():
        yield InstalledPlanner(name, "llamaswap", __version__, factory.api_version, "ok")
    for entry in sorted(entry_points(group=ENTRY_POINTS), key=lambda e: e.name):
        yield _examine(entry)


def known_planners() -> list[InstalledPlanner]:
    """Give every planner there is, sorted by name; imports none and so knows less; reads files."""
    found = [InstalledPlanner(n, "llamaswap", __version__, each.api_version, "ok") for n, each in BUILT_IN.items()]
    for entry in entry_points(group=ENTRY_POINTS):
        name, origin = entry.name, _origin(entry)
        found.append(_taken(name, origin) if name in BUILT_IN else InstalledPlanner(name, *origin, None, "not_loaded"))
    return sorted(found, key=lambda planner: planner.name)


def _origin(entry: EntryPoint) -> tuple[str, str]:
    return (entry.dist.name, entry.dist.version) if entry.dist is not None else ("?", "?")


def _taken(name: str, origin: tuple[str, str]) -> InstalledPlanner:
    return InstalledPlanner(name, *origin, None, "broken", "the name is taken by a built-in planner")


def _examine(entry: EntryPoint) -> InstalledPlanner:
    origin = _origin(entry)
    if entry.name in BUILT_IN:
        return _taken(entry.name, origin)
    try:
        factory = entry.load()
        verifyObject(ISwapPlannerFactory, factory)
        major, minor = factory.api_version
        fits = major == PLANNER_API_VERSION[0] and minor <= PLANNER_API_VERSION[1]
    except Invalid as error:
        return InstalledPlanner(entry.name, *origin, None, "broken", str(error).strip())
    except Exception as error:  # noqa: BLE001 - a stranger's import may raise anything; it is shown, not hidden
        return InstalledPlanner(entry.name, *origin, None, "broken", f"{type(error).__name__}: {error}")
    return InstalledPlanner(entry.name, *origin, (major, minor), "ok" if fits else "incompatible")
