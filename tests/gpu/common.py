"""A machine with an NVIDIA GPU and a toolchain for it.

ENGINERY_GPU_TOOLCHAIN names an interpreter with tensorrt (8.5 to 10), NumPy and pycuda;
ENGINERY_GPU_OTHER one with another version. ENGINERY_GPU_TACTICS limits the tactic sources, for a
toolchain without cuBLAS and cuDNN.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from enginery.toolchain.client import measure
from enginery.toolchain.requests import Measurement, MeasureRequest, PointRequest
from tests.test_toolchain import silent

TOOLCHAIN, OTHER = os.environ.get("ENGINERY_GPU_TOOLCHAIN"), os.environ.get("ENGINERY_GPU_OTHER")
TACTICS = tuple(filter(None, os.environ.get("ENGINERY_GPU_TACTICS", "").split(","))) or None
NO_GPU = "no GPU toolchain: ENGINERY_GPU_TOOLCHAIN names an interpreter with tensorrt, NumPy and pycuda on a machine with a GPU"
ON_GPU = [pytest.mark.gpu, pytest.mark.skipif(not TOOLCHAIN, reason=NO_GPU)]
PYTHON = Path(TOOLCHAIN or "")
MODEL = "yolov8n-shapes"


def run_at(
    plan: Path,
    digest: str,
    folder: Path,
    shape: tuple[int, ...],
    profile: int = 0,
    images: int = 3,
    **more: Any,
) -> Measurement:
    """Run an engine on random images and compare its outputs with ONNX Runtime's."""
    rows = np.random.default_rng(1).random((images, *shape[1:]), np.float32)
    np.save(folder / "images.npy", rows)
    request = MeasureRequest(
        "tensorrt",
        plan,
        digest,
        points=(PointRequest(shape, folder / "images.npy", folder, profile),),
        runs=20,
        **more,
    )
    return measure(PYTHON, request, silent, 120)


def expected(onnx_file: Path, folder: Path) -> np.ndarray[Any, Any]:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(onnx_file), providers=["CPUExecutionProvider"])
    return np.concatenate(
        [session.run(None, {"x": row[None]})[0] for row in np.load(folder / "images.npy")]
    )
