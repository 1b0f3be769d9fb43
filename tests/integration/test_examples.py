"""What the tutorial tells a newcomer to type works, against the demo that it starts."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from llamaswap.demo.config import demo_configuration
from tests.integration.daemon import Daemon

ROOT: Final = Path(__file__).parents[2]
TUTORIAL: Final = (ROOT / "doc" / "tutorials" / "first-swap.md").read_text(encoding="utf-8")
README: Final = (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    with Daemon(tmp_path, demo_configuration(sys.executable)) as started:
        yield started


def test_python_example_prints_a_story(daemon: Daemon) -> None:
    (program,) = re.findall(r"```python\n(.*?)```", TUTORIAL, flags=re.DOTALL)
    program = program.replace("8080", str(daemon.port)).replace('model="large"', 'model="small"')
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.split()) > 3


@pytest.mark.parametrize("text", [TUTORIAL, README], ids=["tutorial", "readme"])
def test_curl_example_gets_a_stream(text: str, daemon: Daemon) -> None:
    body = re.findall(r"-d '(\{.*?\})'", text)[0]
    answer = daemon.ask("POST", "/v1/chat/completions", body)
    assert json.loads(body)["stream"]
    assert answer.status == 200
    assert answer.body.endswith(b"data: [DONE]\n\n")


def test_state_before_the_first_request_is_the_one_shown(daemon: Daemon) -> None:
    assert '{"running":[]}' in TUTORIAL
    assert daemon.ask("GET", "/running").body == b'{"running":[]}'
