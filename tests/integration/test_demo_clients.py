"""A toy server, asked by the official clients."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from typing import IO, Final

import anthropic
import openai
import pytest

LIMIT_SECONDS: Final = 20
QUESTION: Final = "What is the weather like at sea?"


class Demo:
    """A toy server in a process of its own."""

    def __init__(self, *arguments: str) -> None:
        command = [sys.executable, "-m", "llamaswap.demo", "--port", "0", "--name", "toy", *arguments]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        self.output: IO[str] = self.process.stdout
        found = re.search(r"http://\S+:\d+", self.output.readline())
        assert found is not None
        self.url = found[0]

    def stop(self) -> int:
        self.process.terminate()
        with self.output:
            return self.process.wait(LIMIT_SECONDS)


@pytest.fixture(scope="module")
def demo() -> Iterator[Demo]:
    made = Demo("--rate", "2000")
    yield made
    assert made.stop() == 0


@pytest.fixture
def client(demo: Demo) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{demo.url}/v1", api_key="none", timeout=LIMIT_SECONDS, max_retries=0) as made:
        yield made


@pytest.fixture
def claude(demo: Demo) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(base_url=demo.url, api_key="none", timeout=LIMIT_SECONDS, max_retries=0) as made:
        yield made


def test_chat_whole_and_streamed_give_the_same_text(client: openai.OpenAI) -> None:
    whole = client.chat.completions.create(model="toy", messages=[{"role": "user", "content": QUESTION}])
    chunks = list(
        client.chat.completions.create(
            model="toy",
            messages=[{"role": "user", "content": QUESTION}],
            stream=True,
            stream_options={"include_usage": True},
        )
    )
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert whole.model == "toy"
    assert whole.choices[0].message.content == text
    assert whole.choices[0].finish_reason == chunks[-2].choices[0].finish_reason == "stop"
    assert whole.usage is not None
    assert chunks[-1].usage == whole.usage
    assert whole.usage.completion_tokens == sum(
        1 for chunk in chunks if chunk.choices and chunk.choices[0].delta.content
    )
    for answer in (whole, chunks[-1], chunks[-2]):
        assert answer.model_extra is not None
        assert answer.model_extra["timings"]["predicted_n"] == whole.usage.completion_tokens


def test_chat_stops_where_it_is_told(client: openai.OpenAI) -> None:
    cut = client.chat.completions.create(model="toy", messages=[{"role": "user", "content": QUESTION}], max_tokens=3)
    assert cut.choices[0].finish_reason == "length"
    assert cut.usage is not None
    assert cut.usage.completion_tokens == 3


def test_completions_whole_and_streamed(client: openai.OpenAI) -> None:
    whole = client.completions.create(model="toy", prompt=QUESTION)
    chunks = list(client.completions.create(model="toy", prompt=QUESTION, stream=True))
    assert "".join(chunk.choices[0].text for chunk in chunks) == whole.choices[0].text
    assert chunks[-1].choices[0].finish_reason == "stop"


def test_embeddings_come_in_both_encodings_and_near_texts_are_near(client: openai.OpenAI) -> None:
    texts = ["the sea is green today", "the sea is grey today", "completely other words here"]
    # Without an encoding the client asks for base64.
    packed = client.embeddings.create(model="toy", input=texts)
    plain = client.embeddings.create(model="toy", input=texts, encoding_format="float")
    vectors = [each.embedding for each in packed.data]
    for one, other in zip(vectors, plain.data, strict=True):
        assert one == pytest.approx(other.embedding, abs=1e-6)
    near, far = (sum(a * b for a, b in zip(vectors[0], vectors[n], strict=True)) for n in (1, 2))
    assert near > 0.7
    assert far < 0.3
    assert len(client.embeddings.create(model="toy", input=[1, 2, 3], dimensions=8).data[0].embedding) == 8


def test_responses_whole_and_streamed(client: openai.OpenAI) -> None:
    whole = client.responses.create(model="toy", input=QUESTION, instructions="Be brief.")
    events = list(client.responses.create(model="toy", input=QUESTION, instructions="Be brief.", stream=True))
    text = "".join(event.delta for event in events if event.type == "response.output_text.delta")
    assert whole.output_text == text
    assert [event.sequence_number for event in events] == list(range(len(events)))
    last = events[-1]
    assert last.type == "response.completed"
    assert last.response.output_text == text
    assert last.response.usage == whole.usage


def test_the_model_list(client: openai.OpenAI) -> None:
    assert [model.id for model in client.models.list()] == ["toy"]


def test_errors_reach_the_client_as_its_own(client: openai.OpenAI, claude: anthropic.Anthropic) -> None:
    with pytest.raises(openai.BadRequestError, match="'messages' is required"):
        client.chat.completions.create(model="toy", messages=[])
    with pytest.raises(anthropic.BadRequestError, match="'messages' is required"):
        claude.messages.create(model="toy", messages=[], max_tokens=10)


def test_messages_whole_and_streamed(claude: anthropic.Anthropic) -> None:
    whole = claude.messages.create(model="toy", messages=[{"role": "user", "content": QUESTION}], max_tokens=500)
    with claude.messages.stream(
        model="toy", messages=[{"role": "user", "content": QUESTION}], max_tokens=500
    ) as stream:
        text = "".join(stream.text_stream)
        final = stream.get_final_message()
    block = whole.content[0]
    assert block.type == "text"
    assert block.text == text
    assert final.stop_reason == whole.stop_reason == "end_turn"
    assert final.usage.output_tokens == whole.usage.output_tokens > 0


def test_every_event_of_a_messages_stream(claude: anthropic.Anthropic) -> None:
    events = claude.messages.create(
        model="toy", messages=[{"role": "user", "content": QUESTION}], max_tokens=2, stream=True
    )
    assert [event.type for event in events] == [
        "message_start",
        "content_block_start",
        "content_block_delta",
        "content_block_delta",
        "content_block_stop",
        "message_delta",
        "message_stop",
    ]


def test_messages_stop_at_a_sequence_and_count_tokens(claude: anthropic.Anthropic) -> None:
    stopped = claude.messages.create(
        model="toy", messages=[{"role": "user", "content": QUESTION}], max_tokens=500, stop_sequences=["e"]
    )
    assert (stopped.stop_reason, stopped.stop_sequence) == ("stop_sequence", "e")
    counted = claude.messages.count_tokens(
        model="toy", system="Short.", messages=[{"role": "user", "content": QUESTION}]
    )
    assert counted.input_tokens == stopped.usage.input_tokens + 2


def test_work_ends_when_the_client_leaves_and_term_ends_the_server_at_once() -> None:
    demo = Demo("--rate", "20")
    try:
        with openai.OpenAI(base_url=f"{demo.url}/v1", api_key="none", timeout=LIMIT_SECONDS) as client:
            stream = client.completions.create(model="toy", prompt=QUESTION, stream=True)
            next(iter(stream))
            stream.close()
        loaded, report = demo.output.readline(), demo.output.readline()
        assert loaded == "main: model loaded\n"
        found = re.search(r"eval time = .* / +(\d+) tokens", report)
        assert found is not None
        assert 1 <= int(found[1]) < 16
        # Another is running while it ends.
        with openai.OpenAI(base_url=f"{demo.url}/v1", api_key="none", timeout=LIMIT_SECONDS) as client:
            stream = client.completions.create(model="toy", prompt=QUESTION, stream=True)
            next(iter(stream))
            demo.process.terminate()
            assert demo.process.wait(1) == 0
            stream.close()
    finally:
        demo.stop()
