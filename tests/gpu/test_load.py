"""On a machine with an NVIDIA GPU: enginery.load runs arrays as the engine's graph does."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

import enginery
from enginery.errors import EngineError
from enginery.toolchain.client import build, probe
from enginery.toolchain.requests import BuildRequest
from tests.gpu.common import ON_GPU, PYTHON
from tests.registered import enter, records

pytestmark = ON_GPU
LIMIT_S = 300


@pytest.fixture
def folder(dynamic: BuildRequest, tmp_path: Path) -> Path:
    """A registered engine that takes 1 to 4 or 8 to 16 images."""
    request = replace(dynamic, plan=tmp_path / "dynamic.plan")
    build(PYTHON, request, lambda event: None, LIMIT_S)
    info = probe(PYTHON, "tensorrt")
    card = {key: info.gpus[0][key] for key in ("gpu", "compute_capability")}
    made = records(request.plan, runtime_version=info.version, platform=info.platform, **card)
    return enter("m/server/fp32", request.plan, made, tmp_path).folder


def test_arrays_run_in_every_profile_as_the_graph_runs_them(
    folder: Path, dynamic: BuildRequest
) -> None:
    session = onnxruntime.InferenceSession(str(dynamic.onnx), providers=["CPUExecutionProvider"])
    random = np.random.default_rng(0)
    with enginery.load(folder, toolchain=PYTHON) as engine:
        for batch in (1, 4, 8, 2, 2):
            x = random.random((batch, 3, 16, 16), dtype=np.float32)
            [expected] = session.run(["y"], {"x": x})
            np.testing.assert_allclose(engine.run(x)["y"], expected, rtol=1e-2, atol=1e-3)
            assert engine.milliseconds > 0
        with pytest.raises(EngineError, match="input x takes"):
            engine.run(np.zeros((5, 3, 16, 16), np.float32))
        assert engine.run(x)
