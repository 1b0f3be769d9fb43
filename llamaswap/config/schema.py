"""The validated settings that the rest of the program works with.

One :class:`Config` holds everything; it is frozen and deeply immutable. Field names are those of
the YAML keys in snake_case, with units added. ``config/load.py`` is the only maker.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal

from llamaswap.config import defaults
from llamaswap.core.sets import Matrix
from llamaswap.core.values import ModelFacts, ModelId, empty_mapping


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Limits of an upstream connection, in seconds; 0 = none."""

    connect_seconds: float = defaults.TIMEOUT_CONNECT_SECONDS
    keepalive_seconds: int = defaults.TIMEOUT_KEEPALIVE_SECONDS
    response_header_seconds: int = defaults.TIMEOUT_RESPONSE_HEADER_SECONDS
    tls_handshake_seconds: int = defaults.TIMEOUT_TLS_HANDSHAKE_SECONDS
    expect_continue_seconds: int = defaults.TIMEOUT_EXPECT_CONTINUE_SECONDS
    idle_connection_seconds: int = defaults.TIMEOUT_IDLE_CONNECTION_SECONDS


@dataclass(frozen=True, slots=True)
class Filters:
    """Changes to JSON request bodies.

    Attributes:
        strip_params: Paths to remove; sorted, without duplicates, never ``model``.
        set_params: Path to value, sorted by path.
        set_params_by_id: Requested name to (path to value), sorted by path.
    """

    strip_params: tuple[str, ...] = ()
    set_params: Mapping[str, Any] = field(default_factory=empty_mapping)
    set_params_by_id: Mapping[str, Mapping[str, Any]] = field(default_factory=empty_mapping)


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a model can do, for the model list; all empty = not configured."""

    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    tools: bool = False
    reranker: bool = False
    context: int = 0

    @property
    def is_configured(self) -> bool:
        """Whether anything was said at all."""
        return bool(self.inputs or self.outputs or self.tools or self.reranker or self.context)


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """One local model, with every macro, default and global value resolved.

    Attributes:
        cmd: Text of the command, comment lines removed, macros resolved.
        argv: Words of ``cmd``; empty makes each start fail with ``empty command``.
        cmd_stop: Text of the stop command, ``${PID}`` unresolved; may be empty.
        stop_argv: Words of ``cmd_stop``; empty = signal the process group.
        proxy: URL of the upstream as written.
        port: The automatically assigned port, or ``None``.
        aliases: Written ones, then those from ``setParamsByID`` in sorted order.
        env: ``NAME=value`` entries in order.
        check_endpoint: Trimmed; ``none`` = no probing.
        ttl_seconds: Effective; 0 = never unload.
        unload_timeout_seconds: Effective; above 0.
        concurrency_limit: Effective; at least 1.
        health_check_timeout_seconds: Effective (the global value).
    """

    id: ModelId
    cmd: str = ""
    argv: tuple[str, ...] = ()
    cmd_stop: str = ""
    stop_argv: tuple[str, ...] = ()
    proxy: str = ""
    port: int | None = None
    aliases: tuple[str, ...] = ()
    env: tuple[str, ...] = ()
    check_endpoint: str = defaults.CHECK_ENDPOINT
    ttl_seconds: int = 0
    unload_timeout_seconds: int = defaults.UNLOAD_TIMEOUT_SECONDS
    health_check_timeout_seconds: int = defaults.HEALTH_CHECK_TIMEOUT_SECONDS
    unlisted: bool = False
    use_model_name: str = ""
    name: str = ""
    description: str = ""
    concurrency_limit: int = defaults.CONCURRENCY_LIMIT
    filters: Filters = Filters()
    metadata: Mapping[str, Any] = field(default_factory=empty_mapping)
    send_loading_state: bool = False
    timeouts: Timeouts = Timeouts()
    ignore_websockets: bool = False
    capabilities: Capabilities = Capabilities()
    launcher: str = defaults.LAUNCHER
    launcher_settings: Mapping[str, Any] = field(default_factory=empty_mapping)
    keep_descendants: bool = False
    forward_api_key: bool = False


@dataclass(frozen=True, slots=True)
class Group:
    """A group of the ``group`` engine."""

    name: str
    members: tuple[ModelId, ...] = ()
    swap: bool = True
    exclusive: bool = True
    persistent: bool = False


@dataclass(frozen=True, slots=True)
class RouterConfig:
    """Who decides what may run together.

    Attributes:
        use: ``group``, ``matrix``, or the name of an installed planner.
        groups: By name; ``(default)`` with every model that no group names is always among them.
            Empty when the groups engine is neither used nor the fallback.
        matrix: The solver's input when the matrix engine is used or the fallback, else ``None``.
        settings: ``routing.router.settings.NAME`` of an installed planner.
        fallback: Built-in planner that decides when the chosen one is at fault.
        isolation: Where an installed planner runs.
        plan_timeout_seconds: Longest call outside ``inline``.
        enforce_on_reload: Whether a reload evicts idle models that the new rules forbid together.
    """

    use: str = "group"
    groups: Mapping[str, Group] = field(default_factory=empty_mapping)
    matrix: Matrix | None = None
    settings: Mapping[str, Any] = field(default_factory=empty_mapping)
    fallback: Literal["group", "matrix"] = "group"
    isolation: Literal["inline", "thread", "process"] = "thread"
    plan_timeout_seconds: float = defaults.PLAN_TIMEOUT_SECONDS
    enforce_on_reload: bool = False


@dataclass(frozen=True, slots=True)
class SchedulerConfig:
    """The queue. Keys of the mappings are model ids; aliases are resolved already."""

    priority: Mapping[ModelId, int] = field(default_factory=empty_mapping)
    max_wait_seconds: int = defaults.MAX_WAIT_SECONDS
    max_wait_per_model_seconds: Mapping[ModelId, int] = field(default_factory=empty_mapping)
    max_drain_seconds: int = defaults.MAX_DRAIN_SECONDS


@dataclass(frozen=True, slots=True)
class Selector:
    """A virtual name that chooses one of its targets per request."""

    name_id: str
    strategy: Literal["warm", "pin", "spillover"]
    targets: tuple[str, ...]
    spillover: int = defaults.SPILLOVER
    name: str = ""
    description: str = ""
    unlisted: bool = False
    metadata: Mapping[str, Any] = field(default_factory=empty_mapping)


@dataclass(frozen=True, slots=True)
class Profile:
    """A switchable set of pins: requested name to target, empty target = disabled."""

    name: str
    description: str = ""
    pins: Mapping[str, str] = field(default_factory=empty_mapping)


@dataclass(frozen=True, slots=True)
class Peer:
    """Another server that offers models.

    Attributes:
        models: Bare names, each once, in written order.
    """

    id: str
    proxy: str
    models: tuple[str, ...]
    api_key: str = field(default="", repr=False)
    filters: Filters = Filters()
    timeouts: Timeouts = Timeouts(response_header_seconds=defaults.TIMEOUT_RESPONSE_HEADER_PEER_SECONDS)
    forward_api_key: bool = False


@dataclass(frozen=True, slots=True)
class PeerModel:
    """What a name of a peer's model stands for: the peer's id, and the bare name that it knows."""

    peer: str
    model: str


@dataclass(frozen=True, slots=True)
class PerformanceConfig:
    """Sampling of host and GPU figures."""

    disabled: bool = False
    every_seconds: float = defaults.PERFORMANCE_EVERY_SECONDS


@dataclass(frozen=True, slots=True)
class UIConfig:
    """The web UI. ``session_id_headers``: ordered, unique without regard to case."""

    session_id_headers: tuple[str, ...] = defaults.SESSION_ID_HEADERS
    path: str = ""


@dataclass(frozen=True, slots=True)
class HTTPConfig:
    """The strict edge. ``max_connections`` 0 = half of the descriptor limit, less 128."""

    cors: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ()
    trusted_proxies: tuple[str, ...] = ()
    max_body_mib: int = defaults.HTTP_MAX_BODY_MIB
    max_header_bytes: int = defaults.HTTP_MAX_HEADER_BYTES
    header_timeout_seconds: int = defaults.HTTP_HEADER_TIMEOUT_SECONDS
    body_timeout_seconds: int = defaults.HTTP_BODY_TIMEOUT_SECONDS
    max_connections: int = defaults.HTTP_MAX_CONNECTIONS


@dataclass(frozen=True, slots=True)
class StartBackoff:
    """Pause after failed starts in a row; ``failures`` 0 = off."""

    failures: int = defaults.START_BACKOFF_FAILURES
    window_seconds: int = defaults.START_BACKOFF_WINDOW_SECONDS
    pause_seconds: int = defaults.START_BACKOFF_PAUSE_SECONDS


@dataclass(frozen=True, slots=True)
class Config:
    """Everything that was configured.

    Attributes:
        models: By id, sorted by code point.
        aliases: Alias to model id, over all models.
        peer_models: Full names of peers' models, and the bare ones that stand for one peer only;
            local ids and aliases win over them.
        preload: Model ids in order.
        ignore_paths: RE2 regular expressions, checked; see :mod:`llamaswap.config.patterns`.
        sources: Files that were read, in order.
        warnings: Human-readable lines about things that load but look wrong.
        unknown_keys: Those of the warnings that are about keys that nobody knows; a strict check
            takes them for errors.
        metrics_enabled: ``None`` = not set: follows ``performance.disabled``.
        loading_remarks: ``None`` = our own texts.
    """

    models: Mapping[ModelId, ModelConfig] = field(default_factory=empty_mapping)
    aliases: Mapping[str, ModelId] = field(default_factory=empty_mapping)
    router: RouterConfig = RouterConfig()
    scheduler: SchedulerConfig = SchedulerConfig()
    selectors: Mapping[str, Selector] = field(default_factory=empty_mapping)
    profiles: Mapping[str, Profile] = field(default_factory=empty_mapping)
    peers: Mapping[str, Peer] = field(default_factory=empty_mapping)
    peer_models: Mapping[str, PeerModel] = field(default_factory=empty_mapping)
    preload: tuple[ModelId, ...] = ()
    api_keys: tuple[str, ...] = field(default=(), repr=False)
    ignore_paths: tuple[str, ...] = defaults.IGNORE_PATHS
    health_check_timeout_seconds: int = defaults.HEALTH_CHECK_TIMEOUT_SECONDS
    log_level: str = defaults.LOG_LEVEL
    log_time_format: str = defaults.LOG_TIME_FORMAT
    log_to_stdout: Literal["proxy", "upstream", "both", "none"] = "proxy"
    log_format: Literal["text", "json"] = "text"
    log_buffer_kib: int = defaults.LOG_BUFFER_KIB
    metrics_max_in_memory_rows: int = defaults.METRICS_MAX_IN_MEMORY_ROWS
    capture_buffer_mib: int = defaults.CAPTURE_BUFFER_MIB
    store_path: str = ""
    ui: UIConfig = UIConfig()
    performance: PerformanceConfig = PerformanceConfig()
    metrics_enabled: bool | None = None
    metrics_public: bool = False
    unload_timeout_seconds: int = defaults.UNLOAD_TIMEOUT_SECONDS
    include_aliases_in_list: bool = False
    mask_secrets: bool = False
    loading_remarks: tuple[str, ...] | None = None
    reload_drain_seconds: int = defaults.RELOAD_DRAIN_SECONDS
    start_backoff: StartBackoff = StartBackoff()
    state_dir: str = ""
    http: HTTPConfig = HTTPConfig()
    sources: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    unknown_keys: tuple[str, ...] = ()

    def resolve(self, name: str) -> ModelConfig | None:
        """Find the local model of an id or alias; an id wins."""
        found = self.models.get(ModelId(name))
        if found is None:
            target = self.aliases.get(name)
            found = self.models[target] if target is not None else None
        return found

    def facts(self) -> Mapping[ModelId, ModelFacts]:
        """Give what planners and the scheduler need to know, by model id."""
        group_of = {m: g for g in self.router.groups.values() for m in g.members}
        costs = self.router.matrix.costs if self.router.matrix is not None else {}
        return MappingProxyType(
            {
                m.id: ModelFacts(
                    id=m.id,
                    limit=m.concurrency_limit,
                    priority=self.scheduler.priority.get(m.id, 0),
                    ttl=m.ttl_seconds,
                    grace=float(m.unload_timeout_seconds),
                    group=group_of[m.id].name if m.id in group_of else "",
                    persistent=m.id in group_of and group_of[m.id].persistent,
                    evict_cost=costs.get(m.id, defaults.EVICT_COST),
                    metadata=m.metadata,
                )
                for m in self.models.values()
            },
        )
