"""The JSON schema of the configuration, for editors: made from the loader's own table.

``config.schema.json`` beside this module is what is shipped;
``python -m llamaswap.config.jsonschema`` prints what belongs in it.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from llamaswap.config.table import ROOT


def json_schema() -> dict[str, Any]:
    """Give the schema.

    It is stricter than the loader, which only warns about unknown keys, and more lenient, since
    many values can be judged only after macros are replaced.
    """
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "llamaswap configuration",
        "$defs": {
            "macro": {
                "type": "string",
                "pattern": r"^\$\{.+\}$",
                "description": "A macro or an environment variable that holds the value.",
            },
        },
        **ROOT.schema(),
    }


def json_text() -> str:
    """Give the schema as the text of a file."""
    return json.dumps(json_schema(), indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    sys.stdout.write(json_text())
