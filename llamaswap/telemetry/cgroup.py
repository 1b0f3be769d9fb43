"""The memory limit of a container, or of whatever control group this process is in."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from llamaswap.telemetry.samples import MemoryLimit

_UNLIMITED_BYTES: Final = 1 << 60
"""Version 1 writes no limit as the largest multiple of a page."""

_FILES: Final = (
    ("", Path(), "memory.max", "memory.current"),
    ("memory", Path("memory"), "memory.limit_in_bytes", "memory.usage_in_bytes"),
)
"""By version: controller in ``/proc/self/cgroup``, folder of its hierarchy, and files of limit and use."""


def memory_limit(root: Path = Path("/")) -> MemoryLimit | None:
    """Find the tightest limit that holds for this process; reads files.

    Args:
        root: Where ``proc`` and ``sys`` are.

    Returns:
        ``None`` when there is no limit.
    """
    limits = [limit for limit in _limits(root) if limit.limit_bytes < _UNLIMITED_BYTES]
    return min(limits, key=lambda limit: limit.limit_bytes, default=None)


def _limits(root: Path) -> Iterator[MemoryLimit]:
    """Give the limits of the group and of those around it."""
    try:
        lines = (root / "proc/self/cgroup").read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        for controller, hierarchy, limit_file, use_file in _FILES:
            if controller in controllers.split(","):
                top = root / "sys/fs/cgroup" / hierarchy
                # In a container the group itself is mounted as the top, whatever its path is called outside.
                inner = Path(path.lstrip("/"))
                for folder in (inner, *inner.parents):
                    limit, used = _number(top / folder / limit_file), _number(top / folder / use_file)
                    if limit is not None and used is not None:
                        yield MemoryLimit(limit, used)


def _number(path: Path) -> int | None:
    """Read a number; ``None`` for ``max`` and for what is not there."""
    try:
        return int(path.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None
