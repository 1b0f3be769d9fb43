"""The daemons that the HTTP vectors are asked of, and how they are asked."""

from __future__ import annotations

import http.client
import json
import shlex
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, TypeVar

from tests.integration import tiny_upstream
from tests.integration.daemon import PATIENCE_SECONDS, Daemon

PAUSE_SECONDS: Final = 0.02
UPSTREAM: Final = f"{shlex.quote(sys.executable)} -IS {shlex.quote(tiny_upstream.__file__)} --port ${{PORT}}"

CONFIG_A: Final = f"""
healthCheckTimeout: 15
captureBuffer: 5
includeAliasesInList: true
logToStdout: both
macros: {{up: {json.dumps(UPSTREAM)}}}
models:
  alpha:
    cmd: ${{up}} --name alpha
    name: "Alpha Model"
    description: "first"
    aliases: [alpha-alias, gpt-x]
    metadata: {{size: 7, context_length: 99, tags: [a, b]}}
    capabilities: {{in: [text, image], out: [text], tools: true, context: 4096}}
    filters:
      stripParams: "temperature, top_p, model"
      setParams: {{seed: 42, nested: {{a: 1}}}}
      setParamsByID: {{"alpha:think": {{think: true, seed: 7}}}}
  beta: {{cmd: "${{up}} --name beta", useModelName: real-beta, concurrencyLimit: 2, unlisted: true, ttl: 300}}
  author/gamma: {{cmd: "${{up}} --name gamma --load 1.5", sendLoadingState: true}}
  author/gamma/v2: {{cmd: "${{up}} --name gammav2"}}
  dead: {{cmd: "${{up}} --name dead --exit 0.5", sendLoadingState: true}}
  never: {{cmd: "${{up}} --name never --never"}}
  nocmd: {{cmd: "/does/not/exist --port ${{PORT}}"}}
  comfyui_auto: {{cmd: "${{up}} --name comfy"}}
  wsign: {{cmd: "${{up}} --name wsign", compat: {{ignoreWebsockets: true}}}}
  s1: {{cmd: "${{up}} --name s1"}}
  s2: {{cmd: "${{up}} --name s2"}}
groups:
  pool: {{swap: false, exclusive: false, members: [s1, s2]}}
  aux: {{swap: false, exclusive: false, members: [comfyui_auto, wsign]}}
selectors:
  sel-pin: {{strategy: pin, targets: [alpha-alias, beta], name: Pin, description: "pin it", metadata: {{x: 1}}}}
  sel-warm: {{strategy: warm, targets: [beta, alpha]}}
  sel-spill: {{strategy: spillover, targets: [s1, s2], settings: {{spillover: 1}}}}
profiles:
  coding: {{description: Coding, pins: {{code: alpha, alpha: beta, "off": ~, gone: sel-pin}}}}
peers:
  p1:
    proxy: "http://127.0.0.1:PEER/base"
    apiKey: peer-secret
    models: [remote-m, org/remote2]
    filters: {{stripParams: top_k, setParams: {{peerset: true}}}}
  p2: {{proxy: "http://127.0.0.1:NOBODY", models: [remote-m, deadpeer]}}
"""

CONFIG_B: Final = f"""
apiKeys: [key1, "key:2"]
performance: {{disabled: true}}
models:
  alpha: {{cmd: {json.dumps(UPSTREAM + " --name alpha")}}}
  open: {{cmd: {json.dumps(UPSTREAM + " --name open")}, forwardApiKey: true}}
"""

ONE_MODEL: Final = f"models: {{alpha: {{cmd: {json.dumps(UPSTREAM + ' --name alpha')}}}}}\n"

JSON: Final = "application/json"
FORM: Final = "application/x-www-form-urlencoded"
CHAT: Final = "/v1/chat/completions"

T = TypeVar("T")


class Reply:
    """A whole answer.

    Attributes:
        status: Its status.
        headers: Its headers, found in whatever case.
        body: Its body.
        is_whole: Whether it ended as it should.
    """

    def __init__(self, response: http.client.HTTPResponse) -> None:
        self.status = response.status
        self.headers = response.headers
        self.is_whole = True
        try:
            self.body = response.read()
        except http.client.IncompleteRead as error:
            self.body = error.partial
            self.is_whole = False

    @property
    def text(self) -> str:
        """The body as text."""
        return self.body.decode()

    def json(self) -> Any:
        """Parse the body."""
        return json.loads(self.body)

    def error(self) -> Any:
        """Give what the envelope of an error of ours holds."""
        document = self.json()
        assert document["src"] == "llama-swap"
        return document["error"]

    def seen(self, name: str) -> list[str]:
        """Give the values of a header that the upstream saw, as it says itself."""
        return [value for each, value in self.json()["headers"] if each.lower() == name]

    def events(self) -> list[str]:
        """Give the payloads of a stream of events."""
        return list(payloads(self.text.splitlines()))


