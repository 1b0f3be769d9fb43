"""The official clients, as strict judges, against models that are swapped under them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import anthropic
import openai
import pytest

from tests.integration.daemon import DEMO, PATIENCE_SECONDS, Daemon

THREE = f"""
macros: {{demo: {json.dumps(DEMO)}}}
models:
  small: {{cmd: "${{demo}} --load 0.1 --rate 500", aliases: [tiny]}}
  large: {{cmd: "${{demo}} --load 0.4 --rate 200"}}
  broken: {{cmd: "false ${{PORT}}"}}
"""


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """Two models that take turns, and one that does not start."""
    folder: Path = tmp_path_factory.mktemp("daemon")
    with Daemon(folder, THREE) as daemon:
        yield daemon


@pytest.fixture
def chat(daemon: Daemon) -> Iterator[openai.OpenAI]:
    """OpenAI's client."""
    url = f"http://127.0.0.1:{daemon.port}/v1"
    with openai.OpenAI(base_url=url, api_key="none", timeout=PATIENCE_SECONDS, max_retries=0) as client:
        yield client


@pytest.fixture
def claude(daemon: Daemon) -> Iterator[anthropic.Anthropic]:
    """Anthropic's client."""
    url = f"http://127.0.0.1:{daemon.port}"
    with anthropic.Anthropic(base_url=url, api_key="none", timeout=PATIENCE_SECONDS, max_retries=0) as client:
        yield client


def test_openai_chat_swaps_between_models(chat: openai.OpenAI, daemon: Daemon) -> None:
    for model in ("small", "large", "tiny"):
        answer = chat.chat.completions.create(
            model=model, messages=[{"role": "user", "content": "hello"}], max_tokens=5
        )
        assert answer.choices[0].message.content
        assert answer.usage is not None
        assert answer.usage.completion_tokens == 5
    assert daemon.running() == ["small"]


def test_openai_streams_come_whole_with_their_usage(chat: openai.OpenAI) -> None:
    for model in ("large", "small"):
        chunks = list(
            chat.chat.completions.create(
                model=model,
                messages=[{"role": "user", "content": "hello"}],
                max_tokens=20,
                stream=True,
                stream_options={"include_usage": True},
            )
        )
        assert chunks[-1].usage is not None
        assert chunks[-1].usage.completion_tokens <= 20
        assert any(choice.finish_reason for chunk in chunks for choice in chunk.choices)


def test_openai_completions_embeddings_and_the_list(chat: openai.OpenAI) -> None:
    assert chat.completions.create(model="small", prompt="once", max_tokens=3).choices[0].text
    assert len(chat.embeddings.create(model="small", input=["a", "b"]).data) == 2
    assert [model.id for model in chat.models.list()] == ["broken", "large", "small"]


def test_openai_errors_are_typed(chat: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as unknown:
        chat.chat.completions.create(model="ghost", messages=[])
    assert unknown.value.code == "model_not_found"
    with pytest.raises(openai.InternalServerError) as broken:
        chat.chat.completions.create(model="broken", messages=[])
    assert broken.value.status_code == 502
    assert broken.value.code == "upstream_start_failed"


def test_anthropic_messages_swap_between_models(claude: anthropic.Anthropic) -> None:
    for model in ("small", "large"):
        answer = claude.messages.create(model=model, max_tokens=5, messages=[{"role": "user", "content": "hello"}])
        assert answer.content[0].type == "text"
        assert answer.usage.output_tokens == 5


def test_anthropic_streams_come_whole(claude: anthropic.Anthropic) -> None:
    with claude.messages.stream(
        model="small", max_tokens=20, messages=[{"role": "user", "content": "hello"}]
    ) as stream:
        text = "".join(stream.text_stream)
        final = stream.get_final_message()
    assert text
    assert final.stop_reason


def test_d5_anthropic_counts_tokens_and_types_its_errors(claude: anthropic.Anthropic) -> None:
    counted = claude.messages.count_tokens(model="small", messages=[{"role": "user", "content": "hello there"}])
    assert counted.input_tokens > 0
    with pytest.raises(anthropic.NotFoundError) as unknown:
        claude.messages.create(model="ghost", max_tokens=5, messages=[{"role": "user", "content": "x"}])
    assert unknown.value.body is not None
    assert unknown.value.body["type"] == "error"  # type: ignore[index]  # the client types it as object
    assert unknown.value.body["error"]["type"] == "not_found_error"  # type: ignore[index]  # as above
