"""Metrics of this process."""

from __future__ import annotations

import platform

from prometheus_client import GCCollector, Info, ProcessCollector
from prometheus_client.registry import CollectorRegistry
from twisted import __version__ as twisted_version

from llamaswap import __version__


def register_daemon(registry: CollectorRegistry) -> None:
    """Add what is known of the daemon as such: its versions, memory, processor time, descriptors and collections."""
    versions = {
        "version": __version__,
        "revision": "unknown",
        "python": platform.python_version(),
        "twisted": twisted_version,
    }
    Info("llamaswap_build", "1; what runs here.", registry=registry).info(versions)
    ProcessCollector(registry=registry)
    GCCollector(registry=registry)
