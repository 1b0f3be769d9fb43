"""Figures from files and sockets: the host, its limits, AMD's devices, LACT."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from llamaswap.telemetry.cgroup import memory_limit
from llamaswap.telemetry.gpu import GPUError, NoGPUError
from llamaswap.telemetry.gpu_amdgpu import AMDGPU
from llamaswap.telemetry.gpu_lact import LACT, socket_paths
from llamaswap.telemetry.gpu_sources import gpu_sources
from llamaswap.telemetry.host import Host
from llamaswap.telemetry.samples import GPU, GPUIdentity, MemoryLimit, Network, SystemSample


def plant(root: Path, files: Mapping[str, str]) -> Path:
    """Write files below a folder."""
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return root


# ----------------------------------------------------------------- host


class FakePsutil:
    def __init__(self) -> None:
        self.intervals: list[float | None] = []

    def cpu_percent(self, interval: float | None, *, percpu: bool) -> list[float]:
        self.intervals.append(interval)
        return [12.5, 100.0]

    def virtual_memory(self) -> Any:
        return SimpleNamespace(total=3000, used=1000, free=500, available=1900)

    def swap_memory(self) -> Any:
        return SimpleNamespace(total=20, used=10)

    def getloadavg(self) -> tuple[float, float, float]:
        return (1.0, 2.0, 3.0)

    def net_io_counters(self, *, pernic: bool) -> Any:
        return {name: SimpleNamespace(bytes_recv=1, bytes_sent=2) for name in ("lo", "eth1", "eth0")}


def test_a_sample_of_the_host() -> None:
    system, limit = FakePsutil(), MemoryLimit(10, 5)
    host = Host(lambda: 7, system, lambda: limit)
    assert host.read() == SystemSample(
        at_ns=7,
        cpu_percent=(12.5, 100.0),
        memory_total_bytes=3000,
        memory_used_bytes=1000,
        memory_free_bytes=500,
        swap_total_bytes=20,
        swap_used_bytes=10,
        load=(1.0, 2.0, 3.0),
        network=(Network("eth0", 1, 2), Network("eth1", 1, 2)),
        memory_limit=limit,
    )
    host.read()
    assert system.intervals == [0.1, None], "the first one measures a while, the others since the one before"


def test_a_sample_of_this_host() -> None:
    sample = Host(lambda: 7).read()
    assert sample.memory_total_bytes > sample.memory_used_bytes > 0
    assert all(0 <= percent <= 100 for percent in sample.cpu_percent)


@pytest.mark.parametrize(
    ("files", "limit"),
    [
        ({}, None),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/memory.max": "max\n"}, None),
        (
            {
                "proc/self/cgroup": "0::/\n",
                "sys/fs/cgroup/memory.max": "1000\n",
                "sys/fs/cgroup/memory.current": "10\n",
            },
            MemoryLimit(1000, 10),
        ),
        (
            {
                "proc/self/cgroup": "0::/a.slice/b.service\n",
                "sys/fs/cgroup/a.slice/memory.max": "500\n",
                "sys/fs/cgroup/a.slice/memory.current": "20\n",
                "sys/fs/cgroup/a.slice/b.service/memory.max": "1000\n",
                "sys/fs/cgroup/a.slice/b.service/memory.current": "10\n",
            },
            MemoryLimit(500, 20),
        ),
        (
            {
                "proc/self/cgroup": "5:cpu,cpuacct:/x\n4:memory:/docker/abc\n0::/\n",
                "sys/fs/cgroup/memory/memory.limit_in_bytes": "800\n",
                "sys/fs/cgroup/memory/memory.usage_in_bytes": "30\n",
            },
            MemoryLimit(800, 30),
        ),
        (
            {
                "proc/self/cgroup": "4:memory:/\n",
                "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
                "sys/fs/cgroup/memory/memory.usage_in_bytes": "30\n",
            },
            None,
        ),
    ],
    ids=["no proc", "no limit", "v2", "v2 around us", "v1 in a container", "v1 without limit"],
)
def test_the_memory_limit(tmp_path: Path, files: Mapping[str, str], limit: MemoryLimit | None) -> None:
    assert memory_limit(plant(tmp_path, files)) == limit


def test_the_memory_limit_of_a_group_with_an_odd_name(tmp_path: Path) -> None:
    plant(tmp_path, {"sys/fs/cgroup/memory.max": "1000\n", "sys/fs/cgroup/memory.current": "10\n"})
    plant(tmp_path, {"proc/self/cgroup": ""})
    (tmp_path / "proc/self/cgroup").write_bytes(b"0::/\xff\n")
    assert memory_limit(tmp_path) == MemoryLimit(1000, 10)


# ----------------------------------------------------------------- amdgpu

CARD = {
    "vendor": "0x1002\n",
    "device": "0x744c\n",
    "product_name": "Radeon RX 7900\n",
    "unique_id": "abc123\n",
    "mem_info_vram_total": "1000\n",
    "mem_info_vram_used": "250\n",
    "gpu_busy_percent": "42\n",
    "hwmon/hwmon3/temp1_input": "50000\n",
    "hwmon/hwmon3/temp1_label": "edge\n",
    "hwmon/hwmon3/temp2_input": "60000\n",
    "hwmon/hwmon3/temp2_label": "junction\n",
    "hwmon/hwmon3/temp3_input": "70000\n",
    "hwmon/hwmon3/temp3_label": "mem\n",
    "hwmon/hwmon3/fan1_input": "1000\n",
    "hwmon/hwmon3/fan1_max": "4000\n",
    "hwmon/hwmon3/power1_average": "123400000\n",
    "hwmon/hwmon3/power1_cap": "300000000\n",
}


def card(root: Path, number: int, files: Mapping[str, str]) -> None:
    """Add a card as Linux shows it: a link to the device, which has its address for a name."""
    device = root / f"sys/devices/0000:0{number}:00.0"
    plant(device, files)
    folder = root / f"sys/class/drm/card{number}"
    folder.mkdir(parents=True)
    (folder / "device").symlink_to(device)


def without(*names: str) -> dict[str, str]:
    return {name: content for name, content in CARD.items() if not name.endswith(names)}


def test_amd_device(tmp_path: Path) -> None:
    card(tmp_path, 1, CARD)
    card(tmp_path, 2, {"vendor": "0x8086\n", "mem_info_vram_total": "1\n"})
    plant(
        tmp_path, {"sys/module/amdgpu/version": "6.8\n", "sys/class/drm/card1-DP-1/status": "x", "sys/class/drm/v": ""}
    )
    source = AMDGPU(tmp_path)
    source.open()
    gpus, is_whole = source.read()
    assert is_whole
    assert gpus == [
        GPU(
            GPUIdentity(
                "amdgpu",
                0,
                "Radeon RX 7900",
                "abc123",
                "0000:01:00.0",
                "AMD",
                "",
                "amdgpu",
                "6.8",
                power_limit_watts=300.0,
            ),
            temperature_celsius=50,
            memory_temperature_celsius=70,
            busy_percent=42.0,
            memory_used_bytes=250,
            memory_total_bytes=1000,
            fan_percent=25,
            power_watts=123.4,
        )
    ]


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        (without("fan1_input") | {"hwmon/hwmon3/pwm1": "51\n"}, {"fan_percent": 20}),
        (without("fan1_input"), {"fan_percent": None}),
        (without("power1_average") | {"hwmon/hwmon3/power1_input": "1500000\n"}, {"power_watts": 1.5}),
        (without("power1_average"), {"power_watts": None}),
        (without("temp1_label"), {"temperature_celsius": 60}),
        (without("temp1_label", "temp2_label"), {"temperature_celsius": 50}),
        (without("temp1_input", "temp2_input", "temp3_input"), {"temperature_celsius": None}),
        (without("gpu_busy_percent"), {"busy_percent": None}),
        (
            {name: content for name, content in CARD.items() if not name.startswith("hwmon")},
            {"temperature_celsius": None, "fan_percent": None, "power_watts": None, "memory_used_bytes": 250},
        ),
    ],
)
def test_amd_device_that_lacks_something(tmp_path: Path, files: Mapping[str, str], expected: Mapping[str, Any]) -> None:
    card(tmp_path, 0, files)
    source = AMDGPU(tmp_path)
    source.open()
    [gpu], _ = source.read()
    assert {name: getattr(gpu, name) for name in expected} == expected


def test_no_amd_device(tmp_path: Path) -> None:
    with pytest.raises(NoGPUError):
        AMDGPU(tmp_path).open()
    card(tmp_path, 0, {"vendor": "0x10de\n"})
    with pytest.raises(NoGPUError):
        AMDGPU(tmp_path).open()


def test_amd_device_that_goes(tmp_path: Path) -> None:
    card(tmp_path, 0, CARD)
    card(tmp_path, 1, without("product_name"))
    source = AMDGPU(tmp_path)
    source.open()
    (tmp_path / "sys/class/drm/card0/device").unlink()
    [gpu], is_whole = source.read()
    assert (gpu.identity.name, is_whole) == ("AMD GPU 0x744c", False)
    (tmp_path / "sys/class/drm/card1/device").unlink()
    with pytest.raises(GPUError):
        source.read()
    source.close()


# ----------------------------------------------------------------- LACT

DEVICES: list[dict[str, Any]] = [
    {"id": "10DE:2684-1462:5103-0000:01:00.0", "name": "RTX 4090"},
    {"id": "1002:164E-1462:7D76-0000:0B:00.0", "name": "Raphael"},
    {"id": "odd", "name": None},
]
STATS: Mapping[str, Any] = {
    DEVICES[0]["id"]: {
        "fan": {"pwm_current": 102},
        "vram": {"total": 1000, "used": 250},
        "power": {"average": None, "current": 80.5},
        "temps": {"GPU Hotspot": {"current": 61.7}, "VRAM": {"current": 70.0}},
        "busy_percent": 42,
    },
    DEVICES[1]["id"]: {"vram": {"total": 0}},
    "odd": {
        "fan": {"pwm_current": None},
        "vram": {"total": 2000, "used": None},
        "temps": {"junction": {"current": 55.0}, "edge": {"current": 50.0}, "mem": {"current": None}},
        "busy_percent": None,
    },
}

Answer = Callable[[Any], bytes]


def truth(question: Any) -> bytes:
    data = DEVICES if question == {"command": "list_devices"} else STATS[question["args"]["id"]]
    return json.dumps({"status": "ok", "data": data}).encode() + b"\n"


class Daemon:
    """Answers one conversation on a socket."""

    def __init__(self, folder: Path, answer: Answer) -> None:
        self.path = folder / "lactd.sock"
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(self.path))
        self._listener.listen()
        self._answer = answer
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def _serve(self) -> None:
        client, _ = self._listener.accept()
        # Who is told nonsense may leave in the middle of it.
        with suppress(OSError), client, client.makefile("rb") as questions:
            for question in questions:
                answer = self._answer(json.loads(question))
                if not answer:
                    return
                # In two pieces, as a stream may come.
                client.sendall(answer[:5])
                client.sendall(answer[5:])

    def __enter__(self) -> LACT:
        self._thread.start()
        source = LACT([self.path.with_name("missing"), self.path])
        source.open()
        return source

    def __exit__(self, *_: object) -> None:
        self._thread.join(10)
        self._listener.close()


def test_lact(tmp_path: Path) -> None:
    with Daemon(tmp_path, truth) as source:
        gpus, is_whole = source.read()
        source.close()
    assert is_whole
    assert gpus == [
        GPU(
            GPUIdentity("lact", 0, "RTX 4090", "", "0000:01:00.0", "NVIDIA"),
            temperature_celsius=61,
            memory_temperature_celsius=70,
            busy_percent=42,
            memory_used_bytes=250,
            memory_total_bytes=1000,
            fan_percent=40,
            power_watts=80.5,
        ),
        GPU(GPUIdentity("lact", 2, ""), temperature_celsius=50, memory_total_bytes=2000),
    ]


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"no json\n",
        b'{"status":"error","data":"no"}\n',
        b'{"status":"ok"}\n',
        b'{"status":"ok","data":5}\n',
        b"[]\n",
    ],
)
def test_lact_talks_nonsense(tmp_path: Path, answer: bytes) -> None:
    with Daemon(tmp_path, lambda _: answer) as source, pytest.raises(GPUError) as caught:
        source.read()
    assert type(caught.value) is GPUError


@pytest.mark.parametrize("wrong", [{"busy_percent": "much"}, {"vram": {"total": [1]}}, {"power": {"average": {}}}])
def test_lact_gives_figures_that_are_none(tmp_path: Path, wrong: Mapping[str, Any]) -> None:
    def answer(question: Any) -> bytes:
        data = DEVICES[:1] if question["command"] == "list_devices" else {"vram": {"total": 1000}, **wrong}
        return json.dumps({"status": "ok", "data": data}).encode() + b"\n"

    with Daemon(tmp_path, answer) as source, pytest.raises(GPUError):
        source.read()


def test_lact_takes_too_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llamaswap.telemetry.gpu_lact._EXCHANGE_SECONDS", 0.0)
    with Daemon(tmp_path, truth) as source, pytest.raises(GPUError, match="too long"):
        source.read()


def test_no_lact(tmp_path: Path) -> None:
    with pytest.raises(NoGPUError):
        LACT([tmp_path / "missing"]).open()


def test_lact_that_left_its_socket_behind(tmp_path: Path) -> None:
    path = tmp_path / "lactd.sock"
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))
    source = LACT([path])
    source.open()
    with pytest.raises(GPUError):
        source.read()


def test_where_lact_is_looked_for() -> None:
    assert socket_paths({"LACT_DAEMON_SOCKET_PATH": "/x"})[0] == Path("/x")
    assert socket_paths({})[0] == Path("/run/lactd.sock")


def test_the_order_of_the_sources() -> None:
    assert [source.name for source in gpu_sources({})] == ["nvml", "lact", "amdgpu"]
