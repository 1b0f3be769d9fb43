"""What the packaging files say fits together; whether the result works is for ``tests/integration``."""

from __future__ import annotations

import configparser
import re
import tomllib
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, Final

import yaml
from twisted.application.service import IServiceMaker
from twisted.plugin import IPlugin
from twisted.plugins import llamaswap_plugin
from zope.interface.verify import verifyObject

ROOT: Final = Path(__file__).parents[2]


def project() -> dict[str, Any]:
    """Read pyproject.toml."""
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def test_plugin_is_a_service_maker_for_twistd() -> None:
    maker = llamaswap_plugin.llamaswap
    assert verifyObject(IServiceMaker, maker)
    assert verifyObject(IPlugin, maker)
    assert maker.tapname == "llamaswap"


def test_plugin_file_holds_nothing_else() -> None:
    assert [n for n in vars(llamaswap_plugin) if not n.startswith("__")] == ["ServiceMaker", "llamaswap"]


def test_both_commands_are_the_same_function() -> None:
    scripts = {e.name: e.value for e in entry_points(group="console_scripts") if e.name in {"llamaswap", "llama-swap"}}
    assert scripts == {"llamaswap": "llamaswap.cli:main", "llama-swap": "llamaswap.cli:main"}


def test_editable_install_is_a_path_entry_that_twisted_can_see() -> None:
    setup = configparser.ConfigParser()
    setup.read_string((ROOT / "setup.cfg").read_text(encoding="utf-8"))
    assert setup["options"]["package_dir"].strip() == "= ."


def test_nothing_hides_twisted() -> None:
    assert not list((ROOT / "twisted").rglob("__init__.py"))


def test_hooks_and_checks_use_the_same_ruff() -> None:
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))
    pinned = next(repo["rev"] for repo in hooks["repos"] if repo["repo"].endswith("ruff-pre-commit"))
    lint = project()["dependency-groups"]["lint"]
    assert f"ruff=={pinned.removeprefix('v')}" in lint


def test_actions_are_pinned_by_hash() -> None:
    workflow = (ROOT / ".github/workflows/ci.yml").read_text(encoding="utf-8")
    used = re.findall(r"uses: (\S+)", workflow)
    assert used
    assert all(re.fullmatch(r"[\w.-]+/[\w.-]+@[0-9a-f]{40}", action) for action in used)


def test_gate_needs_every_job() -> None:
    jobs = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text(encoding="utf-8"))["jobs"]
    assert set(jobs["gate"]["needs"]) == jobs.keys() - {"gate"}
