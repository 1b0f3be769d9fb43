"""The exception tree; each class knows its HTTP status and its code on the wire.

``web/errors.py`` alone turns these into response bodies. ``wire_type`` and the default ``code``
follow from the status, as the table in :data:`WIRE_WORDS` says; the phrases in the messages are
those that existing clients match.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Final

WIRE_WORDS: Final[dict[int, tuple[str, str]]] = {
    400: ("invalid_request_error", "bad_request"),
    401: ("authentication_error", "unauthorized"),
    403: ("authentication_error", "forbidden"),
    404: ("invalid_request_error", "not_found"),
    409: ("invalid_request_error", "conflict"),
    413: ("invalid_request_error", "payload_too_large"),
    429: ("rate_limit_error", "rate_limit_exceeded"),
    502: ("server_error", "bad_gateway"),
    503: ("server_error", "service_unavailable"),
    504: ("server_error", "gateway_timeout"),
}
"""Status to (``type``, ``code``) of the error envelope; other 4xx and 5xx have a word of their own."""

LONGEST_NAME_SHOWN: Final = 200
"""Characters of a name that somebody made up, in messages and wherever else it is kept."""


class LlamaSwapError(Exception):
    """Anything of ours that went wrong and can be told to somebody.

    Args:
        message: What, where and with which value, in one line.

    Attributes:
        message: As given.
        status: HTTP status that the error has when a client sees it.
        code: Machine-readable word in the error envelope; empty means the word of the status.
        param: The parameter at fault, or ``None``.
        retry_after_seconds: For a ``Retry-After`` header, or ``None``.
    """

    status: int = 500
    code: ClassVar[str] = ""
    param: ClassVar[str | None] = None
    retry_after_seconds: int | None = None

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message

    @property
    def wire_type(self) -> str:
        """The ``type`` of the error envelope."""
        return wire_words(self.status)[0]

    @property
    def wire_code(self) -> str:
        """The ``code`` of the error envelope."""
        return self.code or wire_words(self.status)[1]


def wire_words(status: int) -> tuple[str, str]:
    """Give the envelope's (``type``, ``code``) for an HTTP status from 400 to 599."""
    words = WIRE_WORDS.get(status)
    if words is not None:
        return words
    return ("server_error", "internal_error") if status >= 500 else ("invalid_request_error", "invalid_request")  # noqa: PLR2004


class BadRequestError(LlamaSwapError):
    """The request cannot be understood."""

    status = 400


class FramingError(BadRequestError):
    """Bytes that are no HTTP/1.1 message."""


class UnauthorizedError(LlamaSwapError):
    """The request carries none of the configured keys."""

    status = 401

    def __init__(self) -> None:
        super().__init__("unauthorized: invalid or missing API key")


class ForbiddenError(LlamaSwapError):
    """Nobody may ask for that from there."""

    status = 403


class PayloadTooLargeError(LlamaSwapError):
    """The request's body is longer than the configuration, or its kind, allows."""

    status = 413

    def __init__(self) -> None:
        super().__init__("request body too large")


class SpoolError(LlamaSwapError):
    """There is no room, or no way, to keep a long body while its request waits."""

    status = 507


class NotFoundError(LlamaSwapError):
    """No such thing."""

    status = 404


class ModelNotFoundError(NotFoundError):
    """Nobody here serves that model."""

    code = "model_not_found"
    param = "model"


class NoTargetError(LlamaSwapError):
    """None of the models that a selector may choose can be used now."""

    status = 503
    retry_after_seconds = 1

    def __init__(self, selector: str) -> None:
        super().__init__(f'selector "{selector}" has no available spillover targets')


class ConflictError(LlamaSwapError):
    """The model's state does not allow that, and the request may not change it."""

    status = 409


class ConcurrencyLimitError(LlamaSwapError):
    """The model has as many requests as its ``concurrencyLimit`` allows."""

    status = 429
    code = "concurrency_limit"
    retry_after_seconds = 1

    def __init__(self) -> None:
        super().__init__("Too many requests")


