"""NVIDIA's devices by the driver's library, which is a fake."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from llamaswap.telemetry.gpu import GPUError, GPUs, NoGPUError
from llamaswap.telemetry.gpu_nvml import NVML, load_pynvml
from llamaswap.telemetry.samples import GPU, GPUIdentity
from tests.unit.machine_fakes import (
    LIBRARY_NOT_FOUND,
    LOST,
    NOT_SUPPORTED,
    UNKNOWN,
    FakeCard,
    FakeNVML,
    NVMLError,
)


def opened(*cards: FakeCard) -> NVML:
    source = NVML(lambda: FakeNVML(*cards))
    source.open()
    return source


def only(card: FakeCard) -> GPU:
    [gpu], is_whole = opened(card).read()
    assert is_whole
    return gpu


@pytest.mark.parametrize("is_text", [True, False])
def test_all_figures_of_a_device(is_text: bool) -> None:  # noqa: FBT001 - a parameter of the test
    assert only(FakeCard(0, is_text=is_text)) == GPU(
        GPUIdentity(
            source="nvml",
            index=0,
            name="NVIDIA H200",
            uuid="GPU-0",
            pci_address="0001:0a:00.0",
            vendor="NVIDIA",
            architecture="Hopper",
            driver_name="nvidia",
            driver_version="570.86.15",
            power_limit_watts=700.0,
        ),
        temperature_celsius=41,
        memory_temperature_celsius=52,
        busy_percent=97.0,
        memory_used_bytes=2 << 30,
        memory_total_bytes=8 << 30,
        fan_percent=30,
        power_watts=285.4,
    )


@pytest.mark.parametrize("error", [NOT_SUPPORTED, UNKNOWN])
@pytest.mark.parametrize(
    ("figure", "attribute"),
    [
        ("field", "memory_temperature_celsius"),
        ("busy", "busy_percent"),
        ("fan", "fan_percent"),
        ("power", "power_watts"),
    ],
)
def test_each_figure_fails_alone(figure: str, attribute: str, error: int) -> None:
    card = FakeCard(0)
    card.raises[figure] = error
    gpu = only(card)
    assert getattr(gpu, attribute) is None
    others = {"memory_temperature_celsius", "busy_percent", "fan_percent", "power_watts"} - {attribute}
    assert all(getattr(gpu, other) is not None for other in others)


def test_older_calls_serve_where_newer_ones_do_not() -> None:
    card = FakeCard(0)
    card.raises = {"temperature_v": NOT_SUPPORTED, "memory_v2": NOT_SUPPORTED}
    gpu = only(card)
    assert (gpu.temperature_celsius, gpu.memory_used_bytes) == (40, 3 << 30)


def test_an_older_module_lacks_functions(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("nvmlDeviceGetTemperatureV", "nvmlMemory_v2", "nvmlDeviceGetMigMode", "nvmlDeviceGetArchitecture"):
        monkeypatch.delattr(FakeNVML, name)
    gpu = only(FakeCard(0))
    assert (gpu.temperature_celsius, gpu.memory_used_bytes, gpu.identity.architecture) == (40, 3 << 30, "")


def test_a_field_with_an_error_of_its_own_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> list[Any]:
        return [SimpleNamespace(nvmlReturn=NOT_SUPPORTED)]

    monkeypatch.setattr(FakeNVML, "nvmlDeviceGetFieldValues", refuse)
    assert only(FakeCard(0)).memory_temperature_celsius is None


def test_no_memory_of_its_own() -> None:
    card = FakeCard(0)
    card.raises = {"memory": NOT_SUPPORTED, "memory_v2": NOT_SUPPORTED}
    gpu = only(card)
    assert (gpu.memory_used_bytes, gpu.memory_total_bytes, gpu.memory_percent) == (None, None, None)


def test_instances_are_devices_of_their_own() -> None:
    card = FakeCard(0)
    card.instances = [FakeCard(10), FakeCard(11)]
    card.instances[0].raises["busy"] = NOT_SUPPORTED
    gpus, _ = opened(card, FakeCard(1)).read()
    shown = [(gpu.identity.index, gpu.identity.uuid, gpu.identity.pci_address, gpu.busy_percent) for gpu in gpus]
    assert shown == [
        (0, "GPU-0", "0001:0a:00.0", 97.0),
        (None, "GPU-10", "", None),
        (None, "GPU-11", "", 97.0),
        (1, "GPU-1", "0002:0a:00.0", 97.0),
    ]


def test_a_module_that_is_not_there() -> None:
    def load() -> Any:
        raise ImportError("No module named 'pynvml'")

    with pytest.raises(NoGPUError):
        NVML(load).open()


@pytest.mark.parametrize(("error", "kind"), [(LIBRARY_NOT_FOUND, NoGPUError), (9, NoGPUError), (UNKNOWN, GPUError)])
def test_a_library_that_cannot_be_opened(error: int, kind: type[Exception]) -> None:
    nvml = FakeNVML(FakeCard(0))
    nvml.init_error = error
    source = NVML(lambda: nvml)
    with pytest.raises(GPUError) as caught:
        source.open()
    assert type(caught.value) is kind
    source.close()
    assert nvml.shutdowns == 0


def test_a_driver_without_devices_is_let_go() -> None:
    nvml = FakeNVML()
    with pytest.raises(NoGPUError):
        NVML(lambda: nvml).open()
    assert (nvml.inits, nvml.shutdowns) == (1, 1)


@pytest.mark.parametrize("error", [LOST, 1, UNKNOWN])
def test_a_lost_device_is_missing_until_it_comes_back(error: int) -> None:
    lost, well = FakeCard(0), FakeCard(1)
    nvml = FakeNVML(lost, well)
    now = [0.0]
    gpus = GPUs([NVML(lambda: nvml)], lambda: 0, lambda: now[0])

    def seen(at: float) -> list[int]:
        now[0] = at
        return [number for number, _ in gpus.read().snapshot.gpus]

    assert seen(0) == [0, 1]
    lost.raises["everything"] = error
    assert seen(5) == [1]
    lost.raises["handle"] = error
    assert [seen(at) for at in (10, 15)] == [[1], [1]]
    lost.raises.clear()
    assert seen(20) == [0, 1]
    assert nvml.inits == nvml.shutdowns + 1


def test_a_device_that_does_not_even_say_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> str:
        raise NVMLError(LOST)

    monkeypatch.setattr(FakeNVML, "nvmlDeviceGetName", refuse)
    assert only(FakeCard(0)).identity.name == ""


def test_all_devices_lost() -> None:
    card = FakeCard(0)
    source = opened(card)
    card.raises["everything"] = LOST
    with pytest.raises(GPUError):
        source.read()


def test_a_device_lost_before_the_start() -> None:
    card = FakeCard(0)
    card.raises["handle"] = LOST
    with pytest.raises(GPUError) as caught:
        opened(card)
    assert type(caught.value) is GPUError


def test_the_real_module_has_what_we_call() -> None:
    module = load_pynvml()
    names = {name for name in vars(FakeNVML) if name.startswith("nvml")} | {"NVMLError"}
    assert {name for name in names if not hasattr(module, name)} == set()
    assert module.NVML_FI_DEV_MEMORY_TEMP == 82
    assert (module.NVML_ERROR_GPU_IS_LOST, module.NVML_ERROR_LIBRARY_NOT_FOUND) == (LOST, LIBRARY_NOT_FOUND)
    assert module.NVMLError(module.NVML_ERROR_UNKNOWN).value == UNKNOWN
