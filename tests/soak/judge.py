"""What is an allowed end of a request, given who lived when and what was asked to stop."""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any, Final

from llamaswap.demo.generation import Engine
from llamaswap.demo.openai import conversation_of
from tests.soak.client import Record
from tests.soak.doings import Doings, Interval
from tests.soak.watch import Life
from tests.soak.world import DEMO, GUEST, LIMITS, MODELS

_SLACK_SECONDS: Final = 1.0
"""What may lie between a cause and its effect on a loaded machine."""

_ABANDONED_SECONDS: Final = 8.0
"""How long an unload may go on after the one who asked for it has left."""

_START_SECONDS: Final = 20.0
"""Longest that a start may take to fail."""

_NOTICE_SECONDS: Final = 10.0
"""How long it may take to see that a client has left who is not listened to.

The daemon looks every second, but the end of a connection lies behind what was sent before it, and the
kernel gives up an orphan that cannot send after about eight.
"""

_LOAD_SECONDS: Final = 60.0
"""How long a load that nobody waits for may be in the queue, and take its place of the model's."""

_OWN_FAULTS: Final = ("die", "die-late", "drop", "drop-late")
_TAG: Final = re.compile(rb'"tag": "([^"]+)"')
_ENGINE: Final = Engine(DEMO, 0)


class Judge:
    """Judges records.

    Args:
        records: All of one daemon's.
        lives: All of its servers'.
        kills: Which model's processes were killed from outside, and when.
        doings: What was done to the daemon.
    """

    def __init__(
        self, records: Sequence[Record], lives: Sequence[Life], kills: Sequence[tuple[str, float]], doings: Doings
    ) -> None:
        self._records = records
        self._kills = kills
        self._doings = doings
        # The numbers of processes come again after a while.
        self._lives_by_pid: dict[int, list[Life]] = {}
        for life in sorted(lives, key=lambda life: life.start_mono):
            self._lives_by_pid.setdefault(life.pid, []).append(life)
        self._lives: dict[str, list[Life]] = {m: [life for life in lives if life.model == m] for m in (*MODELS, GUEST)}
        self._unloads: dict[str, list[Interval]] = {m: list(each) for m, each in doings.changed.items()}
        for record in records:
            if record.plan.path.startswith(("/unload", "/api/models/unload")):
                end = record.ended_mono + (_ABANDONED_SECONDS if record.end == "left" else 0)
                for model in [record.plan.model] if record.plan.model else (*MODELS, GUEST):
                    self._unloads[model].append(Interval(record.sent_mono, end))

    def verdict(self, record: Record) -> str:
        """Say what is wrong with the end of a request; empty when nothing is."""
        was_down = self._doings.was_down(record.linked_mono, record.ended_mono)
        match record.end:
            case "left" | "cut" | "unserved" if record.end == "left" or was_down:
                return self._mixed(record)
            case "behind":
                return ""
            case "whole" if record.code:
                return self._refused(record)
            case "whole":
                return self._whole(record)
            case "cut":
                return self._cut(record)
        return f"{record.end}, after {record.ended_mono - record.sent_mono:.1f} s"

    # ----------------------------------------------------------------- answers

    def _whole(self, record: Record) -> str:
        plan = record.plan
        expected = (200, 202) if not plan.tag else (503,) if plan.fault == "refuse" else (200,)
        if record.status not in expected:
            return f"status {record.status}, which nobody gave: {bytes(record.body[:200])!r}"
        if not plan.tag or plan.fault == "refuse":
            return ""
        asked = json.loads(plan.body)
        if asked["stream"] and not record.body.endswith(b"data: [DONE]\n\n"):
            return self._ends_early(record)
        if plan.fault:
            return f"whole, although the server was to {plan.fault}"
        wrong = self._mixed(record)
        return wrong or (_wrong_events(asked, record) if asked["stream"] else _wrong_document(asked, record))

    def _ends_early(self, record: Record) -> str:
        """Judge a stream without its end: HTTP/1.0 knows no other sign than the event of the error."""
        if record.plan.is_old and b'"src":"llama-swap"' in record.body:
            return self._unjustified(record, "an early end")
        return "cut without a sign"

    def _mixed(self, record: Record) -> str:
        """Say whether any piece of the answer is another's."""
        plan = record.plan
        if not plan.tag or record.status != 200 or plan.model == DEMO:
            return ""
        life = self._life_of(record)
        if life is None or life.model != plan.model:
            return f"answered by process {record.pid}, of {life and life.model}"
        tags = {tag.decode() for tag in _TAG.findall(record.body)}
        return "" if tags <= {plan.tag} else f"mixed: pieces of {tags - {plan.tag}}"

    def _life_of(self, record: Record) -> Life | None:
        """Find the process that answered: the last of its number that began before the answer ended."""
        lives = [life for life in self._lives_by_pid.get(record.pid, ()) if life.start_mono <= record.ended_mono]
        return lives[-1] if lives else None

    # ----------------------------------------------------------------- failures

    def _refused(self, record: Record) -> str:
        """Judge an error of the daemon's: was there the cause that it tells of?"""
        model, begin, end = record.plan.model, record.sent_mono, record.ended_mono
        is_right = False
        match record.status, record.code:
            case 429, "concurrency_limit":
                count = sum(_held(r).touches(begin, end) for r in self._records if r.plan.model == model) - 1
                is_right = count >= LIMITS[model]
            case 502, "upstream_start_failed":
                # One that joins a failing start hears of it when the last of its tree is gone.
                is_right = self._marked("crash", model, begin - _START_SECONDS, end)
            case 504, "upstream_start_timeout":
                is_right = self._marked("hang", model, begin - _START_SECONDS, end)
            case 404, "model_not_found" | "not_found" if model == GUEST:
                is_right = any(each.touches(begin, end) for each in self._doings.absent)
            case 503, "model_unloaded":
                is_right = self._was_unloaded(model, begin, end)
            case (502, _) | (503, "service_unavailable"):
                return self._unjustified(record, record.code)
        return "" if is_right else f"status {record.status} for no reason{self._beside(record)}: {record.body.decode()}"

    def _beside(self, record: Record) -> str:
        """Say who else was there, and until when, for a look at what the judge cannot explain."""
        model, begin = record.plan.model, record.sent_mono
        others = [r for r in self._records if r.plan.model == model and _held(r).touches(begin - 5, begin)]
        shown = [
            f"{r.plan.method} {r.plan.path} {r.end} {r.status} {r.sent_mono:.2f}-{r.ended_mono:.2f}" for r in others
        ]
        return f", beside {'; '.join(shown)}"

    def _cut(self, record: Record) -> str:
        is_stream = record.headers.get("content-type", "").startswith("text/event-stream")
        if is_stream and not record.plan.is_old and b'"src":"llama-swap"' not in record.body:
            return "cut without an error event"
        return self._mixed(record) or self._unjustified(record, "cut")

    def _unjustified(self, record: Record, what: str) -> str:
        plan, end = record.plan, record.ended_mono
        if plan.fault in _OWN_FAULTS:
            return ""
        life = self._life_of(record)
        begin = max(record.sent_mono, life.start_mono) if life is not None else record.sent_mono
        if self._was_unloaded(plan.model, begin, end):
            return ""
        if life is not None:
            has_crashed = life.marks.get("crash", end + 1) <= end or self._was_killed(plan.model, begin, end)
        else:
            has_crashed = self._marked("crash", plan.model, begin, end)
        return "" if has_crashed else f"{what} (process {record.pid}), without a crash or an unload"

    def _marked(self, word: str, model: str, begin: float, end: float) -> bool:
        told = any(begin - _SLACK_SECONDS <= life.marks.get(word, -1) <= end for life in self._lives[model])
        return told or (word == "crash" and self._was_killed(model, begin, end))

    def _was_killed(self, model: str, begin: float, end: float) -> bool:
        return any(killed == model and begin - _SLACK_SECONDS <= at <= end for killed, at in self._kills)

    def _was_unloaded(self, model: str, begin: float, end: float) -> bool:
        return any(unload.touches(begin, end) for unload in self._unloads[model])


