"""Every key of the configuration: its type, its default, and what it does.

Conversion, the search for unknown keys, the JSON schema and the reference documentation all come
from :data:`ROOT`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from llamaswap.config import defaults
from llamaswap.config.fields import Field, MappingOf, Section
from llamaswap.config.kinds import Anything, Boolean, Duration, Integer, Text, Texts
from llamaswap.config.table_models import MODEL, PEER
from llamaswap.config.table_routing import GROUPS, MATRIX, ROUTER, SCHEDULER

_COUNT: Final = Integer(least=0)

_SELECTOR: Final = Section(
    (
        Field(
            "strategy",
            Text(),
            "How a target is chosen: `warm`, `pin` or `spillover`.",
            default="",
            is_required=True,
        ),
        Field(
            "targets", Texts(), "Names to choose from: model ids, aliases or names of peers' models.", is_required=True
        ),
        Field(
            "settings",
            Section(
                (
                    Field(
                        "spillover",
                        Integer(),
                        "Requests at once on a target before `spillover` starts the next one.",
                        default=defaults.SPILLOVER,
                    ),
                ),
            ),
            "Settings of the strategy.",
        ),
        Field("name", Text(), "Name in the model list.", default=""),
        Field("description", Text(), "Description in the model list.", default=""),
        Field("unlisted", Boolean(), "Whether the model list leaves it out.", default=False),
        Field("metadata", Anything(is_mapping=True), "Shown in the model list."),
    ),
)

_PROFILE: Final = Section(
    (
        Field("description", Text(), "What the profile is for.", default=""),
        Field(
            "pins",
            MappingOf(Text()),
            "Requested name to served name; an empty one disables the name.",
            is_required=True,
        ),
    ),
    list_refusal="profile must be a mapping with description and pins; the legacy list syntax is no longer supported",
)

_UI: Final = Section(
    (
        Field(
            "activity",
            Section(
                (
                    Field(
                        "session_id",
                        Texts(),
                        "Request headers that tell the sessions of clients apart, the strongest first.",
                        default=defaults.SESSION_ID_HEADERS,
                    ),
                ),
            ),
            "The activity page.",
        ),
        Field("path", Text(), "Folder with another build of the web UI.", default="", is_ours=True),
    ),
)

_PERFORMANCE: Final = Section(
    (
        Field("disabled", Boolean(), "Whether no figures of host and GPUs are taken.", default=False),
        Field(
            "every",
            Duration(),
            "Time between two samples, at least `5s`.",
            default=defaults.PERFORMANCE_EVERY_SECONDS,
            unit="s",
        ),
    ),
)

_START_BACKOFF: Final = Section(
    (
        Field(
            "failures",
            _COUNT,
            "Failed starts in a row that make a model pause; 0 = never.",
            default=defaults.START_BACKOFF_FAILURES,
            is_ours=True,
        ),
        Field(
            "window",
            _COUNT,
            "Time within which the failures count.",
            default=defaults.START_BACKOFF_WINDOW_SECONDS,
            unit="s",
            is_ours=True,
        ),
        Field(
            "pause",
            _COUNT,
            "Length of the pause.",
            default=defaults.START_BACKOFF_PAUSE_SECONDS,
            unit="s",
            is_ours=True,
        ),
    ),
)

_HTTP: Final = Section(
    (
        Field("cors", Texts(), 'Origins that browsers may call from, or `["*"]`.', is_ours=True),
        Field("hosts", Texts(), "Allowed `Host` names; none = any.", is_ours=True),
        Field(
            "trustedProxies",
            Texts(),
            "Addresses or networks whose `X-Forwarded-For` is believed; none = anyone's.",
            is_ours=True,
        ),
        Field(
            "maxBody",
            _COUNT,
            "Largest request body; 0 = no limit.",
            default=defaults.HTTP_MAX_BODY_MIB,
            unit="MiB",
            is_ours=True,
        ),
        Field(
            "maxHeaderBytes",
            _COUNT,
            "Largest request line with headers.",
            default=defaults.HTTP_MAX_HEADER_BYTES,
            unit="bytes",
            is_ours=True,
        ),
        Field(
            "headerTimeout",
            _COUNT,
            "Time for a whole header block; 0 = no limit.",
            default=defaults.HTTP_HEADER_TIMEOUT_SECONDS,
            unit="s",
            is_ours=True,
        ),
        Field(
            "bodyTimeout",
            _COUNT,
            "Time without a byte of the request body; 0 = no limit.",
            default=defaults.HTTP_BODY_TIMEOUT_SECONDS,
            unit="s",
            is_ours=True,
        ),
        Field(
            "maxConnections",
            _COUNT,
            "Client connections at once; 0 = half of the descriptor limit, less 128.",
            default=defaults.HTTP_MAX_CONNECTIONS,
            is_ours=True,
        ),
    ),
)


ROOT: Final = Section(
    (
        Field(
            "healthCheckTimeout",
            Integer(),
            f"Time from a server's start until it is ready; at least {defaults.HEALTH_CHECK_TIMEOUT_LEAST_SECONDS}.",
            default=defaults.HEALTH_CHECK_TIMEOUT_SECONDS,
            unit="s",
        ),
        Field("logLevel", Text(), "`debug`, `info`, `warn` or `error`.", default=defaults.LOG_LEVEL),
        Field(
            "logTimeFormat",
            Text(),
            "Name of a time format for log lines; empty = no time.",
            default=defaults.LOG_TIME_FORMAT,
        ),
        Field(
            "logToStdout",
            Text(),
            "What goes to standard output: `proxy`, `upstream`, `both` or `none`.",
            default=defaults.LOG_TO_STDOUT,
        ),
        Field("logRequests", Boolean(), "Accepted without effect.", default=False),
        Field(
            "metricsMaxInMemory",
            Integer(),
            "Activity rows kept in memory when there is no `store`.",
            default=defaults.METRICS_MAX_IN_MEMORY_ROWS,
        ),
        Field(
            "captureBuffer",
            Integer(),
            "Memory for captured requests and answers; 0 = no captures.",
            default=defaults.CAPTURE_BUFFER_MIB,
            unit="MB",
        ),
        Field(
            "store",
            Section((Field("path", Text(), "SQLite file; created when missing.", default="", is_required=True),)),
            "Where activity is kept across restarts; without it, in memory.",
        ),
        Field("ui", _UI, "The web UI."),
        Field("performance", _PERFORMANCE, "Sampling of host and GPU figures."),
        Field(
            "globalTTL",
            Integer(),
            "Idle time until a model without `ttl` is unloaded; 0 = never.",
            default=defaults.GLOBAL_TTL_SECONDS,
            unit="s",
        ),
        Field(
            "unloadTimeout",
            Integer(),
            "Time that a model has to stop by itself before it is killed.",
            default=defaults.UNLOAD_TIMEOUT_SECONDS,
            unit="s",
        ),
        Field("startPort", Integer(), "First port handed out for `${PORT}`.", default=defaults.START_PORT),
        Field("sendLoadingState", Boolean(), "Whether streaming clients are told that a model loads.", default=False),
        Field("includeAliasesInList", Boolean(), "Whether the model list has an entry for each alias.", default=False),
        Field("macros", Anything(is_mapping=True), "Texts and numbers that `${NAME}` stands for, in every value."),
        Field("models", MappingOf(MODEL, keeps_spelling=True), "The models, by id."),
        Field("groups", GROUPS, "Old place of `routing.router.settings.groups`."),
        Field("matrix", MATRIX, "Old place of `routing.router.settings.matrix`."),
        Field(
            "routing",
            Section(
                (
                    Field("scheduler", SCHEDULER, "Which request goes first."),
                    Field("router", ROUTER, "Which models may run together."),
                ),
            ),
            "The queue, and which models may run together.",
        ),
        Field("profiles", MappingOf(_PROFILE), "Switchable sets of pinned names, by name."),
        Field("selectors", MappingOf(_SELECTOR), "Virtual names that choose a model for each request."),
        Field("peers", MappingOf(PEER), "Other servers that offer models, by id."),
        Field(
            "hooks",
            Section(
                (
                    Field(
                        "on_startup",
                        Section((Field("preload", Texts(), "Models to load, one after the other."),)),
                        "After each start and reload.",
                    ),
                ),
            ),
            "What to do by itself.",
        ),
        Field("apiKeys", Texts(keeps_nulls=True), "Keys of which a request needs one; none = open to everybody."),
        Field(
            "upstream",
            Section(
                (
                    Field(
                        "ignorePaths",
                        Texts(),
                        "Regular expressions (RE2) of paths below `/upstream/MODEL` that do not start a model.",
                        default=defaults.IGNORE_PATHS,
                    ),
                ),
            ),
            "The pages of models' servers under `/upstream`.",
        ),
        Field(
            "reloadDrain",
            _COUNT,
            "Time that requests on a changed or removed model get at a reload.",
            default=defaults.RELOAD_DRAIN_SECONDS,
            unit="s",
            is_ours=True,
        ),
        Field("startBackoff", _START_BACKOFF, "Pause after failed starts.", is_ours=True),
        Field(
            "stateDir",
            Text(),
            "Folder of the run-state file; empty = `$STATE_DIRECTORY` or the user's state folder. Needs a restart.",
            default="",
            is_ours=True,
        ),
        Field("loadingRemarks", Texts(), "Remarks in the loading stream; `[]` = none.", is_ours=True),
        Field(
            "logFormat",
            Text(("text", "json")),
            "Form of our own log lines.",
            default=defaults.LOG_FORMAT,
            is_ours=True,
        ),
        Field(
            "logBuffer",
            _COUNT,
            f"History of each log; at least {defaults.LOG_BUFFER_KIB}.",
            default=defaults.LOG_BUFFER_KIB,
            unit="KiB",
            is_ours=True,
        ),
        Field(
            "metrics",
            Section(
                (
                    Field(
                        "enabled",
                        Boolean(),
                        "Whether `/metrics` answers; unsaid: when `performance` is on.",
                        is_ours=True,
                    ),
                    Field("public", Boolean(), "Whether metrics need no API key.", default=False, is_ours=True),
                ),
            ),
            "The Prometheus endpoint.",
            is_ours=True,
        ),
        Field("maskSecrets", Boolean(), "Whether `/running` hides secret-looking flags.", default=False, is_ours=True),
        Field("http", _HTTP, "Limits of what clients may send.", is_ours=True),
    ),
    ignored_prefix="x-",
)


def documented(section: Section = ROOT, path: str = "") -> Iterator[tuple[str, Field]]:
    """Go through all keys in the order of the table.

    Yields:
        The key's path, such as ``models.*.ttl`` (a star for a free name), and its field; a section
        comes before its keys.
    """
    for field in section.fields:
        below = f"{path}.{field.key}".removeprefix(".")
        yield below, field
        kind = field.kind
        if isinstance(kind, MappingOf):
            below, kind = f"{below}.*", kind.item
        if isinstance(kind, Section):
            yield from documented(kind, below)
