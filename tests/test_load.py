"""enginery.load: an engine that runs arrays in a child process; TensorRT and CUDA are the recorders
of tests/recorder, whose engine gives y = 2x and z, the first channel of x + 1.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import numpy as np
import psutil
import pytest

import enginery
from enginery.actions.load import LoadedEngine
from enginery.errors import ChildCrashedError, DataError, EngineError, IntegrityError
from tests.registered import register
from tests.test_spec import ROOT

TENSORRT = """
import devices
import numpy as np
import pycuda.driver as cuda
from tests import child
from tests.recorder.engines import ICudaEngine, IExecutionContext, Runtime

devices.uuid = lambda index: "GPU-1"

class Context(IExecutionContext):
    def execute_async_v3(self, stream):
        memory = {int(each): each for each in cuda.CUDA.memory}
        given = memory[self._addresses["x"]].values
        memory[self._addresses["y"]].values = given * 2
        memory[self._addresses["z"]].values = (given[:, 0] + 1).astype(np.float16)
        return True

class Engine(ICudaEngine):
    def create_execution_context(self):
        return Context()

class MadeRuntime(Runtime):
    def deserialize_cuda_engine(self, data):
        return Engine(data)

globals().update(vars(child.tensorrt()))
Runtime = MadeRuntime
__version__ = "10.16.1.11"
"""
PYCUDA = """
from tests.recorder.cuda import Cuda
CUDA = Cuda()
def __getattr__(name):
    return getattr(CUDA, name)
"""
BUILT = {"gpu": "Card 0", "compute_capability": "8.6"}


@pytest.fixture
def python(tmp_path: Path) -> Path:
    """An interpreter whose TensorRT and pycuda are the recorders."""
    place = tmp_path / "packages"
    (place / "pycuda").mkdir(parents=True)
    (place / "tensorrt.py").write_text(TENSORRT)
    (place / "pycuda/__init__.py").write_text("")
    (place / "pycuda/driver.py").write_text(PYCUDA)
    program = tmp_path / "python"
    path = f"PYTHONPATH='{place}{os.pathsep}{ROOT}'"
    program.write_text(f'#!/bin/sh\n{path} exec "{sys.executable}" "$@"\n')
    program.chmod(0o755)
    return program


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return register("m/server/fp16", tmp_path / "project", **BUILT).folder


def test_an_engine_runs_arrays_until_it_is_closed(python: Path, folder: Path) -> None:
    with enginery.load(folder, toolchain=python) as engine:
        assert (engine.inputs, engine.outputs) == ({"x": "float32"}, ("y", "z"))
        for batch in (1, 2, 2, 4):  # the last one in the second profile
            x = np.arange(batch * 48, dtype=np.float64).reshape(batch, 3, 4, 4)
            given = engine.run(x) if batch == 1 else engine.run({"x": x})
            assert np.array_equal(given["y"], x * 2)
            assert np.array_equal(given["z"], x[:, 0] + 1)
            assert given["y"].dtype == np.float32 and engine.milliseconds > 0
        with pytest.raises(EngineError, match=r"input x takes .* not \(3, 3, 4, 4\)"):
            engine.run(np.zeros((3, 3, 4, 4), np.float32))
        assert engine.run(np.ones((1, 3, 4, 4)))["y"].max() == 2  # it goes on
        process = child(engine)
        folder_ = engine._folder
    assert not process.is_running()
    assert not folder_.exists()


def test_images_are_prepared_as_its_validation_prepared_them(python: Path, tmp_path: Path) -> None:
    size = {"profile": {name: [2, 3, 4, 4] for name in ("min", "opt", "max")}}
    engine_folder = register("m/server/fp16", tmp_path / "images", **BUILT, **size).folder
    image = np.zeros((8, 8, 3), np.uint8)
    image[..., 2] = 255  # red, as OpenCV keeps it
    with enginery.load(str(engine_folder), toolchain=python) as engine:
        given = engine.run_images([image, np.zeros((8, 8, 3), np.uint8)])
    assert given["z"].shape == (2, 4, 4)
    assert np.all(given["z"][0] == 2) and np.all(given["z"][1] == 1)


def test_what_is_wrong_is_one_line(python: Path, folder: Path) -> None:
    with enginery.load(folder, toolchain=python) as engine:
        with pytest.raises(DataError, match="m/server/fp16 takes x, not X"):
            engine.run({"X": np.zeros(1)})
        with pytest.raises(DataError, match=r"input x is of complex128\. Convert it to float32"):
            engine.run(np.zeros((1, 3, 4, 4), complex))
        child(engine).send_signal(signal.SIGKILL)
        with pytest.raises(ChildCrashedError, match="SIGKILL"):
            engine.run(np.zeros((1, 3, 4, 4)))
    (folder / "model.plan").write_bytes(b"plaN" * 100)
    with pytest.raises(IntegrityError, match="a byte changed"):
        enginery.load(folder, toolchain=python)


def test_an_engine_of_another_gpu_or_tensorrt_is_not_loaded(python: Path, tmp_path: Path) -> None:
    other = register("m/a/fp16", tmp_path, **{**BUILT, "gpu": "Another"}).folder
    with pytest.raises(EngineError, match=r"it is for Another, not Card 0\. Name an interpreter"):
        enginery.load(other, toolchain=python)
    newer = register("m/b/fp16", tmp_path, **BUILT, runtime_version="10.17").folder
    with pytest.raises(EngineError, match=r"it needs tensorrt 10\.17, and there is 10\.16\.1\.11"):
        enginery.load(newer, toolchain=python)
    with pytest.raises(EngineError, match=r"m/b/fp16 does not run here: .*cannot import tensorrt"):
        enginery.load(newer)


def child(engine: LoadedEngine) -> psutil.Process:
    process = engine._session._process
    assert process is not None
    return psutil.Process(process.pid)
