"""Groups, matrix, installed planners, and the queue."""

from __future__ import annotations

import pytest

from llamaswap.config.schema import Group
from llamaswap.core.values import ModelId
from tests.unit.configs import Loader

MODELS = """
models:
  a: {cmd: 's ${PORT}', aliases: [al]}
  b: {cmd: 's ${PORT}'}
  c: {cmd: 's ${PORT}'}
"""


def router(settings: str) -> str:
    return f"{MODELS}routing: {{router: {{{settings}}}}}\n"


def ids(*names: str) -> tuple[ModelId, ...]:
    return tuple(map(ModelId, names))


def test_without_rules_all_models_swap_in_the_default_group(loaded: Loader) -> None:
    config = loaded(MODELS)
    assert (config.router.use, config.router.fallback, config.router.isolation) == ("group", "group", "inline")
    assert config.router.groups == {"(default)": Group("(default)", ids("a", "b", "c"))}
    assert config.router.matrix is None


@pytest.mark.parametrize("place", ["groups: {%s}", "routing: {router: {settings: {groups: {%s}}}}"])
def test_groups_in_either_place(loaded: Loader, place: str) -> None:
    groups = "g: {swap: false, exclusive: off, persistent: on, members: [b, al]}, empty: ~"
    config = loaded(MODELS + place % groups)
    assert list(config.router.groups.values()) == [
        Group("g", ids("b", "a"), swap=False, exclusive=False, persistent=True),
        Group("empty"),
        Group("(default)", ids("c")),
    ]
    assert {facts.id: (facts.group, facts.persistent) for facts in config.facts().values()} == {
        "a": ("g", True),
        "b": ("g", True),
        "c": ("(default)", False),
    }


@pytest.mark.parametrize(
    ("groups", "said"),
    [
        ("{g: {members: [a, a]}}", "groups.g.members[1]: duplicate model member a found in group: g"),
        ("{g: {members: [a, al]}}", "groups.g.members[1]: duplicate model member a found in group: g"),
        (
            "{g: {members: [a]}, h: {members: [al]}}",
            "groups.h.members[0]: model member a is used in multiple groups: g and h",
        ),
        ("{g: {members: [a, ~, ghost]}}", 'groups.g.members[1]: no model config for "ghost"'),
        ("{(default): {members: [a]}}", 'groups.(default): "(default)" is the group of all models that no group names'),
    ],
)
def test_groups_are_checked(loaded: Loader, groups: str, said: str) -> None:
    assert said in loaded.error(f"{MODELS}groups: {groups}\n")


def test_unknown_members_are_told_after_everything_else(loaded: Loader) -> None:
    assert loaded.errors(f"{MODELS}groups: {{g: {{members: [x, y]}}}}\n")[1].endswith('no model config for "y"')
    assert "apiKeys" in loaded.error(f"{MODELS}groups: {{g: {{members: [x, y]}}}}\napiKeys: ['']\n")


# ------------------------------------------------- matrix


@pytest.mark.parametrize("place", ["matrix: {%s}", "routing: {router: {use: matrix, settings: {matrix: {%s}}}}"])
def test_a_matrix_in_either_place(loaded: Loader, place: str) -> None:
    config = loaded(MODELS + place % "vars: {v: c}, evict_costs: {v: 3, a: 2}, sets: {s: a & v, t: b}")
    assert (config.router.use, config.router.fallback, config.router.groups) == ("matrix", "matrix", {})
    assert config.router.matrix is not None
    assert [name for name, _ in config.router.matrix.sets] == ["s", "t"]
    assert {facts.id: facts.evict_cost for facts in config.facts().values()} == {"a": 2, "b": 1, "c": 3}


def test_sets_keep_the_order_of_the_file(loaded: Loader) -> None:
    config = loaded(f"{MODELS}matrix: {{sets: {{z: a, y10: b, y9: +x, x: c}}}}\n")
    assert config.router.matrix is not None
    assert [name for name, _ in config.router.matrix.sets] == ["z", "y10", "x", "y9"]


