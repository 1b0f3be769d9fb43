"""What is kept of requests, in real files and over restarts."""

from __future__ import annotations

import json
import signal
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from tests.integration.daemon import DEMO, PATIENCE_SECONDS, Daemon

MODEL = f"models: {{a: {{cmd: {json.dumps(DEMO)}, unloadTimeout: 2}}}}\n"


def stored(path: Path) -> str:
    return f"store: {{path: {json.dumps(str(path))}}}\n{MODEL}"


def rows(daemon: Daemon) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = daemon.ask("GET", "/api/metrics/activity").json()["data"]
    return found


def test_rows_outlive_the_daemon(tmp_path: Path) -> None:
    config = stored(tmp_path / "activity.db")
    with Daemon(tmp_path, config) as daemon:
        assert daemon.chat("a").status == 200
        # Not asked for: the end must write it.
        daemon.process.send_signal(signal.SIGTERM)
        assert daemon.process.wait(PATIENCE_SECONDS) == 0
    with Daemon(tmp_path, config) as daemon:
        assert daemon.chat("nope").status == 404
        assert [(row["id"], row["model"]) for row in rows(daemon)] == [(2, "nope"), (1, "a")]
        first = rows(daemon)[1]
        assert first["tokens"]["output_tokens"] > 0
        assert first["load_ms"] > 0, "the first request started its model"
        assert first["has_capture"] is False, "captures are in memory"


def test_a_reload_moves_the_store(tmp_path: Path) -> None:
    old, new = tmp_path / "old.db", tmp_path / "new.db"
    with Daemon(tmp_path, stored(old)) as daemon:
        daemon.chat("a")
        assert daemon.reload(stored(new))["status"] == "ok"
        while rows(daemon):  # it is opened beside what goes on
            pass
        daemon.chat("a")
        assert [row["id"] for row in rows(daemon)] == [1]
    for path in (old, new):
        with sqlite3.connect(path) as connection:
            assert connection.execute("SELECT count(*) FROM activity").fetchone() == (1,)
        connection.close()


def test_a_store_that_cannot_be_used_ends_the_start(tmp_path: Path) -> None:
    path = tmp_path / "activity.db"
    path.write_bytes(b"SQLite format 3\0" + b"\xee" * 4096)
    daemon = Daemon(tmp_path, stored(path))
    with pytest.raises(AssertionError), daemon:
        pytest.fail("it started", pytrace=False)
    assert daemon.process.wait(PATIENCE_SECONDS) == 1
    assert any(f"store.path: {path} cannot be used" in line for line in daemon.lines)


def test_a_store_that_is_gone_costs_no_request(tmp_path: Path) -> None:
    path = tmp_path / "activity.db"
    with Daemon(tmp_path, stored(path)) as daemon:
        daemon.chat("a")
        assert len(rows(daemon)) == 1
        other = sqlite3.connect(path)
        other.execute("DROP TABLE activity")
        other.close()
        for _ in range(3):
            assert daemon.chat("a").status == 200
        answer = daemon.ask("GET", "/api/metrics/activity")
        assert (answer.status, answer.json()["error"]["message"]) == (500, "failed to get activity")
        daemon.wait_line("activity cannot be written")


def test_a_store_that_hangs_does_not_hold_the_end(tmp_path: Path) -> None:
    path = tmp_path / "activity.db"
    with Daemon(tmp_path, stored(path)) as daemon:
        daemon.chat("a")
        assert len(rows(daemon)) == 1
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN EXCLUSIVE")  # the next write waits for as long as it may
        daemon.chat("a")
        daemon.process.send_signal(signal.SIGTERM)
        assert daemon.process.wait(PATIENCE_SECONDS) == 0
        other.close()
