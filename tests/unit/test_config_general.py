"""Top-level settings, and the order in which problems are told."""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path

import pytest

from llamaswap.config.problems import Mark, Place, Problems, Stage
from llamaswap.config.schema import Config, HTTPConfig, StartBackoff
from llamaswap.errors import ConfigError
from tests.unit.configs import Loader


@pytest.mark.parametrize(
    ("text", "name", "value"),
    [
        ("healthCheckTimeout: 3", "health_check_timeout_seconds", 15),
        ("healthCheckTimeout: -3", "health_check_timeout_seconds", 15),
        ("healthCheckTimeout: 60", "health_check_timeout_seconds", 60),
        ("logLevel: ' WARN '", "log_level", "warn"),
        ("logLevel: odd", "log_level", "info"),
        ("logLevel: ''", "log_level", "info"),
        ("logTimeFormat: ' RFC3339 '", "log_time_format", "rfc3339"),
        ("logTimeFormat: odd", "log_time_format", ""),
        ("logToStdout: both", "log_to_stdout", "both"),
        ("logRequests: yes", "log_level", "info"),
        ("metricsMaxInMemory: 0", "metrics_max_in_memory_rows", 1000),
        ("metricsMaxInMemory: -1", "metrics_max_in_memory_rows", 1000),
        ("metricsMaxInMemory: 5", "metrics_max_in_memory_rows", 5),
        ("captureBuffer: -1", "capture_buffer_mib", 0),
        ("captureBuffer: 0", "capture_buffer_mib", 0),
        ("captureBuffer: 7", "capture_buffer_mib", 7),
        ("unloadTimeout: 0", "unload_timeout_seconds", 10),
        ("logBuffer: 3", "log_buffer_kib", 100),
        ("logBuffer: 300", "log_buffer_kib", 300),
        ("logFormat: json", "log_format", "json"),
        ("loadingRemarks: []", "loading_remarks", ()),
        ("loadingRemarks: ~", "loading_remarks", None),
        ("loadingRemarks: [a, ~]", "loading_remarks", ("a",)),
        ("metrics: {enabled: no, public: yes}", "metrics_enabled", False),
        ("metrics: {enabled: ~}", "metrics_enabled", None),
        ("maskSecrets: yes", "mask_secrets", True),
        ("reloadDrain: 0", "reload_drain_seconds", 0),
        ("stateDir: /var/x", "state_dir", "/var/x"),
        ("startBackoff: {failures: 3}", "start_backoff", StartBackoff(failures=3)),
        ("apiKeys: [sk-one, 'sk-two', 012]", "api_keys", ("sk-one", "sk-two", "10")),
        ("apiKeys: []", "api_keys", ()),
        ("store: ~", "store_path", ""),
        ("includeAliasesInList: on", "include_aliases_in_list", True),
    ],
)
def test_effective_values(loaded: Loader, text: str, name: str, value: object) -> None:
    assert getattr(loaded(f"{text}\n"), name) == value


def test_the_http_section(loaded: Loader) -> None:
    lists = "cors: ['*', 'https://a.b:1'], hosts: [A.b], trustedProxies: [10.0.0.1, 'fd00::/8', 10.1.2.3/8]"
    assert loaded(f"http: {{{lists}, maxBody: 5}}\n").http == HTTPConfig(
        cors=("*", "https://a.b:1"),
        hosts=("a.b",),
        trusted_proxies=("10.0.0.1", "fd00::/8", "10.1.2.3/8"),
        max_body_mib=5,
    )


