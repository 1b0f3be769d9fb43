"""Devices of any maker, as the LACT daemon knows them, where one runs; a connection for each reading."""

from __future__ import annotations

import json
import os
import re
import socket
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Self

from llamaswap.telemetry.gpu import GPUError, NoGPUError
from llamaswap.telemetry.samples import GPU, GPUIdentity

_CONNECT_SECONDS: Final = 2.0
_EXCHANGE_SECONDS: Final = 5.0
_LONGEST_ANSWER_BYTES: Final = 1 << 20
_RECEIVE_BYTES: Final = 1 << 16
_PWM_MOST: Final = 255
_ADDRESS: Final = re.compile(r"[0-9a-f]{4}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]$")
_VENDORS: Final = {"10de": "NVIDIA", "1002": "AMD", "8086": "Intel"}


def socket_paths(environ: Mapping[str, str]) -> list[Path]:
    """Give the places where the daemon's socket may be, best first."""
    named = environ.get("LACT_DAEMON_SOCKET_PATH")
    usual = [Path("/run/lactd.sock"), Path(f"/run/user/{os.getuid()}/lactd.sock")]
    return [Path(named), *usual] if named else usual


class LACT:
    """See :class:`~llamaswap.telemetry.gpu.GPUSource`.

    Args:
        paths: Where the socket may be, best first.
    """

    name = "lact"

    def __init__(self, paths: Sequence[Path]) -> None:
        self._paths = paths
        self._path = Path()

    def open(self) -> None:
        """See the interface."""
        found = [path for path in self._paths if path.is_socket()]
        if not found:
            raise NoGPUError("LACT: no socket")
        self._path = found[0]

    def close(self) -> None:
        """See the interface."""

    def read(self) -> tuple[Sequence[GPU], bool]:
        """See the interface."""
        try:
            with _Conversation(self._path) as daemon:
                listed = daemon.ask("list_devices")
                stats = [daemon.ask("device_stats", {"id": each["id"]}) for each in listed]
            found = [_gpu(i, each, stat) for i, (each, stat) in enumerate(zip(listed, stats, strict=True))]
        except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
            raise GPUError(f"LACT: {error}") from error
        return [gpu for gpu in found if gpu.memory_total_bytes], True


class _Conversation:
    """Questions and answers, a JSON object in a line each, within a time for all of them."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._until_mono = time.monotonic() + _EXCHANGE_SECONDS
        self._received = b""

    def __enter__(self) -> Self:
        try:
            self._socket.settimeout(_CONNECT_SECONDS)
            self._socket.connect(str(self._path))
        except OSError:
            self._socket.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def ask(self, command: str, args: Mapping[str, Any] | None = None) -> Any:
        """Ask one question.

        Raises:
            OSError: It cannot be asked, or takes too long.
            ValueError: The answer is no JSON, or too long, or an error.
        """
        question = {"command": command} if args is None else {"command": command, "args": args}
        self._socket.settimeout(self._left_seconds())
        self._socket.sendall(json.dumps(question).encode() + b"\n")
        answer = json.loads(self._line())
        if answer.get("status") != "ok":
            raise ValueError(f"{command}: {answer.get('data')}")
        return answer["data"]

    def _line(self) -> bytes:
        while b"\n" not in self._received:
            self._socket.settimeout(self._left_seconds())
            data = self._socket.recv(_RECEIVE_BYTES)
            if not data or len(self._received) > _LONGEST_ANSWER_BYTES:
                raise ValueError("no whole answer")
            self._received += data
        line, _, self._received = self._received.partition(b"\n")
        return line

    def _left_seconds(self) -> float:
        left = self._until_mono - time.monotonic()
        if left <= 0:
            raise TimeoutError("takes too long")
        return left


def _gpu(index: int, listed: Mapping[str, Any], stats: Mapping[str, Any]) -> GPU:
    lact_id = str(listed["id"]).lower()
    address = _ADDRESS.search(lact_id)
    vram, power, fan = (stats.get(part) or {} for part in ("vram", "power", "fan"))
    temperatures = {name.lower(): each.get("current") for name, each in (stats.get("temps") or {}).items()}
    core = [temperatures.get("edge"), temperatures.get("junction"), *temperatures.values()]
    pwm = fan.get("pwm_current")
    return GPU(
        GPUIdentity(
            source=LACT.name,
            index=index,
            name=str(listed.get("name") or ""),
            pci_address=address[0] if address is not None else "",
            vendor=_VENDORS.get(lact_id.partition(":")[0], ""),
        ),
        temperature_celsius=_whole(_first(core)),
        memory_temperature_celsius=_whole(_first([temperatures.get("mem"), temperatures.get("vram")])),
        busy_percent=_number(stats.get("busy_percent")),
        memory_used_bytes=_whole(vram.get("used")),
        memory_total_bytes=_whole(vram.get("total")),
        fan_percent=None if pwm is None else round(100 * pwm / _PWM_MOST),
        power_watts=_number(_first([power.get("average"), power.get("current")])),
    )


def _first(values: Sequence[float | None]) -> float | None:
    return next((value for value in values if value is not None), None)


def _number(value: Any) -> float | None:
    """Take a figure; what is none must not get any further."""
    return None if value is None else float(value)


def _whole(value: Any) -> int | None:
    return None if value is None else int(value)
