"""Fixtures that several unit tests share."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.configs import Loader


@pytest.fixture
def loaded(tmp_path: Path) -> Loader:
    """Give what loads configurations from text, in a fresh folder."""
    return Loader(tmp_path)
