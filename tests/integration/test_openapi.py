"""The daemon's own routes keep what ``doc/reference/openapi.yaml`` promises, whatever they are asked."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Final

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, settings
from schemathesis.checks import CHECKS, load_all_checks

from tests.integration.daemon import Daemon
from tests.integration.vector_world import UPSTREAM, Asker
from tests.unit.test_openapi import DOCUMENT

pytest_plugins = ["schemathesis.pytest.plugin"]

EXAMPLES: Final = 6
CONFIG: Final = f"""
captureBuffer: 1
models:
  alpha: {{cmd: {json.dumps(UPSTREAM + " --name alpha")}, aliases: [a/b], capabilities: {{in: [text], out: [text]}}}}
  beta: {{cmd: {json.dumps(UPSTREAM + " --name beta")}}}
profiles:
  coding: {{pins: {{code: alpha}}}}
"""

load_all_checks()
KEPT: Final[Any] = [
    CHECKS.get_one(name)
    for name in (
        "not_a_server_error",
        "status_code_conformance",
        "content_type_conformance",
        "response_headers_conformance",
        "response_schema_conformance",
        "unsupported_method",
    )
]
"""What is wrong with a question is not for the document to say: many wrong values count as absent."""

schema = schemathesis.openapi.from_path(DOCUMENT)
# These do not end.
finite = schema.exclude(path=["/api/events", "/logs/stream", "/logs/stream/{id}"])


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Asker]:
    """Run a daemon that has seen some requests and swaps."""
    with Daemon(tmp_path_factory.mktemp("api"), CONFIG) as daemon:
        asker = Asker(daemon)
        for model in ("alpha", "beta", "alpha", "nobody"):
            asker.chat({"model": model}, query="?mode=vllm")
        yield asker


@finite.parametrize()
@settings(
    max_examples=EXAMPLES,
    derandomize=True,
    deadline=None,
    database=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
def test_route_keeps_to_its_document(case: schemathesis.Case[Any], daemon: Asker) -> None:
    case.call_and_validate(base_url=f"http://127.0.0.1:{daemon.daemon.port}", checks=KEPT)


@pytest.mark.parametrize(
    ("method", "path", "arguments"),
    [
        ("GET", "/api/models/{model}", {"path_parameters": {"model": "alpha"}}),
        ("GET", "/api/models/{model}", {"path_parameters": {"model": "a/b"}}),
        ("GET", "/api/models/{model}/metrics", {"path_parameters": {"model": "alpha"}}),
        ("POST", "/api/models/load/{model}", {"path_parameters": {"model": "alpha"}, "query": {"wait": "1"}}),
        ("POST", "/api/models/load/{model}", {"path_parameters": {"model": "beta"}}),
        ("POST", "/api/models/unload/{model}", {"path_parameters": {"model": "beta"}}),
        ("PUT", "/api/profiles/active", {"body": {"name": "coding"}, "media_type": "application/json"}),
        ("PUT", "/api/profiles/active", {"body": {"name": None}, "media_type": "application/json"}),
        ("GET", "/api/captures/{id}", {"path_parameters": {"id": "1"}}),
        ("GET", "/api/metrics/activity", {"query": {"limit": 1, "format": "csv"}}),
        ("GET", "/api/metrics/activity", {"query": {"format": "jsonl"}}),
        ("GET", "/api/metrics/activity", {"query": {"status": "4xx"}}),
        ("GET", "/api/plan", {"query": {"model": "beta"}}),
        ("GET", "/api/swaps", {"query": {"model": "beta"}}),
        ("GET", "/v1/models", {"headers": {"Accept": "text/plain"}}),
    ],
    ids=str,
)
def test_answer_that_succeeds_keeps_to_its_document(
    daemon: Asker, method: str, path: str, arguments: dict[str, Any]
) -> None:
    case = schema[path][method].Case(**arguments)
    response = case.call(base_url=f"http://127.0.0.1:{daemon.daemon.port}")
    case.validate_response(response, checks=KEPT)
    assert response.status_code in (200, 202, 204)
