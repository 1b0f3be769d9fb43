"""A model that does not start: what is said of it, and how often it is tried."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

from tests.integration.daemon import Daemon
from tests.integration.process_rig import SERVER

BROKEN = json.dumps(f"{shlex.join(SERVER)} --port ${{PORT}} --exit 3")
CONFIG = f"""
startBackoff: {{failures: 2, window: 60, pause: 60}}
models: {{m: {{cmd: {BROKEN}}}, lost: {{cmd: "/no/such/program --api-key s3 --port ${{PORT}}"}}}}
"""


def test_failed_starts_are_told_and_end_in_a_pause(tmp_path: Path) -> None:
    with Daemon(tmp_path, CONFIG) as daemon:
        assert [daemon.chat("m").status for _ in range(2)] == [502, 502]
        answer = daemon.chat("m")
        assert answer.status == 503
        assert answer.json()["error"]["code"] == "upstream_start_failed"
        assert "exited prematurely" in answer.json()["error"]["message"]
        assert 0 < int(answer.headers["Retry-After"]) <= 60
        shown = daemon.ask("GET", "/api/models/m").json()
        assert (shown["state"], shown["starts"], shown["queued"], shown["in_flight"]) == ("stopped", 2, 0, 0)
        error = shown["last_error"]
        assert (error["kind"], error["exit_code"], error["signal"]) == ("exited", 3, None)
        assert error["log_tail"] == ["giving up", "giving up"]
        assert daemon.chat("lost").status == 502
        error = daemon.ask("GET", "/api/models/lost").json()["last_error"]
        assert error["kind"] == "spawn_error"
        assert "s3" not in error["message"]
        assert daemon.count("have no effect|has no effect") == 0
