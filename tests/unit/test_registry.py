"""Which planners there are, and which one the configuration gets."""

from __future__ import annotations

from importlib.metadata import EntryPoint
from unittest import mock

import pytest

from llamaswap.config.schema import Config, Group, ModelConfig, RouterConfig
from llamaswap.core.setparser import build_matrix
from llamaswap.core.values import ModelId
from llamaswap.planners.group import GroupPlanner, GroupPlannerFactory
from llamaswap.planners.matrix import MatrixPlanner
from llamaswap.registry import ENTRY_POINTS, InstalledPlanner, build_planner, list_planners

A = ModelId("a")
MODELS = {A: ModelConfig(id=A)}


def listed(value: str, name: str = "lru") -> InstalledPlanner:
    """What is said of an entry point with this value."""
    entry = EntryPoint(name, value, ENTRY_POINTS)
    with mock.patch("llamaswap.registry.entry_points", return_value=[entry]):
        *_, last = list_planners()
    return last


def test_groups_make_the_group_planner() -> None:
    config = Config(models=MODELS, router=RouterConfig(groups={"g": Group("g", (A,))}))
    assert isinstance(build_planner(config), GroupPlanner)


def test_a_matrix_makes_the_matrix_planner() -> None:
    matrix = build_matrix({}, {}, {"s": "a"}, MODELS)
    config = Config(models=MODELS, router=RouterConfig(use="matrix", matrix=matrix))
    assert isinstance(build_planner(config), MatrixPlanner)


def test_an_installed_planner_that_fits_is_ok() -> None:
    assert listed("llamaswap.planners.group:factory").status == "ok"


def test_a_planner_for_another_contract_is_incompatible() -> None:
    with mock.patch("llamaswap.registry.PLANNER_API_VERSION", (0, 9)):
        assert listed("llamaswap.planners.group:factory").status == "incompatible"


@pytest.mark.parametrize(
    ("value", "fragment"),
    [
        ("no.such.module:factory", "ModuleNotFoundError"),
        ("llamaswap.planners.group:nothing", "AttributeError"),
        ("llamaswap.planners.group:GroupPlanner", "ISwapPlannerFactory"),
    ],
)
def test_a_broken_planner_is_shown_with_its_error(value: str, fragment: str) -> None:
    found = listed(value)
    assert found.status == "broken"
    assert fragment in found.error


def test_a_planner_whose_contract_cannot_be_read_is_broken() -> None:
    odd = GroupPlannerFactory(api_version="one")  # type: ignore[arg-type]  # that is the point
    with mock.patch("llamaswap.planners.group.factory", odd):
        assert listed("llamaswap.planners.group:factory").status == "broken"


def test_a_built_in_name_cannot_be_taken() -> None:
    assert listed("llamaswap.planners.group:factory", "group").error == "the name is taken by a built-in planner"
