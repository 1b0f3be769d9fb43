"""The daemon's own standard output, which nobody may be reading."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import Final

from twisted.internet.interfaces import IReactorFDSet, IWriteDescriptor
from twisted.python.failure import Failure
from zope.interface import implementer

from llamaswap.core.backlog import Backlog

_BACKLOG_BYTES: Final = 256 * 1024
_STDOUT: Final = 1


@implementer(IWriteDescriptor)
class NonBlockingWriter:
    """Write to a descriptor as fast as it takes it; beyond 256 KiB the oldest lines are dropped, with a mark.

    A pipe, terminal or socket is written through a non-blocking descriptor. A regular file is written
    as it is: it has no reader to wait for. After an error, such as a pipe whose reader left, everything
    is thrown away.

    Args:
        reactor: Tells when the descriptor takes more.
        descriptor: An open descriptor; it stays open, and as it was, after :meth:`close`.
    """

    def __init__(self, reactor: IReactorFDSet, descriptor: int = _STDOUT) -> None:
        self._reactor = reactor
        self._given = descriptor
        self._rest = b""
        self._backlog = Backlog(_BACKLOG_BYTES)
        self._is_broken = False
        self._was_blocking = False
        self._descriptor = self._open(descriptor)

    def write(self, data: bytes) -> None:
        """Write ``data``, now or as soon as there is room. Never blocks."""
        if self._rest:
            self._backlog.put(data)
            return
        self._rest = self._send(data)
        if self._rest:
            self._reactor.addWriter(self)

    def close(self) -> None:
        """Write what can be written without waiting, and leave the descriptor as it was."""
        self._reactor.removeWriter(self)
        self._send(self._rest + self._backlog.take())
        self._is_broken = True
        if self._descriptor != self._given:
            os.close(self._descriptor)
        elif self._was_blocking:
            os.set_blocking(self._given, True)

    def fileno(self) -> int:
        """Give the descriptor that is written to."""
        return self._descriptor

    def logPrefix(self) -> str:  # noqa: N802 - name given by Twisted
        """Give the name under which the reactor logs about this object."""
        return "stdout"

    def doWrite(self) -> None:  # noqa: N802 - name given by Twisted
        """Write what waits; called by the reactor when there is room."""
        self._rest = self._send(self._rest) or self._send(self._backlog.take())
        if not self._rest:
            self._reactor.removeWriter(self)

    def connectionLost(self, reason: Failure) -> None:  # noqa: ARG002 - given by Twisted
        """Throw away everything from now on; called by the reactor when the other end is gone."""
        self._reactor.removeWriter(self)
        self._rest = b""
        self._is_broken = True

    def _open(self, descriptor: int) -> int:
        """Find or make a descriptor that does not block."""
        if stat.S_ISREG(os.fstat(descriptor).st_mode):
            return descriptor
        try:
            # Opened anew where that is possible: the flag belongs to the open file, which a shell shares.
            return os.open(Path("/proc/self/fd") / str(descriptor), os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY)
        except OSError:
            self._was_blocking = os.get_blocking(descriptor)
            os.set_blocking(descriptor, False)
            return descriptor

    def _send(self, data: bytes) -> bytes:
        """Write what fits, and give the rest."""
        while data and not self._is_broken:
            try:
                data = data[os.write(self._descriptor, data) :]
            except BlockingIOError:
                return data
            except OSError as error:
                # A full disk may have room again; anything else is for good.
                self._is_broken = error.errno not in (errno.ENOSPC, errno.EDQUOT)
                return b""
        return b""