def _wrong_events(asked: Mapping[str, Any], record: Record) -> str:
    """Say what is wrong with the events of a whole stream."""
    found = events(record.body)
    if record.plan.model == DEMO:
        choices = [choice for event in found for choice in event.get("choices", [])]
        return _wrong_text(asked, "".join(choice["delta"].get("content", "") for choice in choices))
    numbers = [event["n"] for event in found]
    return "" if numbers == list(range(asked["chunks"])) else f"events {numbers} of {asked['chunks']}"


def _wrong_document(asked: Mapping[str, Any], record: Record) -> str:
    """Say what is wrong with a whole document."""
    answer = record.json()
    if not isinstance(answer, dict):
        return "no JSON"
    if record.plan.model == DEMO:
        return _wrong_text(asked, answer["choices"][0]["message"]["content"])
    is_same = answer["crc"] == zlib.crc32(record.plan.body) and len(answer["pad"]) == asked["size"]
    return "" if is_same else "the body was changed, on its way there or back"


def _wrong_text(asked: Mapping[str, Any], got: str) -> str:
    expected = demo_text(asked)
    return "" if got == expected else f"text {got!r} instead of {expected!r}"


def _held(record: Record) -> Interval:
    """Say how long a request may have had a place of its model's."""
    if record.plan.path.startswith("/api/models/unload"):
        return Interval(0, 0)
    # Those who left count until the daemon notices; a load that is not waited for, until it is over.
    more = _LOAD_SECONDS if record.status == HTTPStatus.ACCEPTED else _NOTICE_SECONDS
    return Interval(record.sent_mono, record.ended_mono + more)


def events(body: bytes | bytearray) -> list[dict[str, Any]]:
    """Parse the whole events of a stream; none of something else."""
    blocks = bytes(body).split(b"\n\n")[:-1]
    payloads = [block.removeprefix(b"data: ") for block in blocks if block.startswith(b"data: {")]
    return [json.loads(payload) for payload in payloads]


def demo_text(asked: Mapping[str, Any]) -> str:
    """Say what the demo server answers to that: the same words each time, others for another tag."""
    return "".join(_ENGINE.generate(conversation_of(dict(asked)), asked["max_tokens"])._tokens)
