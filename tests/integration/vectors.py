"""The shared vectors of configurations: reading them, and running their steps against a real daemon."""

from __future__ import annotations

import contextlib
import json
import re
import sys
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.integration.daemon import CLI, PATIENCE_SECONDS, Answer, Daemon

HERE = Path(__file__).parent
FILE = HERE.parents[2] / "shared" / "spec" / "config-vectors.yaml"
SSE_SECONDS = 5.0
PAUSE_SECONDS = 0.05


@dataclass(frozen=True, slots=True)
class Places:
    """Ports that a vector speaks of.

    Attributes:
        port_base: First of several free ports.
        own_port: Where the daemon listens.
    """

    port_base: int
    own_port: int


class Vector:
    """One vector.

    Attributes:
        id: Its name.
        fragments: What the message of a refused configuration contains; empty when it loads.
        steps: What to do with the daemon.
    """

    def __init__(self, raw: Mapping[str, Any]) -> None:
        self._raw = raw
        self.id: str = raw["id"]
        fragments = raw.get("error_contains", [])
        self.fragments: list[str] = [fragments] if isinstance(fragments, str) else list(map(str, fragments))
        self.steps: list[dict[str, Any]] = raw.get("expect", [])

    def written(self, folder: Path, places: Places) -> tuple[str | None, str | None]:
        """Write the files; give the path of the file and of the directory."""
        path = directory = None
        if self._raw.get("config") is not None:
            path = folder / "config.yaml"
            path.write_text(filled(self._raw["config"], folder, places), encoding="utf-8")
        elif "config_path" in self._raw:
            path = Path(filled(self._raw["config_path"], folder, places))
        if "dir" in self._raw:
            directory = folder / "conf.d"
            directory.mkdir()
            for name, text in self._raw["dir"].items():
                (directory / name).parent.mkdir(exist_ok=True)
                (directory / name).write_text(filled(text, folder, places), encoding="utf-8")
        return str(path) if path is not None else None, str(directory) if directory is not None else None

    def environ(self, base: Mapping[str, str]) -> dict[str, str]:
        """Change an environment as the vector says."""
        found = {**base, **self._raw.get("env", {})}
        for name in self._raw.get("unset_env", []):
            found.pop(name, None)
        return found


def filled(text: str, folder: Path, places: Places) -> str:
    """Replace the placeholders in a text."""
    words = {
        "@UPSTREAM@": f"{sys.executable} {HERE / 'standin.py'}",
        "@STOPPER@": f"{sys.executable} {HERE / 'stopper.py'}",
        "@TMP@": str(folder),
        "@SELF@": str(places.own_port),
        "@PORTTEXT@": str(places.port_base),
    }
    for word, value in words.items():
        text = text.replace(word, value)
    return re.sub(r"@PORTBASE(?:\+(\d+))?@", lambda found: str(places.port_base + int(found[1] or 0)), text)


def filled_value(value: Any, folder: Path, places: Places) -> Any:
    """Replace the placeholders in an expected value; a port that stands alone is a number."""
    if isinstance(value, list):
        return [filled_value(item, folder, places) for item in value]
    if isinstance(value, dict):
        return {key: filled_value(item, folder, places) for key, item in value.items()}
    if isinstance(value, str):
        text = filled(value, folder, places)
        return int(text) if re.fullmatch(r"@PORTBASE(\+\d+)?@", value) else text
    return value


def read_vectors() -> list[Vector]:
    """Read all vectors; none when the file is not there."""
    if not FILE.exists():
        return []
    return [Vector(raw) for raw in yaml.safe_load(FILE.read_text(encoding="utf-8"))["vectors"]]


def missing_vectors() -> str:
    """Say why there are none."""
    return "config-vectors.yaml does not lie beside the checkout"


