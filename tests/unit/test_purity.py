"""``core/`` and ``planners/`` decide; they do not touch the world."""

from __future__ import annotations

import ast
import subprocess
import sys
from typing import Final

from tests.imports import SOURCES, imports_of, nodes_of

PURE: Final = [name for name in SOURCES if name.startswith(("llamaswap.core", "llamaswap.planners"))]

ALLOWED: Final = {
    "__future__",
    "bisect",
    "collections",
    "collections.abc",
    "dataclasses",
    "enum",
    "functools",
    "heapq",
    "itertools",
    "json",
    "llamaswap.errors",
    "llamaswap.interfaces",
    "math",
    "msgspec",
    "msgspec.json",
    "operator",
    "re",
    "types",
    "typing",
    "zope.interface",
}
"""Modules without I/O, clock or chance; a new one belongs here after a look at it."""


def may_import(importer: str, imported: str) -> bool:
    """Say whether a pure module may know another one."""
    is_planner = importer.startswith("llamaswap.planners")
    ours = ("llamaswap.core", "llamaswap.planners") if is_planner else ("llamaswap.core",)
    return imported in ALLOWED or imported.startswith(ours)


def test_imports_are_pure() -> None:
    wrong = [
        f"{module} imports {name}" for module in PURE for name in imports_of(module) if not may_import(module, name)
    ]
    assert not wrong


def test_importing_them_loads_no_twisted() -> None:
    program = (
        "import importlib, sys\n"
        f"for name in {PURE!r}: importlib.import_module(name)\n"
        "print(sorted(m for m in sys.modules if m.partition('.')[0] in {'twisted', 'treq', 'klein'}))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "[]"


def test_no_builtin_that_touches_the_world() -> None:
    wrong = [
        f"{module} calls {node.func.id}"
        for module in PURE
        for node in nodes_of(module)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
        if node.func.id in {"__import__", "eval", "exec", "input", "open", "print"}
    ]
    assert not wrong
