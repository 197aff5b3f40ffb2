"""INT8 ranges from a cache, and TensorRT's own calibration, batch by batch."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from tests.child import tensorrt
from tests.exact.child.common import calibrating, refused
from tests.recorder.cuda import Cuda


def test_ranges_from_a_cache(tmp_path: Path) -> None:
    (tmp_path / "c").write_bytes(b"TRT-8600-EntropyCalibration2\nx: 3c010a14\n\xff")
    trt = tensorrt()
    found = calibrating.from_cache(trt, str(tmp_path / "c"))
    assert isinstance(found, trt.IInt8EntropyCalibrator2)
    assert found._made
    assert (found.get_batch_size(), found.get_batch(["x"])) == (1, None)
    assert found.read_calibration_cache() == b"TRT-8600-EntropyCalibration2\nx: 3c010a14\n\xff"
    found.write_calibration_cache(b"other")
    assert (tmp_path / "c").read_bytes().startswith(b"TRT-8600")


@pytest.fixture
def native_cuda(monkeypatch: pytest.MonkeyPatch) -> Cuda:
    found = Cuda()
    package = SimpleNamespace(driver=found)
    monkeypatch.setitem(sys.modules, "pycuda", package)
    monkeypatch.setitem(sys.modules, "pycuda.driver", found)
    return found


def test_native_calibration_gives_full_batches_one_by_one(
    tmp_path: Path, native_cuda: Cuda
) -> None:
    """Five images in batches of two: the fifth is left out."""
    images = np.arange(5 * 3 * 2 * 2, dtype=np.float32).reshape(5, 3, 2, 2)
    np.save(tmp_path / "i.npy", images)
    trt = tensorrt()
    found = calibrating.native(trt, str(tmp_path / "i.npy"), 2, str(tmp_path / "cache"))
    assert isinstance(found, trt.IInt8EntropyCalibrator2)
    assert found._made
    [memory] = native_cuda.memory
    assert memory.size == 2 * 3 * 2 * 2 * 4
    assert (found.get_batch_size(), found.read_calibration_cache()) == (2, None)
    for start in (0, 2):
        assert found.get_batch(["x"]) == [1000]
        assert np.array_equal(memory.values, images[start : start + 2])
        assert not memory.freed
    assert found.get_batch(["x"]) is None
    assert memory.freed
    found.write_calibration_cache(memoryview(b"TRT-101601-EntropyCalibration2\n"))
    assert (tmp_path / "cache").read_bytes() == b"TRT-101601-EntropyCalibration2\n"


def test_native_calibration_leaves_the_images_on_the_disk(
    tmp_path: Path, native_cuda: Cuda, monkeypatch: pytest.MonkeyPatch
) -> None:
    np.save(tmp_path / "i.npy", np.zeros((2, 3, 2, 2), np.float32))
    load, loaded = np.load, list[Any]()
    monkeypatch.setattr(
        np, "load", lambda *given, **named: loaded.append(load(*given, **named)) or loaded[0]
    )
    calibrating.native(tensorrt(), str(tmp_path / "i.npy"), 2, "cache")
    assert isinstance(loaded[0], np.memmap)


def test_native_calibration_needs_one_batch(tmp_path: Path, native_cuda: Cuda) -> None:
    np.save(tmp_path / "i.npy", np.zeros((2, 3, 2, 2), np.float32))
    calibrating.native(tensorrt(), str(tmp_path / "i.npy"), 2, "cache")
    with refused("data", "calibration needs at least one batch of 3 images and has 2"):
        calibrating.native(tensorrt(), str(tmp_path / "i.npy"), 3, "cache")