def test_session_headers_are_trimmed_and_unique_without_regard_to_case(loaded: Loader) -> None:
    config = loaded("ui: {activity: {session_id: [' X-Chat ', '', x-chat, X-Other]}, path: /ui}\n")
    assert config.ui.session_id_headers == ("X-Chat", "X-Other")
    assert config.ui.path == "/ui"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("performance: {every: 4999ms}", "performance.every: performance: every must be at least 5s, got 4999ms"),
        ("performance: {every: -6s, disabled: true}", "performance: every must be at least 5s, got -6s"),
        ("globalTTL: -1", "globalTTL: globalTTL must be >= 0, got -1"),
        ("unloadTimeout: -1", "unloadTimeout: unloadTimeout must be >= 0, got -1"),
        ("logToStdout: Both", "logToStdout must be one of: proxy, upstream, both, none"),
        ("logToStdout: ''", "logToStdout must be one of: proxy, upstream, both, none"),
        ("store: {}", "store.path must not be empty"),
        ("store: {path: '  '}", "store.path must not be empty"),
        ("store: {path: ~}", "store.path must not be empty"),
        ("http: {cors: [example.org]}", "http.cors[0]: expected an origin such as"),
        ("http: {cors: ['https://a/b']}", "http.cors[0]: expected an origin such as"),
        ("http: {hosts: ['a:80']}", 'http.hosts[0]: expected a host name without port, got "a:80"'),
        ("http: {trustedProxies: [10.0.0.1, proxy]}", "http.trustedProxies[1]: expected an IP address or a network"),
        ("apiKeys: [fine, '']", "apiKeys[1]: empty api key found in apiKeys"),
        ("apiKeys: [~]", "apiKeys[0]: empty api key found in apiKeys"),
        (
            "upstream: {ignorePaths: [ok, '(x']}",
            'upstream.ignorePaths[1]: upstream.ignorePaths: invalid regular expression "(x"',
        ),
    ],
)
def test_values_out_of_range(loaded: Loader, text: str, said: str) -> None:
    assert said in loaded.error(f"{text}\n")


def test_a_key_with_a_blank_is_refused_and_not_shown(loaded: Loader) -> None:
    said = loaded.error("apiKeys: [fine, 'not fine']\n")
    assert said == "config.yaml:1: apiKeys[1]: api key cannot contain spaces"


@pytest.mark.parametrize("written", ["[]", "~", "[~]"])
def test_no_ignored_paths_means_the_default_ones(loaded: Loader, written: str) -> None:
    assert loaded(f"upstream: {{ignorePaths: {written}}}\n").ignore_paths == loaded("").ignore_paths
    assert loaded("").ignore_paths == (r".*\.(js|json|css|png|gif|jpg|jpeg|ico|txt)$",)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("logLevel: loud", 'logLevel: unknown value "loud", "info" is used; known: debug, info, warn, error'),
        ("logTimeFormat: iso", 'logTimeFormat: unknown value "iso", none is used; known: ansic, unixdate'),
        ("captureBuffer: -1", "captureBuffer: negative; nothing is captured"),
        ("metricsMaxInMemory: -1", "metricsMaxInMemory: negative; the default is used"),
    ],
)
def test_what_looks_wrong_is_warned_about(loaded: Loader, text: str, said: str) -> None:
    (only,) = loaded.warnings(f"{text}\n")
    assert only.startswith(f"config.yaml:1: {said}")


# ------------------------------------------------- the store


def store(loaded: Loader, path: Path) -> Config:
    return loaded(f"store: {{path: '{path}'}}\n")


def test_a_store_may_be_missing_empty_or_a_database(loaded: Loader, tmp_path: Path) -> None:
    path = tmp_path / "activity.sqlite"
    assert store(loaded, path).store_path == str(path)
    assert not path.exists()
    path.touch()
    store(loaded, path)
    with sqlite3.connect(path) as database:
        database.execute("CREATE TABLE t (x)")
    database.close()
    store(loaded, path)


