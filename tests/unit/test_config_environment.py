"""References to environment variables in the text of the files."""

from __future__ import annotations

import pytest

from llamaswap.config.load import load
from llamaswap.config.schema import Config, ModelConfig
from llamaswap.errors import ConfigError
from tests.unit.configs import Loader


def model(config: Config) -> ModelConfig:
    (only,) = config.models.values()
    return only


def name_of(loaded: Loader, written: str, **environ: str) -> str:
    return model(loaded(f"models:\n  m:\n    cmd: s ${{PORT}}\n    name: {written}\n", environ)).name


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("${env.N}", 31),
        ('"${env.N}"', "31"),
        ("[${env.N}, x]", (31, "x")),
        ("x${env.N}${env.N}", "x3131"),
        ("${env.9x}", "${env.9x}"),
    ],
)
def test_values_are_put_in_before_the_text_is_read(loaded: Loader, written: str, value: object) -> None:
    config = loaded(f"models: {{m: {{cmd: 's ${{PORT}}', metadata: {{k: 0}}}}}}\nx-a: {written}\n", {"N": "31"})
    assert config.models
    text = f"models:\n  m:\n    cmd: s ${{PORT}}\n    metadata:\n      k: {written}\n"
    assert model(loaded(text, {"N": "31"})).metadata["k"] == value


def test_keys_and_block_scalars_are_targets_too(loaded: Loader) -> None:
    config = loaded("models:\n  ${env.ID}:\n    cmd: |\n      s ${PORT}\n      --x ${env.X}\n", {"ID": "m/1", "X": "y"})
    assert model(config).id == "m/1"
    assert model(config).argv == ("s", "5800", "--x", "y")


def test_a_value_may_be_a_list(loaded: Loader) -> None:
    assert loaded("apiKeys: ${env.KEYS}\n", {"KEYS": "[a, b]"}).api_keys == ("a", "b")


@pytest.mark.parametrize(("written", "shown"), [('"${env.V}"', 'C:\\dir "x"'), ("${env.V}", 'C:\\\\dir \\"x\\"')])
def test_backslashes_and_quotes_are_doubled_whatever_the_quotes(loaded: Loader, written: str, shown: str) -> None:
    assert name_of(loaded, written, V='C:\\dir "x"') == shown


def test_an_unset_variable_is_told_once_with_its_line(loaded: Loader) -> None:
    text = "logLevel: ${env.A}\nmodels: {}\nlogTimeFormat: ${env.B}${env.A}\n"
    assert loaded.errors(text) == [
        "config.yaml:1: environment variable 'A' is not set",
        "config.yaml:3: environment variable 'B' is not set",
    ]


def test_an_empty_variable_is_set(loaded: Loader) -> None:
    assert name_of(loaded, '"<${env.E}>"', E="") == "<>"


@pytest.mark.parametrize("value", ["a\nb", "a\rb", "a\0b", "a\x85b", "a\u2028b", "a\u2029b"])
def test_line_breaks_and_nul_are_refused(loaded: Loader, value: str) -> None:
    said = loaded.error("logLevel: ${env.V}\n", {"V": value})
    assert said.startswith("config.yaml:1: environment variable 'V' contains newlines or null bytes")


def test_comments_need_no_variable_but_lines_of_block_scalars_do(loaded: Loader) -> None:
    assert loaded("# ${env.NO}\nlogLevel: info # ${env.NO}\n").log_level == "info"
    text = "models:\n  m:\n    cmd: |\n      # ${env.NO}\n      s ${PORT}\n"
    assert loaded.error(text) == "config.yaml:4: environment variable 'NO' is not set"


def test_a_file_may_need_the_values_to_become_yaml(loaded: Loader) -> None:
    text = "# ${env.NO}\n${env.LINE}\nmodels: {}\n"
    assert loaded(text, {"LINE": "globalTTL: 4"}).models == {}
    assert loaded.errors("# ${env.NO}\n${env.LINE}\nmodels: {}\nlogLevel: ${env.NO}\n", {"LINE": "globalTTL: 4"}) == [
        "config.yaml:4: environment variable 'NO' is not set",
    ]


def test_a_file_that_is_no_yaml_at_all_tells_of_unset_variables_first(loaded: Loader) -> None:
    assert loaded.error("# ${env.C}\nmodels: [\nlogLevel: ${env.NO}\n") == (
        "config.yaml:3: environment variable 'NO' is not set"
    )
    assert "line " in loaded.error("# ${env.C}\nmodels: [\n")


def test_a_value_is_not_looked_at_again_for_variables_but_for_macros(loaded: Loader) -> None:
    environ = {"OUTER": "${env.INNER} ${MODEL_ID}", "INNER": "no"}
    assert name_of(loaded, '"${env.OUTER}"', **environ) == "${env.INNER} m"


def test_macros_cannot_make_a_reference(loaded: Loader) -> None:
    text = "macros: {a: '${env', b: '.X}'}\nmodels:\n  m:\n    cmd: s ${PORT}\n    name: ${a}${b}\n"
    assert loaded.error(text, {"X": "1"}) == (
        "config.yaml:5: models.m.name: environment variable 'X' not set:"
        " environment references are not expanded inside macro results"
    )


def test_an_empty_variable_opens_no_door(loaded: Loader) -> None:
    for text in ("apiKeys: ${env.K}\n", "apiKeys: [${env.K}]\n", "apiKeys:\n- ${env.K}\n", "apiKeys: ['${env.K}']\n"):
        assert "empty api key found in apiKeys" in loaded.error(text, {"K": ""})
    assert loaded("apiKeys: ~\n").api_keys == ()


@pytest.mark.parametrize("line_break", ["\r\n", "\r", "\x85\n", "\u2028\n"])
def test_an_empty_variable_opens_no_door_whatever_ends_the_lines_above(loaded: Loader, line_break: str) -> None:
    path = loaded.folder / "config.yaml"
    text = f"x-a: 1 # {line_break}x-b: 1 # {line_break}apiKeys: ${{env.K}}{line_break}x-c: 1{line_break}"
    path.write_bytes(text.encode())
    with pytest.raises(ConfigError, match="empty api key found in apiKeys"):
        load(str(path), None, {"K": ""})


def test_no_message_holds_a_value_of_the_environment(loaded: Loader) -> None:
    environ = {"SECRET": 'hush"hush'}
    for text in ("globalTTL: '${env.SECRET}'\n", 'globalTTL: "${env.SECRET}"\n', "logToStdout: '${env.SECRET}'\n"):
        said = loaded.error(text, environ)
        assert "hush" not in said
        assert "${env.SECRET}" in said
    (said,) = loaded.warnings("logLevel: '${env.SECRET}'\n", environ)
    assert "hush" not in said


@pytest.mark.parametrize("key", ["'${env.SECRET}'", '"x ${env.SECRET}"'])
def test_no_path_in_a_message_holds_a_value_of_the_environment(loaded: Loader, key: str) -> None:
    text = f"{key}: 1\nmodels: {{m: {{cmd: 's ${{PORT}}', {key}: 1}}}}\n"
    for said in loaded.warnings(text, {"SECRET": "hush-hush"}):
        assert "hush" not in said
        assert "${env.SECRET}: unknown key" in said


@pytest.mark.parametrize("value", ["*hush-hush", "hush-hush # x", "[hush-hush", "{hush-hush: &x y", "'hush-hush' x"])
def test_no_message_holds_what_yaml_leaves_of_a_value(loaded: Loader, value: str) -> None:
    assert "hush" not in loaded.error("globalTTL: ${env.SECRET}\n", {"SECRET": value})
