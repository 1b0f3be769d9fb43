"""Every configurable default, once, with its unit and its origin.

Origin is llama-swap's documented configuration unless a line says *ours*.
"""

from __future__ import annotations

from typing import Final

from llamaswap.core import sets

HEALTH_CHECK_TIMEOUT_SECONDS: Final = 120
HEALTH_CHECK_TIMEOUT_LEAST_SECONDS: Final = 15
LOG_LEVEL: Final = "info"
LOG_TIME_FORMAT: Final = ""
LOG_TO_STDOUT: Final = "proxy"
METRICS_MAX_IN_MEMORY_ROWS: Final = 1000
CAPTURE_BUFFER_MIB: Final = 5
GLOBAL_TTL_SECONDS: Final = 0
UNLOAD_TIMEOUT_SECONDS: Final = 10
START_PORT: Final = 5800
PROXY: Final = "http://localhost:${PORT}"
CHECK_ENDPOINT: Final = "/health"
CONCURRENCY_LIMIT: Final = 10
COMFYUI_MODEL: Final = "comfyui_auto"
COMFYUI_CONCURRENCY_LIMIT: Final = 50
PERFORMANCE_EVERY_SECONDS: Final = 5.0
PERFORMANCE_EVERY_LEAST_SECONDS: Final = 5.0
IGNORE_PATHS: Final = (r".*\.(js|json|css|png|gif|jpg|jpeg|ico|txt)$",)
SESSION_ID_HEADERS: Final = ("X-Session-ID", "X-Litellm-Session-Id")
SPILLOVER: Final = 1
EVICT_COST: Final = sets.EVICT_COST
DEFAULT_GROUP: Final = "(default)"

TIMEOUT_CONNECT_SECONDS: Final = 30
TIMEOUT_KEEPALIVE_SECONDS: Final = 30
TIMEOUT_RESPONSE_HEADER_SECONDS: Final = 0
TIMEOUT_RESPONSE_HEADER_PEER_SECONDS: Final = 60
TIMEOUT_TLS_HANDSHAKE_SECONDS: Final = 10
TIMEOUT_EXPECT_CONTINUE_SECONDS: Final = 1
TIMEOUT_IDLE_CONNECTION_SECONDS: Final = 90

# From here on: ours.
PLANNER_FALLBACK: Final = "group"
PLANNER_ISOLATION: Final = "thread"
PLAN_TIMEOUT_SECONDS: Final = 0.25
MAX_WAIT_SECONDS: Final = 300
MAX_DRAIN_SECONDS: Final = 0
RELOAD_DRAIN_SECONDS: Final = 30
START_BACKOFF_FAILURES: Final = 0
START_BACKOFF_WINDOW_SECONDS: Final = 60
START_BACKOFF_PAUSE_SECONDS: Final = 30
LAUNCHER: Final = "local"
LOG_FORMAT: Final = "text"
LOG_BUFFER_KIB: Final = 100
HTTP_MAX_BODY_MIB: Final = 0
HTTP_MAX_HEADER_BYTES: Final = 1024 * 1024
HTTP_HEADER_TIMEOUT_SECONDS: Final = 30
HTTP_BODY_TIMEOUT_SECONDS: Final = 60
HTTP_MAX_CONNECTIONS: Final = 0
