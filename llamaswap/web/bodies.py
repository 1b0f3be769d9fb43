"""Request bodies on their way in: gathered whole, or handed on as they come."""

from __future__ import annotations

from io import BytesIO
from typing import Final, Protocol

from twisted.internet.interfaces import IPushProducer
from zope.interface import implementer

from llamaswap.errors import PayloadTooLargeError
from llamaswap.proxy.connection import BodySink
from llamaswap.proxy.framing import BodyWalker, ChunkedBody, OpenBody, SizedBody
from llamaswap.web.policy import UNLIMITED

_HELD_BYTES: Final = 512 * 1024
"""What a body that nobody takes yet may gather before its client is made to wait.

As long as we read we see at once that a client has left; what it has still to send hides that from us for
seconds, since the end comes behind it.
"""

_DISCARDED_BYTES: Final = 256 * 1024
"""What is read of a body that nobody wants any more, so that its connection can be kept."""


class WholeBody:
    """Gathers a body.

    Args:
        length: In bytes; ``None`` = in chunks.
        most_bytes: How long it may be.
    """

    def __init__(self, length: int | None, most_bytes: int = UNLIMITED) -> None:
        self._most_bytes = most_bytes
        self._pieces: list[bytes] = []
        self._walker: BodyWalker = ChunkedBody(self._pieces) if length is None else SizedBody(length)
        self._is_chunked = length is None
        self._gathered = BytesIO()

    def feed(self, data: bytes) -> int:
        """See :meth:`~llamaswap.proxy.framing.BodyWalker.feed`.

        Raises:
            PayloadTooLargeError: It is longer than it may be.
        """
        end = self._walker.feed(data)
        if self._walker.payload_bytes > self._most_bytes:
            raise PayloadTooLargeError
        if self._is_chunked:
            self._gathered.writelines(self._pieces)
            self._pieces.clear()
        else:
            self._gathered.write(data if end < 0 else data[:end])
        return end

    def content(self) -> bytes:
        """Give all of it, without chunks; it is not copied."""
        return self._gathered.getvalue()


class Source(Protocol):
    """Where a body comes from."""

    def hold_up(self) -> None:
        """Make the client wait."""

    def read_on(self) -> None:
        """Let the client go on."""


@implementer(IPushProducer)
class PassingBody:
    """Hands a body on as it comes, in its framing.

    Until somebody takes it a little is held; when nobody wants it any more a little is read to no end.

    Args:
        length: In bytes; ``None`` = in chunks.
        source: Where it comes from.
        most_bytes: How long it may be.

    Attributes:
        length: As given.
        can_repeat: False.
    """

    can_repeat = False

    def __init__(self, length: int | None, source: Source, most_bytes: int = UNLIMITED) -> None:
        self.length = length
        self._most_bytes = most_bytes
        self._walker: BodyWalker = ChunkedBody() if length is None else SizedBody(length)
        self._source = source
        self._sink: BodySink | None = None
        self._held: list[bytes] = []
        self._held_bytes = 0
        self._is_whole = self._is_unwanted = False

    @property
    def is_tiresome(self) -> bool:
        """Whether more has come than is read of a body that nobody wants."""
        return self._is_unwanted and self._held_bytes > _DISCARDED_BYTES

    def feed(self, data: bytes) -> int:
        """See :meth:`~llamaswap.proxy.framing.BodyWalker.feed`; what belongs to the body is handed on.

        Raises:
            PayloadTooLargeError: It is longer than it may be.
        """
        end = self._walker.feed(data)
        if self._walker.payload_bytes > self._most_bytes and not self._is_unwanted:
            raise PayloadTooLargeError
        piece = data if end < 0 else data[:end]
        if end >= 0:
            self._is_whole = True
            self._source.read_on()
        sink = self._sink
        if sink is not None:
            sink.body_received(piece)
            if self._is_whole:
                sink.body_ended()
            return end
        self._held_bytes += len(piece)
        if not self._is_unwanted:
            self._held.append(piece)
            if self._held_bytes > _HELD_BYTES and not self._is_whole:
                self._source.hold_up()
        return end

    def attach(self, sink: BodySink) -> None:
        """See :class:`~llamaswap.proxy.connection.StreamedBody`."""
        held, self._held = self._held, []
        self._sink = sink
        self._source.read_on()
        for piece in held:
            sink.body_received(piece)
        if self._is_whole:
            sink.body_ended()

    def detach(self) -> None:
        """See :class:`~llamaswap.proxy.connection.StreamedBody`."""
        self._sink = None
        self._held = []
        self._held_bytes = 0
        self._is_unwanted = True
        self._source.read_on()

    def pauseProducing(self) -> None:
        """Make the client wait: the upstream is slow."""
        if not self._is_whole:
            self._source.hold_up()

    def resumeProducing(self) -> None:
        """Let the client go on."""
        self._source.read_on()

    def stopProducing(self) -> None:
        """The upstream is gone; :meth:`detach` follows."""


class TunnelBody(PassingBody):
    """Whatever a client sends behind a switch of protocols, until it leaves.

    Args:
        source: Where it comes from.
    """

    def __init__(self, source: Source) -> None:
        super().__init__(0, source)
        self._walker = OpenBody()
