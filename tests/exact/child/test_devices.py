"""The GPUs that the child program sees, their UUIDs, and the context that it gives back."""

from __future__ import annotations

import ctypes
from types import SimpleNamespace
from typing import Any

import pytest

from tests.exact.child.common import devices
from tests.recorder.cuda import Cuda


def test_each_visible_gpu_is_described(cuda: Cuda, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "uuid", lambda index: f"GPU-{index}")
    two = Cuda(2)
    monkeypatch.setattr(devices, "cuda", two)
    assert devices.visible() == (
        [
            {
                "gpu": f"Card {number}",
                "uuid": f"GPU-{number}",
                "compute_capability": f"8.{6 + number}",
                "memory_mib": 24564,
                "driver_cuda": "12.8",
            }
            for number in range(2)
        ],
        "",
    )
    assert two.calls == ["init"]

    monkeypatch.setattr(two, "get_driver_version", lambda: 13000)
    assert devices.visible()[0][0]["driver_cuda"] == "13.0"

    def fail() -> None:
        raise two.Error("no CUDA-capable device is detected")

    monkeypatch.setattr(two, "init", fail)
    assert devices.visible() == ([], "no CUDA-capable device is detected")


def test_a_uuid_as_nvidia_writes_it(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def get(raw: Any, index: Any) -> int:
        asked.append(index.value)
        raw.raw = bytes(range(16))
        return 0 if index.value == 1 else 3

    def library(name: str) -> Any:
        asked.append(name)
        return SimpleNamespace(cuDeviceGetUuid=get)

    fake = SimpleNamespace(
        CDLL=library, create_string_buffer=ctypes.create_string_buffer, c_int=ctypes.c_int
    )
    monkeypatch.setattr(devices, "ctypes", fake)
    assert devices.uuid(1) == "GPU-00010203-0405-0607-0809-0a0b0c0d0e0f"
    assert devices.uuid(0) == ""
    assert asked == ["libcuda.so.1", 1, "libcuda.so.1", 0]


def test_the_context_is_given_back(cuda: Cuda, monkeypatch: pytest.MonkeyPatch) -> None:
    cleared: list[Any] = []
    monkeypatch.setattr(devices, "traceback", SimpleNamespace(clear_frames=cleared.append))
    with devices.Context() as context:
        assert isinstance(context, devices.Context)
        assert cuda.calls == ["init", ("retain", 0), "push"]
    assert cuda.calls[3:] == ["pop", "detach"]
    assert cleared == []
    with pytest.raises(ValueError, match="inside"), devices.Context():
        raise ValueError("inside")
    assert cuda.calls[8:] == ["pop", "detach"]
    [trace] = cleared
    assert trace.tb_frame.f_code.co_name == "test_the_context_is_given_back"