@pytest.mark.parametrize(
    ("matrix", "said"),
    [
        ("{}", "matrix.sets: matrix: matrix must define at least one set"),
        ("{sets: ~}", "matrix.sets: matrix: matrix must define at least one set"),
        ("{sets: {s: ~}}", 'matrix.sets.s: matrix: set "s": empty DSL expression'),
        ("{sets: {s: al}}", 'matrix.sets.s: matrix: set "s": unknown var or model "al"'),
        ("{sets: {s: a}, evict_costs: {a: ~}}", "matrix.evict_costs.a: matrix: evict_cost for"),
        ("{sets: {s: a}, vars: {v: al}}", 'matrix.vars.v: matrix: var key "v" references unknown model "al"'),
        ("{sets: {<<: {s: a}, t: '('}}", 'matrix.sets.t: matrix: set "t": parse: unexpected token ""'),
    ],
)
def test_a_matrix_is_checked_with_places(loaded: Loader, matrix: str, said: str) -> None:
    assert loaded.error(f"{MODELS}matrix: {matrix}\n").startswith(f"config.yaml:6: {said}")


# ------------------------------------------------- which one


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("groups: {g: {members: [a]}}\nrouting: {router: {use: group}}", "config uses both the legacy top-level"),
        ("matrix: {sets: {s: a}}\nrouting: {router: {settings: {groups: {g: {}}}}}", "config uses both the legacy"),
        ("matrix: {}\nrouting: {router: {settings: {matrix: {}}}}", "and the new 'routing.router' block"),
        ("groups: {g: {}}\nmatrix: {sets: {s: a}}", "config cannot use both 'groups' and 'matrix'"),
        (
            "routing: {router: {use: matrix}}",
            "routing.router.use is 'matrix' but routing.router.settings.matrix is not set",
        ),
        ("routing: {router: {use: lottery}}", 'routing.router.use: unknown router "lottery" (valid: group, matrix)'),
    ],
)
def test_there_is_one_way_to_say_it(loaded: Loader, text: str, said: str) -> None:
    assert said in loaded.error(f"{MODELS}{text}\n")


@pytest.mark.parametrize("legacy", ["groups: {}", "groups: ~", "matrix: ~"])
def test_empty_legacy_keys_are_not_there(loaded: Loader, legacy: str) -> None:
    config = loaded(f"{legacy}\n{router('use: matrix, settings: {matrix: {sets: {s: a}}}')}")
    assert config.router.use == "matrix"


def test_the_block_that_is_not_in_use_has_types_but_is_not_checked(loaded: Loader) -> None:
    groups = "groups: {g: {members: [ghost, ghost]}}"
    assert loaded(router(f"use: matrix, settings: {{{groups}, matrix: {{sets: {{s: a}}}}}}")).router.groups == {}
    assert loaded(router("settings: {matrix: {sets: {s: ghost}}}")).router.matrix is None
    assert "expected an integer" in loaded.error(router("settings: {matrix: {evict_costs: {a: x}}}"))


# ------------------------------------------------- installed planners


def test_an_installed_planner_gets_its_settings_as_they_are(loaded: Loader) -> None:
    text = router(
        "use: lru, isolation: process, planTimeout: 1, enforceOnReload: yes,"
        " settings: {lru: {keep: 2, deep: {a: [1]}}, groups: {g: {members: [a], persistent: true}}}"
    )
    found = loaded(text, planners=["lru", "other"]).router
    assert (found.use, found.fallback, found.isolation) == ("lru", "group", "process")
    assert (found.plan_timeout_seconds, found.enforce_on_reload) == (1.0, True)
    assert found.settings == {"keep": 2, "deep": {"a": (1,)}}
    assert found.groups["g"].persistent
    assert loaded(router("use: lru"), planners=["lru"]).router.settings == {}


def test_an_unknown_planner_is_told_with_all_that_there_are(loaded: Loader) -> None:
    said = loaded.error(router("use: lur"), planners=["zebra", "lru"])
    assert 'routing.router.use: unknown router "lur" (valid: group, matrix, lru, zebra)' in said


def test_built_in_names_cannot_be_overridden(loaded: Loader) -> None:
    assert loaded(router("use: group"), planners=["group"]).router.isolation == "inline"


