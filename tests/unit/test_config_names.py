"""Peers, selectors, profiles, and what is loaded at the start."""

from __future__ import annotations

import pytest

from llamaswap.config.schema import Filters, Peer, PeerModel, Profile, Selector, Timeouts
from tests.unit.configs import Loader

BASE = """
models:
  a: {cmd: 's ${PORT}', aliases: [al]}
  b: {cmd: 's ${PORT}'}
  c: {cmd: 's ${PORT}'}
peers:
  p: {proxy: 'http://p/api', models: [pm, both, sub/x, pm]}
  q: {proxy: 'http://q', models: [both, p/pm2]}
"""


def test_peers(loaded: Loader) -> None:
    config = loaded(
        """
        peers:
          far:
            proxy: https://far/v1
            apiKey: 123
            models: [x, ~, y, x]
            filters: {stripParams: top_k, setParams: {z: 1}, setParamsByID: {far/x: {by: full}}}
            timeouts: {connect: 3}
            forwardApiKey: true
        """,
    )
    assert config.peers["far"] == Peer(
        "far",
        "https://far/v1",
        ("x", "y"),
        api_key="123",
        filters=Filters(("top_k",), {"z": 1}, {"far/x": {"by": "full"}}),
        timeouts=Timeouts(connect_seconds=3, response_header_seconds=60),
        forward_api_key=True,
    )
    assert config.aliases == {}
    assert "123" not in repr(config)


@pytest.mark.parametrize(
    ("peer", "said"),
    [
        ("{models: [x]}", ["peers.p: proxy is required"]),
        ("{proxy: 'http://p'}", ["peers.p: peer models can not be empty"]),
        ("{proxy: 'http://p', models: [~]}", ["peers.p: peer models can not be empty"]),
        ("~", ["peers.p: proxy is required", "peers.p: peer models can not be empty"]),
        ("{proxy: 'http://p:x', models: [x]}", ["peers.p.proxy: peers.p: invalid peer proxy URL (http://p:x)"]),
        (
            "{proxy: 'http://p', models: [x], filters: {setParams: {'*': 1}}}",
            ['peers.p.filters.setParams: "*": wildcards'],
        ),
    ],
)
def test_peers_are_checked(loaded: Loader, peer: str, said: list[str]) -> None:
    found = loaded.errors(f"peers: {{p: {peer}}}\n")
    assert [line.removeprefix("config.yaml:1: ")[: len(text)] for line, text in zip(found, said, strict=True)] == said


def test_the_old_spelling_of_filters_is_unknown_to_peers(loaded: Loader) -> None:
    (said,) = loaded.warnings("peers: {p: {proxy: 'http://p', models: [x], filters: {strip_params: a}}}")
    assert said == 'config.yaml:1: peers.p.filters.strip_params: unknown key; did you mean "stripParams"?'


def test_full_names_always_work_and_bare_ones_when_only_one_peer_has_them(loaded: Loader) -> None:
    assert loaded(BASE).peer_models == {
        "p/pm": PeerModel("p", "pm"),
        "p/both": PeerModel("p", "both"),
        "p/sub/x": PeerModel("p", "sub/x"),
        "q/both": PeerModel("q", "both"),
        "q/p/pm2": PeerModel("q", "p/pm2"),
        "pm": PeerModel("p", "pm"),
        "sub/x": PeerModel("p", "sub/x"),
        "p/pm2": PeerModel("q", "p/pm2"),
    }


def test_a_bare_name_that_is_another_full_name_means_the_full_one(loaded: Loader) -> None:
    config = loaded("peers: {p: {proxy: 'http://p', models: [m]}, q: {proxy: 'http://q', models: [p/m]}}")
    assert config.peer_models["p/m"] == PeerModel("p", "m")


def test_two_peers_cannot_make_one_full_name(loaded: Loader) -> None:
    said = loaded.error("peers: {p: {proxy: 'http://p', models: [q/m]}, p/q: {proxy: 'http://q', models: [m]}}")
    assert said.endswith('peer model name "p/q/m" is ambiguous between peers.p model "q/m" and peers.p/q model "m"')


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("models: {p/m: {cmd: 's ${PORT}'}}", 'model ID "p/m"'),
        ("models: {a: {cmd: 's ${PORT}', aliases: [p/m]}}", 'model a alias "p/m"'),
        ("models: {a: {cmd: 's ${PORT}'}}\nselectors: {p/m: {strategy: pin, targets: [a]}}", 'selector ID "p/m"'),
        ("models: {a: {cmd: 's ${PORT}'}}\nprofiles: {w: {pins: {p/m: a}}}", 'profile w pin "p/m"'),
    ],
)
def test_full_names_belong_to_peers(loaded: Loader, text: str, said: str) -> None:
    found = loaded.error(f"peers: {{p: {{proxy: 'http://p', models: [m]}}}}\n{text}\n")
    assert f"{said} conflicts with fully qualified peer model name" in found


# ------------------------------------------------- selectors


def selector(settings: str, rest: str = "") -> str:
    return f"{BASE}selectors:\n  s: {{{settings}}}\n{rest}\n"


def test_selectors(loaded: Loader) -> None:
    config = loaded(
        selector(
            "strategy: warm, targets: [al, b], name: N, description: D, unlisted: yes, metadata: {why: 1}, settings: ~"
        )
    )
    assert config.selectors == {
        "s": Selector("s", "warm", ("al", "b"), 1, "N", "D", unlisted=True, metadata={"why": 1}),
    }


