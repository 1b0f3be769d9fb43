"""Whether somebody listens already."""

from __future__ import annotations

import socket

import pytest

from llamaswap.process.ports import is_port_taken, port_of


@pytest.mark.parametrize(
    ("url", "port"),
    [("http://h:81/x", 81), ("http://h", 80), ("https://h/", 443), ("http://[::1]:82", 82)],
)
def test_port_of_a_url(url: str, port: int) -> None:
    assert port_of(url) == port


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
@pytest.mark.parametrize("listening_on", ["127.0.0.1", ""])
def test_h09_listener_is_seen_and_not_disturbed(host: str, listening_on: str) -> None:
    with socket.create_server((listening_on, 0)) as listener:
        port = listener.getsockname()[1]
        assert is_port_taken(f"http://{host}:{port}/base")
        listener.setblocking(False)
        with pytest.raises(BlockingIOError):
            listener.accept()
    assert not is_port_taken(f"http://{host}:{port}")


def test_rest_of_an_old_connection_is_no_listener() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)):
            accepted, _ = listener.accept()
            accepted.close()  # first, so that this side is the one that waits
    assert not is_port_taken(f"http://127.0.0.1:{port}")


@pytest.mark.parametrize("host", ["192.0.2.1", "model.invalid", "node7"])
def test_other_machines_are_not_asked(host: str) -> None:
    assert not is_port_taken(f"http://{host}:5800")
