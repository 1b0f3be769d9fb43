"""``core/`` and ``planners/`` decide; they do not touch the world."""

from __future__ import annotations

import ast
import subprocess
import sys
from typing import Final

import pytest

from tests.imports import SOURCES, imports_of, tree_of

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


@pytest.mark.parametrize("module", PURE)
def test_imports_are_pure(module: str) -> None:
    foreign = {i for i in imports_of(module) if i not in ALLOWED and not i.startswith("llamaswap.core")}
    if module.startswith("llamaswap.planners"):
        foreign = {i for i in foreign if not i.startswith("llamaswap.planners")}
    assert not foreign, f"{module} imports {', '.join(sorted(foreign))}"


def test_importing_them_loads_no_twisted() -> None:
    program = (
        "import importlib, sys\n"
        f"for name in {PURE!r}: importlib.import_module(name)\n"
        "print(sorted(m for m in sys.modules if m.partition('.')[0] in {'twisted', 'treq', 'klein'}))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("module", PURE)
def test_no_builtin_that_touches_the_world(module: str) -> None:
    called = {n.func.id for n in ast.walk(tree_of(module)) if isinstance(n, ast.Call) if isinstance(n.func, ast.Name)}
    assert not called & {"__import__", "eval", "exec", "input", "open", "print"}
