"""The files of the web UI, and the page where there are none."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IPushProducer
from zope.interface.verify import verifyObject

from llamaswap.config.schema import ModelConfig, UIConfig
from llamaswap.core.values import ModelId, ProcessState
from llamaswap.web.ui import Span, Valve, accepted, asked_span
from tests.unit.web_stack import End, Response, Stack, config_of, response_of

INDEX = b"<!doctype html>"
SCRIPT = b"let a = 1;"
LONG = bytes(range(256)) * 3000


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "ui"
    (folder / "assets").mkdir(parents=True)
    for name, content in (
        ("index.html", INDEX),
        ("favicon.ico", b"icon"),
        ("assets/app-a1b2c3d4.js", SCRIPT),
        ("assets/app-a1b2c3d4.js.br", b"br"),
        ("assets/app-a1b2c3d4.js.gz", b"gz"),
        ("assets/plain.css", b"css"),
        ("long.bin", LONG),
        ("odd.name", b"?"),
    ):
        (folder / name).write_bytes(content)
    (tmp_path / "secret.txt").write_text("secret")
    (folder / "link.txt").symlink_to(tmp_path / "secret.txt")
    (folder / "inner.txt").symlink_to(folder / "index.html")
    (folder / "loop.txt").symlink_to(folder / "loop.txt")
    os.mkfifo(folder / "pipe.txt")
    return folder


@pytest.fixture
def stack(folder: Path) -> Stack:
    return stack_of(folder)


def stack_of(folder: Path, **settings: Any) -> Stack:
    models = (ModelConfig(ModelId("a/b <x>")), ModelConfig(ModelId("hidden"), unlisted=True))
    return Stack(config_of(*models, ui=UIConfig(path=str(folder)), **settings))


def get(stack: Stack, path: str, **headers: str) -> Response:
    return stack.ask("GET", path, headers=headers)


def test_files(stack: Stack) -> None:
    answer = get(stack, "/ui/")
    assert (answer.status, answer.body) == (200, INDEX)
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert answer.headers["cache-control"] == "no-cache"
    assert answer.headers["content-length"] == str(len(INDEX))
    assert answer.headers["etag"].startswith('"')
    assert "vary" not in answer.headers
    script = get(stack, "/ui/assets/app-a1b2c3d4.js")
    assert script.body == SCRIPT
    assert script.headers["content-type"] == "text/javascript; charset=utf-8"
    assert script.headers["cache-control"] == "public, max-age=31536000, immutable"
    assert script.headers["vary"] == "Accept-Encoding"
    assert get(stack, "/ui/assets/plain.css").headers["cache-control"] == "no-cache"
    assert get(stack, "/ui/odd.name").headers["content-type"] == "application/octet-stream"


def test_pages_are_protected_and_files_are_what_they_say(stack: Stack) -> None:
    page = get(stack, "/ui/")
    assert "frame-ancestors 'self'" in page.headers["content-security-policy"]
    assert "form-action 'none'" in page.headers["content-security-policy"]
    assert page.headers["referrer-policy"] == "no-referrer"
    for path in ("/ui/", "/ui/assets/plain.css"):
        assert get(stack, path).headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize("path", ["/ui/models", "/ui/models/a%2Fb", "/ui/a.b/c", "/ui/assets", "/ui/assets/"])
def test_pages_of_the_app_are_its_index(stack: Stack, path: str) -> None:
    answer = get(stack, path)
    assert (answer.status, answer.body) == (200, INDEX)


@pytest.mark.parametrize(
    "path",
    [
        "/ui/missing.js",
        "/ui/x/missing.js",
        "/ui/%2e%2e",
        "/ui/..%2fsecret.txt",
        "/ui/%2e%2e/secret.txt",
        "/ui/%2e%2e%2fsecret.txt",
        "/ui/assets/%2e%2e/%2e%2e/secret.txt",
        "/ui/..%5csecret.txt",
        "/ui/link.txt",
        "/ui/loop.txt",
        "/ui/pipe.txt",
        "/ui/index.html%00",
        "/ui/index.html%00.js",
        "/ui/%2fetc/host.conf",
        "/ui/" + "x" * 5000 + ".js",
    ],
)
def test_what_is_not_there_or_not_inside(stack: Stack, path: str) -> None:
    answer = get(stack, path)
    assert answer.status == 404
    assert answer.body == b"404 page not found\n"


def test_paths_are_cleaned_before(stack: Stack) -> None:
    assert get(stack, "/ui/../secret.txt").status == 307
    assert get(stack, "/ui//assets/plain.css").headers["location"] == "/ui/assets/plain.css"


def test_links_inside_the_folder_are_followed(stack: Stack) -> None:
    assert get(stack, "/ui/inner.txt").body == INDEX


@pytest.mark.parametrize(
    ("header", "encoding", "body"),
    [
        ("gzip, deflate, br", "br", b"br"),
        ("br;q=0.1, gzip", "br", b"br"),
        ("gzip", "gzip", b"gz"),
        ("br;q=0, gzip;q=1", "gzip", b"gz"),
        ("br;q=0.000", None, SCRIPT),
        ("identity", None, SCRIPT),
        ("x-br", None, SCRIPT),
    ],
)
def test_packed_files(stack: Stack, header: str, encoding: str | None, body: bytes) -> None:
    answer = get(stack, "/ui/assets/app-a1b2c3d4.js", **{"Accept-Encoding": header})
    assert (answer.headers.get("content-encoding"), answer.body) == (encoding, body)
    assert answer.headers["content-type"] == "text/javascript; charset=utf-8"
    assert answer.headers["vary"] == "Accept-Encoding"
    assert get(stack, "/ui/", **{"Accept-Encoding": header}).body == INDEX


def test_what_may_be_packed() -> None:
    assert accepted(b"") == []
    assert accepted(b"GZIP ; Q=0.5, BR") == ["br", "gzip"]


def test_head(stack: Stack) -> None:
    for path in ("/ui/", "/ui/long.bin", "/favicon.ico"):
        answer = stack.ask("HEAD", path)
        assert (answer.status, answer.body) == (200, b"")
    assert stack.ask("HEAD", "/ui/long.bin").headers["content-length"] == str(len(LONG))


def test_what_the_browser_has_is_not_sent_again(stack: Stack) -> None:
    tag = get(stack, "/ui/").headers["etag"]
    for known in (tag, f"W/{tag}", f'"x", {tag}', "*"):
        answer = get(stack, "/ui/", **{"If-None-Match": known})
        assert (answer.status, answer.body) == (304, b"")
        assert answer.headers["etag"] == tag
    assert get(stack, "/ui/", **{"If-None-Match": '"x"'}).status == 200
    plain, packed = get(stack, "/ui/assets/app-a1b2c3d4.js"), {"Accept-Encoding": "br"}
    assert get(stack, "/ui/assets/app-a1b2c3d4.js", **packed).headers["etag"] != plain.headers["etag"]


@pytest.mark.parametrize(
    ("asked", "span"),
    [
        (None, Span(0, 10)),
        (b"bytes=0-3", Span(0, 4)),
        (b"bytes=4-", Span(4, 10)),
        (b"bytes=-3", Span(7, 10)),
        (b"bytes=-30", Span(0, 10)),
        (b"bytes=8-99", Span(8, 10)),
        (b"bytes=10-", None),
        (b"bytes=-0", None),
        (b"bytes=5-3", Span(0, 10)),
        (b"bytes=-", Span(0, 10)),
        (b"bytes=0-1,3-4", Span(0, 10)),
        (b"items=0-1", Span(0, 10)),
    ],
)
def test_ranges(asked: bytes | None, span: Span | None) -> None:
    assert asked_span(asked, 10) == span


@pytest.mark.parametrize(("path", "content"), [("/ui/", INDEX), ("/ui/long.bin", LONG)])
def test_a_range_is_sent_alone(stack: Stack, path: str, content: bytes) -> None:
    answer = get(stack, path, Range="bytes=2-5")
    assert (answer.status, answer.body) == (206, content[2:6])
    assert answer.headers["content-range"] == f"bytes 2-5/{len(content)}"
    tag = answer.headers["etag"]
    assert get(stack, path, Range="bytes=2-5", **{"If-Range": tag}).status == 206
    assert get(stack, path, Range="bytes=2-5", **{"If-Range": '"x"'}).body == content
    beyond = get(stack, path, Range="bytes=9999999-")
    assert (beyond.status, beyond.headers["content-range"]) == (416, f"bytes */{len(content)}")


def test_long_files_come_whole(stack: Stack) -> None:
    assert get(stack, "/ui/long.bin").body == LONG


def test_a_slow_reader_is_waited_for(stack: Stack) -> None:
    client = stack.connect()
    waiting: list[tuple[Callable[[], Any], Deferred[Any]]] = []

    def later(work: Callable[[], Any]) -> Deferred[Any]:
        done: Deferred[Any] = Deferred()
        waiting.append((work, done))
        return done

    def step() -> None:
        work, done = waiting.pop(0)
        done.callback(work())

    stack.site.in_thread = later
    client.send(b"GET /ui/long.bin HTTP/1.1\r\nHost: h\r\n\r\n")
    step()
    producer: Any = client.transport.producer
    producer.pauseProducing()
    step()
    assert waiting == [], "nothing is read before there is room"
    first = client.take()
    producer.resumeProducing()
    while waiting:
        step()
    assert response_of(first + client.take()).body == LONG


def test_a_reader_that_leaves_ends_it(stack: Stack) -> None:
    client: End = stack.connect()
    waiting: list[Any] = []

    def later(work: Callable[[], Any]) -> Deferred[Any]:
        done: Deferred[Any] = Deferred()
        waiting.append((work, done))
        return done

    stack.site.in_thread = later
    client.send(b"GET /ui/long.bin HTTP/1.1\r\nHost: h\r\n\r\n")
    work, done = waiting.pop()
    done.callback(work())
    work, done = waiting.pop()
    client.leave()
    done.callback(work())
    assert waiting == []


def test_a_file_that_changes_meanwhile_is_cut(stack: Stack, folder: Path) -> None:
    client = stack.connect()
    works: list[Any] = []

    def later(work: Callable[[], Any]) -> Deferred[Any]:
        done: Deferred[Any] = Deferred()
        works.append((work, done))
        return done

    def step() -> None:
        work, done = works.pop(0)
        try:
            done.callback(work())
        except Exception as error:  # noqa: BLE001 - as a thread does
            done.errback(error)

    stack.site.in_thread = later
    client.send(b"GET /ui/long.bin HTTP/1.1\r\nHost: h\r\n\r\n")
    step()
    step()
    (folder / "long.bin").write_bytes(b"short")
    step()
    assert client.transport.disconnected
    client.leave()


def test_a_valve_is_a_producer() -> None:
    valve = Valve()
    verifyObject(IPushProducer, valve)
    valve.resumeProducing()
    valve.stopProducing()


def test_the_icon_is_open_and_the_rest_is_not(folder: Path) -> None:
    stack = stack_of(folder, api_keys=("k",))
    icon = get(stack, "/favicon.ico")
    assert (icon.status, icon.body, icon.headers["content-type"]) == (200, b"icon", "image/x-icon")
    for path in ("/ui/", "/ui/models", "/ui/favicon.ico", "/ui/%69ndex.html"):
        assert get(stack, path).status == 401
        assert get(stack, path, Authorization="Bearer k").status == 200


# --------------------------------------------------------------------------- without a build


@pytest.mark.parametrize("path", ["/ui/", "/ui/models"])
def test_c30_without_files_there_is_a_plain_page(tmp_path: Path, path: str) -> None:
    stack = stack_of(tmp_path / "none")
    stack.router.states["a/b <x>"] = ProcessState.READY
    answer = get(stack, path)
    assert (answer.status, answer.headers["content-type"]) == (200, "text/html; charset=utf-8")
    page = answer.body.decode()
    assert "<td>a/b &lt;x&gt;</td><td>ready</td>" in page
    assert 'action="/api/models/load/a/b%20%3Cx%3E"' in page
    assert 'action="/api/models/unload/a/b%20%3Cx%3E"' in page
    assert "hidden" not in page
    assert "<script" not in page
    for link in ("/logs", "/running", "/metrics", "/v1/models"):
        assert f'href="{link}' in page
    assert "form-action 'self'" in answer.headers["content-security-policy"]
    assert stack.ask("HEAD", path).body == b""


@pytest.mark.parametrize("path", ["/ui/app.js", "/favicon.ico"])
def test_c30_without_files_there_are_no_others(tmp_path: Path, path: str) -> None:
    assert get(stack_of(tmp_path / "none"), path).status == 404
