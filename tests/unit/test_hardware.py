"""What the machine is."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from llamaswap.telemetry.hardware import detect_hardware, hardware_document
from tests.unit.machine_fakes import EPOCH_NS, RTX, gpu
from tests.unit.test_machine_sources import plant

CPUINFO = """processor\t: 0
vendor_id\t: AuthenticAMD
model name\t: AMD EPYC
physical id\t: 0
flags\t\t: fpu vme{}

processor\t: 1
vendor_id\t: AuthenticAMD
model name\t: other
physical id\t: 1
"""


@pytest.fixture(autouse=True)
def _linux(monkeypatch: pytest.MonkeyPatch) -> None:
    """Be a plain Linux machine, wherever this runs."""
    monkeypatch.setattr(platform, "system", lambda: "Linux")
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(platform, "release", lambda: "6.1.0")


def of(root: Path, files: Mapping[str, str], **environ: str) -> dict[str, Any]:
    return hardware_document(EPOCH_NS, [], environ, plant(root, files))


def test_a_machine_of_which_everything_is_known(tmp_path: Path) -> None:
    files = {"proc/cpuinfo": CPUINFO.format(""), "etc/os-release": 'NAME="Debian"\nID=debian\nVERSION_ID="12"\n\n'}
    shown = of(tmp_path, files)
    assert shown["schema_version"] == 1
    assert shown["captured_at"] == "2026-11-20T09:12:53.900000000Z"
    assert shown["capture"]["scope"] == "inference_host"
    assert shown["architecture"] == {"name": "x86_64", "raw_name": "x86_64"}
    assert shown["operating_system"] == {"family": "linux", "name": "debian", "version": "12", "kernel": "6.1.0"}
    assert shown["environment"] == {"kind": "native", "name": None, "version": None}
    assert shown["cpu"]["vendor"] == "AuthenticAMD"
    assert (shown["cpu"]["model"], shown["cpu"]["socket_count"]) == ("AMD EPYC", 2)
    assert shown["cpu"]["logical_thread_count"] >= 1
    assert shown["memory"]["capacity_bytes"] > 1 << 28
    assert shown["accelerators"] == []


def test_a_machine_of_which_little_is_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "mips")
    monkeypatch.setattr(platform, "processor", lambda: "")
    shown = of(tmp_path, {})
    assert shown["architecture"] == {"name": "other", "raw_name": "mips"}
    assert shown["operating_system"] == {"family": "linux", "name": None, "version": None, "kernel": "6.1.0"}
    assert (shown["cpu"]["vendor"], shown["cpu"]["model"], shown["cpu"]["socket_count"]) == (None, None, None)


@pytest.mark.parametrize(
    ("system", "family"), [("Darwin", "macos"), ("Windows", "windows"), ("FreeBSD", "freebsd"), ("Plan9", "other")]
)
def test_other_systems(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, system: str, family: str) -> None:
    monkeypatch.setattr(platform, "system", lambda: system)
    shown = of(tmp_path, {})
    assert shown["operating_system"]["family"] == family
    assert shown["operating_system"].get("raw_family") == (system if family == "other" else None)
    assert shown["environment"]["kind"] == "unknown"


@pytest.mark.parametrize(
    ("files", "kind", "name"),
    [
        ({".dockerenv": ""}, "container", "Docker"),
        ({"run/.containerenv": ""}, "container", "Podman"),
        ({"run/systemd/container": "lxc\n"}, "container", "LXC"),
        ({"run/systemd/container": "odd\n"}, "container", "odd"),
        ({"proc/cpuinfo": CPUINFO.format(" hypervisor")}, "virtual_machine", None),
        (
            {"proc/cpuinfo": CPUINFO.format(" hypervisor"), "sys/class/dmi/id/sys_vendor": "QEMU\n"},
            "virtual_machine",
            "QEMU",
        ),
    ],
)
def test_what_is_around_us(tmp_path: Path, files: Mapping[str, str], kind: str, name: str | None) -> None:
    assert of(tmp_path, files)["environment"] == {"kind": kind, "name": name, "version": None}


def test_a_pod_and_windows_subsystem(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "release", lambda: "5.15.0-microsoft-standard-WSL2")
    assert of(tmp_path, {})["environment"]["kind"] == "wsl"
    assert of(tmp_path, {}, KUBERNETES_SERVICE_HOST="10.0.0.1")["environment"]["name"] == "Kubernetes"
    assert of(tmp_path, {}, container="podman")["environment"]["name"] == "Podman"


def test_accelerators(tmp_path: Path) -> None:
    identity = {
        "name": "H200",
        "vendor": "NVIDIA",
        "architecture": "Hopper",
        "driver_name": "nvidia",
        "driver_version": "570",
        "power_limit_watts": 700.0,
    }
    known, unknown = hardware_document(
        EPOCH_NS, [gpu(0, identity=identity, memory_total_bytes=8), gpu(1, identity={"name": ""})], {}, tmp_path
    )["accelerators"]
    assert known == {
        "index": 0,
        "kind": "gpu",
        "vendor": "NVIDIA",
        "model": "H200",
        "architecture": "Hopper",
        "memory": {"kind": "dedicated", "capacity_bytes": 8},
        "driver": {"name": "nvidia", "version": "570"},
        "power_limit_watts": 700.0,
    }
    assert unknown == {
        "index": 1,
        "kind": "gpu",
        "vendor": None,
        "model": None,
        "architecture": None,
        "memory": {"kind": "unknown", "capacity_bytes": None},
        "driver": None,
        "power_limit_watts": None,
    }


def test_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    class Source:
        name = "nvml"
        is_open = False

        def open(self) -> None:
            self.is_open = True

        def read(self) -> Any:
            return [RTX], True

        def close(self) -> None:
            self.is_open = False

    source = Source()
    monkeypatch.setattr("llamaswap.telemetry.hardware.gpu_sources", lambda _: [source])
    assert [each["model"] for each in detect_hardware({})["accelerators"]] == ["RTX"]
    assert not source.is_open
