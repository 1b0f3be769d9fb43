"""The keys of models and peers; part of :mod:`llamaswap.config.table`."""

from __future__ import annotations

from typing import Final

from llamaswap.config import defaults
from llamaswap.config.fields import Field, MappingOf, Section
from llamaswap.config.kinds import Anything, Boolean, Integer, Text, Texts

_OBJECT: Final = Anything(is_mapping=True)


def _timeouts(response_header_seconds: int) -> Section:
    """Give the section of connection limits, which differs in one default."""
    return Section(
        tuple(
            Field(key, Integer(least=0), doc, default=default, unit="s")
            for key, doc, default in (
                ("connect", "Time for the TCP connection; 0 = no limit.", defaults.TIMEOUT_CONNECT_SECONDS),
                (
                    "keepalive",
                    "Interval of TCP keep-alive probes; 0 = none.",
                    defaults.TIMEOUT_KEEPALIVE_SECONDS,
                ),
                (
                    "responseHeader",
                    "From the request sent to the answer's headers; 0 = no limit.",
                    response_header_seconds,
                ),
                ("tlsHandshake", "Time for the TLS handshake; 0 = no limit.", defaults.TIMEOUT_TLS_HANDSHAKE_SECONDS),
                ("expectContinue", "Without effect: a body is sent at once.", defaults.TIMEOUT_EXPECT_CONTINUE_SECONDS),
                (
                    "idleConn",
                    "Life of an unused connection to a peer; 0 = no limit. To a model it is 4 s.",
                    defaults.TIMEOUT_IDLE_CONNECTION_SECONDS,
                ),
            )
        ),
    )


_SET_BY_NAME: Final = Field(
    "setParamsByID",
    MappingOf(_OBJECT),
    "Members to set in the body, by the requested name; each name becomes an alias of the model.",
)
_STRIP: Final = Field("stripParams", Text(), "Members to remove from the body, separated by commas.", default="")
_SET: Final = Field("setParams", _OBJECT, "Members to set in the body; a dot reaches into an object.")

_MODEL_FILTERS: Final = Section(
    (
        _STRIP,
        Field("strip_params", Text(), "Old spelling of `stripParams`, used when that is empty.", default=""),
        _SET,
        _SET_BY_NAME,
    ),
)
_PEER_FILTERS: Final = Section(
    (
        _STRIP,
        _SET,
        Field("setParamsByID", MappingOf(_OBJECT), "Members to set in the body, by the requested name."),
    ),
)

_CAPABILITIES: Final = Section(
    (
        Field("in", Texts(), "What it takes: any of `text`, `audio`, `image`."),
        Field("out", Texts(), "What it makes: any of `text`, `audio`, `image`."),
        Field("tools", Boolean(), "Whether it can call tools.", default=False),
        Field("reranker", Boolean(), "Whether it ranks documents.", default=False),
        Field("context", Integer(), "Length of its context; 0 = unsaid.", default=0, unit="tokens"),
    ),
)

_FORWARD_API_KEY: Final = Field(
    "forwardApiKey",
    Boolean(),
    "Whether the API key of the client's request is passed on instead of removed.",
    default=False,
    is_ours=True,
)

MODEL: Final = Section(
    (
        Field("cmd", Text(), "Command that starts the model's server; split into words without a shell.", default=""),
        Field("cmdStop", Text(), "Command that stops it, with `${PID}`; empty = signal its process group.", default=""),
        Field("proxy", Text(), "URL at which the server answers.", default=defaults.PROXY),
        Field("aliases", Texts(), "Further names of the model."),
        Field("env", Texts(), "`NAME=value` entries added to the environment of the server; later ones win."),
        Field(
            "checkEndpoint",
            Text(),
            "Path that answers 200 once the server is ready; `none` = ready as soon as it runs.",
            default=defaults.CHECK_ENDPOINT,
        ),
        Field("ttl", Integer(), "Idle time until it is unloaded; 0 = never, -1 = `globalTTL`.", default=-1, unit="s"),
        Field(
            "unloadTimeout",
            Integer(),
            "Time to stop by itself before it is killed; 0 = the global `unloadTimeout`.",
            default=0,
            unit="s",
        ),
        Field("unlisted", Boolean(), "Whether the model list leaves it and its aliases out.", default=False),
        Field("useModelName", Text(), "Name sent to the server in place of the requested one.", default=""),
        Field("name", Text(), "Name in the model list.", default=""),
        Field("description", Text(), "Description in the model list.", default=""),
        Field(
            "concurrencyLimit",
            Integer(),
            f"Requests admitted at once, waiting ones included; more get 429. 0 = {defaults.CONCURRENCY_LIMIT}.",
            default=0,
        ),
        Field("filters", _MODEL_FILTERS, "Changes to JSON request bodies; `model` is never touched."),
        Field("macros", _OBJECT, "Macros of this model; they replace global ones of the same name."),
        Field("metadata", _OBJECT, "Shown in the model list under `meta.llamaswap`, types kept."),
        Field("sendLoadingState", Boolean(), "Overrides the global `sendLoadingState`."),
        Field("timeouts", _timeouts(defaults.TIMEOUT_RESPONSE_HEADER_SECONDS), "Limits of connections to the server."),
        Field(
            "compat",
            Section(
                (
                    Field(
                        "ignoreWebsockets",
                        Boolean(),
                        "Whether websockets neither start the model, nor keep it loaded, nor count as requests.",
                        default=False,
                    ),
                ),
            ),
            "Allowances for unusual servers.",
        ),
        Field("capabilities", _CAPABILITIES, "What the model can do, for the model list."),
        Field("healthCheckTimeout", Integer(), "Accepted without effect; the global value counts.", unit="s"),
        Field(
            "launcher",
            Text(),
            "What runs the server: `local`, or the name of an installed launcher.",
            default=defaults.LAUNCHER,
            is_ours=True,
        ),
        Field("launcherSettings", _OBJECT, "Handed to the launcher as they are.", is_ours=True),
        Field(
            "keepDescendants",
            Boolean(),
            "Whether processes that the server started survive it.",
            default=False,
            is_ours=True,
        ),
        _FORWARD_API_KEY,
    ),
)

PEER: Final = Section(
    (
        Field(
            "proxy",
            Text(),
            "URL of the other server; a path in it goes before each request's.",
            default="",
            is_required=True,
        ),
        Field("apiKey", Text(), "Key sent to the peer in place of the client's.", default=""),
        Field("models", Texts(), "Names of the peer's models.", is_required=True),
        Field("filters", _PEER_FILTERS, "Changes to JSON request bodies; `model` is never touched."),
        Field(
            "timeouts", _timeouts(defaults.TIMEOUT_RESPONSE_HEADER_PEER_SECONDS), "Limits of connections to the peer."
        ),
        _FORWARD_API_KEY,
    ),
)
