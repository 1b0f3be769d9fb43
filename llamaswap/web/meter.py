"""Makes the row of each metered request when it has ended, whatever the end was."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, partial
from typing import Final

from msgspec.json import encode

from llamaswap.config.schema import Config
from llamaswap.core.figures import NOTHING
from llamaswap.core.news import StateChanged
from llamaswap.core.starts import Starts
from llamaswap.core.values import ModelId
from llamaswap.errors import RequestCancelledError
from llamaswap.proxy.headers import Fields
from llamaswap.telemetry.activity import Activity
from llamaswap.telemetry.bus import Bus
from llamaswap.telemetry.captures import Capture
from llamaswap.telemetry.rows import Row
from llamaswap.web.errors import error_body
from llamaswap.web.exchange import (
    LONG_BODY_BYTES,
    Exchange,
    ExchangeAnswered,
    ExchangeBegan,
    ExchangeEnded,
    ExchangeRefused,
)
from llamaswap.web.head import REASONS
from llamaswap.web.reading import Reading, Room
from llamaswap.web.shown_headers import without_secrets

_OK: Final = 200
_BAD_GATEWAY: Final = 502
_LONGEST_MESSAGE_BYTES: Final = 500
_LONGEST_SESSION: Final = 256
_MEBIBYTE: Final = 1024 * 1024

_NO_BODY: Final = frozenset({"/v1/images/edits", "/sdapi/v1/img2img"})
_NO_ANSWER_BODY: Final = _NO_BODY | {"/v1/audio/speech", "/v1/images/generations", "/sdapi/v1/txt2img"}
_NO_REQUEST_BODY: Final = _NO_BODY | {"/v1/audio/transcriptions", "/v1/audio/voices"}
"""Paths whose bodies are files, which captures leave out."""
_AROUND_BYTES: Final = 1024
"""What a capture holds beside the bodies until it is packed: headers and objects, roughly."""
_HELD_SHARE: Final = 4
"""Long bodies of all requests under way may be held up to so many times the capacity for captures, answers likewise."""


class Meter:
    """Follows requests from the bus to their rows.

    Args:
        bus: Where requests are told of.
        activity: Takes the rows.
        config: The configuration in force.
    """

    def __init__(self, bus: Bus, activity: Activity, config: Config) -> None:
        self._activity = activity
        self._starts = Starts()
        self._long: dict[int, bytes] = {}
        self._long_bytes = 0
        self._readings: dict[int, Reading] = {}
        self._room = Room()
        self.apply(config)
        bus.subscribe(StateChanged, self._starts.note)
        bus.subscribe(ExchangeBegan, self._began)
        bus.subscribe(ExchangeAnswered, self._answered)
        bus.subscribe(ExchangeEnded, self._ended)
        bus.subscribe(ExchangeRefused, self._refused)

    def apply(self, config: Config) -> None:
        """Follow another configuration."""
        self._capture_bytes = config.capture_buffer_mib * _MEBIBYTE
        self._room.resize(self._capture_bytes * _HELD_SHARE)
        self._session_headers = [name.lower().encode() for name in config.ui.session_id_headers]
        self._priorities = config.scheduler.priority
        self._models = config.models

    def _began(self, news: ExchangeBegan) -> None:
        """Hold a long body, which the exchange does not."""
        exchange = news.exchange
        body = exchange.passage.body
        if not isinstance(body, bytes) or len(body) <= LONG_BODY_BYTES or not exchange.passage.is_metered:
            return
        if len(body) > self._capture_bytes or exchange.path in _NO_REQUEST_BODY:
            return
        if self._long_bytes + len(body) <= self._capture_bytes * _HELD_SHARE:
            self._long[exchange.id] = body
            self._long_bytes += len(body)

    def _body(self, exchange: Exchange) -> bytes | None:
        """Give the body of a request that has ended, as its capture shall have it."""
        long = self._long.pop(exchange.id, None)
        if long is not None:
            self._long_bytes -= len(long)
            return long
        body = exchange.passage.body
        if exchange.has_let_go or not isinstance(body, bytes) or exchange.path in _NO_REQUEST_BODY:
            return None
        return body if len(body) <= LONG_BODY_BYTES else None

    def _answered(self, news: ExchangeAnswered) -> None:
        exchange = news.exchange
        head = exchange.head
        if not exchange.passage.is_metered or head is None:
            return
        keeps = head.status == _OK and exchange.path not in _NO_ANSWER_BODY
        reading = self._readings[exchange.id] = Reading(head, self._capture_bytes if keeps else -1, self._room)
        exchange.tee = reading.passed

    def _refused(self, news: ExchangeRefused) -> None:
        self._began(ExchangeBegan(news.exchange))
        self._ended(ExchangeEnded(news.exchange))

    def _ended(self, news: ExchangeEnded) -> None:
        exchange = news.exchange
        if not exchange.passage.is_metered:
            return
        body = self._body(exchange)
        reading = self._readings.pop(exchange.id, None)
        exchange.tee = None
        if reading is not None:
            reading.end()
        row = self._row(exchange, reading)
        if self._capture_bytes and _is_worth_keeping(row, exchange, reading):
            capture, raw_bytes = _capture(exchange, body, reading, row.resp_content_type)
            self._activity.add(row, capture, raw_bytes)
        else:
            self._activity.add(row)
        if reading is not None:
            reading.let_go()

    def _row(self, exchange: Exchange, reading: Reading | None) -> Row:
        status = _status(exchange)
        report = reading.report if reading is not None and status == _OK else NOTHING
        queue_ms, load_ms, ttfb_ms, stream_ms = parts = self._parts(exchange)
        wall_ms = queue_ms + load_ms + ttfb_ms + stream_ms
        passage, request = exchange.passage, exchange.request
        priority = self._priorities.get(ModelId(passage.model), 0)
        is_granted = exchange.sent_mono is not None and passage.peer is None
        return Row(  # by position: names would cost as much as all the rest
            int(exchange.resolved_at + wall_ms / 1000),
            passage.model,
            exchange.path,
            _content_type(exchange, reading),
            status,
            *report.tokens,
            max(wall_ms, round(report.upstream_ms)),
            _cut(_message(exchange, reading, status)),
            _metadata(priority if is_granted else None, passage.selector),
            round(exchange.resolved_at * 1000),
            round((exchange.resolved_mono - request.started_mono) * 1000),
            *parts,
            _outcome(exchange),
            priority,
            request.request_id,
            self._session(exchange),
            exchange.swap_id,
        )

    def _parts(self, exchange: Exchange) -> tuple[int, int, int, int]:
        """Give milliseconds in the queue, of the load, until the first byte, and of the rest.

        They are differences of rounded moments, so that they add up to the whole.
        """
        began = exchange.resolved_mono
        ended = exchange.ended_mono if exchange.ended_mono is not None else began
        sent = exchange.sent_mono if exchange.sent_mono is not None else ended
        first = exchange.first_byte_mono if exchange.first_byte_mono is not None else ended
        sent_ms, first_ms = round((sent - began) * 1000), round((first - began) * 1000)
        ended_ms = round((ended - began) * 1000)
        load_ms = 0
        if sent_ms:
            load_ms = min(round(self._starts.seconds(ModelId(exchange.passage.model), began, sent) * 1000), sent_ms)
        return sent_ms - load_ms, load_ms, first_ms - sent_ms, ended_ms - first_ms

    def _session(self, exchange: Exchange) -> str | None:
        for name in self._session_headers:
            value = exchange.request.getHeader(name)
            if value and value.strip():
                return value.strip().decode("utf-8", "replace")[:_LONGEST_SESSION]
        return None


@lru_cache
def _metadata(priority: int | None, selector: str) -> str:
    found = {} if priority is None else {"fifo_priority": str(priority)}
    if selector:
        found["selector"] = selector
    return encode(found).decode()


def _status(exchange: Exchange) -> int:
    if exchange.head is not None:
        return exchange.head.status
    return exchange.error.status if exchange.error is not None else _BAD_GATEWAY


def _content_type(exchange: Exchange, reading: Reading | None) -> str:
    if reading is not None:
        return reading.content_type
    if exchange.error is None:
        return ""
    request = exchange.request
    return error_body(exchange.error, request.getHeader(b"accept") or b"", request.path).media_type.decode()


def _message(exchange: Exchange, reading: Reading | None, status: int) -> str:
    """Say what went wrong; empty = nothing."""
    if reading is not None and reading.problem:
        return f"response {'decompression' if status == _OK else 'decode'} failed: {reading.problem}"
    if exchange.error is not None:
        return exchange.error.message
    if status == _OK:
        return ""
    if reading is not None and reading.said:
        return reading.said
    reason = exchange.head.reason if exchange.head is not None else b""
    return f"{status} {(reason or REASONS.get(status, b'')).decode('latin-1')}".rstrip()


def _cut(message: str) -> str:
    if not message:
        return message
    data = message.encode(errors="replace")
    if len(data) <= _LONGEST_MESSAGE_BYTES:
        return data.decode()
    return data[:_LONGEST_MESSAGE_BYTES].decode(errors="ignore") + "..."


def _outcome(exchange: Exchange) -> str:
    """Say how it ended for the scheduler: what was granted and not broken off has been served."""
    if exchange.has_left or isinstance(exchange.error, RequestCancelledError):
        return "cancelled"
    return "served" if exchange.sent_mono is not None else "refused"


def _is_worth_keeping(row: Row, exchange: Exchange, reading: Reading | None) -> bool:
    """Say whether to capture: not what could not be read, and not an answer that is empty."""
    if reading is not None and reading.problem:
        return False
    return row.resp_status_code != _OK or exchange.payload_bytes > 0


def _capture(
    exchange: Exchange, body: bytes | None, reading: Reading | None, content_type: str
) -> tuple[Callable[[], Capture], int]:
    """Give what makes the capture, and how many bytes it holds until then."""
    head = exchange.head
    answer = reading.body() if reading is not None and head is not None and head.status == _OK else None
    fields: Fields = [(b"Content-Type", content_type.encode())] if content_type else []
    if head is not None:
        fields = head.fields
    make = partial(_make_capture, exchange.path, exchange.request.fields, body, fields, answer or None)
    return make, len(body or b"") + len(answer or b"") + _AROUND_BYTES


def _make_capture(path: str, asked: Fields, body: bytes | None, answered: Fields, answer: bytes | None) -> Capture:
    return Capture(path, without_secrets(asked), body, without_secrets(answered), answer)
