"""The only maker of a :class:`~llamaswap.config.schema.Config`: from files to checked settings.

The stages and their order are those of :class:`~llamaswap.config.problems.Stage`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from types import MappingProxyType

from llamaswap.config import defaults
from llamaswap.config.expansion import NO_PORTS, HeldPorts, expand
from llamaswap.config.fields import Record
from llamaswap.config.filters import build_filters
from llamaswap.config.general import build_general, build_ignore_paths, check_api_keys, check_general
from llamaswap.config.models import ModelBuilder, build_timeouts, check_aliases
from llamaswap.config.names import (
    Names,
    SelectorBuilder,
    build_profiles,
    check_peer_names,
    find_peer_models,
    find_preload,
)
from llamaswap.config.problems import Place, Problems, Stage
from llamaswap.config.routing import RouterBuilder, build_scheduler
from llamaswap.config.schema import Config, Peer
from llamaswap.config.sources import find_sources, read_tree
from llamaswap.config.table import ROOT
from llamaswap.config.urls import is_parsable
from llamaswap.core.values import ModelId


def load(
    path: str | None,
    directory: str | None,
    environ: Mapping[str, str],
    planners: Collection[str] = (),
    launchers: Collection[str] = (defaults.LAUNCHER,),
    held: HeldPorts = NO_PORTS,
) -> Config:
    """Read, merge, expand, convert and check a configuration.

    Args:
        path: The configuration file, or ``None``.
        directory: The folder of fragments, or ``None``.
        environ: Variables for ``${env.NAME}``.
        planners: Names of the installed planners that ``routing.router.use`` may name.
        launchers: Names of the launchers that models may name.
        held: Ports that are in use already; models that have one keep it.

    Raises:
        ConfigError: Nothing of the configuration can be used. Its text has one line per problem,
            ``FILE:LINE: PATH: what is wrong``.
    """
    problems = Problems()
    files = find_sources(path, directory, problems)
    expanded = expand(read_tree(files, environ, problems), {field.key for field in ROOT.fields}, held, problems)
    root = ROOT.read(expanded.tree, Place(), problems)

    models: Mapping[str, Record] = root["models"]
    filters = {name: build_filters(record["filters"], problems) for name, record in models.items()}
    peers = _peers(root, problems)
    ignore_paths = build_ignore_paths(root, problems)
    problems.close(Stage.TYPES)
    check_general(root, problems)

    owners = check_aliases(models, problems)
    builder = ModelBuilder(models, filters, owners, root, tuple(launchers), problems)
    built = {ModelId(name): builder.build(name, expanded.ports.get(name)) for name in sorted(models)}
    problems.close(Stage.MODELS)

    names = Names(models, owners)
    router = RouterBuilder(root, list(built), names.local, planners, problems).build()
    scheduler = build_scheduler(root, names.local, problems)
    check_api_keys(root, problems)

    names = Names(models, owners, find_peer_models(peers, root, problems))
    check_peer_names(names, root, problems)
    selectors = SelectorBuilder(names, root, router, problems).build()
    profiles = build_profiles(names, root, problems)
    preload = find_preload(names, root, problems)
    general = build_general(root, problems)
    problems.close(Stage.WORLD)
    return Config(
        models=MappingProxyType(built),
        aliases=MappingProxyType(owners),
        router=router,
        scheduler=scheduler,
        selectors=selectors,
        profiles=profiles,
        peers=peers,
        peer_models=names.peer_models,
        preload=preload,
        ignore_paths=ignore_paths,
        sources=files,
        warnings=tuple(problems.warnings),
        unknown_keys=tuple(problems.unknown_keys),
        **general,
    )


def _peers(root: Record, problems: Problems) -> Mapping[str, Peer]:
    """Make the peers in written order; errors belong to the stage of types."""
    found: dict[str, Peer] = {}
    for name, record in root["peers"].items():
        url: str = record["proxy"]
        if not url:
            problems.add(Stage.TYPES, record.path, f"peers.{name}: proxy is required")
        elif not is_parsable(url):
            problems.add(Stage.TYPES, record.place("proxy"), f"peers.{name}: invalid peer proxy URL ({url})")
        if not record["models"]:
            problems.add(Stage.TYPES, record.path, f"peers.{name}: peer models can not be empty")
        found[name] = Peer(
            id=name,
            proxy=url,
            models=tuple(dict.fromkeys(record["models"])),
            api_key=record["apiKey"],
            filters=build_filters(record["filters"], problems),
            timeouts=build_timeouts(record["timeouts"]),
            forward_api_key=record["forwardApiKey"],
        )
    return MappingProxyType(found)
