"""``python -m llamaswap.demo.config``: print a configuration with three toy models, ready to use."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Final

_INTERPRETER_LINE: Final = "  python: python3\n"


def demo_configuration(interpreter: str) -> str:
    """Give the text of the configuration.

    Args:
        interpreter: Path of a Python that has llamaswap.
    """
    text = Path(__file__).with_name("config.yaml").read_text(encoding="utf-8")
    # A JSON string is a YAML string, whatever is in the path.
    return text.replace(_INTERPRETER_LINE, f"  python: {json.dumps(interpreter)}\n")


if __name__ == "__main__":
    sys.stdout.write(demo_configuration(sys.executable))
