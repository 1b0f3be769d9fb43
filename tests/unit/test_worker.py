"""A thread that cannot be had."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from llamaswap.telemetry.worker import ThreadWorker
from tests.deferreds import failure_of


class NoThreads:
    """A reactor that is never called from a thread."""

    def callFromThread(self, function: Callable[..., object], *args: object) -> None:
        raise AssertionError(function)


def test_work_fails_when_there_are_no_more_threads_and_is_done_by_none_later(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    worker = ThreadWorker(NoThreads(), "test")
    for _ in range(2):
        failure_of(worker.do(lambda: 1), RuntimeError)
