"""The local models: effective values, their own checks, and their names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from llamaswap.config import defaults
from llamaswap.config.fields import Record
from llamaswap.config.problems import Problems, Stage
from llamaswap.config.schema import Capabilities, Filters, ModelConfig, Timeouts
from llamaswap.config.urls import is_absolute, is_parsable
from llamaswap.core.command import split_command
from llamaswap.core.values import ModelId

_MODALITIES: Final = ("text", "audio", "image")


def check_aliases(models: Mapping[str, Record], problems: Problems) -> dict[str, ModelId]:
    """Find the owner of each written alias, and close the stage of the aliases.

    Args:
        models: By id, in written order.
        problems: Gets an error for each alias that is written twice.

    Raises:
        ConfigError: An alias belongs to several models, or several times to one.
    """
    owners: dict[str, ModelId] = {}
    for model_id, record in models.items():
        for index, alias in enumerate(record["aliases"]):
            place = record.place("aliases", index)
            if alias in owners:
                text = f"duplicate alias {alias} found in model: {model_id}, already used by model {owners[alias]}"
                problems.add(Stage.ALIASES, place, text)
            else:
                owners[alias] = ModelId(model_id)
            if alias in models:
                problems.warn(place, f'alias "{alias}" is also a model id, and the id wins')
    problems.close(Stage.ALIASES)
    return owners


def build_timeouts(record: Record) -> Timeouts:
    """Make connection limits from their section."""
    return Timeouts(
        connect_seconds=record["connect"],
        keepalive_seconds=record["keepalive"],
        response_header_seconds=record["responseHeader"],
        tls_handshake_seconds=record["tlsHandshake"],
        expect_continue_seconds=record["expectContinue"],
        idle_connection_seconds=record["idleConn"],
    )


class ModelBuilder:
    """Makes the models, in sorted order of their ids.

    Args:
        models: By id, every model's section.
        filters: By id, every model's filters.
        owners: Owner of each alias; grows by those that come from ``setParamsByID``.
        root: The whole configuration, for global values.
        launchers: Names of the launchers that there are.
        problems: Gets errors and warnings.
    """

    def __init__(
        self,
        models: Mapping[str, Record],
        filters: Mapping[str, Filters],
        owners: dict[str, ModelId],
        root: Record,
        launchers: tuple[str, ...],
        problems: Problems,
    ) -> None:
        self._models = models
        self._filters = filters
        self._owners = owners
        self._root = root
        self._launchers = launchers
        self._problems = problems

    def build(self, model_id: str, port: int | None) -> ModelConfig:
        """Make one model.

        Args:
            model_id: The model.
            port: The one that was handed out for it.
        """
        record = self._models[model_id]
        self._warn(model_id, record)
        self._check(model_id, record)
        is_comfyui = model_id == defaults.COMFYUI_MODEL
        return ModelConfig(
            id=ModelId(model_id),
            cmd=record["cmd"],
            argv=split_command(record["cmd"]),
            cmd_stop=record["cmdStop"],
            stop_argv=split_command(record["cmdStop"]),
            proxy=record["proxy"],
            port=port,
            aliases=self._aliases(model_id, record),
            env=record["env"],
            check_endpoint=record["checkEndpoint"].strip(),
            ttl_seconds=self._ttl_seconds(model_id, record),
            unload_timeout_seconds=record["unloadTimeout"]
            or self._root["unloadTimeout"]
            or defaults.UNLOAD_TIMEOUT_SECONDS,
            health_check_timeout_seconds=max(
                self._root["healthCheckTimeout"],
                defaults.HEALTH_CHECK_TIMEOUT_LEAST_SECONDS,
            ),
            unlisted=record["unlisted"],
            use_model_name=record["useModelName"],
            name=record["name"],
            description=record["description"],
            concurrency_limit=_concurrency_limit(record, is_comfyui=is_comfyui),
            filters=self._filters[model_id],
            metadata=record["metadata"],
            send_loading_state=(record if record.has("sendLoadingState") else self._root)["sendLoadingState"],
            timeouts=build_timeouts(record["timeouts"]),
            ignore_websockets=is_comfyui or record["compat"]["ignoreWebsockets"],
            capabilities=self._capabilities(model_id, record["capabilities"]),
            launcher=record["launcher"],
            launcher_settings=record["launcherSettings"],
            keep_descendants=record["keepDescendants"],
            forward_api_key=record["forwardApiKey"],
        )

    def _ttl_seconds(self, model_id: str, record: Record) -> int:
        written: int = record["ttl"]
        ttl_seconds: int = self._root["globalTTL"] if written == -1 else written
        if ttl_seconds < 0:
            self._problems.add(Stage.MODELS, record.place("ttl"), f"model {model_id}: invalid TTL value {written}")
        return ttl_seconds

    def _check(self, model_id: str, record: Record) -> None:
        if record["unloadTimeout"] < 0:
            text = f"model {model_id}: invalid unloadTimeout value {record['unloadTimeout']}"
            self._problems.add(Stage.MODELS, record.place("unloadTimeout"), text)
        if not is_parsable(record["proxy"]):
            text = f'model {model_id}: invalid proxy URL "{record["proxy"]}"'
            self._problems.add(Stage.MODELS, record.place("proxy"), text)
        elif not is_absolute(record["proxy"]):
            self._problems.warn(record.place("proxy"), f'"{record["proxy"]}" has no scheme or no host')
        if record["launcher"] not in self._launchers:
            text = f'expected one of {", ".join(self._launchers)}, got "{record["launcher"]}"'
            self._problems.add(Stage.MODELS, record.place("launcher"), text)

    def _warn(self, model_id: str, record: Record) -> None:
        warn = self._problems.warn
        if not split_command(record["cmd"]):
            warn(record.place("cmd"), f"model {model_id} has no command; each start will fail with: empty command")
        for index, entry in enumerate(record["env"]):
            if not entry.partition("=")[0] or "=" not in entry:
                warn(record.place("env", index), "entry is not of the form NAME=value")
        if record.has("healthCheckTimeout"):
            warn(record.place("healthCheckTimeout"), "has no effect in a model; the global value counts")
        if record["concurrencyLimit"] < 0:
            warn(record.place("concurrencyLimit"), f"negative; {defaults.CONCURRENCY_LIMIT} is used")
        if record["keepDescendants"]:
            warn(record.place("keepDescendants"), "processes that the server starts are never stopped")

    def _aliases(self, model_id: str, record: Record) -> tuple[str, ...]:
        """Add the names of ``setParamsByID`` to the written ones."""
        aliases: list[str] = list(record["aliases"])
        for name in sorted(self._filters[model_id].set_params_by_id):
            place = record["filters"].place("setParamsByID", name)
            owner = self._owners.get(name)
            if name == model_id:
                continue
            if name in self._models:
                text = f"model {model_id} filters.setParamsByID: key '{name}' conflicts with an existing model ID"
                self._problems.add(Stage.MODELS, place, text)
            elif owner is not None and owner != model_id:
                text = (
                    f"duplicate alias '{name}' in model {model_id} filters.setParamsByID, already used by model {owner}"
                )
                self._problems.add(Stage.MODELS, place, text)
            elif owner is None:
                self._owners[name] = ModelId(model_id)
                aliases.append(name)
        return tuple(aliases)

    def _capabilities(self, model_id: str, record: Record) -> Capabilities:
        for key in ("in", "out"):
            for index, word in enumerate(record[key]):
                if word not in _MODALITIES:
                    said = f'invalid modality "{word}", must be one of: {", ".join(_MODALITIES)}'
                    text = f"model {model_id}: capabilities.{key}: {said}"
                    self._problems.add(Stage.MODELS, record.place(key, index), text)
        if record["context"] < 0:
            text = f"model {model_id}: capabilities.context: must be >= 0, got {record['context']}"
            self._problems.add(Stage.MODELS, record.place("context"), text)
        return Capabilities(
            inputs=record["in"],
            outputs=record["out"],
            tools=record["tools"],
            reranker=record["reranker"],
            context=record["context"],
        )


def _concurrency_limit(record: Record, *, is_comfyui: bool) -> int:
    written: int = record["concurrencyLimit"]
    limit = written if written > 0 else defaults.CONCURRENCY_LIMIT
    return max(limit, defaults.COMFYUI_CONCURRENCY_LIMIT) if is_comfyui else limit
