"""What this machine is; reads files and asks drivers, so not for the reactor's thread."""

from __future__ import annotations

import platform
import re
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import psutil

from llamaswap import __version__
from llamaswap.telemetry.gpu import GPUs
from llamaswap.telemetry.gpu_sources import gpu_sources
from llamaswap.telemetry.rfc3339 import format_ns
from llamaswap.telemetry.samples import GPU

Document = dict[str, Any]

_ARCHITECTURES: Final = {
    "x86_64": "x86_64",
    "amd64": "x86_64",
    "aarch64": "arm64",
    "arm64": "arm64",
    "armv7l": "armv7",
    "ppc64le": "ppc64le",
    "riscv64": "riscv64",
    "s390x": "s390x",
}
_FAMILIES: Final = {"linux": "linux", "darwin": "macos", "windows": "windows", "freebsd": "freebsd"}
_CONTAINERS: Final = {"docker": "Docker", "podman": "Podman", "lxc": "LXC", "systemd-nspawn": "systemd-nspawn"}
_CPUINFO_LINE: Final = re.compile(r"^([^\t:]+?)\s*:[ \t]*(.*)$", re.MULTILINE)


def detect_hardware(environ: Mapping[str, str]) -> Document:
    """Find out what this machine is; devices that cannot be asked are left out.

    Args:
        environ: Of this process.

    Raises:
        Exception: Whatever psutil raises.
    """
    gpus = GPUs(gpu_sources(environ), time.time_ns, time.monotonic)
    snapshot = gpus.read().snapshot
    gpus.close()
    return hardware_document(snapshot.at_ns, [gpu for _, gpu in snapshot.gpus], environ)


def hardware_document(at_ns: int, gpus: Sequence[GPU], environ: Mapping[str, str], root: Path = Path("/")) -> Document:
    """Make the document of ``GET /api/hardware``.

    Args:
        at_ns: UTC epoch nanoseconds.
        gpus: The devices, with one reading.
        environ: Of this process.
        root: Where ``proc`` and the like are.
    """
    cpuinfo = _read(root / "proc/cpuinfo")
    machine = platform.machine()
    return {
        "schema_version": 1,
        "captured_at": format_ns(at_ns),
        "capture": {
            "scope": "inference_host",
            "method": "detected",
            "detector": {"name": "llama-swap", "version": __version__},
        },
        "architecture": {"name": _ARCHITECTURES.get(machine.lower(), "other"), "raw_name": machine},
        "operating_system": _operating_system(root),
        "environment": _environment(root, cpuinfo, environ),
        "cpu": _cpu(cpuinfo),
        "memory": {"capacity_bytes": psutil.virtual_memory().total},
        "accelerators": [_accelerator(index, gpu) for index, gpu in enumerate(gpus)],
    }


def _operating_system(root: Path) -> Document:
    system = platform.system()
    family = _FAMILIES.get(system.lower(), "other")
    name, version = system.lower() or None, None
    if family == "linux":
        release = _shell_values(_read(root / "etc/os-release") or _read(root / "usr/lib/os-release"))
        name, version = release.get("ID"), release.get("VERSION_ID")
    elif family == "macos":
        version = platform.mac_ver()[0]
    document = {"family": family, "name": name or None, "version": version or None, "kernel": platform.release()}
    return {**document, "raw_family": system} if family == "other" else document


def _environment(root: Path, cpuinfo: str, environ: Mapping[str, str]) -> Document:
    """Say what is around us: a container, a virtual machine, or nothing."""
    container = _container(root, environ)
    if container is not None:
        return {"kind": "container", "name": container or None, "version": None}
    if platform.system() != "Linux":
        return {"kind": "unknown", "name": None, "version": None}
    if "microsoft" in platform.release().lower():
        return {"kind": "wsl", "name": "WSL", "version": None}
    if " hypervisor" in dict(_CPUINFO_LINE.findall(cpuinfo)).get("flags", ""):
        return {"kind": "virtual_machine", "name": _read(root / "sys/class/dmi/id/sys_vendor") or None, "version": None}
    return {"kind": "native", "name": None, "version": None}


def _container(root: Path, environ: Mapping[str, str]) -> str | None:
    """Give the kind of the container that we are in, empty = unknown; ``None`` when we are in none."""
    if "KUBERNETES_SERVICE_HOST" in environ:
        return "Kubernetes"
    for mark, name in ((".dockerenv", "Docker"), ("run/.containerenv", "Podman")):
        if (root / mark).exists():
            return name
    kind = environ.get("container") or _read(root / "run/systemd/container")
    return _CONTAINERS.get(kind, kind) if kind else None


def _cpu(cpuinfo: str) -> Document:
    pairs = _CPUINFO_LINE.findall(cpuinfo)
    first = dict(reversed(pairs))
    sockets = {value for name, value in pairs if name == "physical id"}
    return {
        "vendor": first.get("vendor_id") or None,
        "model": first.get("model name") or platform.processor() or None,
        "socket_count": len(sockets) or None,
        "physical_core_count": psutil.cpu_count(logical=False),
        "logical_thread_count": psutil.cpu_count(),
    }


def _accelerator(index: int, gpu: GPU) -> Document:
    known = gpu.identity
    driver = {"name": known.driver_name, "version": known.driver_version or None} if known.driver_name else None
    return {
        "index": index,
        "kind": "gpu",
        "vendor": known.vendor or None,
        "model": known.name or None,
        "architecture": known.architecture or None,
        "memory": {
            "kind": "dedicated" if gpu.memory_total_bytes else "unknown",
            "capacity_bytes": gpu.memory_total_bytes,
        },
        "driver": driver,
        "power_limit_watts": known.power_limit_watts,
    }


def _shell_values(text: str) -> dict[str, str]:
    pairs = (line.partition("=") for line in text.splitlines())
    return {name: value.strip("\"'") for name, equals, value in pairs if equals}


def _read(path: Path) -> str:
    """Read a file; empty when that cannot be done."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""