class VectorDaemon(Daemon):
    """A daemon with the configuration of a vector.

    Attributes:
        places: The ports that the vector speaks of.
    """

    def __init__(self, folder: Path, vector: Vector) -> None:
        super().__init__(folder, "")
        (folder / "config.yaml").unlink()
        self.places = Places(port_base=self.port + 1, own_port=self.port)
        path, directory = vector.written(folder, self.places)
        self._words = [*CLI, "-listen", f"127.0.0.1:{self.port}"]
        self._words += ["-config", path] if path is not None else []
        self._words += ["-config-dir", directory] if directory is not None else []
        self._env = vector.environ(self._env)

    def wait_line(self, pattern: str) -> str:
        """Wait until it is healthy: what it prints depends on the vector."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < deadline and self.process.poll() is None:
            with contextlib.suppress(OSError):
                if self.ask("GET", "/health").status == 200:
                    return ""
            time.sleep(PAUSE_SECONDS)
        return super().wait_line(pattern)


class Runner:
    """Performs the steps of one vector, and checks what comes of them."""

    def __init__(self, daemon: VectorDaemon) -> None:
        self._daemon = daemon

    def run(self, step: Mapping[str, Any]) -> None:
        """Perform one step, again and again as long as it says and does not hold."""
        step = filled_value(dict(step), self._daemon.folder, self._daemon.places)
        deadline = time.monotonic() + float(step.get("retry_for", 0))
        while True:
            try:
                self._perform(step)
            except AssertionError:
                if time.monotonic() >= deadline:
                    raise
                time.sleep(PAUSE_SECONDS)
            else:
                return

    def _perform(self, step: Mapping[str, Any]) -> None:
        if "request" in step:
            self._request(step)
        elif "running" in step:
            assert sorted(self._daemon.running()) == sorted(step["running"])
        elif "sse" in step:
            check_all(self._first_event(step["sse"], step["type"]), step.get("match", []))
        elif "file" in step:
            assert Path(step["file"]).exists()
            check_all(json.loads(Path(step["file"]).read_text(encoding="utf-8")), step.get("match", []))
        elif "exists" in step:
            assert Path(step["exists"]).exists()
        else:
            time.sleep(step["sleep"])

    def _request(self, step: Mapping[str, Any]) -> None:
        method, path = step["request"].split(" ", 1)
        body = json.dumps(step["json"]) if "json" in step else step.get("body")

        def ask() -> Answer:
            return self._daemon.ask(method, path, body, step.get("headers"))

        if "parallel" in step:
            with ThreadPoolExecutor(step["parallel"]) as pool:
                found = [future.result().status for future in [pool.submit(ask) for _ in range(step["parallel"])]]
            assert {status: found.count(status) for status in found} == step["status_counts"]
            return
        answer = ask()
        text = answer.body.decode("utf-8", "replace")
        assert answer.status == step.get("status", 200), text
        assert all(part in text for part in _texts(step.get("text_contains", []))), text
        assert not any(part in text for part in _texts(step.get("text_lacks", []))), text
        headers = {name.lower(): value for name, value in answer.headers.items()}
        for name, value in step.get("response_headers", {}).items():
            assert headers.get(name.lower()) == value
        if "match" in step:
            check_all(answer.json(), step["match"])

    def _first_event(self, path: str, kind: str) -> Any:
        """Read a stream of events up to the first envelope of a type, and give its data."""
        connection = self._daemon.connect()
        connection.request("GET", path)
        assert connection.sock is not None
        connection.sock.settimeout(SSE_SECONDS)
        try:
            for raw in connection.getresponse():
                line = raw.decode()
                if line.startswith("data:"):
                    envelope = json.loads(line.removeprefix("data:"))
                    if envelope["type"] == kind:
                        return json.loads(envelope["data"])
        finally:
            connection.close()
        raise AssertionError(f"no event of type {kind}")


def _texts(value: str | list[str]) -> list[str]:
    return [value] if isinstance(value, str) else value


MISSING = object()
"""Stands for what is not there."""

KINDS: dict[str, Callable[[Any], bool]] = {
    "integer": lambda value: isinstance(value, int) and not isinstance(value, bool),
    "number": lambda value: isinstance(value, int | float) and not isinstance(value, bool),
    "string": lambda value: isinstance(value, str),
    "boolean": lambda value: isinstance(value, bool),
    "array": lambda value: isinstance(value, list),
    "object": lambda value: isinstance(value, dict),
    "null": lambda value: value is None,
}


def check_all(value: Any, checks: list[dict[str, Any]]) -> None:
    """Check parts of a JSON value."""
    for check in checks:
        found = part(value, check["at"])
        shown = f"at {check['at']}: {found!r}, expected {check}"
        assert (found is MISSING) is check.get("absent", False), shown
        if "equals" in check:
            assert is_same(found, check["equals"]), shown
        if "set" in check:
            assert sorted(map(repr, found)) == sorted(map(repr, check["set"])), shown
        if "contains" in check:
            assert check["contains"] in found, shown
        if "kind" in check:
            assert KINDS[check["kind"]](found), shown
        if "length" in check:
            assert len(found) == check["length"], shown
        if "ids" in check:
            assert [entry["id"] for entry in found] == check["ids"], shown


def part(value: Any, path: list[Any]) -> Any:
    """Follow keys, indexes, and mappings that pick the first entry with these members."""
    for segment in path:
        if isinstance(segment, dict) and isinstance(value, list):
            members = segment.items()
            value = next((e for e in value if all(is_same(e.get(k, MISSING), v) for k, v in members)), MISSING)
        elif isinstance(value, dict):
            value = value.get(segment, MISSING)
        elif isinstance(value, list) and isinstance(segment, int) and segment < len(value):
            value = value[segment]
        else:
            return MISSING
    return value


def is_same(found: Any, expected: Any) -> bool:
    """Compare as JSON does: 1 is 1.0, but never true."""
    if isinstance(found, bool) or isinstance(expected, bool):
        return found is expected
    if isinstance(found, dict) and isinstance(expected, dict):
        return found.keys() == expected.keys() and all(is_same(found[key], expected[key]) for key in found)
    if isinstance(found, list) and isinstance(expected, list):
        return len(found) == len(expected) and all(map(is_same, found, expected))
    return bool(found == expected)