@pytest.mark.parametrize("target", ["a", "al", "p/pm", "pm", "q/both"])
def test_targets_may_be_any_model_name(loaded: Loader, target: str) -> None:
    assert loaded(selector(f"strategy: pin, targets: [{target}, {target}]")).selectors["s"].targets == (target, target)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ("targets: [a]", "selectors.s.strategy is required"),
        ("strategy: lottery, targets: [a]", 'unknown strategy "lottery" (valid: warm, pin, spillover)'),
        ("strategy: pin", "selectors.s.targets must contain at least one entry"),
        ("strategy: pin, targets: [~]", "selectors.s.targets must contain at least one entry"),
        ("strategy: pin, targets: [ghost]", 'selectors.s.targets[0] references unknown model "ghost"'),
        ("strategy: pin, targets: [both]", 'selectors.s.targets[0] references unknown model "both"'),
        (
            "strategy: pin, targets: [a, t]",
            'selectors.s.targets[1] references selector "t"; selector chaining is not supported',
        ),
        (
            "strategy: warm, targets: [a, pm]",
            'selectors.s.targets[1] must resolve to a local model for strategy "warm"',
        ),
        ("strategy: spillover, targets: [a, al]", 'selectors.s.targets contains duplicate resolved model "a"'),
        ("strategy: spillover, targets: [pm, p/pm]", 'selectors.s.targets contains duplicate resolved model "p/pm"'),
        ("strategy: spillover, targets: [a], settings: {spillover: 0}", "selectors.s.settings.spillover must be >= 1"),
    ],
)
def test_selectors_are_checked(loaded: Loader, settings: str, said: str) -> None:
    assert said in loaded.error(selector(settings, "  t: {strategy: pin, targets: [a]}"))


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("a", 'selectors.a: name conflicts with model ID "a"'),
        ("al", 'selectors.al: name conflicts with model alias "al"'),
        ("' '", "selectors: selector names cannot be empty"),
    ],
)
def test_names_of_selectors_are_checked(loaded: Loader, name: str, said: str) -> None:
    assert said in loaded.error(f"{BASE}selectors: {{{name}: {{strategy: pin, targets: [b]}}}}\n")


@pytest.mark.parametrize(
    ("targets", "rules", "said"),
    [
        ("[a, b]", "", "selectors.s spillover targets must share a group with swap: false"),
        (
            "[a, b]",
            "groups: {g: {swap: false, members: [a]}}",
            "selectors.s spillover targets must share one routing group",
        ),
        ("[b, a]", "groups: {g: {swap: false, members: [a]}}", "must share a group with swap: false"),
        (
            "[a, b]",
            "matrix: {sets: {s: (a | b) & c}}",
            "selectors.s.targets must all appear together in one expanded matrix set",
        ),
    ],
)
def test_spillover_targets_must_be_able_to_run_together(loaded: Loader, targets: str, rules: str, said: str) -> None:
    assert said in loaded.error(selector(f"strategy: spillover, targets: {targets}", rules))


@pytest.mark.parametrize(
    ("targets", "rules"),
    [
        ("[a, pm]", ""),
        ("[a, b, pm]", "groups: {g: {swap: false, members: [b, al]}}"),
        ("[c, al]", "matrix: {sets: {s: (a | b) & c}}"),
    ],
)
def test_spillover_targets_that_can_run_together(loaded: Loader, targets: str, rules: str) -> None:
    text = selector(f"strategy: spillover, targets: {targets}, settings: {{spillover: 4}}", rules)
    assert loaded(text).selectors["s"].spillover == 4


def test_an_installed_planner_is_not_asked_about_spillover(loaded: Loader) -> None:
    text = selector("strategy: spillover, targets: [a, b]", "routing: {router: {use: lru}}")
    (said,) = loaded(text, planners=["lru"]).warnings
    assert "selectors.s.targets: an installed planner decides" in said


def test_spillover_counts_for_its_strategy_only(loaded: Loader) -> None:
    assert loaded(selector("strategy: pin, targets: [a], settings: {spillover: 0}")).selectors["s"].spillover == 0


# ------------------------------------------------- profiles


def test_profiles(loaded: Loader) -> None:
    pins = "{a: b, v: s, x: pm, off: ~, no: ''}"
    profiles = f"profiles: {{w: {{description: D, pins: {pins}}}}}"
    assert loaded(f"{BASE}selectors: {{s: {{strategy: pin, targets: [b]}}}}\n{profiles}\n").profiles == {
        "w": Profile("w", "D", {"a": "b", "v": "s", "x": "pm", "off": "", "no": ""}),
    }


@pytest.mark.parametrize(
    ("profiles", "said"),
    [
        ("{w: {pins: {x: ghost}}}", 'profiles.w.pins.x references unknown model "ghost"'),
        ("{w: {pins: {' ': a}}}", "profiles.w.pins: pin names cannot be empty"),
        ("{'': {pins: {x: a}}}", "profiles: profile names cannot be empty"),
        ("{w: ~}", "profiles.w.pins must contain at least one entry"),
        ("{w: {pins: {}}}", "profiles.w.pins must contain at least one entry"),
        ("{w: 5}", "profiles.w: expected a mapping, got 5"),
    ],
)
def test_profiles_are_checked(loaded: Loader, profiles: str, said: str) -> None:
    assert said in loaded.error(f"{BASE}profiles: {profiles}\n")


# ------------------------------------------------- preload


def test_preload_names_are_trimmed_resolved_and_dropped_with_a_warning(loaded: Loader) -> None:
    config = loaded(f"{BASE}hooks: {{on_startup: {{preload: [' al ', ghost, '', b, pm, a]}}}}\n")
    assert config.preload == ("a", "b", "a")
    assert [said.partition(": ")[2] for said in config.warnings] == [
        'hooks.on_startup.preload[1]: unknown model: "ghost" is left out',
        'hooks.on_startup.preload[4]: a peer\'s model cannot be loaded: "pm" is left out',
    ]
