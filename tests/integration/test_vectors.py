"""The shared vectors of configurations, against a real daemon."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.integration.daemon import PATIENCE_SECONDS
from tests.integration.vectors import Runner, Vector, VectorDaemon, missing_vectors, read_vectors

VECTORS = read_vectors()

REFUSED = {"yaml-duplicate-key", "env-unset", "dir-duplicate-model", "dir-empty"}
"""Refused vectors that are enough for the way from the loader to the exit status; the unit tests run all."""

pytestmark = pytest.mark.skipif(not VECTORS, reason=missing_vectors())


@pytest.mark.parametrize("vector", [v for v in VECTORS if v.steps], ids=lambda vector: vector.id)
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
