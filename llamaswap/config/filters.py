"""The filters of models and peers."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any, Final

from llamaswap.config.fields import Record
from llamaswap.config.problems import Place, Problems, Stage
from llamaswap.config.schema import Filters
from llamaswap.core.rewrite import PROTECTED, split_path

_ESCAPED: Final = re.compile(r"\\.", re.DOTALL)


def build_filters(record: Record, problems: Problems) -> Filters:
    """Make filters from their section, and check the names in it.

    Args:
        record: The section of a model or a peer.
        problems: Gets an error of the stage of types for each name that cannot be used.
    """
    old = record.get("strip_params", "")
    key = "stripParams" if record["stripParams"] or not old else "strip_params"
    strip = {name.strip() for name in str(record[key]).split(",")} - {""}
    _check(strip, record.place(key), problems)
    by_id: Mapping[str, Mapping[str, Any]] = record["setParamsByID"]
    return Filters(
        strip_params=tuple(sorted(name for name in strip if not _is_protected(name))),
        set_params=_settings(record["setParams"], record.place("setParams"), problems),
        set_params_by_id=MappingProxyType(
            {
                name: _settings(settings, record.place("setParamsByID", name), problems)
                for name, settings in by_id.items()
            },
        ),
    )


def _settings(settings: Mapping[str, Any], place: Place, problems: Problems) -> Mapping[str, Any]:
    _check(settings, place, problems)
    return MappingProxyType({name: settings[name] for name in sorted(settings) if not _is_protected(name)})


def _is_protected(name: str) -> bool:
    return split_path(name)[0].member == PROTECTED


def _check(names: Iterable[str], place: Place, problems: Problems) -> None:
    """Refuse names that other programs take for patterns, or for nothing at all."""
    for name in names:
        literal = _ESCAPED.sub("", name)
        if not name:
            problems.add(Stage.TYPES, place, "a parameter must have a name")
        elif "*" in literal or "?" in literal:
            problems.add(Stage.TYPES, place, f'"{name}": wildcards are not supported')
        elif "#" in literal or "|" in literal or literal.startswith("@"):
            problems.add(
                Stage.TYPES, place, f'"{name}" cannot name a parameter: `#`, `|` and a leading `@` are not supported'
            )
