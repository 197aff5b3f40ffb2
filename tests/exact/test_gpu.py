"""GPUs as the management library tells them, number by number; its answers are stood in for."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pynvml
import pytest

from enginery.errors import GpuError
from enginery.gpu import inventory as gpu
from enginery.gpu import turns
from enginery.gpu.inventory import Clocks, Gpu, GpuState

NAMES = ("Card A", "Card B")
UUIDS = ("GPU-aa11", "GPU-bb22")


class Library:
    """NVIDIA's management library: answers for two cards, and which of its questions fail."""

    def __init__(self) -> None:
        self.open, self.fails = 0, set[str]()
        self.processes: Any = (
            SimpleNamespace(pid=7, usedGpuMemory=(300 << 20) + 5),
            SimpleNamespace(pid=8, usedGpuMemory=None),
        )
        self.free = (100 << 20) + 9

    def answers(self) -> Mapping[str, Any]:
        max_clocks = {pynvml.NVML_CLOCK_SM: 2000, pynvml.NVML_CLOCK_MEM: 9000}
        clocks = {pynvml.NVML_CLOCK_SM: 1500, pynvml.NVML_CLOCK_MEM: 8000}
        return {
            "nvmlInit": self.begin,
            "nvmlShutdown": self.end,
            "nvmlDeviceGetCount": lambda: 2,
            "nvmlDeviceGetHandleByIndex": lambda at: at,
            "nvmlDeviceGetHandleByUUID": lambda uuid: UUIDS.index(uuid),
            "nvmlDeviceGetUUID": lambda at: UUIDS[at],
            "nvmlDeviceGetName": lambda at: NAMES[at],
            "nvmlDeviceGetMemoryInfo": lambda at: SimpleNamespace(
                total=(24564 << 20) + 7, free=self.free
            ),
            "nvmlDeviceGetCudaComputeCapability": lambda at: (8, 6) if at == 0 else (12, 0),
            "nvmlSystemGetDriverVersion": lambda: "580.95.05",
            "nvmlSystemGetCudaDriverVersion_v2": lambda: 12085,
            "nvmlDeviceGetMaxClockInfo": lambda at, which: max_clocks[which] + at,
            "nvmlDeviceGetClockInfo": lambda at, which: clocks[which] + at,
            "nvmlDeviceGetTemperature": lambda at, sensor: (
                60 + at if sensor == pynvml.NVML_TEMPERATURE_GPU else 0
            ),
            "nvmlDeviceGetPowerUsage": lambda at: 250_500 + at,
            "nvmlDeviceGetComputeRunningProcesses": lambda at: self.processes,
        }

    def begin(self) -> None:
        self.open += 1

    def end(self) -> None:
        self.open -= 1

    def asked(self, name: str) -> Any:
        def answer(*given: Any) -> Any:
            if name in self.fails:
                raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED)
            assert self.open == 1 or name in ("nvmlInit", "nvmlShutdown")
            return self.answers()[name](*given)

        return answer


@pytest.fixture(autouse=True)
def library(monkeypatch: pytest.MonkeyPatch) -> Iterator[Library]:
    found = Library()
    for name in found.answers():
        monkeypatch.setattr(pynvml, name, found.asked(name))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    yield found
    assert found.open == 0


FIRST = Gpu(0, "GPU-aa11", "Card A", "8.6", 24564, "580.95.05", "12.8", 2000, 9000)
SECOND = Gpu(1, "GPU-bb22", "Card B", "12.0", 24564, "580.95.05", "12.8", 2001, 9001)


def test_every_gpu_with_what_it_tells(library: Library) -> None:
    assert gpu.gpus() == (FIRST, SECOND)
    library.fails = {"nvmlDeviceGetMemoryInfo", "nvmlDeviceGetMaxClockInfo"}
    assert gpu.gpus()[0] == Gpu(
        0, "GPU-aa11", "Card A", "8.6", None, "580.95.05", "12.8", None, None
    )
    library.fails = {"nvmlDeviceGetName"}
    assert gpu.gpus() == ()
    library.fails = {"nvmlInit"}
    assert gpu.gpus() == ()


def test_how_a_gpu_is_doing(library: Library) -> None:
    assert gpu.state(SECOND) == GpuState(100, 1501, 8001, 61, 250.501, ((7, 300), (8, 0)))
    library.fails = {
        "nvmlDeviceGetMemoryInfo",
        "nvmlDeviceGetClockInfo",
        "nvmlDeviceGetTemperature",
        "nvmlDeviceGetPowerUsage",
        "nvmlDeviceGetComputeRunningProcesses",
    }
    assert gpu.state(FIRST) == GpuState(None, None, None, None, None, ())
    library.fails = {"nvmlDeviceGetHandleByUUID"}
    with pytest.raises(GpuError) as error:
        gpu.state(FIRST)
    assert str(error.value) == (
        "GPU 0 (Card A, GPU-aa11) does not answer: Not Supported. Look at nvidia-smi, then run again"
    )


