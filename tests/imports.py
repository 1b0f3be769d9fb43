"""What each module of the package imports and calls, read from its source without running it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Final

import llamaswap

ROOT: Final = Path(llamaswap.__file__).parent
PACKAGE: Final = "llamaswap"


def module_name(path: Path) -> str:
    """Give the dotted name of a source file of the package."""
    parts = [PACKAGE, *path.relative_to(ROOT).with_suffix("").parts]
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


SOURCES: Final = {module_name(path): path for path in sorted(ROOT.rglob("*.py"))}


@cache
def nodes_of(module: str) -> tuple[ast.AST, ...]:
    """Parse a module of the package, once for all who ask."""
    return tuple(ast.walk(ast.parse(SOURCES[module].read_text(encoding="utf-8"))))


@cache
def calls_of(module: str) -> frozenset[str]:
    """Give the names of all methods that a module calls on anything."""
    calls = (node.func for node in nodes_of(module) if isinstance(node, ast.Call))
    return frozenset(called.attr for called in calls if isinstance(called, ast.Attribute))


@cache
def imports_of(module: str) -> frozenset[str]:
    """Give every imported module's dotted name, imports inside functions and for type checking among them."""
    return frozenset(_imports_of(module))


def _imports_of(module: str) -> Iterator[str]:
    for node in nodes_of(module):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: relative imports hide where they lead"
            assert node.module is not None
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                yield full if full in SOURCES else node.module
