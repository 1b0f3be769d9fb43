"""What goes through a websocket's tunnel: followed from frame to frame, so that it can be closed in order.

Only the heads of the frames are looked at (RFC 6455, section 5.2). A frame of ours fits between any two
of them, even in the midst of a message in pieces.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from twisted.internet.interfaces import IPushProducer
from zope.interface import implementer

from llamaswap.errors import LlamaSwapError
from llamaswap.proxy.connection import BodySink, StreamedBody

_SHORT: Final = 2
_LENGTH_BYTES: Final = {126: 2, 127: 8}
_MASK_BYTES: Final = 4

_CLOSE: Final = b"\x03\xf4" + b"another model has waited for too long"
"""1012: the service restarts, and one may come again (registered for RFC 6455, section 7.4)."""

_TO_CLIENT: Final = bytes([0x88, len(_CLOSE)]) + _CLOSE
_TO_SERVER: Final = bytes([0x88, 0x80 | len(_CLOSE)]) + bytes(_MASK_BYTES) + _CLOSE
"""Who speaks to a server must mask; with zeros that changes nothing, and there is nothing to be hidden."""


class Frames:
    """The frames that go one way.

    Args:
        last: The frame of ours that may end them.

    Attributes:
        is_over: Whether it has.
    """

    __slots__ = ("_held", "_is_ending", "_last", "_left", "is_over")

    def __init__(self, last: bytes) -> None:
        self._last = last
        self._left = 0  # bytes of the current frame still to come, its mask among them
        self._held = b""  # of a head that was cut
        self._is_ending = self.is_over = False

    def end(self) -> bytes:
        """End them before the next one; give what is to be sent for that now."""
        self._is_ending = True
        return self._end() if not (self._left or self._held or self.is_over) else b""

    def pass_on(self, data: bytes) -> bytes:
        """Take a piece of them; give what goes on of it."""
        if self.is_over:
            return b""
        end = self._follow(data)
        return data[:end] + self._end() if end >= 0 else data

    def _end(self) -> bytes:
        self.is_over = True
        return self._last

    def _follow(self, data: bytes) -> int:
        """Follow a piece; give the index behind a frame's end where they shall end there, else -1."""
        held_bytes = len(self._held)
        if held_bytes:
            data, self._held = self._held + data, b""
        position, stop = self._left, len(data)  # where the next frame begins, and where the piece ends
        while position < stop:
            if position and self._is_ending:
                break
            begin = position + _SHORT
            size = data[begin - 1] if begin <= stop else 0
            more = _LENGTH_BYTES.get(size & 0x7F, 0)
            if begin + more > stop:
                self._held, self._left = data[position:], 0
                return -1
            length = int.from_bytes(data[begin : begin + more]) if more else size & 0x7F
            position = begin + more + length + (_MASK_BYTES if size & 0x80 else 0)
        if self._is_ending and 0 < position <= stop:
            return position - held_bytes
        self._left = position - stop
        return -1


@implementer(IPushProducer)
class Tunnel:
    """Both ways of a tunnel; see :class:`~llamaswap.proxy.connection.StreamedBody` for what the client sends.

    Args:
        body: What the client sends.
        on_closed: Called once when both sides have been told the end.

    Attributes:
        length: Unknown.
        can_repeat: False.
    """

    def __init__(self, body: StreamedBody, on_closed: Callable[[], None]) -> None:
        self.length: int | None = None
        self.can_repeat = False
        self._body = body
        self._on_closed = on_closed
        self._sink: BodySink | None = None
        self._to_client = Frames(_TO_CLIENT)
        self._to_server = Frames(_TO_SERVER)

    def close(self) -> bytes:
        """Tell both sides the end, each between two frames; give what is to be sent to the client for that now."""
        last = self._to_client.end()
        if self._sink is not None:
            self._sink.body_received(self._to_server.end())
        self._look()
        return last

    def to_client(self, data: bytes, is_whole: bool) -> bytes:  # noqa: ARG002, FBT001 - called through a variable
        """Follow what the server sends; see :data:`~llamaswap.proxy.forward.Convert`."""
        return self._passed(self._to_client, data)

    def _passed(self, frames: Frames, data: bytes) -> bytes:
        was_over = frames.is_over
        passed = frames.pass_on(data)
        if frames.is_over and not was_over:
            self._look()
        return passed

    def _look(self) -> None:
        if self._to_client.is_over and self._to_server.is_over:
            self._on_closed()

    # ----------------------------------------------------------------- what the client sends

    def attach(self, sink: BodySink) -> None:
        """See :class:`~llamaswap.proxy.connection.StreamedBody`."""
        self._sink = sink
        self._body.attach(self)

    def detach(self) -> None:
        """See :class:`~llamaswap.proxy.connection.StreamedBody`."""
        self._sink = None
        self._body.detach()

    def body_received(self, data: bytes) -> None:
        """See :class:`~llamaswap.proxy.connection.BodySink`."""
        if self._sink is not None:
            self._sink.body_received(self._passed(self._to_server, data))

    def body_ended(self) -> None:
        """See :class:`~llamaswap.proxy.connection.BodySink`."""
        if self._sink is not None:
            self._sink.body_ended()

    def body_failed(self, error: LlamaSwapError) -> None:
        """See :class:`~llamaswap.proxy.connection.BodySink`."""
        if self._sink is not None:
            self._sink.body_failed(error)

    def pauseProducing(self) -> None:
        """Let the client wait: the server is slow."""
        self._body.pauseProducing()

    def resumeProducing(self) -> None:
        """Let the client go on."""
        self._body.resumeProducing()

    def stopProducing(self) -> None:
        """The server is gone; :meth:`detach` follows."""
        self._body.stopProducing()
