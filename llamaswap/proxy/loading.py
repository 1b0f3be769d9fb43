"""The loading stream: what the client of a streamed chat reads while its model is not ready yet.

It stands in for the beginning of the answer, as reasoning, which clients show and do not keep. The
grant ends it: not one byte of it follows, and the upstream's body goes on in the same stream.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Sequence
from random import Random
from typing import Any, Final

from msgspec import DecodeError
from msgspec.json import decode, encode
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from llamaswap.errors import LlamaSwapError, UpstreamAnsweredError
from llamaswap.proxy.forward import Client, Convert, Forwarding, Unchunking, chunking
from llamaswap.proxy.framing import LAST_CHUNK, OpenBody, chunk
from llamaswap.proxy.headers import Fields, ResponseHead, answer_head
from llamaswap.proxy.hop import HopPool

REMARKS: Final = (
    "Good things are read from disk first.",
    "Stretch a little, it is a short way to the kettle.",
    "Billions of numbers, and each one wants a seat.",
    "Warming up the matrices.",
    "The weights are heavier than they look.",
    "Somebody else's model has just left the room.",
    "Counting layers. Still counting.",
    "Your question is safe with us meanwhile.",
    "Reading a very long list of very small numbers.",
    "A fan somewhere is getting ready for this.",
    "Putting the tokens in alphabetical order. Not really.",
    "It will be quicker the next time you ask.",
    "Look out of the window for a moment.",
    "No llama is hurried here.",
    "Nearly there, or at least nearer than before.",
)
"""Shown now and then while there is nothing else to say."""

_BAR: Final = "━━━━━\n"
_PIECE: Final = re.compile(r"\n|[^\n]{1,5}")
_PACE_SECONDS: Final = 5 / 75
_TICK_SECONDS: Final = 0.75
_FIRST_REMARK_SECONDS: Final = (2.0, 5.0)
_NEXT_REMARK_SECONDS: Final = (5.0, 9.0)
_ERROR_LEAST: Final = 400
_LONGEST_ERROR_BYTES: Final = 64 * 1024
_LONGEST_REASON_CHARACTERS: Final = 500
_FIELDS: Final[Fields] = [
    (b"Content-Type", b"text/event-stream"),
    (b"Cache-Control", b"no-cache"),
    (b"X-Accel-Buffering", b"no"),
]


class Script:
    """What a loading stream says; nothing in it but chance and the time.

    Args:
        model: What is being loaded.
        remarks: Told in random order, each once.
        random: Where chance comes from.
        created_at: UTC epoch seconds.
    """

    def __init__(self, model: str, remarks: Sequence[str], random: Random, created_at: float) -> None:
        self._model = model
        self._remarks = random.sample(remarks, len(remarks))
        self._random = random
        self._remark_after_seconds = random.uniform(*_FIRST_REMARK_SECONDS)
        self._told_position: int | None = None
        self._frame: dict[str, Any] = {
            "id": f"chatcmpl-{random.getrandbits(64):016x}",
            "object": "chat.completion.chunk",
            "created": int(created_at),
            "model": model,
        }

    def opening(self) -> str:
        """Say what goes on."""
        return f"{_BAR}llama-swap loading model: {self._model}\n"

    def next(self, elapsed_seconds: float, position: int | None) -> str:
        """Say something at a tick.

        Args:
            elapsed_seconds: Since the opening.
            position: Place in the queue, counted from 1; ``None`` = in no queue.
        """
        if position is not None and position != self._told_position:
            self._told_position = position
            return f"\nQueue position: #{position} "
        if self._remarks and elapsed_seconds >= self._remark_after_seconds:
            self._remark_after_seconds = elapsed_seconds + self._random.uniform(*_NEXT_REMARK_SECONDS)
            return f"\n{self._remarks.pop()} "
        return "."

    def closing(self, elapsed_seconds: float) -> str:
        """Say that the model is there."""
        return f"\nDone! ({elapsed_seconds:.2f}s)\n{_BAR} \n"

    def event(self, text: str) -> bytes:
        """Word a piece of text as one server-sent event."""
        choice = {"index": 0, "delta": {"reasoning_content": text}, "finish_reason": None}
        return b"data: %b\n\n" % encode({**self._frame, "choices": [choice]})


def pieces(text: str) -> list[str]:
    """Cut a text as it is typed; each line end is a piece of its own."""
    return _PIECE.findall(text)


class LoadingForwarding(Forwarding):
    """A forwarding that shows its client what it waits for; one that has not to wait is like any other."""

    _script: Script | None = None
    _clock: IReactorTime
    _timer: IDelayedCall | None = None
    _pending: deque[str]
    _position: int | None = None
    _is_begun = False
    _begun_mono = _tick_mono = 0.0
    _shown_bytes = 0

    @property
    def payload_bytes(self) -> int:
        """Bytes of the answer's body so far, ours among them."""
        return self._shown_bytes + super().payload_bytes

    def show(self, script: Script, clock: IReactorTime) -> None:
        """Begin in the next turn, if it waits then: what is refused at once gets an answer of its own."""
        self._script = script
        self._clock = clock
        self._timer = clock.callLater(0, self._begin, script)

    # ----------------------------------------------------------------- the stream

    def _begin(self, script: Script) -> None:
        client = self._client
        fields = [*_FIELDS, (b"Connection", b"keep-alive")] if client.keeps_alive else _FIELDS
        head = ResponseHead(
            200, b"OK", fields, OpenBody(), is_chunked=False, is_open=True, is_event_stream=True, keeps_alive=True
        )
        more = client.answer_fields(head)
        closes = not client.keeps_alive
        client.relay_head(200, answer_head(head, is_chunked=client.is_modern, closes=closes, more=more))
        self._is_begun = True
        self._begun_mono = self._clock.seconds()
        self._tick_mono = self._begun_mono + _TICK_SECONDS
        self._pending = deque(pieces(script.opening()))
        self._speak(script)

    def _speak(self, script: Script) -> None:
        """Say the next piece; a client that has not read the last ones gets no more."""
        now = self._clock.seconds()
        delay_seconds = _TICK_SECONDS
        if not self._is_paused:
            if not self._pending:
                self._pending.extend(pieces(script.next(now - self._begun_mono, self._position)))
                self._tick_mono = now + _TICK_SECONDS
            self._say(script, [self._pending.popleft()])
            delay_seconds = _PACE_SECONDS if self._pending else max(0.0, self._tick_mono - now)
        self._timer = self._clock.callLater(delay_seconds, self._speak, script)

    def _say(self, script: Script, texts: list[str]) -> None:
        data = b"".join(map(script.event, texts))
        self._shown_bytes += len(data)
        self._client.relay(self._framed(data))

    def _framed(self, payload: bytes) -> bytes:
        return chunk(payload) if self._client.is_modern else payload

    def _fall_silent(self) -> None:
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None

    # ----------------------------------------------------------------- for the router

    def moved(self, position: int) -> None:
        """Show the place in the queue at the next tick."""
        self._position = position

    def granted(self, pool: HopPool) -> None:
        """See :class:`~llamaswap.proxy.forward.Forwarding`; the stream ends here, without delay."""
        self._fall_silent()
        if self._is_begun and self._script is not None and not self.is_ended:
            closing = self._script.closing(self._clock.seconds() - self._begun_mono)
            self._say(self._script, [*self._pending, *pieces(closing)])
            kept = [field for field in self._headers if field[0].lower() != b"accept-encoding"]
            self._headers = [*kept, (b"Accept-Encoding", b"identity")]  # our head said nothing of another
            self._is_metered = False  # which is readable
        super().granted(pool)

    # ----------------------------------------------------------------- for the upstream's side

    def interim(self, head: ResponseHead) -> None:
        """See :class:`~llamaswap.proxy.connection.ResponseTaker`; in the middle of a body it has no place."""
        if not self._is_begun:
            super().interim(head)

    def _open(self, head: ResponseHead, data: bytes, *, is_whole: bool) -> None:
        if not self._is_begun:
            super()._open(head, data, is_whole=is_whole)
            return
        self._convert = self._conversion(head)
        self._client.relay(data if self._convert is None else self._convert(data, is_whole))

    def _conversion(self, head: ResponseHead) -> Convert | None:
        """Make what gives the upstream's body the framing of our stream."""
        is_modern = self._client.is_modern
        if head.status >= _ERROR_LEAST:
            return _ErrorAnswer(head, self._client)
        if is_modern:
            return None if head.is_chunked else chunking
        return Unchunking() if head.is_chunked else None

    # ----------------------------------------------------------------- the end

    def _break_off(self, error: LlamaSwapError) -> None:
        if not self._is_begun:
            super()._break_off(error)
            return
        client, head = self._client, self._head
        event = client.error_event(error)
        if head is None:
            self._shown_bytes += len(event)
            client.relay(self._framed(event) + (LAST_CHUNK if client.is_modern else b""))
            client.end(self.payload_bytes)
        else:
            client.relay(self._last_event(head, event))
            client.cut(self.payload_bytes, error, at_once=not client.is_modern)

    def _end(self) -> bool:
        self._fall_silent()
        return super()._end()


