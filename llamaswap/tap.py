"""The command line, and the service made from it, for ``twistd llamaswap`` and for ``llamaswap``.

Both entries understand the same flags, with one dash or two, ``-flag value`` or ``-flag=value``.
Nothing here has side effects that a daemonising fork would break.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from twisted.python import usage

from llamaswap import __version__
from llamaswap.config.load import load
from llamaswap.errors import ConfigError
from llamaswap.listen import Listen
from llamaswap.registry import list_planners

if TYPE_CHECKING:
    from llamaswap.config.schema import Config
    from llamaswap.service import DaemonService

_BOOLEANS: Final = ("watch-config", "check", "strict", "list-planners", "version", "help")
_TRUTHS: Final = {"1": True, "t": True, "true": True, "0": False, "f": False, "false": False}


class Options(usage.Options):
    """The flags of the daemon."""

    if TYPE_CHECKING:  # Twisted does not annotate it

        def __init__(self) -> None:
            """Begin with the defaults."""

    synopsis = "[-config FILE] [-config-dir FOLDER] [-listen ADDRESS] [flags]"
    longdesc = "Run many local AI inference servers behind one OpenAI- and Anthropic-compatible address."

    optParameters: Final = [
        ["config", "c", None, "configuration file"],
        ["config-dir", None, None, "folder of configuration fragments, merged after the file in order of their names"],
        ["listen", None, None, "host:port, :port or [v6]:port; default :8080, with TLS :8443"],
        ["tls-cert-file", None, None, "certificate chain in PEM form"],
        ["tls-key-file", None, None, "its private key in PEM form"],
    ]
    optFlags: Final = [
        ["watch-config", None, "reload when the configuration changes (not yet: logs a warning)"],
        ["check", None, "load and check the configuration, print every problem, start nothing"],
        ["strict", None, "with --check: unknown keys are errors"],
        ["list-planners", None, "list the swap planners that are installed"],
    ]

    def parseOptions(self, options: Sequence[str] | None = None) -> None:  # noqa: N802 - Twisted's name
        """Parse words, with one dash or two.

        Raises:
            UsageError: A flag is unknown or malformed, or there is a word that is no flag.
        """
        usage.Options.parseOptions(self, _normalised(sys.argv[1:] if options is None else options))

    def parseArgs(self, *words: str) -> None:
        """Refuse words that are no flags."""
        if words:
            msg = f"unexpected argument {words[0]!r}"
            raise usage.UsageError(msg)

    def opt_version(self) -> None:
        """Show the version and exit."""
        print(f"version: {__version__} (unknown), built at unknown")  # noqa: T201
        sys.exit(0)

    def opt_help(self) -> None:
        """Show this and exit."""
        print(self)  # noqa: T201
        sys.exit(0)

    opt_h = opt_help


def _normalised(words: Sequence[str]) -> list[str]:
    """Give every long flag two dashes, and every boolean no value."""
    result = []
    for word in words:
        flag, has_value, value = word.partition("=")
        name = flag.lstrip("-")
        if not flag.startswith("-") or len(name) < 2:  # noqa: PLR2004 - a word, or a short flag
            result.append(word)
        elif name in _BOOLEANS and has_value:
            truth = _TRUTHS.get(value.lower())
            if truth is None:
                msg = f"invalid boolean value {value!r} for -{name}"
                raise usage.UsageError(msg)
            if truth:
                result.append(f"--{name}")
        else:
            result.append(f"--{name}{has_value}{value}")
    return result


def load_config(options: Options) -> Config:
    """Load what the flags name.

    Raises:
        ConfigError: It cannot be used; or one TLS flag is missing.
    """
    if bool(options["tls-cert-file"]) != bool(options["tls-key-file"]):
        msg = "both -tls-cert-file and -tls-key-file must be given, or neither"
        raise ConfigError(msg)
    return load(options["config"], options["config-dir"], os.environ)


def run_once(options: Options) -> int | None:
    """Do what flags such as ``--check`` ask for instead of serving.

    Returns:
        The exit status, or ``None`` when the daemon is to be started.
    """
    if options["list-planners"]:
        for planner in list_planners():
            api = ".".join(map(str, planner.api_version)) if planner.api_version else "-"
            row = (planner.name, planner.distribution, planner.version, api, planner.status, planner.error)
            print("\t".join(row).rstrip())  # noqa: T201
        return 0
    if not options["check"]:
        return None
    try:
        config = load_config(options)
    except ConfigError as error:
        print(error, file=sys.stderr)  # noqa: T201
        return 1
    for warning in config.warnings:
        print(f"warning: {warning}", file=sys.stderr)  # noqa: T201
    if options["strict"] and config.unknown_keys:
        return 1
    print(f"configuration ok: {len(config.models)} models")  # noqa: T201
    return 0


def makeService(options: Options) -> DaemonService:
    """Make the service for ``twistd`` and ``twist``; a bad configuration ends the program with status 1."""
    status = run_once(options)
    if status is not None:
        sys.exit(status)
    try:
        service = make_daemon(options)
    except ConfigError as error:
        print(error, file=sys.stderr)  # noqa: T201
        sys.exit(1)
    parent = getattr(options, "parent", None)
    if parent is not None:
        _log_our_way(parent, service)
    return service


def make_daemon(options: Options) -> DaemonService:
    """Load the configuration and make the daemon for it, without starting anything.

    Raises:
        ConfigError: The configuration, or the address, cannot be used.
    """
    from twisted.internet import reactor

    from llamaswap.service import DaemonService

    is_tls = bool(options["tls-cert-file"])
    listen = Listen.parse(
        options["listen"] or (":8443" if is_tls else ":8080"),
        certificate=_absolute(options["tls-cert-file"]),
        key=_absolute(options["tls-key-file"]),
    )
    config = load_config(options)
    return DaemonService(
        reactor,
        config,
        listen,
        is_watching=bool(options["watch-config"]),
        origin=f"{_absolute(options['config'])}\n{_absolute(options['config-dir'])}",
    )


def _absolute(path: str | None) -> str:
    return str(Path(path).absolute()) if path else ""


def _log_our_way(parent: Any, service: DaemonService) -> None:
    """Let our own lines be what the runner shows on standard output, unless it was told to log elsewhere."""
    if "fileLogObserverFactory" in parent:  # twist
        if parent["logFile"] is sys.stdout:
            parent["fileLogObserverFactory"] = lambda _file: service.logs.own_lines
    elif parent.get("nodaemon") and not (parent.get("logfile") or parent.get("syslog") or parent.get("logger")):
        service.takes_log = True
