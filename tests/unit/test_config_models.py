"""Models: effective values, names, filters, capabilities, warnings."""

from __future__ import annotations

import pytest

from llamaswap.config.schema import Capabilities, Config, Filters, ModelConfig, Timeouts
from llamaswap.config.urls import is_absolute, is_parsable
from tests.unit.configs import Loader

CMD = "cmd: 's ${PORT}'"


def one(settings: str, top: str = "") -> str:
    return f"{top}\nmodels:\n  m: {{{CMD}, {settings}}}\n"


def model(config: Config) -> ModelConfig:
    (only,) = config.models.values()
    return only


def test_a_model_with_nothing_but_a_command_has_the_defaults(loaded: Loader) -> None:
    assert model(loaded(f"models: {{m: {{{CMD}}}}}")) == ModelConfig(
        id=model(loaded(f"models: {{m: {{{CMD}}}}}")).id,
        cmd="s 5800",
        argv=("s", "5800"),
        proxy="http://localhost:5800",
        port=5800,
    )


@pytest.mark.parametrize(
    ("top", "settings", "name", "value"),
    [
        ("globalTTL: 7", "", "ttl_seconds", 7),
        ("globalTTL: 7", "ttl: ~", "ttl_seconds", 7),
        ("globalTTL: 7", "ttl: -1", "ttl_seconds", 7),
        ("globalTTL: 7", "ttl: 0", "ttl_seconds", 0),
        ("", "", "ttl_seconds", 0),
        ("", "unloadTimeout: 0", "unload_timeout_seconds", 10),
        ("unloadTimeout: 4", "", "unload_timeout_seconds", 4),
        ("unloadTimeout: 4", "unloadTimeout: 3", "unload_timeout_seconds", 3),
        ("unloadTimeout: 0", "", "unload_timeout_seconds", 10),
        ("healthCheckTimeout: 3", "", "health_check_timeout_seconds", 15),
        ("healthCheckTimeout: 40", "healthCheckTimeout: 7", "health_check_timeout_seconds", 40),
        ("", "concurrencyLimit: 0", "concurrency_limit", 10),
        ("", "concurrencyLimit: -4", "concurrency_limit", 10),
        ("", "concurrencyLimit: 3", "concurrency_limit", 3),
        ("sendLoadingState: true", "", "send_loading_state", True),
        ("sendLoadingState: true", "sendLoadingState: ~", "send_loading_state", True),
        ("sendLoadingState: true", "sendLoadingState: false", "send_loading_state", False),
        ("", "checkEndpoint: ' none '", "check_endpoint", "none"),
        ("", "checkEndpoint: ''", "check_endpoint", ""),
        (
            "",
            "timeouts: {connect: 0, responseHeader: 5}",
            "timeouts",
            Timeouts(connect_seconds=0, response_header_seconds=5),
        ),
        ("", "compat: {ignoreWebsockets: true}", "ignore_websockets", True),
        ("", "keepDescendants: true", "keep_descendants", True),
        ("", "forwardApiKey: true", "forward_api_key", True),
        ("", "launcherSettings: {a: 1}", "launcher_settings", {"a": 1}),
        ("", "cmdStop: 'kill ${PID}'", "stop_argv", ("kill", "${PID}")),
        ("", "cmdStop: '# nothing'", "stop_argv", ()),
        ("", "proxy: ''", "proxy", ""),
        ("", "env: ['A=1', 'A=2']", "env", ("A=1", "A=2")),
    ],
)
def test_effective_values(loaded: Loader, top: str, settings: str, name: str, value: object) -> None:
    assert getattr(model(loaded(one(settings, top))), name) == value


def test_the_comfyui_model_has_room_and_no_counted_websockets(loaded: Loader) -> None:
    text = f"models:\n  comfyui_auto: {{{CMD}, concurrencyLimit: 3, compat: {{ignoreWebsockets: false}}}}\n"
    assert (model(loaded(text)).concurrency_limit, model(loaded(text)).ignore_websockets) == (50, True)
    assert model(loaded(text.replace("3", "60"))).concurrency_limit == 60


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ("ttl: -2", "models.m.ttl: model m: invalid TTL value -2"),
        ("unloadTimeout: -1", "models.m.unloadTimeout: model m: invalid unloadTimeout value -1"),
        ("proxy: ':80'", 'models.m.proxy: model m: invalid proxy URL ":80"'),
        (
            "capabilities: {in: [text, Video]}",
            'models.m.capabilities.in[1]: model m: capabilities.in: invalid modality "Video"',
        ),
        ("capabilities: {context: -1}", "models.m.capabilities.context: model m: capabilities.context: must be >= 0"),
        ("launcher: slurm", 'models.m.launcher: expected one of local, got "slurm"'),
    ],
)
def test_values_out_of_range(loaded: Loader, settings: str, said: str) -> None:
    assert said in loaded.error(one(settings))


