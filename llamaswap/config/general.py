"""The top-level settings that concern neither models nor names."""

from __future__ import annotations

import ipaddress
import os
from pathlib import Path
from typing import Any, Final

from llamaswap.config import defaults
from llamaswap.config.fields import Record
from llamaswap.config.nodes import ScalarNode
from llamaswap.config.patterns import compile_pattern
from llamaswap.config.problems import Place, Problems, Stage
from llamaswap.config.schema import HTTPConfig, PerformanceConfig, StartBackoff, UIConfig

_LOG_LEVELS: Final = ("debug", "info", "warn", "error")
_LOG_TARGETS: Final = ("proxy", "upstream", "both", "none")
_TIME_FORMATS: Final = (
    "ansic",
    "unixdate",
    "rubydate",
    "rfc822",
    "rfc822z",
    "rfc850",
    "rfc1123",
    "rfc1123z",
    "rfc3339",
    "rfc3339nano",
    "kitchen",
    "stamp",
    "stampmilli",
    "stampmicro",
    "stampnano",
)
_SQLITE_HEADER: Final = b"SQLite format 3\0"


def build_ignore_paths(root: Record, problems: Problems) -> tuple[str, ...]:
    """Check the regular expressions; an empty list means the default ones.

    Errors belong to the stage of types.
    """
    upstream: Record = root["upstream"]
    written: tuple[str, ...] = upstream["ignorePaths"] or defaults.IGNORE_PATHS
    for index, pattern in enumerate(written):
        try:
            compile_pattern(pattern)
        except ValueError as error:
            text = f'upstream.ignorePaths: invalid regular expression "{pattern}": {error}'
            problems.add(Stage.TYPES, upstream.place("ignorePaths", index), text)
    return written


def check_general(root: Record, problems: Problems) -> None:
    """Check the global values, and close their stage.

    Raises:
        ConfigError: A value is out of its range.
    """
    every: float = root["performance"]["every"]
    if every and every < defaults.PERFORMANCE_EVERY_LEAST_SECONDS:
        node = root["performance"].node("every")
        got = node.written if isinstance(node, ScalarNode) else ""
        text = f"performance: every must be at least {defaults.PERFORMANCE_EVERY_LEAST_SECONDS:g}s, got {got}"
        problems.add(Stage.GENERAL, root["performance"].place("every"), text)
    for key in ("globalTTL", "unloadTimeout"):
        if root[key] < 0:
            problems.add(Stage.GENERAL, root.place(key), f"{key} must be >= 0, got {root[key]}")
    if root.has("store"):
        _check_store(root["store"], problems)
    if root["logToStdout"] not in _LOG_TARGETS:
        text = f'logToStdout must be one of: {", ".join(_LOG_TARGETS)}, got "{root["logToStdout"]}"'
        problems.add(Stage.GENERAL, root.place("logToStdout"), text)
    _check_http(root["http"], problems)
    for key, effect in (("captureBuffer", "nothing is captured"), ("metricsMaxInMemory", "the default is used")):
        if root[key] < 0:
            problems.warn(root.place(key), f"negative; {effect}")
    problems.close(Stage.GENERAL)


def _check_store(store: Record, problems: Problems) -> None:
    """See whether the store can be opened, without making it."""
    place = store.place("path")
    written: str = store["path"]
    if not written.strip():
        problems.add(Stage.GENERAL, place, "store.path must not be empty")
        return
    path = Path(written)
    try:
        if path.is_dir():
            problems.add(Stage.GENERAL, place, f"store.path: {path} is a directory, not a file")
        elif not os.access(path.parent, os.W_OK):
            problems.add(Stage.GENERAL, place, f"store.path: directory {path.parent} is not writable")
        elif path.exists() and not os.access(path, os.R_OK | os.W_OK):
            problems.add(Stage.GENERAL, place, f"store.path: {path} is not writable")
        elif path.is_file() and not _may_be_database(path):
            problems.add(Stage.WORLD, place, f"store.path: {path} is not a database")
    except OSError as error:  # a folder on the way that cannot be searched, a name that is too long
        problems.add(Stage.GENERAL, place, f"store.path: {path} cannot be used: {error.strerror}")
    except ValueError:
        problems.add(Stage.GENERAL, place, "store.path must not contain null bytes")


