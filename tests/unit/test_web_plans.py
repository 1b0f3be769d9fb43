"""What a configuration means for requests."""

from __future__ import annotations

from llamaswap.config.schema import Config, Filters, ModelConfig
from llamaswap.core.values import ModelId
from llamaswap.web.plans import CurrentPlans, Plans
from tests.unit.web_stack import Stack

ALPHA = ModelConfig(
    ModelId("alpha"),
    aliases=("gpt-x", "alpha:think"),
    filters=Filters(
        strip_params=("temperature", "top_p"),
        set_params={"nested": {"a": 1}, "seed": 42},
        set_params_by_id={"alpha:think": {"seed": 7, "think": True}},
    ),
)
BETA = ModelConfig(ModelId("beta"), use_model_name="real-beta", aliases=("alpha",))
PLAIN = ModelConfig(ModelId("author/plain/v2"))
CONFIG = Config(
    models={m.id: m for m in (ALPHA, BETA, PLAIN)},
    aliases={"gpt-x": ALPHA.id, "alpha:think": ALPHA.id, "alpha": BETA.id},
)


def patched(name: str, body: bytes) -> bytes:
    plan = Plans(CONFIG).by_name[name]
    return plan.patch.apply(body) if plan.patch is not None else body


def test_an_id_wins_over_an_alias() -> None:
    assert Plans(CONFIG).by_name["alpha"].model == "alpha"


def test_filters_of_the_model() -> None:
    body = b'{"model":"alpha","temperature":1,"top_p":0.5,"seed":1}'
    assert patched("alpha", body) == b'{"model":"alpha","seed":42,"nested":{"a":1}}'
    assert patched("gpt-x", body) == b'{"model":"alpha","seed":42,"nested":{"a":1}}'


def test_filters_of_the_requested_name_come_last() -> None:
    assert patched("alpha:think", b'{"model":"alpha:think"}') == (
        b'{"model":"alpha:think","nested":{"a":1},"seed":7,"think":true}'
    )


def test_model_name_of_the_server() -> None:
    assert patched("beta", b'{"model":"beta"}') == b'{"model":"real-beta"}'
    assert Plans(CONFIG).by_name["beta"].form_model == b"real-beta"


def test_no_filter_no_patch() -> None:
    plan = Plans(CONFIG).by_name["author/plain/v2"]
    assert plan.patch is None
    assert plan.form_model == b""


def test_longest_name_is_counted_in_segments() -> None:
    assert Plans(CONFIG).most_segments == 3
    assert Plans(Config()).most_segments == 1


def test_ignored_paths() -> None:
    plans = Plans(CONFIG)
    assert plans.is_ignored("/app.js")
    assert not plans.is_ignored("/v1/models")
    assert not Plans(Config(ignore_paths=())).is_ignored("/app.js")


def test_plans_follow_the_configuration_in_force() -> None:
    daemon = Stack(CONFIG).daemon
    current = CurrentPlans(daemon)
    first = current()
    assert current() is first
    daemon.config = Config()
    assert current().config is daemon.config
    assert not current().by_name
