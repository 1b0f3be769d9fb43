"""Which files are read, and how several become one."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llamaswap.config.dialect import parse
from llamaswap.config.load import load
from llamaswap.config.nodes import MapNode
from llamaswap.config.problems import Problems, Stage
from llamaswap.config.schema import Config
from llamaswap.config.sources import _merged_mappings
from llamaswap.errors import ConfigError
from tests.unit.configs import Loader
from tests.unit.test_config_yaml import plain

MODEL = "{cmd: 's ${PORT}'}"


def test_nothing_to_read_is_an_error(loaded: Loader) -> None:
    assert loaded.errors() == ["at least one of -config or -config-dir must be provided"]
    (loaded.folder / "conf.d").mkdir()
    with pytest.raises(ConfigError, match="no configuration sources found in"):
        load(None, str(loaded.folder / "conf.d"), {})


@pytest.mark.parametrize("text", ["", "# comment\n", "~\n", "---\n"])
def test_an_empty_file_is_a_configuration(loaded: Loader, text: str) -> None:
    config = loaded(text)
    assert not config.models
    assert config.sources == (str(loaded.folder / "config.yaml"),)
    assert config == Config(router=config.router, ignore_paths=config.ignore_paths, sources=config.sources)


@pytest.mark.parametrize("text", ["- a\n", "just text\n", "5\n"])
def test_the_top_must_be_a_mapping(loaded: Loader, text: str) -> None:
    assert loaded.error(text) == "config.yaml:1: top-level YAML must be a mapping"


def test_files_that_cannot_be_read_say_why(tmp_path: Path) -> None:
    missing = str(tmp_path / "missing.yaml")
    with pytest.raises(ConfigError, match=r"missing\.yaml: cannot read file: No such file"):
        load(missing, None, {})
    with pytest.raises(ConfigError, match="cannot read directory: No such file"):
        load(None, str(tmp_path / "missing.d"), {})
    latin = tmp_path / "latin.yaml"
    latin.write_bytes(b"logLevel: \xff\n")
    with pytest.raises(ConfigError, match="not UTF-8 text at byte 10"):
        load(str(latin), None, {})


def test_a_byte_order_mark_and_crlf_are_fine(tmp_path: Path) -> None:
    path = tmp_path / "dos.yaml"
    path.write_bytes("\ufeffglobalTTL: 7\r\nmodels:\r\n  m: {cmd: 's ${PORT}'}\r\n".encode())
    assert load(str(path), None, {}).models["m"].ttl_seconds == 7  # type: ignore[index]  # a plain string is fine


def test_fragments_are_taken_in_byte_order_after_the_file(loaded: Loader) -> None:
    folder = loaded.folder / "conf.d"
    folder.mkdir()
    for name in ("b.yml", "a.yaml", "Z.yaml", ".hidden.yaml", "c.YAML", "d.txt"):
        (folder / name).write_text(
            "globalTTL: 1\n" if name not in {"c.YAML", "d.txt"} else "- broken", encoding="utf-8"
        )
    (folder / "sub.yaml").mkdir()
    config = loaded("globalTTL: 1\n", a="globalTTL: 1\n")
    assert [Path(source).name for source in config.sources] == [
        "config.yaml",
        ".hidden.yaml",
        "Z.yaml",
        "a.yaml",
        "b.yml",
    ]


def test_the_file_may_not_lie_in_the_directory(tmp_path: Path) -> None:
    inside = tmp_path / "inside.yaml"
    inside.write_text("", encoding="utf-8")
    with pytest.raises(ConfigError, match="is also present in -config-dir"):
        load(os.path.relpath(inside), str(tmp_path), {})


def test_what_could_be_read_for_ever_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.yaml")
    (tmp_path / "gone.yaml").symlink_to("nowhere")
    with pytest.raises(ConfigError) as caught:
        load(None, str(tmp_path), {})
    assert "pipe.yaml: not a regular file" in str(caught.value)
    assert "gone.yaml: cannot read file" in str(caught.value)


def test_mappings_merge_lists_join_and_equal_scalars_stay(loaded: Loader) -> None:
    config = loaded(
        a="""
        startPort: 9500
        macros: {root: R}
        apiKeys: [k1]
        hooks: {on_startup: {preload: [m1]}}
        upstream: {ignorePaths: [a]}
        models: {m1: {cmd: 's ${PORT}', name: "${root}"}}
        """,
        b="""
        startPort: 9500
        macros: {leaf: "${root}/L", root: "R"}
        apiKeys: ['k1', k2]
        hooks: {on_startup: {preload: [m2]}}
        upstream: {ignorePaths: [b]}
        models: {m2: {cmd: 's ${PORT}', name: "${leaf}"}}
        """,
    )
    assert config.api_keys == ("k1", "k1", "k2")
    assert config.preload == ("m1", "m2")
    assert config.ignore_paths == ("a", "b")
    assert [(model.name, model.port) for model in config.models.values()] == [("R", 9500), ("R/L", 9501)]


@pytest.mark.parametrize(
    ("left", "right"), [("30", "31"), ("30", "'30'"), ("30", "[30]"), ("{a: 1}", "[1]"), ("0x1E", "30")]
)
def test_contradictions_name_path_and_file(loaded: Loader, left: str, right: str) -> None:
    (said,) = loaded.errors(a=f"performance:\n  every: {left}\n", b=f"performance:\n  every: {right}\n")
    assert said.startswith('conf.d/b.yaml:2: performance.every: conflict at "performance.every": ')
    assert "b.yaml contradicts" in said


@pytest.mark.parametrize("null", ["", "~", "null"])
@pytest.mark.parametrize("key", ["models", "groups", "peers"])
def test_every_null_yields_on_either_side(loaded: Loader, null: str, key: str) -> None:
    other = {"models": f"{{m: {MODEL}}}", "groups": "{g: {}}", "peers": "{p: {proxy: 'http://h', models: [x]}}"}[key]
    one = loaded(a=f"{key}: {null}\n", b=f"{key}: {other}\n")
    two = loaded(a=f"{key}: {other}\n", b=f"{key}: {null}\n")
    assert (one.models, one.router.groups, one.peers) == (two.models, two.router.groups, two.peers)


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("models", "models"),
        ("groups", "groups"),
        ("profiles", "profiles"),
        ("selectors", "selectors"),
        ("peers", "peers"),
        ("matrix", "matrix"),
        ("routing.router.settings.groups", "groups"),
        ("routing.router.settings.matrix", "matrix"),
    ],
)
def test_one_entity_lives_in_one_file(loaded: Loader, path: str, kind: str) -> None:
    text = "{sets: {}}"
    for key in reversed(path.split(".")):
        text = f"{{{key}: {text}}}"
    (said,) = loaded.errors(a=text, b=text)
    assert said.startswith(f"conf.d/b.yaml:1: {path}.sets: duplicate {kind} ")
    assert f'duplicate {kind} "sets" found in' in said


def test_vars_and_sets_of_a_matrix_may_live_apart(loaded: Loader) -> None:
    config = loaded(a=f"models: {{m: {MODEL}}}\nmatrix: {{vars: {{v: m}}}}", b="matrix: {sets: {s: v}}")
    assert config.router.use == "matrix"


def test_anchors_belong_to_their_file(loaded: Loader) -> None:
    config = loaded(
        a="x-a: &x {ttl: 1}\nmodels: {m1: {<<: *x, cmd: 's ${PORT}'}}",
        b="x-b: &x {ttl: 2}\nmodels: {m2: {<<: *x, cmd: 's ${PORT}'}}",
    )
    assert [model.ttl_seconds for model in config.models.values()] == [1, 2]


def test_all_files_are_looked_at_before_the_errors_are_told(loaded: Loader) -> None:
    found = loaded.errors(a="models: [", b="- list", c="globalTTL: 1", d="globalTTL: 2")
    assert [said.partition(":")[0] for said in found] == ["conf.d/a.yaml", "conf.d/b.yaml", "conf.d/d.yaml"]


TREES = st.recursive(
    st.none() | st.integers(0, 3) | st.sampled_from(["x", "y"]),
    lambda below: st.lists(below, max_size=2) | st.dictionaries(st.sampled_from("abc"), below, max_size=3),
    max_leaves=8,
)
MAPPINGS = st.dictionaries(st.sampled_from("abc"), TREES, max_size=3)


def tree(value: object, file: str) -> MapNode:
    root = parse(f"k: {value!r}\n".replace("None", "~"), file, lambda _mark, _said: None)
    assert isinstance(root, MapNode)
    return root


def merged(*values: object) -> tuple[object, bool]:
    problems = Problems()
    result = tree(values[0], "0")
    for index, value in enumerate(values[1:], 1):
        result = _merged_mappings(result, tree(value, str(index)), "", problems)
    try:
        problems.close(Stage.SOURCES)
    except ConfigError:
        return None, False
    return plain(result)["k"], True


@given(MAPPINGS)
def test_merging_with_nothing_changes_nothing(value: object) -> None:
    assert merged(value, {}) == merged({}, value) == merged(value, None) == (value, True)


@given(MAPPINGS, MAPPINGS, MAPPINGS)
def test_merging_does_not_care_for_grouping(one: object, two: object, three: object) -> None:
    first, first_is_fine = merged(one, two)
    last, last_is_fine = merged(two, three)
    if first_is_fine and last_is_fine:
        assert merged(first, three) == merged(one, last)


@given(MAPPINGS, MAPPINGS)
def test_whether_two_files_contradict_does_not_depend_on_their_order(one: object, two: object) -> None:
    assert merged(one, two)[1] is merged(two, one)[1]
