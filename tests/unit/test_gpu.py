"""Several sources of GPU figures taken together."""

from __future__ import annotations

from collections.abc import Sequence

from llamaswap.telemetry.gpu import GPUError, GPUReading, GPUs
from llamaswap.telemetry.samples import GPU, GPUIdentity


class FakeSource:
    """Gives devices, or raises."""

    def __init__(self, name: str, *gpus: GPU) -> None:
        self.name = name
        self.gpus: Sequence[GPU] = gpus
        self.error: Exception | None = None
        self.is_whole = True
        self.events: list[str] = []

    def open(self) -> None:
        self.events.append("open")
        if self.error is not None:
            raise self.error

    def read(self) -> tuple[Sequence[GPU], bool]:
        self.events.append("read")
        if self.error is not None:
            raise self.error
        return self.gpus, self.is_whole

    def close(self) -> None:
        self.events.append("close")

    def take(self) -> list[str]:
        events, self.events = self.events, []
        return events


class Look:
    """Looks at sources as time goes by."""

    def __init__(self, *sources: FakeSource) -> None:
        self.now = 0.0
        self.gpus = GPUs(sources, lambda: 7, lambda: self.now)

    def at(self, now: float) -> GPUReading:
        self.now = now
        return self.gpus.read()


def device(source: str, index: int | None, *, uuid: str = "", address: str = "") -> GPU:
    return GPU(GPUIdentity(source, index, f"{source} {index}", uuid, address))


def numbers(reading: GPUReading) -> list[tuple[int, str]]:
    return [(number, gpu.identity.name) for number, gpu in reading.snapshot.gpus]


def test_makers_are_merged_and_no_device_is_counted_twice() -> None:
    nvidia = FakeSource("nvml", device("nvml", 0, uuid="u", address="0000:01:00.0"))
    lact = FakeSource("lact", device("lact", 0, address="0000:01:00.0"), device("lact", 1, address="0000:02:00.0"))
    amd = FakeSource("amdgpu", device("amdgpu", 0, address="0000:02:00.0"), device("amdgpu", 1, address="0000:03:00.0"))
    reading = Look(nvidia, lact, amd).at(0)
    assert numbers(reading) == [(0, "nvml 0"), (1, "lact 1"), (2, "amdgpu 1")]
    assert reading.answered == ["nvml", "lact", "amdgpu"]
    assert reading.snapshot.at_ns == 7


def test_numbers_stay_when_a_source_goes_and_another_gives_its_devices() -> None:
    lact = FakeSource("lact", device("lact", 0, address="a"), device("lact", 1, address="b"))
    amd = FakeSource("amdgpu", device("amdgpu", 0, address="b"))
    look = Look(lact, amd)
    assert numbers(look.at(0)) == [(0, "lact 0"), (1, "lact 1")]
    lact.error = GPUError("gone")
    assert numbers(look.at(5)) == [(1, "amdgpu 0")]
    lact.error = None
    assert numbers(look.at(10)) == [(0, "lact 0"), (1, "lact 1")]


def test_instances_are_numbered_after_the_devices() -> None:
    source = FakeSource(
        "nvml",
        device("nvml", 0, uuid="0"),
        device("nvml", None, uuid="0a"),
        device("nvml", None, uuid="0b"),
        device("nvml", 1, uuid="1"),
    )
    reading = Look(source).at(0)
    assert [(number, gpu.identity.uuid) for number, gpu in reading.snapshot.gpus] == [
        (0, "0"),
        (1, "1"),
        (2, "0a"),
        (3, "0b"),
    ]


def test_a_source_that_fails_is_left_alone_longer_and_longer() -> None:
    source = FakeSource("nvml", device("nvml", 0))
    look = Look(source)
    source.error = GPUError("broken")
    tries = [now for now in range(0, 2000, 5) if look.at(now).errors]
    assert tries == [0, 5, 15, 35, 75, 155, 315, 615, 915, 1215, 1515, 1815]
    source.error = None
    assert look.at(2115).answered == ["nvml"]
    source.error = GPUError("broken again")
    assert look.at(2120).errors == {"nvml": source.error}
    assert look.at(2124).errors == {}
    assert look.at(2125).errors == {"nvml": source.error}, "the pause is short again"


def test_a_source_that_breaks_in_any_way_leaves_the_others() -> None:
    broken, whole = FakeSource("nvml"), FakeSource("lact", device("lact", 0))
    broken.error = ZeroDivisionError()
    reading = Look(broken, whole).at(0)
    assert reading.errors == {"nvml": broken.error}
    assert numbers(reading) == [(0, "lact 0")]


def test_a_source_that_lacks_a_device_is_opened_anew_now_and_then() -> None:
    source = FakeSource("nvml", device("nvml", 0))
    look = Look(source)
    look.at(0)
    source.is_whole = False
    source.take()
    opened = []
    for now in range(5, 100, 5):
        assert look.at(now).answered == ["nvml"], "the others are not missed"
        if "open" in source.take():
            opened.append(now)
    assert opened == [10, 20, 40, 80]
    source.is_whole = True
    look.at(100)
    source.take()
    look.at(105)
    assert source.take() == ["read"]


def test_all_are_let_go() -> None:
    opened, failed = FakeSource("nvml", device("nvml", 0)), FakeSource("lact")
    failed.error = GPUError("no")
    look = Look(opened, failed)
    look.at(0)
    opened.take(), failed.take()
    look.gpus.close()
    look.gpus.close()
    assert (opened.take(), failed.take()) == (["close"], [])
