from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from llamaswap.demo.generation import Engine, Generation
from llamaswap.demo.text import Chain, tokens_of


def text_of(generation: Generation) -> str:
    return asyncio.run(generation.text())


@pytest.fixture
def engine() -> Engine:
    return Engine("toy", 0)


def test_tokens_are_the_text_in_pieces() -> None:
    text = "Hello, wide  world! é模型 3.5"
    assert "".join(tokens_of(text)) == text
    assert tokens_of("Hello, world!") == ["Hello", ",", " world", "!"]


def test_sentences_are_whole_and_of_some_length() -> None:
    chain = Chain()
    lengths = Counter[int]()
    for number in range(300):
        tokens = list(chain.sentences(str(number)))
        assert tokens[0] == tokens[0].lstrip().capitalize()
        assert tokens[-1] in ".?!"
        lengths[len(tokens)] += 1
    assert min(lengths) >= 16
    assert max(lengths) < 512
    assert len(lengths) > 10


def test_an_answer_depends_on_prompt_seed_and_model(engine: Engine) -> None:
    first = text_of(engine.generate("prompt"))
    others = [engine.generate("another"), engine.generate("prompt", seed=1), Engine("other", 0).generate("prompt")]
    assert text_of(engine.generate("prompt")) == first
    assert all(text_of(other) != first for other in others)


def test_a_limit_cuts_the_answer(engine: Engine) -> None:
    whole = engine.generate("prompt")
    cut = engine.generate("prompt", limit=5)
    assert text_of(whole).startswith(text_of(cut))
    assert (cut.finish_reason, cut.predicted_tokens) == ("length", 5)
    assert whole.finish_reason == "stop"
    assert cut.usage() == {"prompt_tokens": 1, "completion_tokens": 5, "total_tokens": 6}


@pytest.mark.parametrize("piece", [slice(10, 18), slice(12, 14), slice(0, 3)])
def test_a_stop_text_ends_the_answer_before_it(engine: Engine, piece: slice) -> None:
    whole = text_of(engine.generate("prompt"))
    stop = whole[piece]
    stopped = engine.generate("prompt", limit=500, stop=["never there", stop])
    text = text_of(stopped)
    # Tokens that were out before the stop was whole stay out.
    assert whole.startswith(text)
    assert stop not in text
    assert (stopped.finish_reason, stopped.stop_sequence) == ("stop", stop)


def test_the_engine_counts_what_runs_and_what_came(engine: Engine) -> None:
    async def use() -> None:
        generation = engine.generate("one two")
        pieces = generation.pieces()
        await anext(pieces)
        assert engine.running == [generation]
        await pieces.aclose()

    asyncio.run(use())
    assert (engine.running, engine.prompt_tokens, engine.predicted_tokens) == ([], 2, 1)


def test_timings_are_those_of_the_answer(engine: Engine) -> None:
    generation = engine.generate("one two three")
    text_of(generation)
    timings = generation.timings()
    assert timings["prompt_n"] == 3
    assert timings["predicted_n"] == generation.predicted_tokens
    assert timings["predicted_per_second"] > 0