def test_a_null_model_is_an_empty_one_and_others_are_type_errors(loaded: Loader) -> None:
    assert "model m: proxy uses ${PORT}" in loaded.error("models: {m: ~}")
    assert loaded.errors("models: {a: 5, b: [x]}") == [
        "config.yaml:1: models.a: expected a mapping, got 5",
        "config.yaml:1: models.b: expected a mapping, got a list",
    ]


def test_models_are_sorted_by_code_point(loaded: Loader) -> None:
    text = "models:\n" + "".join(f"  '{name}': {{{CMD}}}\n" for name in ("é", "a", "B", "a/b:c d", "1"))
    assert list(loaded(text).models) == ["1", "B", "a", "a/b:c d", "é"]


def test_capabilities(loaded: Loader) -> None:
    text = one("capabilities: {in: [text, image], out: [audio], tools: yes, reranker: on, context: 8192}")
    assert model(loaded(text)).capabilities == Capabilities(
        ("text", "image"), ("audio",), tools=True, reranker=True, context=8192
    )
    assert model(loaded(text)).capabilities.is_configured
    assert not model(loaded(one("capabilities: {in: []}"))).capabilities.is_configured


# ------------------------------------------------- names


def test_aliases_resolve_and_ids_win(loaded: Loader) -> None:
    config = loaded(f"models:\n  a: {{{CMD}, aliases: [x, b]}}\n  b: {{{CMD}}}\n")
    assert [(found := config.resolve(name)) and found.id for name in ("a", "x", "b", "nobody")] == ["a", "a", "b", None]
    assert 'alias "b" is also a model id, and the id wins' in config.warnings[0]


@pytest.mark.parametrize("aliases", ["[x, x]", "[y, x]"])
def test_an_alias_has_one_owner(loaded: Loader, aliases: str) -> None:
    said = loaded.errors(f"models:\n  b: {{{CMD}, aliases: [x]}}\n  a: {{{CMD}, aliases: {aliases}}}\n")
    assert all("duplicate alias x found in model: a" in line for line in said)
    assert said[0].startswith("config.yaml:3: models.a.aliases[")


def test_names_of_set_params_by_id_become_aliases_in_sorted_order(loaded: Loader) -> None:
    text = one("aliases: [w, hi], filters: {setParamsByID: {z: {}, m: {}, hi: {}, c: ~}}")
    config = loaded(text)
    assert model(config).aliases == ("w", "hi", "c", "z")
    assert config.aliases == dict.fromkeys(("w", "hi", "c", "z"), "m")
    assert model(config).filters.set_params_by_id == {"z": {}, "m": {}, "hi": {}, "c": {}}


@pytest.mark.parametrize(
    ("key", "said"),
    [
        ("b", "model a filters.setParamsByID: key 'b' conflicts with an existing model ID"),
        ("q", "duplicate alias 'q' in model a filters.setParamsByID, already used by model b"),
    ],
)
def test_names_of_set_params_by_id_belong_to_nobody_else(loaded: Loader, key: str, said: str) -> None:
    text = f"models:\n  b: {{{CMD}, aliases: [q]}}\n  a: {{{CMD}, filters: {{setParamsByID: {{{key}: {{}}}}}}}}\n"
    assert loaded.error(text) == f"config.yaml:3: models.a.filters.setParamsByID.{key}: {said}"


def test_two_models_cannot_both_have_a_name_by_set_params_by_id(loaded: Loader) -> None:
    filters = "filters: {setParamsByID: {q: {}}}"
    said = loaded.error(f"models:\n  b: {{{CMD}, {filters}}}\n  a: {{{CMD}, {filters}}}\n")
    assert "duplicate alias 'q' in model b filters.setParamsByID, already used by model a" in said


# ------------------------------------------------- filters


