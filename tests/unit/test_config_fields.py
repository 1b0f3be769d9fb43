"""Typed conversion, unknown keys, and that the loader uses every field of the table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llamaswap.config.fields import Kind, MappingOf, Section
from llamaswap.config.kinds import Anything, Boolean, Duration, Integer, PositiveNumber, Text, Texts
from llamaswap.config.nodes import Entry, ListNode, MapNode, Node, ScalarNode
from llamaswap.config.problems import Mark, Place, Problems
from llamaswap.config.schema import Config
from llamaswap.config.table import documented
from tests.unit.configs import Loader

MODEL = "models:\n  m:\n    cmd: s ${PORT}\n"


LEGACY_PROFILE = "profile must be a mapping with description and pins; the legacy list syntax is no longer supported"


def with_model(setting: str) -> str:
    return f"{MODEL}    {setting}\n"


@pytest.mark.parametrize(
    ("written", "value"), [("30", 30), ("5.9", 5), ("-1", -1), ("~", 9), ("", 9), ("1e3", 1000), ("0x10", 16)]
)
def test_integers(loaded: Loader, written: str, value: int) -> None:
    config = loaded(f"globalTTL: 9\n{with_model(f'ttl: {written}')}")
    assert config.models["m"].ttl_seconds == (9 if value == -1 else value)  # type: ignore[index]  # a plain string is fine


@pytest.mark.parametrize(
    ("written", "got"),
    [("soon", '"soon"'), ("'30'", '"30"'), ("true", "true"), ("[1]", "a list"), ("{}", "a mapping"), (".inf", ".inf")],
)
def test_what_is_no_integer(loaded: Loader, written: str, got: str) -> None:
    assert loaded.error(with_model(f"ttl: {written}")) == f"config.yaml:4: models.m.ttl: expected an integer, got {got}"


def test_integers_have_64_bits(loaded: Loader) -> None:
    assert "expected an integer" in loaded.error("globalTTL: 9223372036854775808\n")
    assert "expected an integer" in loaded.error("globalTTL: 1e30\n")


@pytest.mark.parametrize(
    ("written", "value"),
    [
        *[(word, True) for word in ("true", "yes", "'On'", "Y")],
        *[(word, False) for word in ("False", "no", '"OFF"', "n", "~")],
    ],
)
def test_booleans(loaded: Loader, written: str, *, value: bool) -> None:
    assert loaded(f"includeAliasesInList: {written}\n").include_aliases_in_list is value


@pytest.mark.parametrize(("written", "got"), [("1", "1"), ('"true"', '"true"'), ("yEs", '"yEs"'), ("[]", "a list")])
def test_what_is_no_boolean(loaded: Loader, written: str, got: str) -> None:
    said = loaded.error(f"includeAliasesInList: {written}\n")
    assert said == f"config.yaml:1: includeAliasesInList: expected a boolean, got {got}"


@pytest.mark.parametrize(
    ("written", "text"),
    [
        ("x", "x"),
        ("1.50", "1.50"),
        ("0x10", "0x10"),
        ("True", "True"),
        ("2024-1-2", "2024-1-2"),
        ("'${f}'", "1.5"),
        ("~", ""),
        ('"~"', "~"),
    ],
)
def test_strings_keep_their_spelling_unless_a_macro_brought_them(loaded: Loader, written: str, text: str) -> None:
    config = loaded(f"macros: {{f: 1.50}}\n{with_model(f'description: {written}')}")
    assert config.models["m"].description == text  # type: ignore[index]  # a plain string is fine


def test_what_is_no_string(loaded: Loader) -> None:
    assert "models.m.name: expected a string, got a list" in loaded.error(with_model("name: [x]"))


@pytest.mark.parametrize(
    ("written", "seconds"),
    [("1h30m", 5400.0), ("5.5s", 5.5), ("6000ms", 6.0), ("+7s", 7.0), ('"0"', 5.0), ("~", 5.0), (".5m", 30.0)],
)
def test_durations(loaded: Loader, written: str, seconds: float) -> None:
    assert loaded(f"performance: {{every: {written}}}\n").performance.every_seconds == seconds


@pytest.mark.parametrize("written", ["5", "0", "'5'", "5 s", "s", "5d", "true", "[5s]", "''", "-", "9" * 400 + "h"])
def test_what_is_no_duration(loaded: Loader, written: str) -> None:
    assert "performance.every: expected a duration" in loaded.error(f"performance: {{every: {written}}}\n")


def test_lists_of_strings_drop_nulls_and_null_is_empty(loaded: Loader) -> None:
    assert loaded(with_model("aliases: [one, ~, 1.0, false]")).aliases.keys() == {"one", "1.0", "false"}
    assert loaded("ui: {activity: {session_id: ~}}\n").ui.session_id_headers == ()
    assert loaded("ui: {activity: ~}\n").ui.session_id_headers == ("X-Session-ID", "X-Litellm-Session-Id")


@pytest.mark.parametrize(
    ("written", "said"),
    [("one", "aliases: expected a list of strings"), ("[a, [b]]", "aliases[1]: expected a string, got a list")],
)
def test_what_is_no_list_of_strings(loaded: Loader, written: str, said: str) -> None:
    assert f"models.m.{said}" in loaded.error(with_model(f"aliases: {written}"))


def test_values_of_any_type_are_frozen_with_text_keys(loaded: Loader) -> None:
    config = loaded(with_model("metadata: {1.50: [a, {true: ~}], d: 2024-01-31, ~: 1}"))
    metadata = config.models["m"].metadata  # type: ignore[index]  # a plain string is fine
    assert metadata == {"1.5": ("a", {"true": None}), "d": "2024-01-31T00:00:00Z", "~": 1}
    assert type(metadata["d"]) is str
    assert type(metadata["1.5"][1]) is MappingProxyType


def test_values_that_json_cannot_carry_are_refused(loaded: Loader) -> None:
    found = loaded.errors(with_model("metadata: {a: .inf, b: [.nan], 1.0: x, 1: y}"))
    assert [said.partition("models.m.")[2] for said in found] == [
        "metadata.a: infinity and NaN cannot be written as JSON",
        "metadata.b[0]: infinity and NaN cannot be written as JSON",
        'metadata.1: mapping key "1" already defined',
    ]


def test_mappings_and_sections_must_be_mappings(loaded: Loader) -> None:
    text = "models: []\nui: 5\nhooks: {on_startup: []}\ngroups: {g: x}\nprofiles: {p: []}\nmatrix: {sets: []}\n"
    assert [said.partition(": ")[2] for said in loaded.errors(text)] == [
        "ui: expected a mapping, got 5",
        "models: expected a mapping, got a list",
        'groups.g: expected a mapping, got "x"',
        "matrix.sets: sets must be a mapping",
        f"profiles.p: {LEGACY_PROFILE}",
        "hooks.on_startup: expected a mapping, got a list",
    ]


def test_keys_of_free_mappings_take_the_text_form_but_model_ids_their_spelling(loaded: Loader) -> None:
    config = loaded(
        """
        models: {1.50: {cmd: 's ${PORT}'}, true: {cmd: 's ${PORT}'}, 007: {cmd: 's ${PORT}'}, ~: {cmd: 's ${PORT}'}}
        profiles: {1.50: {pins: {010: '007'}}}
        """,
    )
    assert list(config.models) == ["007", "1.50", "true", "~"]
    assert config.profiles["1.5"].pins == {"8": "007"}


def test_keys_with_one_text_form_are_refused(loaded: Loader) -> None:
    assert 'groups.1: mapping key "1" already defined' in loaded.error("groups: {1: {}, 1.0: {}}\n")


def test_unknown_keys_are_told_with_the_nearest_known_one(loaded: Loader) -> None:
    config = loaded(
        "StartPort: 1\nx-mine: {}\nnothingLikeIt: 1\nrouting: {rooter: {}}\nlogLevel: odd\n" + with_model("tll: 5")
    )
    found = [said.rpartition("config.yaml:")[2] for said in config.unknown_keys]
    assert sorted(found) == [
        '1: StartPort: unknown key; did you mean "startPort"?',
        "3: nothingLikeIt: unknown key",
        '4: routing.rooter: unknown key; did you mean "router"?',
        '9: models.m.tll: unknown key; did you mean "ttl"?',
    ]
    assert set(config.unknown_keys) < set(config.warnings)


def test_all_type_errors_are_told_at_once_and_no_later_ones(loaded: Loader) -> None:
    text = "globalTTL: -1\nlogToStdout: odd\nstoreX: 1\n" + with_model("ttl: soon\n    unlisted: 3")
    assert [said.split(": ")[1] for said in loaded.errors(text)] == ["models.m.ttl", "models.m.unlisted"]


# ------------------------------------------------- the table itself

WRONG: list[tuple[type, str, str]] = [
    (Integer, "soon", "expected an integer"),
    (PositiveNumber, "soon", "expected a number"),
    (Boolean, "1", "expected a boolean"),
    (Text, "[1]", "expected a string"),
    (Duration, "5", "expected a duration"),
    (Texts, "{}", "expected a list of strings"),
    (Anything, "[]", "expected a mapping"),
    (Section, "5", "expected a mapping"),
    (MappingOf, "5", "expected a mapping"),
]


CHECKED_EARLIER = {"macros", "models.*.macros", "startPort"}
MODEL_KEYS = {"cmd": "'s ${PORT}'", "proxy": "'http://h'"}


def wrong_text(path: str, wrong: str) -> str:
    """Write a configuration whose only fault is the value at a path."""
    text = wrong
    keys = path.split(".")
    for depth, key in reversed(list(enumerate(keys))):
        text = f"{key}: {text}"
        if path.startswith("models.x") and depth == 2:
            text = ", ".join([*(f"{other}: {value}" for other, value in MODEL_KEYS.items() if other != key), text])
        text = f"{{{text}}}"
    return text


def test_the_loader_checks_the_type_of_every_key_of_the_table(loaded: Loader) -> None:
    for star_path, field in documented():
        if star_path in CHECKED_EARLIER:
            continue
        path = star_path.replace("*", "x")
        wrong, said = next((wrong, said) for kind, wrong, said in WRONG if isinstance(field.kind, kind))
        found = loaded.errors(wrong_text(path, wrong))
        assert any(f"{path}: {said}" in line for line in found), (path, found)


def test_every_key_is_documented_in_one_line() -> None:
    for path, field in documented():
        assert field.doc.endswith("."), path
        assert "\n" not in field.doc, path
        assert field.doc[0].isupper() or field.doc[0] == "`", path


@pytest.mark.parametrize(
    ("path", "below", "at"),
    [
        (path, "-1", "0")
        for path in (
            "routing.scheduler.settings.fifo.maxWait",
            "routing.scheduler.settings.fifo.maxDrain",
            "reloadDrain",
            "startBackoff.failures",
            "startBackoff.window",
            "startBackoff.pause",
            "logBuffer",
            "http.maxBody",
            "http.maxHeaderBytes",
            "http.headerTimeout",
            "http.bodyTimeout",
            "http.maxConnections",
            "models.m.timeouts.connect",
            "peers.p.timeouts.idleConn",
        )
    ],
)
def test_numbers_of_ours_are_not_negative(loaded: Loader, path: str, below: str, at: str) -> None:
    def text(value: str) -> str:
        for key in reversed(path.split(".")):
            value = f"{{{key}: {value}}}"
        return value.replace("{m: {", "{m: {cmd: 's ${PORT}', ").replace(
            "{p: {", "{p: {proxy: 'http://h', models: [x], "
        )

    assert loaded.error(text(below)) == f"config.yaml:1: {path}: expected an integer >= 0, got {below}"
    loaded(text(at))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("logFormat: xml", 'logFormat: expected one of text, json, got "xml"'),
        ("routing: {router: {fallback: lru}}", 'routing.router.fallback: expected one of group, matrix, got "lru"'),
        ("routing: {router: {isolation: x}}", "routing.router.isolation: expected one of inline, thread, process"),
        ("routing: {router: {planTimeout: 0}}", "routing.router.planTimeout: expected a number > 0, got 0"),
        ("routing: {router: {planTimeout: .inf}}", "routing.router.planTimeout: expected a number, got .inf"),
    ],
)
def test_words_and_numbers_of_ours_are_checked(loaded: Loader, text: str, said: str) -> None:
    assert said in loaded.error(f"{text}\n")


def frozen(value: Any) -> bool:
    if is_dataclass(value):
        return all(frozen(getattr(value, field.name)) for field in fields(value))
    if isinstance(value, Mapping):
        return type(value) is MappingProxyType and all(map(frozen, value.values()))
    if isinstance(value, tuple):
        return all(map(frozen, value))
    return value is None or isinstance(value, bool | int | float | str)


def test_a_configuration_is_deeply_immutable(loaded: Loader) -> None:
    config = loaded(
        """
        models:
          m:
            cmd: s ${PORT}
            aliases: [a]
            metadata: {l: [{k: 1}]}
            filters: {setParams: {p: [1]}, setParamsByID: {q: {r: {}}}}
          n: {cmd: 's ${PORT}', launcherSettings: {a: {b: [1]}}}
        peers: {p: {proxy: 'http://h', models: [x]}}
        selectors: {s: {strategy: pin, targets: [m], metadata: {a: {}}}}
        profiles: {w: {pins: {x: m}}}
        routing: {scheduler: {settings: {fifo: {priority: {a: 3}, maxWaitPerModel: {n: 4}}}}}
        matrix: {sets: {s: m & n}, evict_costs: {m: 3}}
        """,
    )
    assert isinstance(config, Config)
    assert frozen(config)


KINDS: list[Kind] = [
    Integer(),
    PositiveNumber(),
    Boolean(),
    Text(),
    Duration(),
    Texts(),
    Anything(),
    Section(()),
    MappingOf(Text()),
]


MARK = Mark("f", 1)


def node(value: object) -> Node:
    if isinstance(value, list):
        return ListNode(tuple(map(node, value)), MARK)
    if isinstance(value, dict):
        return MapNode(MARK, {key: Entry(ScalarNode(key, MARK), node(item)) for key, item in value.items()})
    assert value is None or isinstance(value, bool | int | float | str)
    return ScalarNode(value, MARK)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda below: st.lists(below) | st.dictionaries(st.text(), below),
    max_leaves=5,
)


@given(VALUES)
def test_converting_never_raises(value: object) -> None:
    for kind in KINDS:
        kind.convert(node(value), Place(), Problems())
