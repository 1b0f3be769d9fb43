"""The official clients, as strict judges, against models that are swapped under them."""

from __future__ import annotations

import base64
import io
import json
import struct
import time
import wave
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
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
  single: {{cmd: "${{demo}} --rate 200", concurrencyLimit: 1}}
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
    assert [model.id for model in chat.models.list()] == ["broken", "large", "single", "small"]


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


def test_openai_responses_whole_and_streamed(chat: openai.OpenAI) -> None:
    whole = chat.responses.create(model="small", input="hello", max_output_tokens=8)
    assert whole.output_text
    events = list(chat.responses.create(model="small", input="hello", max_output_tokens=8, stream=True))
    last = events[-1]
    assert last.type == "response.completed"
    assert last.response.output_text == whole.output_text
    assert last.response.usage == whole.usage


def test_openai_images_are_made_and_edited(chat: openai.OpenAI) -> None:
    made = chat.images.generate(model="small", prompt="a lighthouse", size="256x256", n=2)
    pictures = [base64.b64decode(each.b64_json or "") for each in made.data or ()]
    assert len(set(pictures)) == 2
    for picture in pictures:
        assert picture.startswith(b"\x89PNG\r\n\x1a\n")
        assert struct.unpack(">II", picture[16:24]) == (256, 256)
    edited = chat.images.edit(model="small", prompt="a lighthouse", image=("p.png", pictures[0], "image/png"))
    assert edited.data is not None
    assert base64.b64decode(edited.data[0].b64_json or "").startswith(b"\x89PNG")


def test_openai_speaks_and_listens(chat: openai.OpenAI) -> None:
    sound = chat.audio.speech.create(model="small", voice="alloy", input="hello there", response_format="wav").read()
    with wave.open(io.BytesIO(sound)) as file:
        assert file.getnframes() > 0
    heard = chat.audio.transcriptions.create(model="large", file=("s.wav", sound, "audio/wav"))
    assert heard.text
    text = chat.audio.transcriptions.create(model="large", file=("s.wav", sound), response_format="text")
    assert str(text).strip() == heard.text


def test_openai_waits_as_long_as_it_is_told_when_there_is_no_room(daemon: Daemon) -> None:
    url = f"http://127.0.0.1:{daemon.port}/v1"

    def ask(number: int) -> tuple[int, float]:
        began_mono = time.monotonic()
        raw = client.completions.with_raw_response.create(model="single", prompt=str(number), max_tokens=80)
        assert raw.parse().choices[0].text
        return raw.retries_taken, time.monotonic() - began_mono

    with openai.OpenAI(base_url=url, api_key="none", max_retries=5) as client, ThreadPoolExecutor(3) as pool:
        taken = list(pool.map(ask, range(3)))
    assert min(taken)[0] == 0
    # One second is what Retry-After says; of itself the client would come back after half of it.
    assert [seconds >= retries for retries, seconds in taken] == [True] * 3
    assert max(taken)[0] >= 1


@pytest.fixture
def busy(daemon: Daemon) -> Iterator[None]:
    """Leave no room for another request to the model that takes one at a time."""
    connection = daemon.stream("single", 400)
    with connection.getresponse():
        yield
    connection.close()


@pytest.mark.usefixtures("busy")
def test_openai_says_rate_limit_when_it_may_not_try_again(chat: openai.OpenAI) -> None:
    with pytest.raises(openai.RateLimitError) as refused:
        chat.completions.create(model="single", prompt="x")
    assert refused.value.code == "concurrency_limit"


def test_openai_sees_a_wrong_request_as_such(chat: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="'messages' is required"):
        chat.chat.completions.create(model="small", messages=[])


@pytest.mark.usefixtures("busy")
def test_anthropic_types_too_many_requests(claude: anthropic.Anthropic) -> None:
    with pytest.raises(anthropic.RateLimitError):
        claude.messages.create(model="single", max_tokens=5, messages=[{"role": "user", "content": "x"}])


def test_anthropic_types_a_model_that_does_not_start(claude: anthropic.Anthropic) -> None:
    with pytest.raises(anthropic.InternalServerError) as broken:
        claude.messages.create(model="broken", max_tokens=5, messages=[{"role": "user", "content": "x"}])
    assert broken.value.status_code == 502


def test_both_clients_are_told_of_a_wrong_key(tmp_path: Path) -> None:
    with Daemon(tmp_path, f"apiKeys: [right]\n{THREE}") as guarded:
        url = f"http://127.0.0.1:{guarded.port}"
        with openai.OpenAI(base_url=f"{url}/v1", api_key="wrong", max_retries=0) as client:
            with pytest.raises(openai.AuthenticationError):
                client.models.list()
            assert "small" in [model.id for model in client.with_options(api_key="right").models.list()]
        with anthropic.Anthropic(base_url=url, api_key="wrong", max_retries=0) as claude:
            with pytest.raises(anthropic.AuthenticationError):
                claude.messages.count_tokens(model="small", messages=[{"role": "user", "content": "x"}])
            right = claude.with_options(api_key="right")
            assert right.messages.count_tokens(model="small", messages=[{"role": "user", "content": "x"}]).input_tokens
