"""The sources of GPU figures that this version knows, best first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from llamaswap.telemetry.gpu import GPUSource
from llamaswap.telemetry.gpu_amdgpu import AMDGPU
from llamaswap.telemetry.gpu_lact import LACT, socket_paths
from llamaswap.telemetry.gpu_nvml import NVML


def gpu_sources(environ: Mapping[str, str]) -> Sequence[GPUSource]:
    """Make all of them; what is not there says so when it is opened.

    Args:
        environ: Of this process.
    """
    return NVML(), LACT(socket_paths(environ)), AMDGPU()
