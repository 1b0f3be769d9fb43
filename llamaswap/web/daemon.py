"""What the routes need of the daemon around them."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Protocol

from twisted.internet.defer import Deferred

from llamaswap.config.schema import Config, ModelConfig
from llamaswap.core.fences import Fence
from llamaswap.core.records import Waiting, WhatIf
from llamaswap.core.snapshot import UpstreamSnapshot
from llamaswap.core.values import ModelId, ProcessState, RequestId, StopReason, SwapReason
from llamaswap.loan import Loan
from llamaswap.proxy.hop import HopPool
from llamaswap.proxy.peers import Peers
from llamaswap.telemetry.logs import Logs
from llamaswap.waiter import Waiter
from llamaswap.web.observers import Observers


class WebRouter(Protocol):
    """The router, as far as the routes care; see :class:`llamaswap.router.Router`."""

    def enter(
        self,
        model: ModelId,
        waiter: Waiter[HopPool],
        reason: SwapReason = SwapReason.REQUEST,
        /,
    ) -> RequestId:
        """Ask for a model."""

    def leave(self, request: RequestId, /) -> None:
        """End a request."""

    def borrow(self, model: ModelId, reason: SwapReason, /) -> Loan:
        """Ask for a model on our own behalf."""

    def unload(self, models: Collection[ModelId], reason: StopReason = StopReason.USER, /) -> Deferred[None]:
        """Stop models."""

    def snapshots(self) -> list[UpstreamSnapshot]:
        """Describe every model's process."""

    def resident_bytes(self, model: ModelId, /) -> Deferred[int | None]:
        """Measure the host memory of a model's process; fires with ``None`` when it is unknown."""

    def config_of(self, model: ModelId, /) -> ModelConfig:
        """Give the configuration of a model of which there is anything."""

    def reserved(self, model: ModelId, /) -> tuple[int, int]:
        """Count the requests of a model: those that wait, and those in flight."""

    def ready_pool(self, model: ModelId, /) -> HopPool | None:
        """Give the connections of a model that is ready, for what is neither counted nor waited for."""

    def waiting(self) -> list[Waiting]:
        """Say who waits for what."""

    def fences(self) -> list[Fence]:
        """Say for whom others have to wait."""

    def what_if(self, model: ModelId, /) -> WhatIf:
        """Say what a request for a model would cause."""

    def state(self, model: ModelId, /) -> ProcessState:
        """Give the state of a model."""


class Daemon(Protocol):
    """The daemon; see :class:`llamaswap.service.DaemonService`."""

    @property
    def config(self) -> Config:
        """The configuration in force."""

    @property
    def router(self) -> WebRouter:
        """The router, the same for the daemon's whole life."""

    @property
    def peers(self) -> Peers:
        """The ways to other servers."""

    @property
    def logs(self) -> Logs:
        """All logs."""

    @property
    def observers(self) -> Observers:
        """What looks on."""

    def reload_document(self) -> Mapping[str, Any]:
        """Describe the last reload."""