def test_a_store_that_cannot_be_opened_is_refused(
    loaded: Loader, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(path: Path) -> str:
        return loaded.error(f"store: {{path: '{path}'}}\n")

    text = tmp_path / "notes.txt"
    text.write_text("something else entirely", encoding="utf-8")
    assert refused(tmp_path).endswith(f"store.path: {tmp_path} is a directory, not a file")
    assert refused(tmp_path / "no" / "x").endswith(f"store.path: directory {tmp_path / 'no'} is not writable")
    assert refused(text).endswith(f"store.path: {text} is not a database")
    assert refused(tmp_path / ("x" * 300)).endswith("cannot be used: File name too long")
    assert loaded.error('store: {path: "a\\0/b"}\n').endswith("store.path must not contain null bytes")
    monkeypatch.setattr("os.access", lambda path, _mode: Path(path).is_dir())
    assert refused(text).endswith(f"store.path: {text} is not writable")


# ------------------------------------------------- order of the stages


def test_each_stage_hides_the_later_ones(loaded: Loader) -> None:
    lines = [
        "apiKeys: ['']",
        "hooks: {}",
        "routing: {scheduler: {use: lifo}, router: {use: lottery}}",
        "selectors: {s: {}}",
        "profiles: {p: {}}",
        "peers: {p: {proxy: 'http://h', models: [m]}}",
        "models: {p/m: {cmd: 's ${PORT}', ttl: -5, aliases: [x, x]}}",
        "globalTTL: -1",
        "captureBuffer: soon",
        "http: {hosts: ['${nope}']}",
        "startPort: 0",
        "macros: {PID: 1}",
        "logLevel: '${env.NOPE}'",
    ]
    # From the last line on: what is told next when the line is mended.
    expected = [
        ("environment variable 'NOPE'", ""),
        ("macro name 'PID' is reserved", ""),
        ("startPort must be greater than 1", ""),
        ("http.hosts[0]: unknown macro '${nope}'", ""),
        ("captureBuffer: expected an integer", ""),
        ("globalTTL must be >= 0", ""),
        ("duplicate alias x", "models: {p/m: {cmd: 's ${PORT}', ttl: -5}}"),
        ("invalid TTL value -5", "models: {p/m: {cmd: 's ${PORT}'}}"),
        ("unknown router", "routing: {scheduler: {use: lifo}}"),
        ("unknown scheduler", "routing: {}"),
        ("empty api key", "apiKeys: [x]"),
        ("conflicts with fully qualified peer model name", "peers: {}"),
        ("selectors.s.strategy is required", "selectors: {}"),
        ("profiles.p.pins must contain", "profiles: {}"),
    ]
    for said, mended in expected:
        found = loaded.errors("\n".join(lines))
        assert said in found[0], (said, found)
        if not mended:
            lines.pop()
        else:
            key = mended.partition(":")[0]
            lines = [mended if line.startswith(f"{key}:") else line for line in lines]
    loaded("\n".join(lines))


def test_problems_of_earlier_stages_come_first_whenever_they_were_found() -> None:
    problems = Problems()
    problems.add(Stage.GENERAL, Place("b"), "second")
    problems.add(Stage.TYPES, Place("a", Mark("f", 3)), "first")
    problems.add(Stage.WORLD, Place("c"), "much later")
    problems.close(Stage.LEFTOVERS)
    with pytest.raises(ConfigError) as caught:
        problems.close(Stage.GENERAL)
    assert str(caught.value) == "f:3: a: first\nb: second"


def test_a_problem_is_one_line() -> None:
    problems = Problems()
    problems.add(Stage.TYPES, Place("a\nb"), "x\ny")
    with pytest.raises(ConfigError, match=r"^a\\nb: x\\ny$"):
        problems.close(Stage.TYPES)


def test_two_hundred_models_load_well_under_a_second(loaded: Loader) -> None:
    model = """
  model-%d:
    cmd: |
      ${run} \\
        -m /models/%d.gguf
    name: Model %d
    aliases: [a%d]
    env: [CUDA_VISIBLE_DEVICES=0]
    metadata: {arch: llama, tags: [a, b, c]}
    filters: {stripParams: 'temperature, top_p', setParams: {top_k: 20}}
"""
    text = "macros: {bin: llama-server, run: '${bin} --port ${PORT}'}\nmodels:" + "".join(
        model % ((number,) * 4) for number in range(200)
    )
    started = time.perf_counter()
    assert len(loaded(text).models) == 200
    assert time.perf_counter() - started < 0.8
