"""What is secret in a command is not shown."""

from __future__ import annotations

import pytest

from llamaswap.core.masking import masked


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("x --api-key s3 --port 1", "x --api-key [REDACTED] --port 1"),
        ("x --api-key=s3 --port 1", "x --api-key=[REDACTED] --port 1"),
        ("x --hf-token 's 3' y", "x --hf-token [REDACTED] y"),
        ('x -token "s 3"', "x -token [REDACTED]"),
        ("env HF_TOKEN=s3 PASSWORD=p x", "env HF_TOKEN=[REDACTED] PASSWORD=[REDACTED] x"),
        ("bash -c 'x --api-key s3'", "bash -c 'x --api-key [REDACTED]'"),
        ("x \\\n  --API-KEY \\s3", "x \\\n  --API-KEY [REDACTED]"),
        ("x --max-tokens 100 --tokenizer t --monkey b", "x --max-tokens 100 --tokenizer t --monkey b"),
        ("the key is here", "the key is here"),
    ],
)
def test_masked(text: str, shown: str) -> None:
    assert masked(text) == shown
