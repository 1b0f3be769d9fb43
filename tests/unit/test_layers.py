"""Parts import only downwards, and each thing that touches the world has one owner."""

from __future__ import annotations

import ast
from typing import Final

import pytest

from tests.imports import PACKAGE, SOURCES, calls_of, imports_of, nodes_of

LAYERS: Final = (
    {"errors"},
    {"core.values"},
    {"interfaces"},
    {"core"},
    {"planners", "config"},
    {"proxy", "process", "telemetry", "registry"},
    {"runner", "loan", "waiter"},
    {"router"},
    {"web"},
    {"listen", "preload", "shutdown", "reload", "watch", "background", "stalls"},
    {"service"},
    {"tap"},
    {"cli"},
)
"""From the bottom; neighbours in one layer do not know each other."""

HEIGHT: Final = {part: height for height, parts in enumerate(LAYERS) for part in parts}

BESIDE: Final = {
    "": set(),  # the package itself: its version
    "demo": set(),
    "testing": {"interfaces", "core.values", "errors"},
}
"""Parts outside the layers: what each may import besides itself."""


def part_of(module: str) -> str:
    """Give the part that a module belongs to."""
    name = module.removeprefix(PACKAGE).removeprefix(".")
    return name if name in HEIGHT else name.partition(".")[0]


def may_import(importer: str, imported: str) -> bool:
    """Say whether one part may know another."""
    if imported in {importer, ""}:
        return True
    if importer in BESIDE:
        return imported in BESIDE[importer]
    return imported in HEIGHT and HEIGHT[imported] < HEIGHT[importer]


def test_each_module_belongs_to_a_known_part() -> None:
    unknown = [module for module in SOURCES if part_of(module) not in HEIGHT.keys() | BESIDE.keys()]
    assert not unknown, "give the new part a place in LAYERS or BESIDE"


def test_imports_lead_downwards() -> None:
    wrong = [
        f"{module} may not import {name}"
        for module in SOURCES
        for name in sorted(imports_of(module))
        if name.partition(".")[0] == PACKAGE and not may_import(part_of(module), part_of(name))
    ]
    assert not wrong


@pytest.mark.parametrize(
    ("importer", "imported", "allowed"),
    [
        ("web", "router", True),
        ("web", "core.values", True),
        ("core", "interfaces", True),
        ("router", "web", False),
        ("process", "proxy", False),
        ("planners", "config", False),
        ("core.values", "core", False),
        ("interfaces", "core", False),
        ("demo", "errors", False),
        ("service", "tap", False),
    ],
)
def test_the_rule_itself(importer: str, imported: str, *, allowed: bool) -> None:
    assert may_import(importer, imported) is allowed


def importers_of(*names: str) -> set[str]:
    """Give the modules that import one of these, or something below it."""
    return {m for m in SOURCES for i in imports_of(m) if any(i == n or i.startswith(f"{n}.") for n in names)}


def callers_of(method: str) -> set[str]:
    """Give the modules that call a method of this name on anything."""
    return {module for module in SOURCES if method in calls_of(module)}


def test_only_the_router_calls_the_scheduler() -> None:
    # service.py makes it.
    assert importers_of("llamaswap.core.scheduler") <= {"llamaswap.router", "llamaswap.service"}
    assert {module for module in callers_of("handle") if part_of(module) != "demo"} <= {"llamaswap.router"}


def test_only_the_supervisor_calls_a_launcher() -> None:
    # The conformance kit of testing.py calls one to judge it.
    assert callers_of("launch") <= {"llamaswap.process.upstream", "llamaswap.testing"}


def test_only_process_spawns() -> None:
    spawners = callers_of("spawnProcess") | callers_of("posix_spawn") | importers_of("subprocess")
    assert {part_of(module) for module in spawners} <= {"process"}


def test_only_config_reads_yaml() -> None:
    assert {part_of(module) for module in importers_of("yaml")} <= {"config"}


def test_only_the_entries_read_the_environment() -> None:
    readers = {
        module
        for module in SOURCES
        for node in nodes_of(module)
        if isinstance(node, ast.Attribute) and node.attr in {"environ", "environb", "getenv"}
        if isinstance(node.value, ast.Name) and node.value.id == "os"
    }
    assert {part_of(module) for module in readers} <= {"service", "tap", "cli"}


def test_reactor_is_imported_by_the_entries_alone() -> None:
    importers = {
        module
        for module in SOURCES
        for node in nodes_of(module)
        if isinstance(node, ast.ImportFrom) and node.module == "twisted.internet"
        if any(alias.name == "reactor" for alias in node.names)
    }
    assert {part_of(module) for module in importers} <= {"service", "tap", "cli"}