def payloads(lines: list[str]) -> Iterator[str]:
    """Give the payloads among the lines of a stream of events."""
    return (line.removeprefix("data:").removeprefix(" ") for line in lines if line.startswith("data:"))


class Asker:
    """Asks a daemon.

    Args:
        daemon: Whom.
    """

    def __init__(self, daemon: Daemon) -> None:
        self.daemon = daemon

    def open(
        self,
        method: str,
        path: str,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
        kind: str | None = JSON,
    ) -> http.client.HTTPConnection:
        """Send a request with no header but those that are given, and ``Host``.

        Args:
            method: Of the request.
            path: With query, as it is to be written.
            body: Bytes, a text, or what is to be sent as JSON.
            headers: Besides the one that follows.
            kind: Type of a body; ``None`` = not said.
        """
        connection = self.daemon.connect()
        connection.putrequest(method, path, skip_accept_encoding=True)
        for name, value in (headers or {}).items():
            connection.putheader(name, value)
        if body is None:
            connection.endheaders()
            return connection
        data = body if isinstance(body, bytes) else (body if isinstance(body, str) else json.dumps(body)).encode()
        if kind is not None:
            connection.putheader("Content-Type", kind)
        connection.putheader("Content-Length", str(len(data)))
        connection.endheaders(data)
        return connection

    def ask(
        self,
        method: str,
        path: str,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
        kind: str | None = JSON,
    ) -> Reply:
        """Ask as :meth:`open` does, and take the whole answer."""
        connection = self.open(method, path, body, headers, kind)
        try:
            return Reply(connection.getresponse())
        finally:
            connection.close()

    def get(self, path: str, headers: Mapping[str, str] | None = None) -> Reply:
        """Ask with GET."""
        return self.ask("GET", path, headers=headers)

    def chat(self, body: Any, headers: Mapping[str, str] | None = None, query: str = "") -> Reply:
        """Ask for a completion of a chat."""
        return self.ask("POST", CHAT + query, body, headers)

    def open_chat(self, body: Any, query: str = "") -> http.client.HTTPConnection:
        """Send what :meth:`chat` sends."""
        return self.open("POST", CHAT + query, body)

    def stop(self, *models: str) -> None:
        """Stop some models, all without names."""
        for path in [f"/{model.replace('/', '%2F')}" for model in models] or [""]:
            assert self.ask("POST", f"/api/models/unload{path}").status == 200

    def row(self) -> Any:
        """Give the newest row of the activity."""
        return self.get("/api/metrics/activity?limit=1").json()["data"][0]

    def last_id(self) -> int:
        """Give the number of the newest row of the activity, 0 = there is none."""
        rows = self.get("/api/metrics/activity?limit=1").json()["data"]
        return int(rows[0]["id"]) if rows else 0

    def rows_after(self, last: int, count: int) -> Any:
        """Wait for so many rows of the activity after one, and give them, newest first."""

        def found() -> Any:
            rows = self.get(f"/api/metrics/activity?limit=100&min_id={last + 1}").json()["data"]
            return rows if len(rows) >= count else None

        eventually(found)
        # A row may be seen a moment before its capture is in its place.
        return found()

    def loaded(self) -> set[str]:
        """Give the names in the list of models that are said to be loaded."""
        entries = self.get("/v1/models").json()["data"]
        return {entry["id"] for entry in entries if entry["status"]["value"] == "loaded"}

    def wait_in_flight(self, model: str, count: int) -> None:
        """Wait until a model has so many requests in flight."""

        def is_there() -> bool:
            return bool(self.get(f"/api/models/{model}").json()["in_flight"] == count)

        eventually(is_there)

    def wait_state(self, model: str, state: str) -> None:
        """Wait until a model's process has a state."""
        eventually(lambda: self.get(f"/api/models/{model}").json()["state"] == state)


def eventually(found: Callable[[], T | None]) -> T:
    """Ask again and again, until there is something to give."""
    end_mono = time.monotonic() + PATIENCE_SECONDS
    while True:
        result = found()
        if result:
            return result
        assert time.monotonic() < end_mono, "it never came"
        time.sleep(PAUSE_SECONDS)


def multipart(*parts: tuple[str, str, bytes]) -> tuple[bytes, str]:
    """Write a form.

    Args:
        parts: Name, further lines of the head, content.

    Returns:
        Body and type.
    """
    lines = [
        b'--edge\r\nContent-Disposition: form-data; name="%s"%s\r\n\r\n%s\r\n' % (name.encode(), head.encode(), content)
        for name, head, content in parts
    ]
    return b"".join(lines) + b"--edge--\r\n", "multipart/form-data; boundary=edge"