def _may_be_database(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(len(_SQLITE_HEADER)) in {b"", _SQLITE_HEADER}


def _check_http(http: Record, problems: Problems) -> None:
    def refuse(key: str, index: int, expected: str, got: str) -> None:
        problems.add(Stage.GENERAL, http.place(key, index), f'expected {expected}, got "{got}"')

    for index, origin in enumerate(http["cors"]):
        scheme, found, host = origin.partition("://")
        if origin != "*" and not (scheme and found and host and "/" not in host):
            refuse("cors", index, 'an origin such as "https://example.org", or "*"', origin)
    for index, host in enumerate(http["hosts"]):
        if not host or any(char in ":/@ " for char in host):
            refuse("hosts", index, "a host name without port", host)
    for index, proxy in enumerate(http["trustedProxies"]):
        try:
            ipaddress.ip_network(proxy, strict=False)
        except ValueError:
            refuse("trustedProxies", index, "an IP address or a network such as 10.0.0.0/8", proxy)


def check_api_keys(root: Record, problems: Problems) -> None:
    """Refuse keys that cannot be sent or open every door, and close the stage.

    Raises:
        ConfigError: A key cannot be used; no message holds a key.
    """
    for index, key in enumerate(root["apiKeys"]):
        place = Place(f"apiKeys[{index}]", root.place("apiKeys").mark)
        if not key:
            problems.add(Stage.API_KEYS, place, "empty api key found in apiKeys")
        elif " " in key:
            problems.add(Stage.API_KEYS, place, f"apiKeys[{index}]: api key cannot contain spaces")
    problems.close(Stage.API_KEYS)


def build_general(root: Record, problems: Problems) -> dict[str, Any]:
    """Give the fields of the configuration that follow from one setting each."""
    return {
        "api_keys": root["apiKeys"],
        "health_check_timeout_seconds": max(
            root["healthCheckTimeout"],
            defaults.HEALTH_CHECK_TIMEOUT_LEAST_SECONDS,
        ),
        "log_level": _word(root, "logLevel", _LOG_LEVELS, defaults.LOG_LEVEL, problems),
        "log_time_format": _word(root, "logTimeFormat", _TIME_FORMATS, "", problems),
        "log_to_stdout": root["logToStdout"],
        "log_format": root["logFormat"],
        "log_buffer_kib": max(root["logBuffer"], defaults.LOG_BUFFER_KIB),
        "metrics_max_in_memory_rows": (
            root["metricsMaxInMemory"] if root["metricsMaxInMemory"] > 0 else defaults.METRICS_MAX_IN_MEMORY_ROWS
        ),
        "capture_buffer_mib": max(root["captureBuffer"], 0),
        "store_path": root["store"]["path"],
        "ui": UIConfig(_session_ids(root["ui"]["activity"]["session_id"]), root["ui"]["path"]),
        "performance": PerformanceConfig(
            disabled=root["performance"]["disabled"],
            every_seconds=root["performance"]["every"] or defaults.PERFORMANCE_EVERY_SECONDS,
        ),
        "metrics_enabled": root["metrics"]["enabled"],
        "metrics_public": root["metrics"]["public"],
        "unload_timeout_seconds": root["unloadTimeout"] or defaults.UNLOAD_TIMEOUT_SECONDS,
        "include_aliases_in_list": root["includeAliasesInList"],
        "mask_secrets": root["maskSecrets"],
        "loading_remarks": root["loadingRemarks"] if root.has("loadingRemarks") else None,
        "reload_drain_seconds": root["reloadDrain"],
        "start_backoff": StartBackoff(
            failures=root["startBackoff"]["failures"],
            window_seconds=root["startBackoff"]["window"],
            pause_seconds=root["startBackoff"]["pause"],
        ),
        "state_dir": root["stateDir"],
        "http": _http(root["http"]),
    }


def _word(root: Record, key: str, words: tuple[str, ...], otherwise: str, problems: Problems) -> str:
    """Read a word without regard to case; an unknown one gives a warning."""
    word = str(root[key]).strip().lower()
    if not word or word in words:
        return word or otherwise
    shown = f'"{otherwise}"' if otherwise else "none"
    problems.warn(root.place(key), f'unknown value "{root[key]}", {shown} is used; known: {", ".join(words)}')
    return otherwise


def _session_ids(written: tuple[str, ...]) -> tuple[str, ...]:
    """Trim header names, and keep the first spelling of each."""
    found: dict[str, str] = {}
    for name in written:
        if name.strip():
            found.setdefault(name.strip().lower(), name.strip())
    return tuple(found.values())


def _http(http: Record) -> HTTPConfig:
    return HTTPConfig(
        cors=http["cors"],
        hosts=tuple(host.lower() for host in http["hosts"]),
        trusted_proxies=http["trustedProxies"],
        max_body_mib=http["maxBody"],
        max_header_bytes=http["maxHeaderBytes"],
        header_timeout_seconds=http["headerTimeout"],
        body_timeout_seconds=http["bodyTimeout"],
        max_connections=http["maxConnections"],
    )
