"""Run many local AI inference servers behind one OpenAI- and Anthropic-compatible address."""

from __future__ import annotations


def __getattr__(name: str) -> str:
    """Give ``__version__``; looked up when asked for, since that takes as long as a toy model's start."""
    if name != "__version__":
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    from importlib.metadata import PackageNotFoundError, version  # noqa: PLC0415

    try:
        return version("llamaswap")
    except PackageNotFoundError:  # a checkout that was never installed
        return "0"
