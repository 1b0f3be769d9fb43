"""The project's shared vectors, where they lie beside the checkout: what is refused, and what loads.

What a daemon does with those that load is checked in ``tests/integration``.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from llamaswap.config.load import load
from llamaswap.errors import ConfigError
from tests.integration.vectors import Places, Vector, missing_vectors, read_vectors

VECTORS = read_vectors()
PLACES = Places(port_base=9600, own_port=8080)

needs_vectors = pytest.mark.skipif(not VECTORS, reason=missing_vectors())


def loaded_error(vector: Vector, folder: Path) -> str:
    """Load a vector; give the message, empty when it loads."""
    path, directory = vector.written(folder, PLACES)
    try:
        load(path, directory, vector.environ({"HOME": "/home/nobody"}))
    except ConfigError as error:
        return str(error)
    return ""


@needs_vectors
@pytest.mark.parametrize("vector", [v for v in VECTORS if v.fragments], ids=lambda vector: vector.id)
def test_a_vector_is_refused_with_its_fragments(vector: Vector, tmp_path: Path) -> None:
    said = loaded_error(vector, tmp_path)
    assert [fragment for fragment in vector.fragments if fragment not in said] == []
    assert said


@needs_vectors
@pytest.mark.parametrize("vector", [v for v in VECTORS if not v.fragments], ids=lambda vector: vector.id)
def test_a_vector_loads(vector: Vector, tmp_path: Path) -> None:
    assert loaded_error(vector, tmp_path) == ""