class UpstreamStartError(LlamaSwapError):
    """The model's server could not be brought up."""

    status = 502
    code = "upstream_start_failed"
    retry_after_seconds = 1


class UpstreamStartTimeoutError(UpstreamStartError):
    """The model's server did not become healthy in time."""

    status = 504
    code = "upstream_start_timeout"


class StartBackoffError(UpstreamStartError):
    """The model's server failed to start so often that it is not tried for a while."""

    status = 503


class UpstreamUnreachableError(LlamaSwapError):
    """The connection to the model's server failed before it answered."""

    status = 502
    code = "upstream_unreachable"


class PeerError(LlamaSwapError):
    """The connection to a peer failed before it answered."""

    status = 502

    def __init__(self, cause: str) -> None:
        super().__init__(f"peer proxy error: {cause}")


class UpstreamDisconnectedError(LlamaSwapError):
    """The model's server went away in the middle of its answer."""

    status = 502
    code = "upstream_disconnected"


class HardwareUnknownError(LlamaSwapError):
    """What the machine is has not been found out, or not yet."""

    status = 503
    retry_after_seconds = 1

    def __init__(self) -> None:
        super().__init__("hardware detection unavailable")


class UpstreamAnsweredError(LlamaSwapError):
    """The model's server refused a request whose answer had begun already.

    Args:
        message: As everywhere.
        status: The server's.
    """

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


class RequestCancelledError(LlamaSwapError):
    """The request was cancelled on purpose, by somebody else than its client."""

    status = 502
    code = "request_cancelled"


class TunnelClosedError(LlamaSwapError):
    """A websocket kept its model from making room for another one for too long."""

    status = 503

    def __init__(self) -> None:
        super().__init__("closed: another model has waited for too long")


class NotReadyError(LlamaSwapError):
    """The process vanished between the grant and its use."""

    status = 503

    def __init__(self, model: str) -> None:
        super().__init__(f"[{model}] process is not ready")


class ModelUnloadedError(LlamaSwapError):
    """The model was unloaded while the request waited for it."""

    status = 503
    code = "model_unloaded"
    retry_after_seconds = 1


class IllegalTransitionError(LlamaSwapError):
    """A process was told something that its state does not allow: a bug of ours."""


class ShuttingDownError(LlamaSwapError):
    """The daemon is about to end."""

    status = 503
    code = "shutting_down"
    retry_after_seconds = 1


class SwapRefusedError(LlamaSwapError):
    """A planner said that the model can not, or not soon, be served.

    Args:
        message: As everywhere.
        status: 503 or 507.
        retry_after_seconds: For a ``Retry-After`` header, or ``None``.
    """

    status = 503
    code = "swap_refused"

    def __init__(self, message: str, status: int = 503, retry_after_seconds: int | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.retry_after_seconds = retry_after_seconds


@dataclass(frozen=True, slots=True)
class ConfigProblem:
    """One thing that is wrong with a configuration.

    Attributes:
        message: What is wrong.
        file: In which file, ``None`` = no single one.
        line: On which line, counted from 1; ``None`` = the file as a whole.
        path: At which keys, joined by dots; ``None`` = the file as a whole.
    """

    message: str
    file: str | None = None
    line: int | None = None
    path: str | None = None


class ConfigError(LlamaSwapError):
    """The configuration cannot be used; ``str()`` gives one line per problem.

    Args:
        message: The lines.
        details: What they say; by default one problem with the whole message.
    """

    def __init__(self, message: str, details: Sequence[ConfigProblem] = ()) -> None:
        super().__init__(message)
        self.details = tuple(details) or (ConfigProblem(message),)


class PlannerConfigError(ConfigError):
    """A planner does not like its settings.

    Args:
        setting: Name of the setting, below ``routing.router.settings.NAME``.
        expected: What would have been right.
        got: The value found.
    """

    def __init__(self, setting: str, expected: str, got: object) -> None:
        super().__init__(f"{setting}: expected {expected}, got {got!r}")
        self.setting = setting
