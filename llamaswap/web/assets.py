"""Files below one folder, as a browser may have them; everything here blocks, and belongs in a thread."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final

from llamaswap.errors import LlamaSwapError

PIECE_BYTES: Final = 256 * 1024
"""Read at once; a file that is no longer is read when it is found."""

INDEX: Final = "index.html"

_SUFFIXES: Final = {"br": ".br", "gzip": ".gz"}
_TYPES: Final = {
    ".css": "text/css; charset=utf-8",
    ".gif": "image/gif",
    ".html": "text/html; charset=utf-8",
    ".ico": "image/x-icon",
    ".jpg": "image/jpeg",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".map": "application/json",
    ".mjs": "text/javascript; charset=utf-8",
    ".png": "image/png",
    ".svg": "image/svg+xml",
    ".txt": "text/plain; charset=utf-8",
    ".wasm": "application/wasm",
    ".webmanifest": "application/manifest+json",
    ".webp": "image/webp",
    ".woff": "font/woff",
    ".woff2": "font/woff2",
}
"""By the end of a name; the host's own table could say anything."""

_HASHED: Final = re.compile(r"assets/.*[-.][A-Za-z0-9_-]{8,}\.[a-z0-9.]+")
"""Names that a build gives to what never changes under that name."""


class ChangedError(LlamaSwapError):
    """A file became another one while it was sent."""

    def __init__(self) -> None:
        super().__init__("the file changed while it was sent")


@dataclass(frozen=True, slots=True)
class Asset:
    """One representation of one file.

    Attributes:
        name: Below the folder, without what the encoding adds.
        path: Where it is.
        size: In bytes.
        changed_ns: When it was written.
        encoding: ``br``, ``gzip``, or empty.
        varies: Whether there is any other representation.
        content: All of it, if it is short.
    """

    name: str
    path: Path
    size: int
    changed_ns: int
    encoding: str
    varies: bool
    content: bytes | None

    @property
    def etag(self) -> str:
        """Differs whenever the bytes do."""
        return f'"{self.changed_ns:x}-{self.size:x}{self.encoding}"'

    @property
    def media_type(self) -> str:
        """The media type of the file itself, whatever it is packed in."""
        return _TYPES.get(PurePosixPath(self.name).suffix.lower(), "application/octet-stream")

    @property
    def is_lasting(self) -> bool:
        """Whether the name will never stand for anything else."""
        return _HASHED.fullmatch(self.name) is not None


def find_asset(folder: Path, name: str, encodings: Sequence[str]) -> Asset | None:
    """Find a file.

    Args:
        folder: Nothing outside is found, not by way of a link either.
        name: Below the folder, parts between slashes.
        encodings: That may be chosen, the preferred one first.

    Returns:
        ``None`` when there is no regular file of that name.
    """
    parts = name.split("/")
    if any(part in {"", ".", ".."} or "\0" in part or "\\" in part for part in parts):
        return None
    plain = _inside(folder, name)
    variants = {encoding: _inside(folder, name + suffix) for encoding, suffix in _SUFFIXES.items()}
    chosen = next((each for each in encodings if variants.get(each) is not None), "")
    path = variants[chosen] if chosen else plain
    if plain is None or path is None:
        return None
    try:
        with path.open("rb") as file:
            state = os.fstat(file.fileno())
            content = file.read() if state.st_size <= PIECE_BYTES else None
    except OSError:  # it went away, or is not ours to read
        return None
    size = state.st_size if content is None else len(content)
    varies = any(variant is not None for variant in variants.values())
    return Asset(name, path, size, state.st_mtime_ns, chosen, varies, content)


def read_piece(asset: Asset, start: int, count: int) -> bytes:
    """Read a piece of a file.

    Raises:
        ChangedError: It is not what it was.
        OSError: It cannot be read.
    """
    with asset.path.open("rb", buffering=0) as file:
        state = os.fstat(file.fileno())
        if (state.st_size, state.st_mtime_ns) != (asset.size, asset.changed_ns):
            raise ChangedError
        return os.pread(file.fileno(), count, start)


def _inside(folder: Path, name: str) -> Path | None:
    """Give the real path of a regular file below the folder, links followed."""
    try:
        root = folder.resolve(strict=True)
        path = (root / name).resolve(strict=True)
        return path if path.is_relative_to(root) and stat.S_ISREG(path.stat().st_mode) else None
    except (OSError, RuntimeError, ValueError):  # missing, in a circle, or no name at all
        return None
