"""Profiles: switchable sets of pins, by which a requested name stands for another one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from klein import Klein
from msgspec.json import decode
from twisted.web.iweb import IRequest

from llamaswap.config.schema import Config
from llamaswap.core.news import ProfileChanged
from llamaswap.core.values import empty_mapping
from llamaswap.errors import LONGEST_NAME_SHOWN, BadRequestError, NotFoundError
from llamaswap.web import answers

_NAME: Final = "name"


class Profiles:
    """The profiles of the configuration in force, of which one is active or none; kept in memory only.

    Args:
        config: The configuration in force.
        publish: Told of changes, see :class:`~llamaswap.core.news.ProfileChanged`.

    Attributes:
        pins: Those of the active profile: requested name to target, an empty target disables the name.
    """

    def __init__(self, config: Config, publish: Callable[[object], object]) -> None:
        self.pins: Mapping[str, str] = empty_mapping()
        self._config = config
        self._publish = publish
        self._active: str | None = None

    @property
    def active(self) -> str | None:
        """Name of the active profile."""
        return self._active

    def pinned(self, name: str) -> str | None:
        """Give what a requested name stands for; ``None`` = itself, empty = nothing."""
        return self.pins.get(name)

    def select(self, name: str | None) -> None:
        """Make a profile the active one; ``None`` or empty = none.

        Raises:
            NotFoundError: There is no such profile.
        """
        wanted = name or None
        if wanted is not None and wanted not in self._config.profiles:
            raise NotFoundError(f'profile "{wanted[:LONGEST_NAME_SHOWN]}" not found')
        if wanted != self._active:
            self._activate(wanted)

    def apply(self, config: Config) -> None:
        """Follow another configuration: the active profile stays where there still is one of that name."""
        self._config = config
        if self._active is None:
            return
        if self._active in config.profiles:
            self.pins = config.profiles[self._active].pins
        else:
            self._activate(None)

    def _activate(self, name: str | None) -> None:
        self._active = name
        self.pins = self._config.profiles[name].pins if name is not None else empty_mapping()
        self._publish(ProfileChanged(name))

    def document(self) -> Mapping[str, Any]:
        """Describe all profiles, sorted by name."""
        return {
            "active": self._active,
            "profiles": [
                {"id": name, "description": profile.description, "pins": dict(profile.pins)}
                for name, profile in sorted(self._config.profiles.items())
            ],
        }


class ProfileRoutes:
    """The handlers.

    Args:
        profiles: What is shown and switched.
    """

    def __init__(self, profiles: Profiles) -> None:
        self._profiles = profiles

    def register(self, app: Klein) -> None:
        """Add the routes."""
        app.route("/api/profiles", methods=["GET"], endpoint="/api/profiles")(self.profiles)
        app.route("/api/profiles/active", methods=["PUT"], endpoint="/api/profiles/active")(self.select)

    def profiles(self, request: IRequest) -> bytes:
        """Answer ``GET /api/profiles`` with all of them, and which one is active."""
        return answers.document(request, self._profiles.document())

    def select(self, request: IRequest) -> bytes:
        """Answer ``PUT /api/profiles/active`` when the named profile is the active one.

        Raises:
            BadRequestError: The body names none.
            NotFoundError: There is no such profile.
        """
        self._profiles.select(_wanted(request.content.read()))
        return answers.document(request, {"active": self._profiles.active})


def _wanted(body: bytes) -> str | None:
    """Read the name of a profile.

    Raises:
        BadRequestError: There is none.
    """
    try:
        document = decode(body)
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict):
        raise BadRequestError("invalid profile request")
    if _NAME not in document:
        raise BadRequestError("profile name is required")
    name = document[_NAME]
    if name is not None and not isinstance(name, str):
        raise BadRequestError("profile name must be a string or null")
    return name
