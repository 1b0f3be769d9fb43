"""Messages of the event stream: their kinds, their form on the wire, and the topics that choose among them."""

from __future__ import annotations

from enum import StrEnum
from typing import Final
from urllib.parse import parse_qs

from msgspec.json import encode

from llamaswap.core.rewrite import thaw
from llamaswap.errors import BadRequestError

_LONGEST_TOPIC_SHOWN: Final = 200


class Kind(StrEnum):
    """What a message is about; the words travel on the wire."""

    LOG = "logData"
    RELOAD = "reload"
    UI = "uiConfig"
    PROFILE = "profileChanged"
    MODELS = "modelStatus"
    ACTIVITY = "activity"
    SWAP = "swap"
    IN_FLIGHT = "inflight"
    QUEUE = "queue"


Kinds = frozenset[Kind]

USUAL_KINDS: Final[Kinds] = frozenset(
    {Kind.LOG, Kind.UI, Kind.PROFILE, Kind.MODELS, Kind.ACTIVITY, Kind.IN_FLIGHT},
)
"""What those get who name no topics."""

_TOPICS: Final[dict[str, Kinds]] = {
    "models": frozenset({Kind.MODELS}),
    "logs": frozenset({Kind.LOG}),
    "activity": frozenset({Kind.ACTIVITY}),
    "inflight": frozenset({Kind.IN_FLIGHT}),
    "config": frozenset({Kind.UI, Kind.PROFILE, Kind.RELOAD}),
    "swaps": frozenset({Kind.SWAP}),
    "queue": frozenset({Kind.QUEUE}),
}


def asked_kinds(query: bytes) -> Kinds:
    """Read which messages a client wants.

    Args:
        query: ``topics=models,logs``, or anything else for what is usual.

    Raises:
        BadRequestError: A topic is unknown.
    """
    written = parse_qs(query.decode("latin-1")).get("topics", [])
    topics = [topic for value in written for topic in value.split(",")]
    unknown = next((topic for topic in topics if topic not in _TOPICS), None)
    if unknown is not None:
        raise BadRequestError(f'unknown topic "{unknown[:_LONGEST_TOPIC_SHOWN]}"')
    return frozenset().union(*(_TOPICS[topic] for topic in topics)) if topics else USUAL_KINDS


def message(kind: Kind, document: object) -> bytes:
    """Make a message: a JSON document within a JSON text, as existing clients expect it."""
    data = encode(document, enc_hook=thaw).decode()
    return b"event:message\ndata:%b\n\n" % encode({"type": kind.value, "data": data})
