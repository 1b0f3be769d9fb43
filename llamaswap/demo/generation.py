"""Answers that come at a set rate, and the figures about them."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from llamaswap.demo.text import Chain, tokens_of

_DEFAULT_LIMIT: Final = 512
_MS: Final = 1000


@dataclass
class Engine:
    """The toy model: makes generations and counts them.

    Attributes:
        name: What it calls itself in answers.
        tokens_per_second: Speed of each answer; 0 = as fast as possible.
        running: Generations at work.
        prompt_tokens: Sum over all generations.
        predicted_tokens: Sum over all generations.
    """

    name: str
    tokens_per_second: float
    running: list[Generation] = field(default_factory=list)
    prompt_tokens: int = 0
    predicted_tokens: int = 0
    _chain: Chain = field(default_factory=Chain)

    def generate(
        self, prompt: str, limit: int | None = None, stop: Sequence[str] = (), seed: object = None
    ) -> Generation:
        """Prepare an answer to ``prompt``.

        Args:
            prompt: Together with ``seed`` and the name it decides the answer.
            limit: Tokens at most.
            stop: Texts before which the answer ends.
            seed: Anything, for another answer.
        """
        tokens = self._chain.sentences(f"{self.name}\0{seed}\0{prompt}")
        return Generation(self, list(tokens), len(tokens_of(prompt)), _DEFAULT_LIMIT if limit is None else limit, stop)


class Generation:
    """One answer.

    Attributes:
        prompt_tokens: Length of the prompt.
        predicted_tokens: Length of the answer so far.
        finish_reason: ``stop`` or ``length``, as OpenAI has it; right once the answer has ended.
        stop_sequence: The text of ``stop`` that ended it, or ``None``.
    """

    def __init__(self, engine: Engine, tokens: list[str], prompt_tokens: int, limit: int, stop: Sequence[str]) -> None:
        self.prompt_tokens = prompt_tokens
        self.predicted_tokens = 0
        self.finish_reason = "length" if limit < len(tokens) else "stop"
        self.stop_sequence: str | None = None
        self._engine = engine
        self._tokens = tokens[: max(limit, 0)]
        self._stop = [text for text in stop if text]
        self._started = self._prompt_done = self._ended = time.monotonic()

    async def pieces(self) -> AsyncGenerator[str]:
        """Give the answer token by token, each when it is due."""
        engine = self._engine
        engine.running.append(self)
        engine.prompt_tokens += self.prompt_tokens
        self._started = self._prompt_done = time.monotonic()
        text = ""
        try:
            for token in self._tokens:
                await self._wait_for_next()
                self.predicted_tokens += 1
                engine.predicted_tokens += 1
                text += token
                cut = self._find_stop(text)
                if cut is not None:
                    # What stands before the stop may belong to tokens that are already out.
                    if piece := text[len(text) - len(token) : cut]:
                        yield piece
                    return
                yield token
        finally:
            self._ended = time.monotonic()
            engine.running.remove(self)
            self._report()

    async def text(self) -> str:
        """Give the whole answer when it is done."""
        return "".join([piece async for piece in self.pieces()])

    def timings(self) -> dict[str, float]:
        """Give the figures that llama-server calls ``timings``."""
        prompt_ms = max((self._prompt_done - self._started) * _MS, 0.001)
        predicted_ms = max((time.monotonic() - self._prompt_done) * _MS, 0.001)
        return {
            "cache_n": 0,
            "prompt_n": self.prompt_tokens,
            "prompt_ms": prompt_ms,
            "prompt_per_token_ms": prompt_ms / max(self.prompt_tokens, 1),
            "prompt_per_second": self.prompt_tokens / prompt_ms * _MS,
            "predicted_n": self.predicted_tokens,
            "predicted_ms": predicted_ms,
            "predicted_per_token_ms": predicted_ms / max(self.predicted_tokens, 1),
            "predicted_per_second": self.predicted_tokens / predicted_ms * _MS,
        }

    def usage(self) -> dict[str, Any]:
        """Give the token counts as OpenAI has them."""
        return {
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.predicted_tokens,
            "total_tokens": self.prompt_tokens + self.predicted_tokens,
        }

    async def _wait_for_next(self) -> None:
        rate = self._engine.tokens_per_second
        due = self._prompt_done + (self.predicted_tokens + 1) / rate if rate else 0
        await asyncio.sleep(max(due - time.monotonic(), 0))

    def _find_stop(self, text: str) -> int | None:
        places = [(place, stop) for stop in self._stop if (place := text.find(stop)) >= 0]
        if not places:
            return None
        place, self.stop_sequence = min(places)
        self.finish_reason = "stop"
        return place

    def _report(self) -> None:
        """Say how it went, in the words that scripts look for in llama-server's output."""
        ms = (self._ended - self._prompt_done) * _MS
        count = self.predicted_tokens
        rate = count / ms * _MS if ms else 0.0
        sys.stdout.write(f"       eval time = {ms:10.2f} ms / {count:5d} tokens ({rate:8.2f} tokens per second)\n")
        sys.stdout.flush()
