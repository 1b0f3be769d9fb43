"""The JSON schema that is shipped for editors."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.resources import files

from llamaswap.config.fields import MappingOf, Section
from llamaswap.config.jsonschema import json_schema, json_text
from llamaswap.config.table import documented


def test_the_shipped_schema_is_the_one_that_the_table_gives() -> None:
    shipped = files("llamaswap.config").joinpath("config.schema.json").read_text(encoding="utf-8")
    assert shipped == json_text(), "run: python -m llamaswap.config.jsonschema > llamaswap/config/config.schema.json"


def test_the_module_prints_the_schema() -> None:
    printed = subprocess.run([sys.executable, "-m", "llamaswap.config.jsonschema"], capture_output=True, check=True)
    assert json.loads(printed.stdout) == json_schema()


def test_every_key_of_the_table_is_in_the_schema_with_its_documentation() -> None:
    for path, field in documented():
        found = json_schema()
        for key in path.split("."):
            found = found["additionalProperties"] if key == "*" else found["properties"][key]
        assert found["description"].startswith(field.doc)
        if isinstance(field.kind, Section):
            assert set(found["properties"]) == {below.key for below in field.kind.fields}
        elif isinstance(field.kind, MappingOf):
            assert found["additionalProperties"] == field.kind.item.schema()
        if isinstance(field.default, bool | int | float | str):
            assert found["default"] == field.default
