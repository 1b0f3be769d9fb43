"""``/comfyui/``, on the real edge and routes."""

from __future__ import annotations

import pytest

from llamaswap.config.schema import ModelConfig
from llamaswap.core.values import ModelId, ProcessState
from tests.unit.web_stack import Stack, config_of

HANDSHAKE = {"Connection": "Upgrade", "Upgrade": "websocket"}


def make_stack(**settings: object) -> Stack:
    model = ModelConfig(ModelId("comfyui_auto"), proxy="http://127.0.0.1:5800", ignore_websockets=True)
    return Stack(config_of(model, **settings))


@pytest.fixture
def stack() -> Stack:
    return make_stack()


@pytest.mark.parametrize(
    ("method", "target", "status", "location"),
    [
        ("GET", "/comfyui", 301, "/comfyui/"),
        ("HEAD", "/comfyui?x=1", 301, "/comfyui/?x=1"),
        ("POST", "/comfyui?x=1", 308, "/comfyui/?x=1"),
        ("PROPFIND", "/comfyui", 308, "/comfyui/"),
    ],
)
def test_v47_missing_slash_is_added_by_a_redirect(
    stack: Stack, method: str, target: str, status: int, location: str
) -> None:
    answer = stack.ask(method, target)
    assert (answer.status, answer.headers["location"]) == (status, location)


@pytest.mark.parametrize("state", [ProcessState.STOPPED, ProcessState.STARTING])
def test_v47_only_the_root_starts_it(stack: Stack, state: ProcessState) -> None:
    stack.router.states["comfyui_auto"] = state
    answer = stack.ask("GET", "/comfyui/api/x")
    assert answer.status == 409
    message = "model comfyui_auto is not loaded; only /comfyui/ can start it"
    assert answer.document["error"]["message"] == message
    assert not stack.router.entered
    stack.begin("GET", "/comfyui/?a=1")
    assert stack.router.models == ["comfyui_auto"]


@pytest.mark.parametrize(
    ("method", "target", "sent"),
    [
        ("GET", "/comfyui/?a=1", b"GET /?a=1 "),
        ("DELETE", "/comfyui/a%2Fb/c%20d?z=1%2F2", b"DELETE /a%2Fb/c%20d?z=1%2F2 "),
        ("POST", "/comfyui/v1/chat/completions", b"POST /v1/chat/completions "),
    ],
)
def test_v47_the_rest_is_kept_as_it_was_written(stack: Stack, method: str, target: str, sent: bytes) -> None:
    stack.be_ready("comfyui_auto")
    stack.begin(method, target, headers={"Accept-Encoding": "br"})
    request = stack.accept().take()
    assert request.startswith(sent)
    assert b"Accept-Encoding: br\r\n" in request, "not metered"
    [exchange] = stack.daemon.observers.ledger.exchanges()
    assert not exchange.passage.is_metered
    assert not exchange.passage.is_listed


def test_what_must_not_start_it_does_not_wait_for_it_either(stack: Stack) -> None:
    stack.router.states["comfyui_auto"] = ProcessState.READY
    answer = stack.ask("GET", "/comfyui/api/x")
    assert answer.status == 409
    assert len(stack.router.ended) == 1
    stack.begin("GET", "/comfyui/")
    assert len(stack.router.ended) == 1


def test_a_body_is_passed_on_while_it_arrives(stack: Stack) -> None:
    stack.be_ready("comfyui_auto")
    client = stack.begin("POST", "/comfyui/upload", headers={"Content-Length": "8"})
    server = stack.accept()
    server.take()
    client.send(b"half")
    assert server.take() == b"half"


def test_websockets_pass_and_start_nothing(stack: Stack) -> None:
    for path in ("/comfyui/", "/comfyui/ws"):
        answer = stack.ask("GET", path, headers=HANDSHAKE)
        assert answer.status == 409
    assert not stack.router.entered
    stack.be_ready("comfyui_auto")
    client = stack.begin("GET", "/comfyui/ws?clientId=1", headers=HANDSHAKE)
    server = stack.accept()
    assert server.take().startswith(b"GET /ws?clientId=1 ")
    server.send(b"HTTP/1.1 101 Switched\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n\x81\x01a")
    assert client.take().endswith(b"\r\n\r\n\x81\x01a")
    assert not stack.router.entered


def test_a_model_that_is_not_configured() -> None:
    stack = Stack(config_of())
    answer = stack.ask("GET", "/comfyui/")
    assert answer.status == 404
    assert answer.document["error"]["message"] == "local model comfyui_auto not found"


@pytest.mark.parametrize("target", ["/comfyui", "/comfyui/", "/comfyui/x"])
def test_a_key_is_needed(target: str) -> None:
    stack = make_stack(api_keys=("key1",))
    assert stack.ask("GET", target).status == 401
    assert stack.ask("OPTIONS", target).status == 204


@pytest.mark.parametrize(
    ("target", "status"), [("/comfyuix/", 404), ("/comfyui//x", 307), ("/%63omfyui/", 404), ("/comfyui/%zz", 400)]
)
def test_other_paths(stack: Stack, target: str, status: int) -> None:
    assert stack.ask("GET", target).status == status
