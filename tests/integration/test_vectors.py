"""The shared vectors of configurations, against a real daemon."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.integration.daemon import PATIENCE_SECONDS
from tests.integration.vectors import Runner, Vector, VectorDaemon, missing_vectors, read_vectors

VECTORS = read_vectors()

HTTP_SURFACE = {
    "performance-disabled",
}
"""Vectors that need parts of the HTTP surface that are not built yet; strict, so that this list shrinks with them."""

REFUSED = {"yaml-duplicate-key", "env-unset", "dir-duplicate-model", "dir-empty"}
"""Refused vectors that are enough for the way from the loader to the exit status; the unit tests run all."""

pytestmark = pytest.mark.skipif(not VECTORS, reason=missing_vectors())


def served(vector: Vector) -> object:
    """Make a parameter of a vector."""
    later = pytest.mark.xfail(reason="HTTP surface", strict=True, raises=AssertionError)
    return pytest.param(vector, id=vector.id, marks=[later] if vector.id in HTTP_SURFACE else [])


@pytest.mark.parametrize("vector", [served(vector) for vector in VECTORS if vector.steps])
def test_a_daemon_does_what_a_vector_says(vector: Vector, tmp_path: Path) -> None:
    with VectorDaemon(tmp_path, vector) as daemon:
        runner = Runner(daemon)
        for step in vector.steps:
            runner.run(step)


@pytest.mark.parametrize("vector", [v for v in VECTORS if v.id in REFUSED], ids=lambda vector: vector.id)
def test_a_daemon_refuses_a_wrong_configuration(vector: Vector, tmp_path: Path) -> None:
    daemon = VectorDaemon(tmp_path, vector)
    done = subprocess.run(
        daemon._words,
        env=daemon._env,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )
    assert done.returncode == 1
    assert [fragment for fragment in vector.fragments if fragment not in done.stderr] == []
