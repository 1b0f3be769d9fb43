"""What exactly is run for a model: words, environment, executable; and what cannot be run at all."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from llamaswap.config.schema import ModelConfig
from llamaswap.core.masking import masked
from llamaswap.errors import UpstreamStartError
from llamaswap.interfaces import LaunchSpec

_PID_WORD: Final = "${PID}"
_NOT_IN_PATH: Final = "executable file not found in $PATH"


def launch_spec(config: ModelConfig, environ: Mapping[str, str], cwd: str) -> LaunchSpec:
    """Turn a model's configuration into what a launcher needs.

    Args:
        config: The model.
        environ: The daemon's environment, which the model's entries extend.
        cwd: Working folder of the process.

    Raises:
        UpstreamStartError: It cannot be run, which is plain without trying.
    """
    if not config.proxy:
        raise UpstreamStartError("upstream proxy missing")
    if not _is_http_url(config.proxy):
        raise UpstreamStartError(f"upstream proxy is not a URL: {config.proxy!r}")
    if not config.argv:
        raise UpstreamStartError("empty command")
    return LaunchSpec(
        model=config.id,
        argv=config.argv,
        env=extended(environ, config.env),
        cwd=cwd,
        base_url=config.proxy,
        stop_argv=config.stop_argv,
        settings=config.launcher_settings,
        keep_descendants=config.keep_descendants,
    )


def _is_http_url(text: str) -> bool:
    try:
        parts = urlsplit(text)
        return parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


def extended(environ: Mapping[str, str], entries: Iterable[str]) -> dict[str, str]:
    """Add ``NAME=value`` entries to an environment; the last value of a name wins."""
    result = dict(environ)
    for entry in entries:
        name, _, value = entry.partition("=")
        result[name] = value
    return result


def stop_words(stop_argv: Iterable[str], pid: int) -> tuple[str, ...]:
    """Put the leader's pid into the words of a stop command."""
    return tuple(word.replace(_PID_WORD, str(pid)) for word in stop_argv)


def find_executable(word: str, env: Mapping[str, str], cwd: str) -> str:
    """Find the file that a command's first word names, as a shell started in ``cwd`` would.

    Looking before spawning tells a missing program from one that ends with status 1 or 127.

    Raises:
        OSError: There is none, or it may not be run; ``strerror`` says why.
    """
    if "/" in word:
        return _runnable(Path(cwd, word))
    forbidden: OSError | None = None
    for folder in env.get("PATH", os.defpath).split(os.pathsep):
        try:
            return _runnable(Path(cwd, folder, word))
        except PermissionError as error:
            forbidden = error
        except OSError:
            continue
    raise forbidden or FileNotFoundError(errno.ENOENT, _NOT_IN_PATH, word)


def _runnable(path: Path) -> str:
    if stat.S_ISDIR(path.stat().st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not os.access(path, os.X_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
    return str(path)


def start_error(argv: Iterable[str], error: OSError | ValueError) -> UpstreamStartError:
    """Say that a command could not be started, and why; clients are told, so secrets among its words are hidden."""
    reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
    command = masked(" ".join(argv))
    return UpstreamStartError(f"failed to start command '{command}': {reason[:1].lower()}{reason[1:]}")
