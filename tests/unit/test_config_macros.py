"""Macros, automatic ports, and references that are left."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llamaswap.config.macros import Macro, Substitution, effective
from llamaswap.config.nodes import ScalarNode
from llamaswap.config.problems import Mark, Place, Problems
from llamaswap.config.schema import Config, ModelConfig
from tests.unit.configs import Loader

CMD = "cmd: 's ${PORT}'"


def model(config: Config) -> ModelConfig:
    (only,) = config.models.values()
    return only


@pytest.mark.parametrize(
    ("macros", "own", "written", "shown"),
    [
        ("{a: A, b: '${a}B'}", "{}", "${b}", "AB"),
        ("{a: A, b: '${a}B', c: '${b}C'}", "{}", "${c}", "ABC"),
        ("{ctx: 1, args: '--ctx ${ctx}'}", "{ctx: 2}", "${args}", "--ctx 2"),
        ("{ctx: 1, args: '--ctx ${ctx}'}", "{ctx: 2, extra: '${args}!'}", "${extra}", "--ctx 2!"),
        ("{g: G}", "{n: '${g}'}", "${n}", "G"),
        ("{id: '<${MODEL_ID}:${PORT}>'}", "{}", "${id}", "<m:5800>"),
        ("{a: 1.50, b: true, c: ~x}", "{}", "'${a} ${b} ${c}'", "1.5 true ~x"),
        ("{a: 1.50}", "{}", "${a}", "1.5"),
        ("{}", "{}", "'$HOME ${} ${a b} ${a.b} $$'", "$HOME ${} ${a b} ${a.b} $$"),
        ("~", "~", "plain", "plain"),
        ("{a-b_1: x}", "{}", "${a-b_1}${a-b_1}", "xx"),
    ],
)
def test_macros_are_replaced(loaded: Loader, macros: str, own: str, written: str, shown: str) -> None:
    text = f"macros: {macros}\nmodels:\n  m:\n    macros: {own}\n    {CMD}\n    name: {written}\n"
    assert model(loaded(text)).name == shown


@pytest.mark.parametrize(
    ("macros", "own", "written", "left", "hint"),
    [
        ("{b: '${a}B', a: A}", "{}", "${b}", "a", "; 'a' is declared after the macro that uses it"),
        ("{g: '${n}'}", "{n: N}", "${g}", "n", "; 'n' is declared after the macro that uses it"),
        ("{base: x, late: L}", "{base: '${late}'}", "${base}", "late", "; 'late' is declared after"),
        ("{a: '${b}', b: '${a}'}", "{}", "${a}", "b", "; 'b' is declared after"),
        ("{model: x}", "{}", "${modle}", "modle", "; did you mean '${model}'?"),
        ("{model: x}", "{}", "${quite-other}", "quite-other", ""),
    ],
)
def test_what_is_left_is_refused_with_a_hint(
    loaded: Loader, macros: str, own: str, written: str, left: str, hint: str
) -> None:
    text = f"macros: {macros}\nmodels:\n  m:\n    macros: {own}\n    {CMD}\n    name: {written}\n"
    said = loaded.error(text)
    assert said.startswith(f"config.yaml:6: models.m.name: unknown macro '${{{left}}}' found in m.name{hint}")


def test_a_value_that_is_one_macro_takes_its_type_through_chains(loaded: Loader) -> None:
    config = loaded(
        """
        macros: {i: 5, same: '${i}', f: 0.7, b: true, s: '12', port: 9300, text: 'x${i}'}
        startPort: ${port}
        models:
          m:
            cmd: s ${PORT}
            ttl: ${same}
            unlisted: ${b}
            metadata: {i: '${same}', f: '${f}', s: '${s}', p: '${PORT}', l: ['${i}', 'x ${f}'], t: '${text}'}
        """,
    )
    assert (model(config).ttl_seconds, model(config).unlisted, model(config).port) == (5, True, 9300)
    assert model(config).metadata == {"i": 5, "f": 0.7, "s": "12", "p": 9300, "l": (5, "x 0.7"), "t": "x5"}
    assert type(model(config).metadata["i"]) is int


def test_macros_work_outside_of_models_but_their_own_names_do_not(loaded: Loader) -> None:
    assert loaded("macros: {k: sekrit}\napiKeys: ['${k}']\n").api_keys == ("sekrit",)
    text = "peers: {p: {proxy: 'http://${MODEL_ID}', models: ['${PORT}']}}\ngroups: {g: {members: ['${nope}']}}\n"
    assert loaded.errors(text) == [
        "config.yaml:1: peers.p.proxy: unknown macro '${MODEL_ID}'",
        "config.yaml:1: peers.p.models[0]: unknown macro '${PORT}'",
        "config.yaml:2: groups.g.members[0]: unknown macro '${nope}'",
    ]


def test_unknown_top_level_keys_are_not_searched_and_unknown_keys_of_models_are(loaded: Loader) -> None:
    assert loaded("something: ${nope}\nx-a: {b: '${nope}'}\n").warnings
    said = loaded.errors(
        f"models:\n  m:\n    {CMD}\n    future: {{a: [{{b: '${{nope}}'}}]}}\n    env: ['A=${{PID}}']\n"
    )
    assert said == [
        "config.yaml:4: models.m.future.a[0].b: model m future.a.b: unknown macro '${nope}'",
        "config.yaml:5: models.m.env[0]: model m env: unknown macro '${PID}'",
    ]


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("cmdStop: stop ${nope}", "unknown macro '${nope}' found in m.cmdStop"),
        ("filters: {stripParams: '${nope}'}", "unknown macro '${nope}' found in m.filters.stripParams"),
        ("filters: {setParams: {a: '${nope}'}}", "model m filters.setParams.a: unknown macro '${nope}'"),
        ("metadata: {a: {b: '${nope}'}}", "model m metadata: unknown macro '${nope}'"),
        ("capabilities: {in: ['${nope}']}", "model m capabilities: unknown macro '${nope}'"),
        ("checkEndpoint: /${PORT}", "macro '${PORT}' should have been substituted in m.checkEndpoint"),
        ("env: ['P=${PORT}']", "model m env: unknown macro '${PORT}'"),
    ],
)
def test_what_is_left_is_named_by_its_place(loaded: Loader, setting: str, said: str) -> None:
    text = f"models:\n  m:\n    cmd: s\n    proxy: http://h\n    {setting}\n"
    assert said in loaded.error(text)


def test_keys_are_no_targets_but_below_set_params_by_id(loaded: Loader) -> None:
    config = loaded(
        """
        macros: {hi: high}
        models:
          m:
            cmd: s ${PORT}
            metadata: {'${MODEL_ID}': 1, '${nope}': 2}
            filters:
              setParamsByID:
                '${MODEL_ID}:${hi}:${PORT}': {effort: '${hi}'}
        """,
    )
    assert set(model(config).metadata) == {"${MODEL_ID}", "${nope}"}
    assert model(config).filters.set_params_by_id == {"m:high:5800": {"effort": "high"}}
    assert model(config).aliases == ("m:high:5800",)


def test_set_params_by_id_keys_may_neither_collide_nor_keep_references(loaded: Loader) -> None:
    keys = "{m: {}, '${MODEL_ID}': {}, '${x}': {}}"
    first, second = loaded.errors(f"models:\n  m:\n    {CMD}\n    filters: {{setParamsByID: {keys}}}\n")
    assert 'model m filters.setParamsByID: keys "m" and "${MODEL_ID}" resolve to the same value "m"' in first
    assert "unknown macro '${x}' found in model m filters.setParamsByID key" in second


@pytest.mark.parametrize(
    ("block", "said"),
    [
        ("[1]", "macros must be a mapping"),
        ("5", "macros must be a mapping"),
        ("{PID: 5}", "macro name 'PID' is reserved"),
        ("{PORT: 5}", "macro name 'PORT' is reserved"),
        ("{MODEL_ID: 5}", "macro name 'MODEL_ID' is reserved"),
        ("{a.b: 1}", "macro name 'a.b' contains invalid characters, must match pattern ^[a-zA-Z0-9_-]+$"),
        ("{'': 1}", "macro name '' contains invalid characters"),
        ("{<<: {a: 1}}", "macro name '<<' contains invalid characters"),
        (f"{{{'a' * 64}: 1}}", "exceeds maximum length of 63 characters"),
        ("{x: [1]}", "macro 'x' has invalid type list, must be a scalar type (string, int, float, or bool)"),
        ("{x: {a: 1}}", "macro 'x' has invalid type mapping"),
        ("{x: ~}", "macro 'x' has invalid type null"),
        ("{x: 2024-01-02}", "macro 'x' has invalid type timestamp"),
        ("{x: 'a ${x}'}", "macro 'x' contains self-reference"),
    ],
)
@pytest.mark.parametrize("in_model", [False, True])
def test_declarations_are_checked(loaded: Loader, block: str, said: str, *, in_model: bool) -> None:
    if in_model:
        found = loaded.error(f"models:\n  m:\n    macros: {block}\n    {CMD}\n")
        assert found.startswith("config.yaml:3: models.m.macros")
        assert f"model m: {said}" in found or f"model m: macro name '{'a' * 64}' {said}" in found
    else:
        found = loaded.error(f"macros: {block}\n")
        assert found.startswith("config.yaml:1: macros")
        assert said in found


def test_all_declarations_are_told_global_ones_first_then_models_in_sorted_order(loaded: Loader) -> None:
    models = f"models:\n  b: {{macros: {{PID: 1}}, {CMD}}}\n  a: {{macros: 5, {CMD}}}\n"
    text = f"{models}macros: {{PORT: 1, x: ~}}\nstartPort: x\n"
    found = loaded.errors(text)
    assert [said.split(": ")[1] for said in found] == [
        "macros.PORT",
        "macros.x",
        "models.a.macros",
        "models.b.macros.PID",
    ]


def test_a_macro_that_nobody_uses_may_refer_to_anything(loaded: Loader) -> None:
    assert not loaded("macros: {a: '${nothing} ${PORT}'}\n").models


def test_merged_in_macros_count_as_own_and_a_local_block_replaces_them(loaded: Loader) -> None:
    config = loaded(
        """
        x-base: &base
          macros: {a: merged, b: merged}
          name: ${a}
        models:
          one: {<<: *base, cmd: 's ${PORT}'}
          two: {<<: *base, cmd: 's ${PORT}', macros: {a: local}}
        """,
    )
    assert [found.name for found in config.models.values()] == ["merged", "local"]


def test_comment_lines_of_commands_go_before_macros_are_looked_at(loaded: Loader) -> None:
    config = loaded(
        """
        macros: {note: "# from a macro ${PORT}"}
        models:
          a:
            cmd: |
              # ${nope} ${PORT}
              s --fixed
            proxy: http://127.0.0.1:1
            cmdStop: |
              # ${nope}
              kill ${PID}
          b:
            cmd: |
              ${note}
              s
        """,
    )
    first, second = config.models.values()
    assert (first.cmd, first.argv, first.port, first.stop_argv) == (
        "s --fixed\n",
        ("s", "--fixed"),
        None,
        ("kill", "${PID}"),
    )
    assert (second.port, second.argv) == (5800, ("s",))


def test_ports_go_up_in_sorted_order_for_models_that_use_them(loaded: Loader) -> None:
    config = loaded(
        """
        startPort: 9400.9
        macros: {run: 's ${PORT}'}
        models:
          zz: {cmd: '${run}'}
          aa: {cmd: '${run}', proxy: 'http://h:${PORT}/p'}
          mm: {cmd: s, proxy: 'http://h'}
          B10: {cmd: '${run}'}
          B9: {cmd: '${run}', proxy: ~}
        """,
    )
    assert {found.id: found.port for found in config.models.values()} == {
        "B10": 9400,
        "B9": 9401,
        "aa": 9402,
        "mm": None,
        "zz": 9403,
    }
    assert [found.proxy for found in config.models.values()][1:3] == ["http://localhost:9401", "http://h:9402/p"]


@pytest.mark.parametrize("settings", ["{}", "~", "{cmd: s}", "{cmd: s, proxy: 'http://h:${PORT}'}"])
def test_a_proxy_needs_the_port_in_the_command(loaded: Loader, settings: str) -> None:
    assert loaded.error(f"models:\n  m: {settings}\n").startswith(
        "config.yaml:2: models.m.proxy: model m: proxy uses ${PORT}"
    )


def test_ports_end_at_the_last_one(loaded: Loader) -> None:
    text = f"startPort: 65535\nmodels:\n  a: {{{CMD}}}\n  b: {{{CMD}}}\n"
    assert loaded.error(text) == "config.yaml:4: models.b.cmd: model b: no port is left: 65536 is above 65535"


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("0", "startPort must be greater than 1, got 0"),
        ("-4", "startPort must be greater than 1"),
        ("70000", "startPort must be at most 65535"),
        ("'9'", 'expected an integer, got "9"'),
        ("true", "expected an integer, got true"),
        ("[1]", "expected an integer, got a list"),
        (".nan", "expected an integer, got .nan"),
    ],
)
def test_the_first_port_is_checked(loaded: Loader, written: str, said: str) -> None:
    assert loaded.error(f"startPort: {written}\n").startswith(f"config.yaml:1: startPort: {said}")


def test_a_missing_first_port_is_the_default(loaded: Loader) -> None:
    assert model(loaded(f"startPort: ~\nmodels: {{m: {{{CMD}}}}}\n")).port == 5800


MACROS = st.lists(
    st.builds(Macro, st.sampled_from("abc"), st.integers(0, 9) | st.text(st.sampled_from("ab${}c"), max_size=12)),
    max_size=4,
)


@given(MACROS, st.text(st.sampled_from("ab${}c"), max_size=20))
def test_replacing_always_ends(macros: list[Macro], text: str) -> None:
    result = Substitution(effective("m", macros, ()), Problems()).node(ScalarNode(text, Mark("f", 1)), Place())
    assert isinstance(result, ScalarNode)


def test_macros_that_grow_without_bounds_are_refused(loaded: Loader) -> None:
    bomb = "".join(f"  m{n}: '{f'${{m{n - 1}}}' * 10}'\n" for n in range(1, 12))
    text = f"macros:\n  m0: 0123456789\n{bomb}models: {{m: {{{CMD}, env: ['A=${{m11}}']}}}}\nlogLevel: x${{m11}}\n"
    assert loaded.errors(text) == [
        "config.yaml:15: logLevel: macros make more than 1000000 characters of it, with ${m6}",
        "config.yaml:14: models.m.env: macros make more than 1000000 characters of it, with ${m6}",
    ]
