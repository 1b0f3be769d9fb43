"""What is run for a model, and what cannot be."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from llamaswap.config.schema import ModelConfig
from llamaswap.core.values import ModelId
from llamaswap.errors import UpstreamStartError
from llamaswap.process.command import extended, find_executable, launch_spec, start_error, stop_words


def config(**fields: object) -> ModelConfig:
    settings: dict[str, object] = {"argv": ("server",), "proxy": "http://localhost:5800", **fields}
    return ModelConfig(id=ModelId("m"), **settings)  # type: ignore[arg-type]  # fields of many types


def make_program(path: Path, mode: int = 0o755) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_text("#!/bin/sh\n")
    path.chmod(mode)
    return path


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"proxy": ""}, "upstream proxy missing"),
        ({"proxy": "localhost:5800"}, "upstream proxy is not a URL: 'localhost:5800'"),
        ({"proxy": "http://:5800"}, "upstream proxy is not a URL: 'http://:5800'"),
        ({"proxy": "http://h:port"}, "upstream proxy is not a URL: 'http://h:port'"),
        ({"argv": ()}, "empty command"),
    ],
)
def test_refused_without_trying(fields: dict[str, object], message: str) -> None:
    with pytest.raises(UpstreamStartError) as caught:
        launch_spec(config(**fields), {}, "/")
    assert caught.value.message == message


def test_spec_of_a_model() -> None:
    model = config(env=("A=2",), stop_argv=("stop", "${PID}"), launcher_settings={"queue": "gpu"})
    spec = launch_spec(model, {"A": "1", "B": "1"}, "/srv")
    assert (spec.model, spec.argv, spec.cwd, spec.base_url) == ("m", ("server",), "/srv", "http://localhost:5800")
    assert spec.env == {"A": "2", "B": "1"}
    assert spec.stop_argv == ("stop", "${PID}")
    assert spec.settings == {"queue": "gpu"}


def test_h19_environment_is_extended_and_the_last_value_wins() -> None:
    environ = {"PATH": "/bin", "X": "daemon"}
    assert extended(environ, ("X=1", "Y=a=b", "X=2", "EMPTY=")) == {"PATH": "/bin", "X": "2", "Y": "a=b", "EMPTY": ""}
    assert environ == {"PATH": "/bin", "X": "daemon"}


def test_stop_words_name_the_leader() -> None:
    assert stop_words(("kill", "-s", "TERM", "${PID}", "--pid=${PID}"), 77) == ("kill", "-s", "TERM", "77", "--pid=77")


def test_h32_found_in_the_path_of_the_model(tmp_path: Path) -> None:
    program = make_program(tmp_path / "bin" / "server")
    make_program(tmp_path / "data" / "server", 0o644)
    env = {"PATH": f"{tmp_path}/missing:{tmp_path}/data:{program.parent}"}
    assert find_executable("server", env, "/") == str(program)


def test_path_and_command_are_relative_to_the_working_folder(tmp_path: Path) -> None:
    program = make_program(tmp_path / "bin" / "server")
    assert find_executable("server", {"PATH": "bin"}, str(tmp_path)) == str(program)
    assert find_executable("./bin/server", {"PATH": ""}, str(tmp_path)) == str(program)
    assert find_executable(str(program), {}, "/nowhere") == str(program)


@pytest.mark.parametrize(
    ("word", "number"),
    [
        ("nothing-of-this-name", errno.ENOENT),
        ("./missing", errno.ENOENT),
        ("./data", errno.EACCES),
        ("data", errno.EACCES),
        ("./folder", errno.EISDIR),
        ("./data/below", errno.ENOTDIR),
    ],
)
def test_h32_cannot_be_run(tmp_path: Path, word: str, number: int) -> None:
    make_program(tmp_path / "data", 0o644)
    (tmp_path / "folder").mkdir()
    with pytest.raises(OSError, match=r".") as caught:
        find_executable(word, {"PATH": str(tmp_path)}, str(tmp_path))
    assert caught.value.errno == number


def test_h32_error_names_command_and_reason() -> None:
    with pytest.raises(FileNotFoundError) as caught:
        find_executable("nothing", {"PATH": ""}, "/")
    assert start_error(("nothing", "-x"), caught.value).message == (
        "failed to start command 'nothing -x': executable file not found in $PATH"
    )
    assert start_error(("./s",), PermissionError(13, "Permission denied")).message == (
        "failed to start command './s': permission denied"
    )
    assert start_error(("s",), ValueError("embedded null byte")).message == (
        "failed to start command 's': embedded null byte"
    )
