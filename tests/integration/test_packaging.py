"""However it is installed, every entry serves from an empty folder."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import pytest

from tests.integration.daemon import Daemon

pytestmark = pytest.mark.slow

ROOT: Final = Path(__file__).parents[2]
ENTRIES: Final = {
    "llamaswap": ("bin/llamaswap",),
    "llama-swap": ("bin/llama-swap",),
    "twistd": ("bin/twistd", "-n", "--pidfile=", "llamaswap"),
    "twist": ("bin/twist", "llamaswap"),
    "module": ("bin/python", "-m", "twisted", "llamaswap"),
}


def run(*argv: str | Path, cwd: Path) -> str:
    """Run a command to its end; gives what it said."""
    done = subprocess.run(
        list(map(str, argv)),
        cwd=cwd,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


@pytest.fixture(scope="module", autouse=True)
def only_what_is_installed() -> Iterator[None]:
    """Hide a checkout that is named in the environment: it would be found before what was installed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("PYTHONPATH", raising=False)
        yield


def pip(venv: Path, *argv: str | Path) -> None:
    """Run pip for another environment, so that none has to be installed there."""
    run(sys.executable, "-m", "pip", "--python", venv, *argv, "--quiet", "--disable-pip-version-check", cwd=venv)


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the checkout: building and installing leave files in it."""
    copy = tmp_path_factory.mktemp("tree") / "llamaswap"
    copy.mkdir()
    for name in ("pyproject.toml", "setup.cfg", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy)
    for name in ("llamaswap", "twisted"):
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__", "dropin.cache"))
    return copy


@pytest.fixture(scope="module")
def dist(tree: Path) -> Path:
    """The folder with the sdist, and the wheel that was built from it."""
    run(sys.executable, "-m", "build", cwd=tree)
    return tree / "dist"


@pytest.fixture(scope="module")
def venv(tmp_path_factory: pytest.TempPathFactory, dist: Path) -> Path:
    """An environment with the wheel and what it depends on, and nothing else."""
    folder = tmp_path_factory.mktemp("venv")
    run(sys.executable, "-m", "venv", "--without-pip", folder, cwd=folder)
    pip(folder, "install", one(dist, "*.whl"))
    return folder


@pytest.fixture(scope="module")
def backend(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what builds the package; ``dist`` has shown that it is named rightly."""
    folder = tmp_path_factory.mktemp("backend")
    with (ROOT / "pyproject.toml").open("rb") as file:
        requires = tomllib.load(file)["build-system"]["requires"]
    run(sys.executable, "-m", "pip", "install", "--quiet", "--target", folder, *requires, cwd=folder)
    return folder


def one(folder: Path, pattern: str) -> Path:
    """Give the only file that fits."""
    (found,) = folder.glob(pattern)
    return found


def test_wheel_holds_the_plugin_and_nothing_of_twisted(dist: Path) -> None:
    with zipfile.ZipFile(one(dist, "*.whl")) as wheel:
        names = set(wheel.namelist())
    assert {n for n in names if n.startswith("twisted/")} == {"twisted/plugins/llamaswap_plugin.py"}
    assert {"llamaswap/py.typed", "llamaswap/demo/config.yaml"} <= names
    assert not [n for n in names if n.startswith(("tests", "doc", "benchmarks"))]


def test_wheel_and_sdist_hold_every_module_and_data_file(dist: Path) -> None:
    wanted = {str(p.relative_to(ROOT)) for p in (ROOT / "llamaswap").rglob("*") if p.is_file()}
    wanted = {name for name in wanted if "__pycache__" not in name}
    with zipfile.ZipFile(one(dist, "*.whl")) as wheel:
        assert wanted <= set(wheel.namelist())
    with tarfile.open(one(dist, "*.tar.gz")) as sdist:
        assert wanted <= {name.partition("/")[2] for name in sdist.getnames()}


@pytest.mark.parametrize("way", ["wheel", "sdist", "folder", "editable"])
def test_every_entry_serves_from_an_empty_folder(
    way: str,
    tree: Path,
    dist: Path,
    venv: Path,
    backend: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    what: dict[str, Sequence[str | Path]] = {
        "wheel": (one(dist, "*.whl"),),
        "sdist": (one(dist, "*.tar.gz"),),
        "folder": (tree,),
        "editable": ("--editable", tree),
    }
    pip(venv, "uninstall", "--yes", "llamaswap")
    with monkeypatch.context() as patch:
        patch.setenv("PYTHONPATH", str(backend))
        pip(venv, "install", "--no-deps", "--no-build-isolation", *what[way])

    assert "llamaswap" in run(venv / "bin/twistd", "--help", cwd=tmp_path)
    assert "llamaswap" in run(venv / "bin/twist", "--help", cwd=tmp_path)
    for program, *words in ENTRIES.values():
        with Daemon(tmp_path, "models: {}\n", command=[str(venv / program), *words]) as daemon:
            assert daemon.ask("GET", "/running").json() == {"running": []}


def test_uninstalling_leaves_twisted_whole(venv: Path, dist: Path, tmp_path: Path) -> None:
    pip(venv, "uninstall", "--yes", "llamaswap")
    try:
        assert "llamaswap" not in run(venv / "bin/twistd", "--help", cwd=tmp_path)
        run(venv / "bin/python", "-c", "import twisted.plugins, twisted.web", cwd=tmp_path)
        assert not (venv / "bin/llamaswap").exists()
    finally:
        pip(venv, "install", "--no-deps", one(dist, "*.whl"))