def test_room_is_counted_in_mib(library: Library) -> None:
    gpu.check_room(FIRST, 100)
    with pytest.raises(GpuError) as error:
        gpu.check_room(FIRST, 101)
    assert str(error.value) == (
        "GPU 0 (Card A) has 100 of 24564 MiB free, 101 are needed; on it: process 7 with 300 MiB, process 8 with 0 MiB. "
        "Stop what uses it, or name another one: `gpu` of the target in params.yaml"
    )
    library.processes = ()
    with pytest.raises(GpuError, match="on it: no process that can be seen"):
        gpu.check_room(FIRST, 101)
    library.fails = {"nvmlDeviceGetMemoryInfo"}
    gpu.check_room(FIRST, 1 << 40)


@pytest.mark.parametrize(
    ("wanted", "visible", "capability", "expected"),
    [
        (None, None, None, FIRST),
        (None, None, "12.0", SECOND),
        (None, None, "9.0", FIRST),
        (0, None, "12.0", FIRST),
        (1, None, None, SECOND),
        ("GPU-bb22", None, None, SECOND),
        ("GPU-b", None, None, SECOND),
        (1, "0", None, SECOND),
        (None, "1", None, SECOND),
        (None, "1,0", None, SECOND),
        (None, "1,0", "8.6", FIRST),
        (None, " 1 , 0 ", None, SECOND),
        (None, "0,7", "12.0", FIRST),
        (None, "GPU-bb", None, SECOND),
        (None, "GPU-bb,GPU-aa", "8.6", FIRST),
    ],
)
def test_which_gpu_is_chosen(
    monkeypatch: pytest.MonkeyPatch,
    wanted: int | str | None,
    visible: str | None,
    capability: str | None,
    expected: Gpu,
) -> None:
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert gpu.choose(wanted, capability) == expected
    if capability is None:
        assert gpu.choose(wanted) == expected


@pytest.mark.parametrize(
    ("wanted", "visible", "name"),
    [
        (2, None, "2"),
        ("GPU-cc", None, "GPU-cc"),
        ("aa11", None, "aa11"),
        (None, "", "(CUDA_VISIBLE_DEVICES is empty)"),
        (None, "7,0", "7"),
        (None, "-1", "-1"),
        (None, "bb", "bb"),
    ],
)
def test_a_gpu_that_is_not_there(
    monkeypatch: pytest.MonkeyPatch, wanted: int | str | None, visible: str | None, name: str
) -> None:
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    with pytest.raises(GpuError) as error:
        gpu.choose(wanted)
    assert (
        str(error.value)
        == f"there is no GPU {name} on this machine. It has 0 Card A GPU-aa11, 1 Card B GPU-bb22"
    )


def test_where_none_can_be_listed_none_is_chosen(library: Library) -> None:
    library.fails = {"nvmlInit"}
    assert gpu.choose(5) is None


def test_clocks_are_noted_around_timings() -> None:
    shown: list[Any] = []
    clocks = Clocks(SECOND, shown.append)
    events = [
        {"phase": "timing gpu"},
        {"phase": "images"},
        {},
        {"phase": None},
        {"phase": "a timing"},
        {"phase": "timing"},
    ]
    for event in events:
        clocks.follow(event)
    assert clocks.seen == [{"sm": 1501, "memory": 8001, "celsius": 61, "watts": 250.501}] * 2
    assert shown == events
    none = Clocks(None, shown.append)
    none.follow(events[0])
    assert none.seen == []


def test_a_reserved_gpu_is_ours_alone_and_has_room(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its turn is taken first: another run that waits must not be counted, and it ends after the
    work.
    """
    calls: list[Any] = []

    @contextmanager
    def turn(name: str, on_wait: Any) -> Iterator[None]:
        calls.append(("turn", name, on_wait))
        yield
        calls.append("given back")

    monkeypatch.setattr(turns, "gpu_lock", turn)
    monkeypatch.setattr(turns, "check_room", lambda *given: calls.append(given))
    with turns.reserved(FIRST, 512, print):
        calls.append("work")
    assert calls == [("turn", "GPU-aa11", print), (FIRST, 512), "work", "given back"]
    calls.clear()
    with turns.reserved(None, 512, print):
        pass
    assert calls == []


def test_a_turn_is_one_processs(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """While it is held, nobody else gets the lock, not even a shared one; then anybody does."""
    import fcntl

    monkeypatch.setattr(turns, "TURNS", tmp_path)
    path = tmp_path / "enginery-GPU-x.lock"
    with turns.gpu_lock("GPU-x", print):
        assert path.read_text() == str(os.getpid())
        for kind in (fcntl.LOCK_SH, fcntl.LOCK_EX):
            with path.open() as file, pytest.raises(BlockingIOError):
                fcntl.flock(file, kind | fcntl.LOCK_NB)
    with path.open() as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_what_cannot_serve_as_a_lock() -> None:
    error = turns._no_lock(Path("/l"), "why")
    assert error.what == "/l cannot serve as the lock of the GPU: why"
    assert error.cure == "Remove it, or have its owner remove it, then run again"
