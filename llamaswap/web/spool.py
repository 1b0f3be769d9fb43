"""Long request bodies: kept in a file while they wait, so that neither memory nor the reactor has to bear them."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final, NamedTuple, Protocol, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IPushProducer
from twisted.python.failure import Failure
from zope.interface import implementer

from llamaswap.core import multipart
from llamaswap.core.multipart import Change, FormReader, MalformedFormError, Part
from llamaswap.errors import PayloadTooLargeError, SpoolError
from llamaswap.proxy.connection import BodySink
from llamaswap.proxy.framing import BodyWalker, ChunkedBody, SizedBody

T = TypeVar("T")

_LUMP_BYTES: Final = 1024 * 1024
"""Written, and read, at once."""


class InThread(Protocol):
    """Does blocking work beside the reactor; see :func:`llamaswap.background.in_thread`."""

    def __call__(self, work: Callable[[], T], /) -> Deferred[T]:
        """Work in a thread."""


class Spool:
    """A temporary file without a name.

    Args:
        in_thread: Does the work.

    Attributes:
        is_closed: Whether it was given up.
    """

    def __init__(self, in_thread: InThread) -> None:
        self._in_thread = in_thread
        self._file: Any = None
        self._size = 0
        self._work = 0  # under way
        self.is_closed = False

    def write(self, data: bytes) -> Deferred[None]:
        """Add bytes at the end; one write at a time.

        Returns:
            Fires when they are there; fails with :class:`OSError`.
        """
        start, self._size = self._size, self._size + len(data)
        return self._do(partial(self._write, data, start))

    def _write(self, data: bytes, start: int) -> None:
        if self._file is None:
            self._file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115 - it outlives this
        view = memoryview(data)
        while view:
            written = os.pwrite(self._file.fileno(), view, start)
            view, start = view[written:], start + written

    def read(self, start: int, count: int) -> Deferred[bytes]:
        """Read some bytes that are there.

        Returns:
            Fires with at least one of them; fails with :class:`OSError`.
        """
        return self._do(partial(self._read, start, count))

    def _read(self, start: int, count: int) -> bytes:
        data = os.pread(self._file.fileno(), count, start)
        if not data:
            raise OSError("the file is shorter than what was written to it")
        return data

    def close(self) -> None:
        """Give the file up, when the work under way is done."""
        self.is_closed = True
        if not self._work and self._file is not None:
            file, self._file = self._file, None
            # To give the room of a long file back takes its time, too.
            self._in_thread(file.close).addErrback(lambda _: file.close())

    def _do(self, work: Callable[[], T]) -> Deferred[T]:
        self._work += 1
        return self._in_thread(work).addBoth(self._done)

    def _done(self, result: T) -> T:
        self._work -= 1
        if self.is_closed:
            self.close()
        return result


class Span(NamedTuple):
    """Some bytes of a file."""

    start: int
    end: int


@implementer(IPushProducer)
class SpooledBody:
    """A whole body in a file; see :class:`~llamaswap.proxy.connection.StreamedBody`. It can be sent again.

    Args:
        spool: Has the file.
        pieces: What it consists of.
        form: What was found in it if it is a form.

    Attributes:
        length: In bytes.
        can_repeat: True.
    """

    can_repeat = True

    def __init__(self, spool: Spool, pieces: Sequence[Span | bytes], form: FormReader | None = None) -> None:
        self._spool = spool
        self._pieces = [piece for piece in pieces if not isinstance(piece, Span) or piece.start < piece.end]
        self._form = form
        self.length: int | None = sum(p.end - p.start if isinstance(p, Span) else len(p) for p in pieces)
        self._sink: BodySink | None = None
        self._turn = 0  # sinks so far: what was read for another is dropped
        self._left: list[Span | bytes] = []  # to be sent, the next one last
        self._is_reading = self._is_paused = False

    # ----------------------------------------------------------------- as a form

    def parts(self) -> list[Part]:
        """See :class:`~llamaswap.core.multipart.HeldForm`."""
        if self._form is None:
            raise MalformedFormError
        return self._form.parts()

    def with_changes(self, changes: Sequence[Change]) -> SpooledBody:
        """Give the body with other bytes in some places, in order; the file stays as it is."""
        assert self.length is not None  # noqa: S101 - it is known here
        pieces: list[Span | bytes] = []
        done = 0
        for change in changes:
            pieces += (Span(done, change.start), change.value)
            done = change.end
        return SpooledBody(self._spool, [*pieces, Span(done, self.length)])

    # ----------------------------------------------------------------- to its sink

    def attach(self, sink: BodySink) -> None:
        """Give a sink all of it, from the beginning."""
        self._sink = sink
        self._turn += 1
        self._left = self._pieces[::-1]
        self._is_reading = self._is_paused = False
        self._go_on()

    def detach(self) -> None:
        """Give nobody anything any more."""
        self._sink = None
        self._turn += 1

    def pauseProducing(self) -> None:
        """The sink has enough for now."""
        self._is_paused = True

    def resumeProducing(self) -> None:
        """The sink wants more."""
        self._is_paused = False
        self._go_on()

    def stopProducing(self) -> None:
        """The sink is gone."""
        self.detach()

    def _go_on(self) -> None:
        while self._sink is not None and not self._is_paused and not self._is_reading:
            if not self._left:
                sink, self._sink = self._sink, None
                sink.body_ended()
                return
            piece = self._left.pop()
            if isinstance(piece, bytes):
                self._sink.body_received(piece)
            else:
                self._is_reading = True
                count = min(piece.end - piece.start, _LUMP_BYTES)
                reading = self._spool.read(piece.start, count)
                reading.addCallbacks(
                    self._read, self._failed, callbackArgs=(self._turn, piece), errbackArgs=(self._turn,)
                )

    def _read(self, data: bytes, turn: int, piece: Span) -> None:
        if turn != self._turn or self._sink is None:
            return  # for somebody who has gone
        self._is_reading = False
        rest = Span(piece.start + len(data), piece.end)
        if rest.start < rest.end:
            self._left.append(rest)
        self._sink.body_received(data)
        self._go_on()

    def _failed(self, failure: Failure, turn: int) -> None:
        sink = self._sink
        if turn == self._turn and sink is not None:
            self.detach()
            sink.body_failed(SpoolError(f"could not read the stored request body: {failure.getErrorMessage()}"))


class Source(Protocol):
    """Where a body comes from."""

    def hold_up(self) -> None:
        """Make the client wait."""

    def read_on(self) -> None:
        """Let the client go on."""

    def body_stored(self, body: bytes | SpooledBody) -> None:
        """Take the whole body."""

    def body_not_stored(self, error: SpoolError) -> None:
        """Take note that the body is lost."""


class SpoolingBody:
    """Gathers a body, in a file if it is long; the client waits while that is written.

    Args:
        length: In bytes; ``None`` = in chunks.
        most_bytes: How long it may be.
        spool: Gets it.
        form: Reads along if it is a form.
        source: Where it comes from; told when all of it is there.
    """

    def __init__(
        self, length: int | None, most_bytes: int, spool: Spool, form: FormReader | None, source: Source
    ) -> None:
        self._pieces: list[bytes] = []
        self._is_chunked = length is None
        self._walker: BodyWalker = ChunkedBody(self._pieces) if length is None else SizedBody(length)
        self._most_bytes = most_bytes
        self._spool = spool
        self._form = form
        self._source = source
        self._lump = bytearray()
        self._stored_bytes = 0
        self._is_whole = self._is_writing = False

    def feed(self, data: bytes) -> int:
        """See :meth:`~llamaswap.proxy.framing.BodyWalker.feed`; when it is whole the source is told.

        Raises:
            PayloadTooLargeError: It is longer than it may be.
        """
        end = self._walker.feed(data)
        if self._walker.payload_bytes > self._most_bytes:
            raise PayloadTooLargeError
        if self._is_chunked:
            payload = b"".join(self._pieces)
            self._pieces.clear()
        else:
            payload = data if end < 0 else data[:end]
        if self._form is not None:
            self._form.feed(payload)
        self._lump += payload
        self._is_whole = end >= 0
        return end

    def store(self) -> None:
        """Write what has come together, if that is worth it, or the last of it."""
        if self._is_writing:
            return
        if self._is_whole and not self._stored_bytes and len(self._lump) < _LUMP_BYTES:
            self._source.body_stored(bytes(self._lump))
        elif len(self._lump) >= _LUMP_BYTES or (self._is_whole and self._lump):
            lump, self._lump = bytes(self._lump), bytearray()
            self._is_writing = True
            self._stored_bytes += len(lump)
            self._source.hold_up()
            self._spool.write(lump).addCallbacks(self._written, self._failed)
        elif self._is_whole:
            whole = Span(0, self._stored_bytes)
            self._source.body_stored(SpooledBody(self._spool, [whole], self._form))

    def _written(self, _: None) -> None:
        self._is_writing = False
        if not self._spool.is_closed:
            self._source.read_on()
            self.store()

    def _failed(self, failure: Failure) -> None:
        self._is_writing = False
        self._source.body_not_stored(SpoolError(f"could not store the request body: {failure.getErrorMessage()}"))


def with_field(body: bytes | SpooledBody, content_type: bytes, name: bytes, value: bytes) -> bytes | SpooledBody:
    """Give a multipart form with another value in every field with a name; all other bytes stay.

    Raises:
        MalformedFormError: It is none.
    """
    parts = multipart.parse(body, multipart.boundary_of(content_type))
    if isinstance(body, bytes):
        return multipart.replace(body, parts, name, value)
    return body.with_changes(multipart.changes(parts, name, value))
