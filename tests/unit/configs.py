"""Small configurations for tests, written as text and loaded as files."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
import yaml

from llamaswap.config.load import load
from llamaswap.config.schema import Config
from llamaswap.errors import ConfigError

DATA = Path(__file__).parent / "data"


def cases(kind: str) -> list[dict[str, Any]]:
    """Give the cases of one kind from ``cases.yaml``."""
    found: list[dict[str, Any]] = yaml.safe_load((DATA / "cases.yaml").read_text(encoding="utf-8"))[kind]
    return found


class Loader:
    """Writes files into a fresh folder and loads them.

    Attributes:
        folder: The fresh folder; ``config.yaml`` in it is the file, ``conf.d`` the folder of fragments.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __call__(
        self,
        text: str | None = None,
        environ: Mapping[str, str] | None = None,
        planners: Collection[str] = (),
        **fragments: str,
    ) -> Config:
        """Load one text, or fragments by name (``a`` is ``a.yaml``), or both."""
        path = directory = None
        if text is not None:
            path = self.folder / "config.yaml"
            path.write_text(dedent(text), encoding="utf-8")
        if fragments:
            directory = self.folder / "conf.d"
            directory.mkdir(exist_ok=True)
            for name, fragment in fragments.items():
                (directory / f"{name}.yaml").write_text(dedent(fragment), encoding="utf-8")
        return load(
            str(path) if path is not None else None,
            str(directory) if directory is not None else None,
            environ or {},
            planners,
        )

    def errors(
        self,
        text: str | None = None,
        environ: Mapping[str, str] | None = None,
        planners: Collection[str] = (),
        **fragments: str,
    ) -> list[str]:
        """Load what cannot be loaded; give the problems, without the folder's name."""
        with pytest.raises(ConfigError) as caught:
            self(text, environ, planners, **fragments)
        return [line.removeprefix(f"{self.folder}/") for line in str(caught.value).splitlines()]

    def error(self, text: str, environ: Mapping[str, str] | None = None, planners: Collection[str] = ()) -> str:
        """As :meth:`errors`, for a single problem."""
        (only,) = self.errors(text, environ, planners)
        return only

    def warnings(self, text: str, environ: Mapping[str, str] | None = None) -> list[str]:
        """Load, and give the warnings without the folder's name."""
        return [line.removeprefix(f"{self.folder}/") for line in self(text, environ).warnings]
