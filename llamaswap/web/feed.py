"""The source of the event stream: turns news into messages, each made once for all clients."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final

from twisted.internet.interfaces import IDelayedCall

from llamaswap.core.news import ConfigChanged, ProfileChanged, ReloadChanged, RowAdded, StateChanged, SwapChanged
from llamaswap.web.daemon import Daemon
from llamaswap.web.event_client import EventClient
from llamaswap.web.event_kinds import Kind, Kinds, message
from llamaswap.web.event_logs import LogText
from llamaswap.web.exchange import ExchangeAnswered, ExchangeBegan, ExchangeEnded
from llamaswap.web.in_flight_changes import InFlightChanges
from llamaswap.web.status import model_statuses

_SPACING_SECONDS: Final[Mapping[Kind, float]] = {Kind.IN_FLIGHT: 0.05, Kind.ACTIVITY: 0.05, Kind.QUEUE: 0.25}
"""Shortest time between two rounds of messages of a kind; of the others each piece of news makes one."""

_COUNTS_SECONDS: Final = 1.0
"""How late it may be told that a model has more or fewer requests than before."""

_SAME_MOMENT_SECONDS: Final = 0.001


class Feed:
    """Tells clients of the event stream what happens; does nothing while there are none.

    What happens in one turn of the reactor is told after it, so that no message shows a state that
    is half changed, and so that of several changes of one thing only the last is told.

    Args:
        daemon: Is looked at.

    Attributes:
        queue: Gives the document of ``GET /api/queue``; ``None`` = there is none.
        dropped_bytes: By log, what slow clients have missed.
    """

    def __init__(self, daemon: Daemon) -> None:
        observers = daemon.observers
        self.queue: Callable[[], object] | None = None
        self.dropped_bytes: Counter[str] = Counter()
        self._daemon = daemon
        self._bus, self._ledger, self._clock = observers.bus, observers.ledger, observers.reactor
        self._clients: list[EventClient] = []
        self._wanted: Kinds = frozenset()
        self._subscriptions: list[Callable[[], None]] = []
        self._has_ended = False
        sources = {"proxy": daemon.logs.proxy, "upstream": daemon.logs.upstream}
        self._logs = {name: LogText(log, partial(self._log_written, name)) for name, log in sources.items()}
        self._requests = InFlightChanges(self._ledger, daemon.router.state)
        self._due: dict[Kind, float] = {}
        self._flushed: dict[Kind, float] = {}
        self._timer: IDelayedCall | None = None
        self._profiles = observers.profiles
        self._row = 0
        self._reloads: list[Mapping[str, Any]] = []
        self._swaps: list[Mapping[str, Any]] = []
        self._counts: list[object] | None = None  # as last told; None = to be told in any case
        self._queue_told = b""
        self._ui = daemon.config.ui
        observers.at_end(self.end)

    # ----------------------------------------------------------------- clients

    def join(self, client: EventClient) -> None:
        """Tell a client how things are, and from now on what happens."""
        first = self._first_messages(client.kinds)
        self._queue_told, self._counts = b"", None  # what it is told may be another than the others were told
        if self._has_ended:
            client.send(first)
            client.end()
            return
        client.make_snapshot = self._requests.snapshot
        self._clients.append(client)
        self._follow()
        self._look_again()
        client.send(first)

    def leave(self, client: EventClient) -> None:
        """Tell a client nothing more; harmless when called again."""
        client.close()
        if client in self._clients:
            self._clients.remove(client)
            self._follow()

    def end(self) -> None:
        """End all streams, and from now on each new one behind its first messages."""
        self._has_ended = True
        for client in tuple(self._clients):
            self.leave(client)
            client.end()

    def _first_messages(self, kinds: Kinds) -> bytes:
        makers: dict[Kind, Callable[[], list[bytes]]] = {
            Kind.LOG: self._first_logs,
            Kind.MODELS: lambda: [message(Kind.MODELS, self._statuses())],
            Kind.UI: lambda: [self._ui_message()],
            Kind.PROFILE: lambda: [self._profile_message()],
            Kind.IN_FLIGHT: lambda: [self._requests.snapshot()],
            Kind.QUEUE: self._queue_messages,
        }
        return b"".join(piece for kind, make in makers.items() if kind in kinds for piece in make())

    def _first_logs(self) -> list[bytes]:
        return [
            message(Kind.LOG, {"data": log.history() if self._has_ended else log.join(), "source": name})
            for name, log in self._logs.items()
        ]

    def _follow(self) -> None:
        """Listen to what somebody wants to know, and to nothing else."""
        self._wanted = frozenset().union(*(client.kinds for client in self._clients))
        if Kind.LOG not in self._wanted:
            for log in self._logs.values():
                log.leave()
        self._forget_unwanted()
        if self._clients and not self._subscriptions:
            self._subscribe()
        elif not self._clients and self._subscriptions:
            subscriptions, self._subscriptions = self._subscriptions, []
            for unsubscribe in subscriptions:
                unsubscribe()
            self._rest()

    def _subscribe(self) -> None:
        self._ui = self._daemon.config.ui
        listen = self._bus.subscribe
        self._subscriptions = [
            listen(StateChanged, lambda _: self._states_changed()),
            listen(ConfigChanged, lambda _: self._config_changed()),
            listen(ProfileChanged, lambda _: self._profile_changed()),
            listen(ReloadChanged, self._reload_changed),
            listen(RowAdded, self._row_added),
            listen(SwapChanged, self._swap_changed),
            listen(ExchangeBegan, self._request_changed),
            listen(ExchangeAnswered, self._request_changed),
            listen(ExchangeEnded, self._request_changed),
        ]

    def _rest(self) -> None:
        """Wake up no more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._due.clear()

    def _forget_unwanted(self) -> None:
        """Keep nothing for a client to come: what it is told first is all there is."""
        if Kind.IN_FLIGHT not in self._wanted:
            self._requests.forget()
        if Kind.RELOAD not in self._wanted:
            self._reloads = []
        if Kind.SWAP not in self._wanted:
            self._swaps = []

    # ----------------------------------------------------------------- news

    def _log_written(self, source: str, text: str) -> None:
        data = message(Kind.LOG, {"data": text, "source": source})
        for client in tuple(self._clients):
            if Kind.LOG in client.kinds:
                client.put_log(source, text, data)

    def _states_changed(self) -> None:
        self._counts = None
        self._mark(Kind.MODELS)
        self._mark(Kind.QUEUE)

    def _config_changed(self) -> None:
        if self._daemon.config.ui != self._ui:
            self._ui = self._daemon.config.ui
            self._mark(Kind.UI)
        self._states_changed()

    def _profile_changed(self) -> None:
        self._mark(Kind.PROFILE)
        self._states_changed()

    def _reload_changed(self, news: ReloadChanged) -> None:
        if Kind.RELOAD in self._wanted:
            self._reloads.append(news.report)
            self._mark(Kind.RELOAD)

    def _row_added(self, news: RowAdded) -> None:
        self._row = news.id
        self._mark(Kind.ACTIVITY)

    def _swap_changed(self, news: SwapChanged) -> None:
        if Kind.SWAP in self._wanted:
            self._swaps.append(news.record)
            self._mark(Kind.SWAP)

    def _request_changed(self, news: ExchangeBegan | ExchangeAnswered | ExchangeEnded) -> None:
        if Kind.IN_FLIGHT in self._wanted and news.exchange.passage.is_listed:
            self._requests.note(news.exchange)
            self._mark(Kind.IN_FLIGHT)
        self._mark(Kind.QUEUE)
        self._mark(Kind.MODELS, _COUNTS_SECONDS)

    # ----------------------------------------------------------------- messages, after the turn

    def _mark(self, kind: Kind, delay_seconds: float = 0) -> None:
        """Tell of something soon."""
        if kind not in self._wanted:
            return
        now_mono = self._clock.seconds()
        spaced_mono = self._flushed.get(kind, -math.inf) + _SPACING_SECONDS.get(kind, 0)
        at_mono = max(now_mono + delay_seconds, spaced_mono)
        if at_mono < self._due.get(kind, math.inf):
            self._due[kind] = at_mono
            self._wake_at(at_mono)

    def _wake_at(self, at_mono: float) -> None:
        delay_seconds = max(0.0, at_mono - self._clock.seconds())
        if self._timer is None:
            self._timer = self._clock.callLater(delay_seconds, self._flush)
        elif at_mono < self._timer.getTime():
            self._timer.reset(delay_seconds)

    def _flush(self) -> None:
        self._timer = None
        now_mono = self._clock.seconds()
        makers = {
            Kind.RELOAD: self._tell_reloads,
            Kind.UI: lambda: self._tell(Kind.UI, self._ui_message()),
            Kind.PROFILE: lambda: self._tell(Kind.PROFILE, self._profile_message()),
            Kind.MODELS: self._tell_models,
            Kind.ACTIVITY: lambda: self._tell(Kind.ACTIVITY, message(Kind.ACTIVITY, {"id": self._row})),
            Kind.SWAP: self._tell_swaps,
            Kind.IN_FLIGHT: self._tell_requests,
            Kind.QUEUE: self._tell_queue,
        }
        for kind, tell in makers.items():
            if self._due.get(kind, math.inf) <= now_mono + _SAME_MOMENT_SECONDS:
                del self._due[kind]
                self._flushed[kind] = now_mono
                if kind in self._wanted:
                    tell()
        if self._due:
            self._wake_at(min(self._due.values()))

    def _tell(self, kind: Kind, data: bytes, number: int = 0) -> None:
        for client in tuple(self._clients):
            if kind in client.kinds:
                client.put(kind, data, number)

    def _tell_reloads(self) -> None:
        reloads, self._reloads = self._reloads, []
        for report in reloads:
            self._tell(Kind.RELOAD, message(Kind.RELOAD, report))

    def _tell_swaps(self) -> None:
        swaps, self._swaps = self._swaps, []
        for record in swaps:
            self._tell(Kind.SWAP, message(Kind.SWAP, record), record["swap_id"])

    def _tell_models(self) -> None:
        statuses = self._statuses()
        counts = [(s.get("queued"), s.get("in_flight"), (s.get("ttl_deadline") or "")[:19]) for s in statuses]
        if counts != self._counts:
            self._counts = list(counts)
            self._tell(Kind.MODELS, message(Kind.MODELS, statuses))

    def _tell_requests(self) -> None:
        changes = self._requests.take()
        if changes is None:
            data = self._requests.snapshot()
            for client in tuple(self._clients):
                if Kind.IN_FLIGHT in client.kinds:
                    client.put_snapshot(data)
        else:
            for change in changes:
                self._tell(Kind.IN_FLIGHT, change.data, change.number)
        self._look_again()

    def _tell_queue(self) -> None:
        for data in self._queue_messages():
            if data != self._queue_told:
                self._queue_told = data
                self._tell(Kind.QUEUE, data)
        self._look_again()

    def _look_again(self) -> None:
        """Look soon for what makes no news of its own, as long as there are requests."""
        if self._ledger.listed():
            self._mark(Kind.IN_FLIGHT, max(0.0, self._requests.next_scan_mono - self._clock.seconds()))
            self._mark(Kind.QUEUE, _SPACING_SECONDS[Kind.QUEUE])

    def _statuses(self) -> list[dict[str, Any]]:
        return model_statuses(self._daemon.config, self._daemon.router)

    def _ui_message(self) -> bytes:
        headers = self._daemon.config.ui.session_id_headers
        return message(Kind.UI, {"activity": {"session_id": headers}})

    def _profile_message(self) -> bytes:
        return message(Kind.PROFILE, {"active": self._profiles.active})

    def _queue_messages(self) -> list[bytes]:
        return [message(Kind.QUEUE, self.queue())] if self.queue is not None else []
