"""``doc/reference/openapi.yaml`` names the routes that there are, and no others."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final
from unittest.mock import create_autospec

import yaml

from llamaswap.web.app import App
from llamaswap.web.daemon import Daemon

DOCUMENT: Final = Path(__file__).parents[2] / "doc" / "reference" / "openapi.yaml"
OURS: Final = ("/api/", "/v1/models", "/models", "/running", "/unload", "/health", "/wol-health", "/logs")

_WITHIN: Final = {("GET", "/api/models/{}/metrics"): ("GET", "/api/models/{}")}
"""What is described by itself, and answered by the route of another path: a model's id may hold slashes."""


def documented() -> set[tuple[str, str]]:
    """Give the methods and paths of the document, names of parameters left out."""
    paths = yaml.safe_load(DOCUMENT.read_text(encoding="utf-8"))["paths"]
    return {
        (method.upper(), re.sub(r"{\w+}", "{}", path)) for path, operations in paths.items() for method in operations
    }


def registered() -> set[tuple[str, str]]:
    """Give the methods and paths of our own routes; HEAD goes with GET, and a slash before nothing with its path."""
    rules = App(create_autospec(Daemon)).klein.url_map.iter_rules()
    return {
        (method, re.sub(r"<[^>]+>", "{}", rule.rule).rstrip("/"))
        for rule in rules
        for method in (rule.methods or set()) - {"HEAD"}
        if rule.rule.startswith(OURS)
    }


def test_every_route_is_described() -> None:
    missing = registered() - documented()
    assert not missing, f"doc/reference/openapi.yaml lacks {sorted(missing)}"


def test_what_is_described_is_a_route() -> None:
    assert not {_WITHIN.get(operation, operation) for operation in documented()} - registered()