def test_settings_of_planners_that_are_not_installed_are_unknown_keys(loaded: Loader) -> None:
    config = loaded(router("use: lru, settings: {lru: {}, lrru: {}, zebra: {}}"), planners=["lru", "zebra"])
    (said,) = config.unknown_keys
    assert said.endswith('routing.router.settings.lrru: unknown key; did you mean "lru"?')


def test_the_settings_of_a_planner_are_a_mapping(loaded: Loader) -> None:
    assert "routing.router.settings.lru: expected a mapping, got 5" in loaded.error(
        router("use: lru, settings: {lru: 5}"), planners=["lru"]
    )


def test_the_block_of_the_fallback_is_checked(loaded: Loader) -> None:
    text = router("use: lru, settings: {groups: {g: {members: [a, a]}}}")
    assert "duplicate model member a" in loaded.error(text, planners=["lru"])
    text = router("use: lru, fallback: matrix")
    said = "routing.router.fallback is 'matrix' but routing.router.settings.matrix is not set"
    assert said in loaded.error(text, planners=["lru"])
    text = router("use: lru, fallback: matrix, settings: {matrix: {sets: {s: ghost}}}")
    assert 'unknown var or model "ghost"' in loaded.error(text, planners=["lru"])


def test_an_installed_planner_sees_costs_and_groups_where_both_are_given(loaded: Loader) -> None:
    blocks = "groups: {g: {members: [a], persistent: true}}, matrix: {sets: {s: a}, evict_costs: {b: 7}}"
    for fallback in ("group", "matrix"):
        text = router(f"use: lru, fallback: {fallback}, settings: {{{blocks}}}")
        facts = loaded(text, planners=["lru"]).facts()
        assert facts[ModelId("a")].persistent
        assert facts[ModelId("b")].evict_cost == 7


def test_a_wrong_block_beside_the_fallback_is_left_out_with_a_warning(loaded: Loader) -> None:
    config = loaded(router("use: lru, settings: {matrix: {sets: {s: ghost}}}"), planners=["lru"])
    assert config.router.matrix is None
    assert "routing.router.settings.matrix: not used, since it is not right: " in config.warnings[0]
    text = router("use: lru, fallback: matrix, settings: {matrix: {sets: {s: a}}, groups: {g: {members: [ghost]}}}")
    config = loaded(text, planners=["lru"])
    assert config.router.groups == {}
    assert 'no model config for "ghost"' in config.warnings[0]


# ------------------------------------------------- the queue


def fifo(settings: str) -> str:
    return f"{MODELS}routing: {{scheduler: {{use: fifo, settings: {{fifo: {{{settings}}}}}}}}}\n"


def test_the_queue_has_defaults(loaded: Loader) -> None:
    found = loaded(MODELS).scheduler
    assert (found.priority, found.max_wait_seconds, found.max_drain_seconds) == ({}, 300, 0)


def test_aliases_in_the_queue_are_resolved(loaded: Loader) -> None:
    found = loaded(fifo("priority: {al: 3, b: -1, a: 3}, maxWait: 0, maxWaitPerModel: {al: 4}, maxDrain: 9")).scheduler
    assert found.priority == {"a": 3, "b": -1}
    assert found.max_wait_per_model_seconds == {"a": 4}
    assert (found.max_wait_seconds, found.max_drain_seconds) == (0, 9)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (
            "priority: {ghost: 1}",
            'fifo.priority.ghost: routing.scheduler.settings.fifo.priority references unknown model "ghost"',
        ),
        (
            "maxWaitPerModel: {ghost: 1}",
            'routing.scheduler.settings.fifo.maxWaitPerModel references unknown model "ghost"',
        ),
        ("priority: {al: 1, a: 2}", 'fifo.priority.a: model "a" has two different numbers, 1 and 2'),
        ("priority: {a: high}", "fifo.priority.a: expected an integer"),
    ],
)
def test_the_queue_is_checked(loaded: Loader, settings: str, said: str) -> None:
    assert said in loaded.error(fifo(settings))


def test_there_is_one_kind_of_queue(loaded: Loader) -> None:
    said = loaded.error("routing: {scheduler: {use: lifo}}\n")
    assert 'routing.scheduler.use: unknown scheduler "lifo" (valid: fifo)' in said