class _ErrorAnswer:
    """Turns an upstream's refusal into one event: its status cannot be told any more.

    Args:
        head: Of the refusal.
        client: Gets the event.
    """

    def __init__(self, head: ResponseHead, client: Client) -> None:
        self._head = head
        self._client = client
        self._unchunk = Unchunking() if head.is_chunked else None
        self._gathered = b""

    def __call__(self, data: bytes, is_whole: bool) -> bytes:  # noqa: FBT001 - called through a variable
        payload = data if self._unchunk is None else self._unchunk(data, is_whole)
        self._gathered += payload[: _LONGEST_ERROR_BYTES - len(self._gathered)]
        if not is_whole:
            return b""
        status = self._head.status
        reason = _reason_in(self._gathered) or self._head.reason.decode("latin-1")
        error = UpstreamAnsweredError(f"the upstream answered {status}: {reason}", status)
        event = self._client.error_event(error)
        return chunk(event) + LAST_CHUNK if self._client.is_modern else event


def _reason_in(body: bytes) -> str:
    """Find what a refusal says to people: the message of its JSON, else its text."""
    try:
        found = decode(body)
    except (DecodeError, UnicodeDecodeError):
        found = body.decode("utf-8", "replace").strip()
    if isinstance(found, dict):
        found = found.get("error", found)
    if isinstance(found, dict):
        found = found.get("message", "")
    return found[:_LONGEST_REASON_CHARACTERS] if isinstance(found, str) else ""
