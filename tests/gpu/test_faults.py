"""On a machine with an NVIDIA GPU: plans of others, killed children, a GPU that disappears, and builds in turn."""

from __future__ import annotations

import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from enginery.errors import ChildCrashedError, EngineError, IntegrityError
from enginery.gpu.inventory import gpus
from enginery.gpu.turns import gpu_lock
from enginery.system.files import sha256
from enginery.toolchain.client import build
from enginery.toolchain.requests import BuildRequest
from tests.gpu.common import ON_GPU, OTHER, PYTHON, run_at
from tests.test_toolchain import kill_child, silent

pytestmark = ON_GPU


def test_plans_that_must_not_be_loaded(request_: BuildRequest, tmp_path: Path) -> None:
    digest = build(PYTHON, request_, silent, 120).plan_sha256
    data = request_.plan.read_bytes()
    request_.plan.write_bytes(data[:-1])
    with pytest.raises(
        IntegrityError, match="its digest is not the one recorded; it was not loaded"
    ):
        run_at(request_.plan, digest, tmp_path, (1, 3, 16, 16))
    with pytest.raises(
        EngineError, match="does not run here"
    ):  # recorded so: TensorRT itself refuses it
        request_.plan.write_bytes(data[: len(data) // 2])
        run_at(request_.plan, sha256(request_.plan), tmp_path, (1, 3, 16, 16))


@pytest.mark.skipif(not OTHER, reason="ENGINERY_GPU_OTHER names no toolchain with another TensorRT")
def test_an_engine_of_another_tensorrt(request_: BuildRequest, tmp_path: Path) -> None:
    digest = build(
        Path(str(OTHER)), replace(request_, optimization_level=None), silent, 120
    ).plan_sha256
    with pytest.raises(
        EngineError, match="An engine runs on the GPU and with the TensorRT it was built for"
    ):
        run_at(request_.plan, digest, tmp_path, (1, 3, 16, 16))


@pytest.mark.parametrize("after", [0.5, 2.0, 5.0, 8.0])
def test_a_child_killed_at_any_time(request_: BuildRequest, after: float) -> None:
    import threading

    np.save(
        request_.onnx.with_suffix(".npy"),
        np.random.default_rng(0).random((64, 3, 16, 16), np.float32),
    )
    wanted = replace(
        request_,
        precision="int8",
        native_images=request_.onnx.with_suffix(".npy"),
        cache=request_.onnx.with_suffix(".cache"),
        timing_cache=request_.onnx.with_suffix(".timing"),
        optimization_level=3,
    )
    timer = threading.Timer(after, kill_child, [{}])
    timer.start()
    with pytest.raises(ChildCrashedError, match="killed by SIGKILL"):
        build(PYTHON, wanted, silent, 120)
    assert not request_.plan.exists()
    assert not [
        path
        for path in request_.plan.parent.iterdir()
        if path.suffix == ".part" and "timing" not in path.name
    ]
    build(PYTHON, wanted, silent, 120)


def test_a_gpu_that_disappears(request_: BuildRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a driver shows it: no device is visible any more."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    with pytest.raises(
        Exception, match=r"TensorRT does not start|the GPU failed|no CUDA-capable device"
    ):
        build(PYTHON, request_, silent, 120)


def test_builds_on_one_gpu_queue(tmp_path: Path) -> None:
    [first, *_] = gpus()
    code = "import sys; from enginery.gpu.turns import gpu_lock\nwith gpu_lock(sys.argv[1], print): print('mine', flush=True); sys.stdin.read()"
    holder = subprocess.Popen(
        [sys.executable, "-c", code, first.uuid],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert holder.stdout
    assert holder.stdin
    holder.stdout.readline()
    said: list[str] = []

    def let_go(message: str) -> None:
        said.append(message)
        holder.stdin.close()  # type: ignore[union-attr]

    began = time.monotonic()
    with gpu_lock(first.uuid, let_go):
        assert said == [f"waiting for GPU {first.uuid}: process {holder.pid} uses it"]
        assert time.monotonic() - began < 20
    holder.wait()
