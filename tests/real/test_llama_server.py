"""Two real models behind one address, never up together.

``LLAMA_SERVER`` names the binary of llama.cpp's server, ``LLAMA_MODELS`` two GGUF files, separated by a space.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, Self

import openai
import psutil
import pytest
from openai.types.chat import ChatCompletionChunk

from tests.integration.daemon import Daemon, alive

SERVER = os.environ.get("LLAMA_SERVER", "")
MODELS = os.environ.get("LLAMA_MODELS", "").split()

pytestmark = pytest.mark.skipif(
    not SERVER or len(MODELS) < 2,
    reason="needs LLAMA_SERVER (a llama-server binary) and LLAMA_MODELS (two GGUF files)",
)

CONFIG = """\
healthCheckTimeout: 60
models:
  a:
    cmd: {server} -m {first} --port ${{PORT}} -t 1 -c 512
  b:
    cmd: {server} -m {second} --port ${{PORT}} -t 1 -c 512
groups:
  pair:
    swap: true
    exclusive: true
    members: [a, b]
"""


@dataclass
class Answer:
    """One streamed answer, as the client saw it."""

    model: str
    events: int = 0
    text: str = ""
    finish_reason: str | None = None
    completion_tokens: int = 0
    is_done: bool = False
    first_byte_seconds: float = 0.0
    seconds: float = 0.0


@dataclass
class Watch:
    """Looks all the time at which model servers live, and at what ``/running`` says."""

    daemon: Daemon
    lives: dict[int, tuple[float, float]] = field(default_factory=dict)
    models: dict[int, str] = field(default_factory=dict)
    together: list[set[int]] = field(default_factory=list)
    listed_together: list[list[str]] = field(default_factory=list)
    looks: int = 0
    _over: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> Self:
        self._threads = [threading.Thread(target=self._watch, args=a) for a in ((self._look, 0.001), (self._ask, 0.05))]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    def _watch(self, look: Any, pause_seconds: float) -> None:
        while not self._over.wait(pause_seconds):
            look()

    def _look(self) -> None:
        now = time.monotonic()
        found: dict[int, str] = {}
        for child in alive(self.daemon.tree()):
            with contextlib.suppress(psutil.NoSuchProcess):
                command = child.cmdline()
                if command[:1] == [SERVER]:
                    found[child.pid] = "ab"[MODELS.index(command[2])]
        for pid in found:
            self.lives[pid] = (self.lives.get(pid, (now, now))[0], now)
        self.models |= found
        if len(found) > 1:
            self.together.append(set(found))
        self.looks += 1

    def _ask(self) -> None:
        listed = self.daemon.running()
        if len(listed) > 1:
            self.listed_together.append(listed)


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    config = CONFIG.format(server=SERVER, first=MODELS[0], second=MODELS[1])
    with Daemon(tmp_path, config) as started:
        yield started


def ask(client: openai.OpenAI, model: str) -> Answer:
    """Stream one answer and take note of everything that tells whether it is whole."""
    answer = Answer(model)
    start = time.monotonic()
    with client.chat.completions.with_streaming_response.create(
        model=model,
        messages=[{"role": "user", "content": "Say something."}],
        max_tokens=100,
        stream=True,
        stream_options={"include_usage": True},
    ) as response:
        for line in response.iter_lines():
            answer.first_byte_seconds = answer.first_byte_seconds or time.monotonic() - start
            _take(answer, line)
    answer.seconds = time.monotonic() - start
    return answer


def _take(answer: Answer, line: str) -> None:
    if not line:
        return
    assert not answer.is_done, f"after [DONE]: {line!r}"
    assert line.startswith("data: "), line
    data = line.removeprefix("data: ")
    if data == "[DONE]":
        answer.is_done = True
        return
    chunk = ChatCompletionChunk.model_validate(json.loads(data))
    answer.events += 1
    for choice in chunk.choices:
        answer.text += choice.delta.content or ""
        answer.finish_reason = choice.finish_reason or answer.finish_reason
    if chunk.usage is not None:
        answer.completion_tokens = chunk.usage.completion_tokens


def test_models_take_turns_and_every_answer_is_whole(daemon: Daemon, capsys: pytest.CaptureFixture[str]) -> None:
    client = openai.OpenAI(base_url=f"http://127.0.0.1:{daemon.port}/v1", api_key="none", max_retries=0, timeout=90)

    with client, Watch(daemon) as watch:
        answers = [ask(client, model) for model in "aba"]
    daemon.process.terminate()
    status = daemon.process.wait(30)

    with capsys.disabled():
        sys.stdout.write(f"\n{summary(answers, watch)}; exit status {status}\n")
    for answer in answers:
        assert answer.is_done
        assert answer.finish_reason in {"stop", "length"}
        assert 0 < answer.completion_tokens <= 100
        assert answer.text
    assert not watch.together
    assert not watch.listed_together
    lives = sorted((*watch.lives[pid], model) for pid, model in watch.models.items())
    assert [model for _, _, model in lives] == ["a", "b", "a"]
    assert all(ended < begun for (_, ended, _), (begun, _, _) in pairwise(lives))
    assert status == 0
    assert not [pid for pid in watch.lives if psutil.pid_exists(pid)]


def summary(answers: list[Answer], watch: Watch) -> str:
    """Say in a few lines what happened."""
    lines = [
        f"{a.model}: first byte after {a.first_byte_seconds:.2f} s, {a.completion_tokens} tokens in {a.events} events, "
        f"finish_reason {a.finish_reason}, {a.seconds:.2f} s in all"
        for a in answers
    ]
    begin = min(begun for begun, _ in watch.lives.values())
    lines += [
        f"process {pid} ({watch.models[pid]}): seen from {begun - begin:.2f} to {ended - begin:.2f} s"
        for pid, (begun, ended) in sorted(watch.lives.items(), key=lambda item: item[1])
    ]
    return "\n".join([*lines, f"{watch.looks} looks, two servers at once in {len(watch.together)} of them"])
