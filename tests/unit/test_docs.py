"""What the hand-written pages say of the code is true."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

import pytest
from zope.interface import Interface
from zope.interface.interface import InterfaceClass, Method

from llamaswap.config.load import load
from llamaswap.interfaces import IQueueOrder, ISwapPlanner, ISwapPlannerFactory

DOC: Final = Path(__file__).parents[2] / "doc"


def documented(page: str, section: str) -> set[str]:
    """Give the terms of a section, signatures included, from a page of the reference."""
    text = (DOC / "reference" / page).read_text(encoding="utf-8")
    body = re.split(rf"^## {section}$", text, flags=re.MULTILINE)[1].partition("\n## ")[0]
    return set(re.findall(r"^`([^`]+)`\n: ", body, flags=re.MULTILINE))


def declared(interface: InterfaceClass) -> set[str]:
    """Give the members of an interface as the page writes them."""
    return {
        f"{name}({', '.join(member.positional)})" if isinstance(member, Method) else name
        for name, member in interface.namesAndDescriptions()
    }


@pytest.mark.parametrize("interface", [ISwapPlannerFactory, ISwapPlanner, IQueueOrder])
def test_planners_page_lists_the_members_of(interface: type[Interface]) -> None:
    assert isinstance(interface, InterfaceClass)
    assert documented("planners.md", interface.__name__) == declared(interface)


def configurations() -> list[tuple[str, str]]:
    """Give every YAML example that is a configuration, with the name of its page."""
    pages = [DOC.parent / "README.md", *DOC.glob("*/*.md")]
    found = [(p.name, text) for p in pages for text in re.findall(r"```yaml\n(.*?)```", p.read_text(), flags=re.DOTALL)]
    assert found
    return [(name, text) for name, text in found if "models:" in text]


@pytest.mark.parametrize(("page", "example"), configurations())
def test_configuration_example_loads_without_a_warning(page: str, example: str, tmp_path: Path) -> None:
    file = tmp_path / page
    file.write_text(example)
    config = load(str(file), None, {})
    assert config.models
    assert not config.warnings


def test_doc_has_its_four_folders_and_nothing_beside_them() -> None:
    entries = {entry.name for entry in DOC.iterdir() if not entry.name.startswith(("_", "."))}
    assert entries == {"conf.py", "index.md", "tutorials", "how-to", "reference", "explanation"}


def test_readme_is_short() -> None:
    assert len((DOC.parent / "README.md").read_text(encoding="utf-8").splitlines()) < 150