@pytest.mark.parametrize(
    ("filters", "strip"),
    [
        ("stripParams: ' b ,a,, a, model, model.x, \"\\\\:\"'", ('"\\\\:"', "a", "b")),
        ("strip_params: 'b, a'", ("a", "b")),
        ("stripParams: c, strip_params: 'b, a'", ("c",)),
        ("stripParams: 'a.b, :model, mod\\el'", ("a.b",)),
        ("stripParams: ~", ()),
    ],
)
def test_parameters_to_strip(loaded: Loader, filters: str, strip: tuple[str, ...]) -> None:
    assert model(loaded(one(f"filters: {{{filters}}}"))).filters.strip_params == strip


def test_parameters_to_set_are_sorted_and_never_the_model(loaded: Loader) -> None:
    text = one(
        "filters: {setParams: {b: 1, a.c: [x], model: y, model.z: 1, 'x\\*y': 2}, setParamsByID: {q: {model: y, b: 2}}}"
    )
    assert model(loaded(text)).filters == Filters(
        set_params={"a.c": ("x",), "b": 1, "x\\*y": 2}, set_params_by_id={"q": {"b": 2}}
    )
    assert list(model(loaded(text)).filters.set_params) == ["a.c", "b", "x\\*y"]


@pytest.mark.parametrize(
    ("filters", "said"),
    [
        ("stripParams: 'a*'", 'filters.stripParams: "a*": wildcards are not supported'),
        ("strip_params: 'a?'", 'filters.strip_params: "a?": wildcards are not supported'),
        ("setParams: {'a.?': 1}", 'filters.setParams: "a.?": wildcards are not supported'),
        ("setParams: {'': 1}", "filters.setParams: a parameter must have a name"),
        ("setParams: {'a#b': 1}", 'filters.setParams: "a#b" cannot name a parameter'),
        ("setParamsByID: {q: {'@this': 1}}", 'filters.setParamsByID.q: "@this" cannot name a parameter'),
        ("setParamsByID: {q: {'a|b': 1}}", 'filters.setParamsByID.q: "a|b" cannot name a parameter'),
        ("setParamsByID: {q: 5}", "filters.setParamsByID.q: expected a mapping, got 5"),
    ],
)
def test_names_that_other_programs_misread_are_refused(loaded: Loader, filters: str, said: str) -> None:
    assert f"models.m.{said}" in loaded.error(one(f"filters: {{{filters}}}"))


# ------------------------------------------------- warnings


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ("healthCheckTimeout: 9", "models.m.healthCheckTimeout: has no effect in a model; the global value counts"),
        ("env: ['A=1', B]", "models.m.env[1]: entry is not of the form NAME=value"),
        ("env: ['=1']", "models.m.env[0]: entry is not of the form NAME=value"),
        ("proxy: 'localhost:80'", 'models.m.proxy: "localhost:80" has no scheme or no host'),
        ("proxy: ''", 'models.m.proxy: "" has no scheme or no host'),
        ("concurrencyLimit: -1", "models.m.concurrencyLimit: negative; 10 is used"),
        ("keepDescendants: true", "models.m.keepDescendants: processes that the server starts are never stopped"),
    ],
)
def test_what_looks_wrong_is_warned_about(loaded: Loader, settings: str, said: str) -> None:
    assert loaded.warnings(one(settings)) == [f"config.yaml:3: {said}"]


def test_a_model_without_a_command_loads_with_a_warning(loaded: Loader) -> None:
    (said,) = loaded.warnings("models: {m: {cmd: '# nothing', proxy: 'http://h'}}")
    assert said == "config.yaml:1: models.m.cmd: model m has no command; each start will fail with: empty command"


@pytest.mark.parametrize(
    ("url", "parsable", "absolute"),
    [
        ("http://localhost:8080", True, True),
        ("https://user:pass@host.example/v1?x=1#y", True, True),
        ("http://[::1]:80/", True, True),
        ("http://h/%41", True, True),
        ("http://h:", True, True),
        ("localhost:8080", True, False),
        ("/path/only", True, False),
        ("", True, False),
        ("http://", True, False),
        ("mailto:x%zz", True, False),
        (":80", False, False),
        ("127.0.0.1:8080", False, False),
        ("http://h:port", False, False),
        ("http://h h/", False, False),
        ("http://[::1", False, False),
        ("http://h/%zz", False, False),
        ("http://h/\x01", False, False),
        ("http://a]b/", False, False),
    ],
)
def test_urls(url: str, *, parsable: bool, absolute: bool) -> None:
    assert is_parsable(url) is parsable
    assert (parsable and is_absolute(url)) is absolute
