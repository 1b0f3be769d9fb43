"""The keys of queue and router; part of :mod:`llamaswap.config.table`."""

from __future__ import annotations

from typing import Final

from llamaswap.config import defaults
from llamaswap.config.fields import Field, MappingOf, Section
from llamaswap.config.kinds import Boolean, Integer, PositiveNumber, Text, Texts

_COUNT: Final = Integer(least=0)

_GROUP: Final = Section(
    (
        Field("members", Texts(), "Model ids or aliases that belong to the group."),
        Field("swap", Boolean(), "Whether members replace each other, so that one runs at a time.", default=True),
        Field("exclusive", Boolean(), "Whether starting a member stops the members of other groups.", default=True),
        Field("persistent", Boolean(), "Whether other groups may not stop the members.", default=False),
    ),
)

GROUPS: Final = MappingOf(_GROUP)

MATRIX: Final = Section(
    (
        Field("vars", MappingOf(Text()), "Short names for model ids, for use in sets and costs."),
        Field(
            "evict_costs", MappingOf(Integer()), "What stopping a model costs, by short name or model id; 1 if unsaid."
        ),
        Field(
            "sets",
            MappingOf(Text(), list_refusal="sets must be a mapping"),
            "Models that may run together, as expressions of names, `&`, `|`, parentheses and `+other_set`.",
        ),
    ),
)

_FIFO: Final = Section(
    (
        Field(
            "priority", MappingOf(Integer()), "Priority of waiting requests by model id or alias; higher goes first."
        ),
        Field(
            "maxWait",
            _COUNT,
            "Wait after which a queued model may not be overtaken any more; 0 = off.",
            default=defaults.MAX_WAIT_SECONDS,
            unit="s",
            is_ours=True,
        ),
        Field(
            "maxWaitPerModel",
            MappingOf(_COUNT),
            "Overrides `maxWait` by model id or alias.",
            unit="s",
            is_ours=True,
        ),
        Field(
            "maxDrain",
            _COUNT,
            "Time after which an overdue model closes websocket tunnels in its way; 0 = never.",
            default=defaults.MAX_DRAIN_SECONDS,
            unit="s",
            is_ours=True,
        ),
    ),
)

SCHEDULER: Final = Section(
    (
        Field("use", Text(), "Kind of queue; `fifo` is the only one.", default=""),
        Field("settings", Section((Field("fifo", _FIFO, "Settings of the queue."),)), "Settings by kind of queue."),
    ),
)

ROUTER: Final = Section(
    (
        Field("use", Text(), "`group`, `matrix`, or the name of an installed planner.", default=""),
        Field(
            "settings",
            Section(
                (
                    Field("groups", GROUPS, "Groups of the `group` planner, by name."),
                    Field("matrix", MATRIX, "Sets of the `matrix` planner."),
                ),
                rest="Settings of an installed planner, by its name; handed over as they are.",
            ),
            "Settings by planner.",
        ),
        Field(
            "fallback",
            Text(("group", "matrix")),
            "Built-in planner that decides when an installed one is at fault.",
            default=defaults.PLANNER_FALLBACK,
            is_ours=True,
        ),
        Field(
            "isolation",
            Text(("inline", "thread", "process")),
            "Where an installed planner runs.",
            default=defaults.PLANNER_ISOLATION,
            is_ours=True,
        ),
        Field(
            "planTimeout",
            PositiveNumber(),
            "Longest call of a planner that does not run inline.",
            default=defaults.PLAN_TIMEOUT_SECONDS,
            unit="s",
            is_ours=True,
        ),
        Field(
            "enforceOnReload",
            Boolean(),
            "Whether a reload stops idle models that the new rules forbid together.",
            default=False,
            is_ours=True,
        ),
    ),
)
