"""What has happened: rows of activity, figures over them, and captures."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable
from functools import partial
from typing import ClassVar, Final, Protocol, TypeVar

from klein import Klein
from msgspec.json import encode
from twisted.internet.defer import Deferred
from twisted.logger import Logger

from llamaswap.errors import BadRequestError, LlamaSwapError, NotFoundError
from llamaswap.telemetry.activity import Activity
from llamaswap.telemetry.captures import Block
from llamaswap.telemetry.export import CSVExport, HasCapture, TraceExport, document_of
from llamaswap.telemetry.rows import find_rows, newest_rows
from llamaswap.telemetry.schema import StoreError
from llamaswap.telemetry.stats import find_stats
from llamaswap.web import answers
from llamaswap.web.activity_query import RowsQuery, read_filter, read_rows_query
from llamaswap.web.edge import EdgeRequest
from llamaswap.web.outflow import Outflow
from llamaswap.web.shown_headers import shown_headers

T = TypeVar("T")

_OLD_FORM_ROWS: Final = 1000
_NUMBER: Final = re.compile(r"-?[0-9]{1,18}", re.ASCII)


class Export(Protocol):
    """A download that is made page by page."""

    media_type: bytes
    file_name: bytes

    def next_page(self, connection: sqlite3.Connection) -> bytes:
        """Give the next piece, on the store's thread; empty = that was all."""


class ActivityRoutes:
    """The handlers of ``/api/metrics`` and below, and of ``/api/captures``.

    Args:
        activity: Has the rows and captures.
    """

    _log: ClassVar[Logger] = Logger()

    def __init__(self, activity: Activity) -> None:
        self._activity = activity

    def register(self, app: Klein) -> None:
        """Add the routes."""
        for path, handler in (
            ("/api/metrics/activity", self.rows),
            ("/api/metrics/stats", self.stats),
            ("/api/metrics", self.old_form),
            ("/api/captures/<name>", self.capture),
        ):
            app.route(path, methods=["GET"])(handler)

    def rows(self, request: EdgeRequest) -> Deferred[bytes | None]:
        """Answer with a page of rows, or with all of them as a download.

        Returns:
            Fires with the answer, ``None`` when it has been written. Fails with
            :class:`~llamaswap.errors.LlamaSwapError` when the query is wrong or the store cannot be read.
        """
        return Deferred.fromCoroutine(self._rows(request))

    def stats(self, request: EdgeRequest) -> Deferred[bytes]:
        """Answer with figures over rows; otherwise as :meth:`rows`."""
        return Deferred.fromCoroutine(self._stats(request))

    def old_form(self, request: EdgeRequest) -> Deferred[bytes]:
        """Answer with the newest rows, as older clients want them; otherwise as :meth:`rows`."""
        return Deferred.fromCoroutine(self._old_form(request))

    def capture(self, request: EdgeRequest, name: str) -> Deferred[bytes]:
        """Answer with a capture.

        Returns:
            Fires with the answer. Fails with :class:`~llamaswap.errors.BadRequestError` when that is no number, and
            with :class:`~llamaswap.errors.NotFoundError` when there is none.
        """
        return Deferred.fromCoroutine(self._capture(request, name))

    async def _rows(self, request: EdgeRequest) -> bytes | None:
        query = read_rows_query(_query_of(request))
        has_capture = self._activity.captures.__contains__
        if query.form != "json":
            is_csv = query.form == "csv"
            export = CSVExport(query.wanted, has_capture) if is_csv else TraceExport(query.wanted)
            await self._download(request, export)
            return None
        work = partial(_page, query, has_capture)
        return _answer(request, await self._read(work, "failed to get activity"))

    async def _stats(self, request: EdgeRequest) -> bytes:
        wanted = read_filter(_query_of(request))
        figures = await self._read(lambda connection: find_stats(connection, wanted), "failed to get activity stats")
        return _answer(request, encode(figures))

    async def _old_form(self, request: EdgeRequest) -> bytes:
        work = partial(_newest, self._activity.captures.__contains__)
        return _answer(request, await self._read(work, "failed to get activity"))

    async def _capture(self, request: EdgeRequest, name: str) -> bytes:
        if not _NUMBER.fullmatch(name):
            raise BadRequestError("invalid capture ID")
        row_id = int(name)
        # What ended a moment ago is not packed yet, and is when the store comes round to this.
        await self._read(lambda _: None, "failed to get capture")
        block = self._activity.captures.find(row_id)
        if block is None:
            raise NotFoundError("capture not found")
        return _answer(request, await self._read(lambda _: _shown_capture(row_id, block), "failed to get capture"))

    async def _download(self, request: EdgeRequest, export: Export) -> None:
        """Write an export at the pace of the client."""
        piece = await self._read(export.next_page, "failed to get activity")
        request.setHeader(b"content-type", export.media_type)
        request.setHeader(b"content-disposition", b'attachment; filename="%b"' % export.file_name)
        request.setHeader(b"cache-control", b"no-store")
        flow = Outflow(request)
        try:
            while piece:
                await flow.write(piece)
                piece = await self._read(export.next_page, "failed to get activity")
        except LlamaSwapError:
            # What was sent must not look like all of it. The end of the connection cancels us.
            request.channel.abortConnection()
            await Deferred()
        finally:
            flow.end()

    async def _read(self, work: Callable[[sqlite3.Connection], T], problem: str) -> T:
        try:
            return await self._activity.read(work)
        except StoreError as error:
            self._log.error("{problem}: {error}", problem=problem, error=error.message)
            raise LlamaSwapError(problem) from error


def _query_of(request: EdgeRequest) -> bytes:
    return request.uri.partition(b"?")[2]


def _answer(request: EdgeRequest, document: bytes) -> bytes:
    request.setHeader(b"cache-control", b"no-store")
    return answers.encoded(request, document)


def _page(query: RowsQuery, has_capture: HasCapture, connection: sqlite3.Connection) -> bytes:
    rows, total = find_rows(
        connection,
        query.wanted,
        sort=query.sort,
        is_ascending=query.is_ascending,
        limit=query.limit,
        offset=(query.page - 1) * query.limit,
    )
    return encode(
        {
            "data": [document_of(row, has_capture) for row in rows],
            "page": query.page,
            "limit": query.limit,
            "total": total,
            "total_pages": -(-total // query.limit),
        },
    )


def _newest(has_capture: HasCapture, connection: sqlite3.Connection) -> bytes:
    return encode([document_of(row, has_capture) for row in newest_rows(connection, _OLD_FORM_ROWS)])


def _shown_capture(row_id: int, block: Block) -> bytes:
    capture = block.unpack(row_id)
    return encode(
        {
            "id": row_id,
            "req_path": capture.path,
            "req_headers": shown_headers(capture.asked, b"host"),
            "req_body": capture.body,  # bytes become base64
            "resp_headers": shown_headers(capture.answered, b"content-encoding"),
            "resp_body": capture.answer,
        },
    )
