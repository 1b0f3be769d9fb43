"""Endless sentences from a short text: each word follows two others as it did there."""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator
from typing import Final

_TOKEN: Final = re.compile(r"\s*(?:\w+|[^\w\s])")
_SENTENCE_ENDS: Final = (".", "?", "!")
_LEAST_TOKENS: Final = 16
_MASK: Final = (1 << 64) - 1

_TEXT: Final = """
The harbour wakes before the town does. A small boat leaves the harbour with the first light, and a small dog on the
quay watches it go. The keeper of the lighthouse writes the weather into a book. The book has no title, and the keeper
of the lighthouse has no clock, so every line begins with the colour of the sea. Today the sea is green. Yesterday the
sea was grey, and the boat came back with nothing but a broken net. Nobody in the town was surprised.
When the wind turns, the boats wait. The sailors mend the nets, drink tea and tell the story of the whale. In the
story the whale is as long as the quay, and it carries a garden on its back. Every sailor has seen the garden, but
nobody has seen the whale. The children ask how that can be. The sailors drink tea and look at the sea.
A model of the harbour stands in the window of the baker. The model has a small boat, a small dog and a lighthouse
with a real light. The baker turns the light on when the bread is ready. Then the town wakes, the boats come back,
and the dog runs to the baker because the dog knows what the light means. Is that a language? The keeper of the
lighthouse thinks so. A light is a word, and a light that turns is a sentence.
In the evening the keeper climbs the stairs with a lamp and a piece of bread. The stairs are long, and the keeper
counts them every evening. Sometimes there is one more, sometimes there is one less. The keeper writes the number into
the book, beside the colour of the sea. Some day a pattern will appear. Until then the light turns, the boats find
the harbour, and the town sleeps well. What more can a pattern do? The wind turns, the sea is black, and a small boat
leaves the harbour to look for the garden.
"""


def tokens_of(text: str) -> list[str]:
    """Cut a text into tokens: words and marks, each with the blanks before it."""
    # Blanks at the end belong to no token, and the expression would try each of them with all that follow.
    return _TOKEN.findall(text.rstrip())


class Chain:
    """A chain of words of order two over the built-in text."""

    def __init__(self) -> None:
        tokens = tokens_of(" ".join(_TEXT.split()))
        self._followers: dict[tuple[str, str], list[str]] = {}
        self._starts: list[tuple[str, str]] = []
        # In a circle, so that every pair has a follower.
        for first, second, third in zip(tokens, tokens[1:] + tokens[:1], tokens[2:] + tokens[:2], strict=True):
            self._followers.setdefault((_bare(first), _bare(second)), []).append(third)
            if first in _SENTENCE_ENDS:
                self._starts.append((second, third))

    def sentences(self, seed: str) -> Iterator[str]:
        """Give the tokens of a few whole sentences; the same for the same ``seed``."""
        chance = _numbers(zlib.crc32(seed.encode("utf-8", "replace")))
        first, second = self._starts[next(chance) % len(self._starts)]
        yield first.lstrip()
        yield second
        for count in _count_from(2):
            followers = self._followers[_bare(first), _bare(second)]
            first, second = second, followers[next(chance) % len(followers)]
            yield second
            if count >= _LEAST_TOKENS and second in _SENTENCE_ENDS and next(chance) % 2:
                return


def _bare(token: str) -> str:
    return token.strip()


def _count_from(start: int) -> Iterator[int]:
    while True:
        yield start
        start += 1


def _numbers(state: int) -> Iterator[int]:
    """Give pseudo-random numbers below 2**31 (the multiplier and increment are Knuth's for MMIX)."""
    while True:
        state = (state * 6364136223846793005 + 1442695040888963407) & _MASK
        yield state >> 33
