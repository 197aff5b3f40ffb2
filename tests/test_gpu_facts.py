"""GPUs that do not tell all: the management library's answers are stood in for, because no such GPU
is here.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pynvml
import pytest

from enginery.errors import ExcludedTargetError, GpuError
from enginery.gpu import inventory as gpu
from enginery.project.load import load_spec
from enginery.toolchain.selection import Toolchains
from tests.test_spec import write

NAMES = ("Unified GPU", "Lost GPU", "Card")
UUIDS = ("GPU-aa-1", "GPU-bb-2", "GPU-ab-3")


def refuse(*_: Any) -> Any:
    raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED)


def memory(index: int) -> Any:
    return refuse() if index == 0 else type("Memory", (), {"total": 8 << 30, "free": 100 << 20})()


@pytest.fixture(autouse=True)
def library(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = {
        "nvmlInit": lambda: None,
        "nvmlShutdown": lambda: None,
        "nvmlDeviceGetCount": lambda: 3,
        "nvmlDeviceGetHandleByIndex": lambda index: refuse() if index == 1 else index,
        "nvmlDeviceGetHandleByUUID": UUIDS.index,
        "nvmlDeviceGetUUID": UUIDS.__getitem__,
        "nvmlDeviceGetName": NAMES.__getitem__,
        "nvmlDeviceGetMemoryInfo": memory,
        "nvmlDeviceGetCudaComputeCapability": lambda index: (8, 6) if index == 2 else (12, 1),
        "nvmlSystemGetDriverVersion": lambda: "580.1",
        "nvmlSystemGetCudaDriverVersion_v2": lambda: 13000,
        "nvmlDeviceGetMaxClockInfo": refuse,
        "nvmlDeviceGetClockInfo": refuse,
        "nvmlDeviceGetTemperature": refuse,
        "nvmlDeviceGetPowerUsage": refuse,
        "nvmlDeviceGetComputeRunningProcesses": lambda index: [],
    }
    for name, answer in answers.items():
        monkeypatch.setattr(pynvml, name, answer)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


def test_a_gpu_that_tells_no_memory_is_listed_and_one_that_is_lost_is_not() -> None:
    unified, card = gpu.gpus()
    assert (unified.name, unified.memory_mib, unified.cuda, unified.max_sm_clock) == (
        "Unified GPU",
        None,
        "13.0",
        None,
    )
    assert (card.name, card.index, card.memory_mib) == ("Card", 2, 8192)


def test_only_a_gpu_that_tells_its_memory_can_have_too_little() -> None:
    unified, card = gpu.gpus()
    gpu.check_room(unified, 1024)
    with pytest.raises(
        GpuError,
        match=r"GPU 2 \(Card\) has 100 of 8192 MiB free, 1024 are needed; on it: no process that can be seen",
    ):
        gpu.check_room(card, 1024)


@pytest.mark.parametrize(
    ("visible", "name"), [("2", "Card"), (" 0", "Unified GPU"), ("GPU-ab,GPU-aa", "Card")]
)
def test_the_first_visible_gpu_is_chosen(
    monkeypatch: pytest.MonkeyPatch, visible: str, name: str
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    chosen = gpu.choose(None)
    assert chosen
    assert chosen.name == name


@pytest.mark.parametrize(
    ("visible", "capability", "name"),
    [
        (None, "8.6", "Card"),
        (None, "12.1", "Unified GPU"),
        (None, "9.0", "Unified GPU"),  # which the fingerprint step then refuses
        ("0", "8.6", "Unified GPU"),
        ("0,2", "8.6", "Card"),
        ("2,0", None, "Card"),
    ],
)
def test_of_several_gpus_the_one_a_target_is_for(
    monkeypatch: pytest.MonkeyPatch,
    visible: str | None,
    capability: str | None,
    name: str,
) -> None:
    if visible:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    chosen = gpu.choose(None, capability)
    assert chosen
    assert chosen.name == name
    named = gpu.choose("GPU-aa", "8.6")  # the name counts
    assert named
    assert named.name == "Unified GPU"


def test_a_gpu_that_is_not_here() -> None:
    with pytest.raises(
        GpuError,
        match=r"there is no GPU 1 on this machine. It has 0 Unified GPU GPU-aa-1, 2 Card GPU-ab-3",
    ):
        gpu.choose(1)


def test_clocks_are_looked_at_around_timings_only_and_every_event_is_shown() -> None:
    shown: list[Any] = []
    events = [
        {"event": "progress", "phase": phase}
        for phase in ("images", "timing", "timing with transfers")
    ] + [{"event": "log"}]
    for found, count in ((gpu.choose(2), 2), (None, 0)):
        clocks = gpu.Clocks(found, shown.append)
        for event in events:
            clocks.follow(event)
        assert clocks.seen == [{"sm": None, "memory": None, "celsius": None, "watts": None}] * count
    assert shown == events * 2


@pytest.mark.parametrize(
    ("wanted", "visible", "words"),
    [
        ({"gpu": 1}, None, "there is no GPU 1 on this machine"),
        ({"gpu": "GPU-cc"}, "0", "there is no GPU GPU-cc on this machine"),
        ({}, "", r"there is no GPU \(CUDA_VISIBLE_DEVICES is empty\) on this machine"),
    ],
)
def test_a_target_whose_gpu_is_not_here_is_elsewhere(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    wanted: dict[str, Any],
    visible: str | None,
    words: str,
) -> None:
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    spec = load_spec(write(tmp_path, targets__mine={"runtime": "tensorrt", **wanted}))
    with pytest.raises(ExcludedTargetError, match=f"target mine: {words}. It has 0 Unified GPU"):
        Toolchains(spec).choose("mine")
