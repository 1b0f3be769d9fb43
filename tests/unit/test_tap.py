"""The command line, for both entries."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, cast
from unittest import mock

import pytest
from twisted.internet.error import CannotListenError
from twisted.python.usage import UsageError

from llamaswap import cli, tap
from llamaswap.tap import Options

GOOD = "models:\n  a:\n    cmd: server --port ${PORT}\n"


def parsed(*words: str) -> Options:
    """Parse these words."""
    options = Options()
    options.parseOptions(words)
    return options


@pytest.fixture
def good(tmp_path: Path) -> str:
    """A configuration that loads."""
    path = tmp_path / "config.yaml"
    path.write_text(GOOD)
    return str(path)


@pytest.mark.parametrize(
    "words",
    [
        ["-config", "f.yaml"],
        ["--config", "f.yaml"],
        ["-config=f.yaml"],
        ["--config=f.yaml"],
        ["-c", "f.yaml"],
    ],
)
def test_flags_take_one_dash_or_two_and_a_value_either_way(words: list[str]) -> None:
    assert parsed(*words)["config"] == "f.yaml"


@pytest.mark.parametrize(
    ("word", "expected"),
    [("-watch-config", 1), ("--watch-config=true", 1), ("-watch-config=false", 0), ("-watch-config=0", 0)],
)
def test_booleans_take_a_value(word: str, expected: int) -> None:
    assert parsed(word)["watch-config"] == expected


@pytest.mark.parametrize(
    ("words", "fragment"),
    [
        (["-nonsense"], "nonsense"),
        (["-watch-config=maybe"], "invalid boolean value 'maybe'"),
        (["word"], "unexpected argument 'word'"),
        (["-config"], "config"),
    ],
)
def test_bad_flags_are_named_and_end_with_status_2(words: list[str], fragment: str, capsys: Any) -> None:
    with pytest.raises(UsageError, match=fragment):
        parsed(*words)
    assert cli.main(words) == 2
    assert fragment in capsys.readouterr().err


@pytest.mark.parametrize("word", ["-version", "--version"])
def test_version_has_the_known_form(word: str, capsys: Any) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main([word])
    assert ended.value.code == 0
    assert capsys.readouterr().out.startswith("version: ")


@pytest.mark.parametrize("word", ["-h", "-help", "--help"])
def test_help_names_the_flags(word: str, capsys: Any) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main([word])
    assert ended.value.code == 0
    assert "--config-dir" in capsys.readouterr().out


def test_no_configuration_is_status_1(capsys: Any) -> None:
    assert cli.main([]) == 1
    assert "at least one of -config or -config-dir must be provided" in capsys.readouterr().err


def test_one_tls_flag_alone_is_status_1(good: str, capsys: Any) -> None:
    assert cli.main(["-c", good, "-tls-cert-file", "c.pem"]) == 1
    assert "-tls-key-file" in capsys.readouterr().err


def test_a_bad_address_is_status_1(good: str, capsys: Any) -> None:
    assert cli.main(["-c", good, "-listen", "nowhere"]) == 1
    assert "nowhere" in capsys.readouterr().err


def test_h95_an_address_in_use_is_status_1_and_nothing_is_started(good: str, capsys: Any) -> None:
    in_use = CannotListenError("127.0.0.1", 1, OSError("in use"))
    with (
        mock.patch("llamaswap.service.Listen.bind", side_effect=in_use),
        mock.patch("llamaswap.process.upstream.Upstream.ensure_ready") as started,
    ):
        assert cli.main(["-c", good, "-listen", "127.0.0.1:1"]) == 1
    assert "in use" in capsys.readouterr().err
    assert not started.called


def test_check_of_a_good_configuration(good: str, capsys: Any) -> None:
    assert cli.main(["--check", "-c", good]) == 0
    assert "1 model" in capsys.readouterr().out


def test_check_prints_every_problem_with_its_place(tmp_path: Path, capsys: Any) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text("models:\n  a:\n    cmd: s ${PORT}\n    ttl: soon\n    unlisted: 7\nhealthCheckTimeout: later\n")
    assert cli.main(["--check", "-c", str(path)]) == 1
    err = capsys.readouterr().err
    for fragment in ("models.a.ttl", "soon", "models.a.unlisted", "healthCheckTimeout", "later", f"{path}:4"):
        assert fragment in err


def test_unknown_keys_are_warnings_and_errors_when_strict(tmp_path: Path, capsys: Any) -> None:
    path = tmp_path / "typo.yaml"
    path.write_text(GOOD + "    tttl: 5\n")
    assert cli.main(["--check", "-c", str(path)]) == 0
    assert "tttl" in capsys.readouterr().err
    assert cli.main(["--check", "--strict", "-c", str(path)]) == 1


def test_planners_are_listed_with_their_state(capsys: Any) -> None:
    assert cli.main(["--list-planners"]) == 0
    rows = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    assert [row[0] for row in rows[:2]] == ["group", "matrix"]
    assert all(row[3:5] == ["1.0", "ok"] for row in rows[:2])


def test_through_a_runner_a_bad_configuration_ends_with_status_1(capsys: Any) -> None:
    with pytest.raises(SystemExit) as ended:
        tap.makeService(parsed("-c", "no-such-file.yaml"))
    assert ended.value.code == 1
    assert "no-such-file.yaml" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "takes_log"),
    [
        ({"nodaemon": True}, True),
        ({"nodaemon": True, "logfile": "x.log"}, False),
        ({"nodaemon": False}, False),
        ({"nodaemon": True, "syslog": True}, False),
    ],
)
def test_the_runners_log_is_ours_where_it_would_go_to_standard_output(
    good: str, flags: dict[str, Any], *, takes_log: bool
) -> None:
    options = parsed("-c", good, "-listen", "127.0.0.1:1")
    options.parent = cast("Any", flags)
    assert tap.makeService(options).takes_log is takes_log


def test_under_twist_our_lines_replace_its_own_on_standard_output(good: str) -> None:
    options = parsed("-c", good, "-listen", "127.0.0.1:1")
    parent: dict[str, Any] = {"fileLogObserverFactory": None, "logFile": sys.stdout}
    options.parent = cast("Any", parent)
    service = tap.makeService(options)
    assert parent["fileLogObserverFactory"](sys.stdout) is service.logs.own_lines
