"""A minute of the soak: it runs, it judges, and it finds nothing."""

from __future__ import annotations

import pytest

from tests.soak import chaos
from tests.soak.client import Plan, Record
from tests.soak.doings import Doings
from tests.soak.judge import Judge
from tests.soak.watch import Life, overlaps


@pytest.mark.slow
def test_a_minute_of_chaos(capsys: pytest.CaptureFixture[str]) -> None:
    status = chaos.main(["--minutes", "1", "--clients", "20", "--seed", "1"])
    report = capsys.readouterr().out
    assert status == 0, report
    assert "nothing wrong" in report


def test_the_judge_sees_rivals_a_cut_and_a_stranger() -> None:
    lives = [Life("a", 1, 10.0, {"end": 20.0}), Life("b", 2, 12.0, {"crash": 16.0})]
    assert len(overlaps(lives, {}, [frozenset("ab")])) == 1
    assert overlaps(lives, {}, [frozenset("ac")]) == []
    plan = Plan("a", "POST", "/v1/chat/completions", "mine", b'{"stream": true, "chunks": 1}')
    judge = Judge([], lives, [], Doings())

    def verdict(end: str, body: bytes, pid: int = 1) -> str:
        return judge.verdict(Record(plan, 12.0, 12.0, 13.0, end, 200, {"x-pid": str(pid)}, bytearray(body)))

    event = b'data: {"tag": "mine", "n": 0}\n\n'
    assert verdict("whole", event + b"data: [DONE]\n\n") == ""
    assert verdict("whole", event) == "cut without a sign"
    assert verdict("cut", event) == "cut (process 1), without a crash or an unload"
    assert verdict("whole", event.replace(b"mine", b"hers") + b"data: [DONE]\n\n") == "mixed: pieces of {'hers'}"
    assert verdict("whole", event + b"data: [DONE]\n\n", pid=2) == "answered by process 2, of b"
    assert verdict("forgotten", b"").startswith("forgotten")
