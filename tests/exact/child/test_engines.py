"""Engines on a GPU: loading, contexts, buffers, runs, transfers and times."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from tests.child import Out, tensorrt
from tests.exact.child.common import base, engines, on_gpu, refused
from tests.recorder.building import ILogger
from tests.recorder.cuda import Cuda
from tests.recorder.engines import ICudaEngine


@pytest.mark.parametrize(
    ("options", "host_code", "core"),
    [
        ({}, False, -1),
        ({"host_code": True}, True, -1),
        ({"dla_core": 0}, False, 0),
        ({"dla_core": 1}, False, 1),
    ],
)
def test_a_plan_is_loaded_with_its_options(
    out: Out, options: dict[str, Any], host_code: bool, core: int
) -> None:
    trt = tensorrt()
    logger = base.make_logger(trt, out)
    with engines.Loaded(trt, logger, on_gpu(**options)) as engine:
        assert [engine] == trt.made["ICudaEngine"]
    [runtime] = trt.made["Runtime"]
    assert (trt.made["loaded"], runtime._logger) == ([b"data"], logger)
    assert (runtime.engine_host_code_allowed, runtime.DLA_core) == (host_code, core)


def test_a_loaded_plan_does_not_outlive_its_block(out: Out) -> None:
    loaded = engines.Loaded(tensorrt(), base.make_logger(tensorrt(), out), on_gpu())
    with loaded:
        assert {"engine", "runtime"} <= vars(loaded).keys()
    assert not {"engine", "runtime"} & vars(loaded).keys()


def test_a_plan_that_this_gpu_does_not_take(out: Out) -> None:
    trt = tensorrt(loads=False)
    logger = base.make_logger(trt, out)
    with (
        refused("engine", "TensorRT could not load it on this GPU and gave no reason"),
        engines.Loaded(trt, logger, on_gpu()),
    ):
        pass
    logger.log(ILogger.ERROR, "the engine plan is of another device")
    with (
        refused("engine", "the engine plan is of another device"),
        engines.Loaded(trt, logger, on_gpu()),
    ):
        pass


def runner_of(engine: ICudaEngine, batch: int = 2, profile: int = 0, **more: Any) -> Any:
    return engines.Runner(tensorrt(), engine, [batch, 3, 4, 4], profile)


def test_the_buffers_of_a_runner(cuda: Cuda, engine: ICudaEngine) -> None:
    with runner_of(engine) as runner:
        [context], [stream] = engine._contexts, cuda.streams
        assert (runner.context, runner.stream) == (context, stream)
        assert (context._shape, context._profile) == ((2, 3, 4, 4), None)
        assert (runner.names, runner.inputs(), runner.outputs()) == (
            ["y", "x", "z"],
            ["x"],
            ["y", "z"],
        )
        shapes = {name: (array.shape, array.dtype) for name, array in runner.host.items()}
        assert shapes == {
            "y": ((2, 3, 4, 4), np.float32),
            "x": ((2, 3, 4, 4), np.float32),
            "z": ((2, 4, 4), np.float16),
        }
        assert [memory.size for memory in cuda.memory] == [384, 384, 64]
        assert context._addresses == {"y": 1000, "x": 1001, "z": 1002}
        assert not any(memory.freed for memory in cuda.memory)
    assert all(memory.freed for memory in cuda.memory)
    assert runner.host == {}
    assert "context" not in vars(runner)


def test_another_profile_is_set_first(cuda: Cuda, engine: ICudaEngine) -> None:
    with runner_of(engine, 4, 1):
        assert engine._contexts[0]._profile == (1, 77)


def test_no_room_for_a_context(cuda: Cuda, engine: ICudaEngine) -> None:
    engine._room = False
    with refused("memory", "no room on the GPU for the engine's 5 MiB"), runner_of(engine):
        pass


def test_the_memory_of_an_engine() -> None:
    assert engines.memory_size(SimpleNamespace(device_memory_size=3)) == 3
    assert engines.memory_size(SimpleNamespace(device_memory_size=3, device_memory_size_v2=4)) == 4


@pytest.mark.parametrize(
    ("shape", "profile", "words"),
    [
        (
            [3, 3, 4, 4],
            0,
            "input x takes (1, 3, 4, 4) to (2, 3, 4, 4) in profile 0, not (3, 3, 4, 4)",
        ),
        (
            [0, 3, 4, 4],
            0,
            "input x takes (1, 3, 4, 4) to (2, 3, 4, 4) in profile 0, not (0, 3, 4, 4)",
        ),
        ([2, 3, 4], 0, "input x takes (1, 3, 4, 4) to (2, 3, 4, 4) in profile 0, not (2, 3, 4)"),
        ([2, 3, 4, 4], 1, "input x takes (4, 3, 4, 4) in profile 1, not (2, 3, 4, 4)"),
    ],
)
def test_a_shape_that_does_not_fit(
    cuda: Cuda, engine: ICudaEngine, shape: list[int], profile: int, words: str
) -> None:
    with refused("engine", words), engines.Runner(tensorrt(), engine, shape, profile):
        pass


def test_a_shape_that_tensorrt_refuses(
    cuda: Cuda, engine: ICudaEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "tests.recorder.engines.IExecutionContext.set_input_shape", lambda self, name, shape: False
    )
    words = "input x takes (1, 3, 4, 4) to (2, 3, 4, 4) in profile 0, not (1, 3, 4, 4)"
    with refused("engine", words), runner_of(engine, 1):
        pass


def test_a_run_with_and_without_transfers(cuda: Cuda, engine: ICudaEngine) -> None:
    with runner_of(engine) as runner:
        context = engine._contexts[0]
        runner.enqueue()
        assert (context._runs, cuda.calls) == (1, [])
        context._memory = {int(memory): memory for memory in cuda.memory}
        for name in ("y", "z"):
            context._memory[context._addresses[name]].values = np.zeros_like(runner.host[name])
        runner.host["x"][...] = 3
        runner.enqueue(True)
        assert cuda.calls == [("to the GPU", 1001), ("from the GPU", 1000), ("from the GPU", 1002)]
        assert (runner.host["y"].max(), runner.host["z"].min()) == (6, 4)
        context._refuses = lambda number: True
        with refused("engine", "the engine refused to run"):
            runner.enqueue()


def test_all_images_run_batch_by_batch(cuda: Cuda, engine: ICudaEngine, tmp_path: Path) -> None:
    """Five images in batches of two: the last is filled with what was there before."""
    images = np.random.default_rng(0).random((5, 3, 4, 4)).astype(np.float32)
    said: list[int] = []
    with runner_of(engine) as runner:
        context = engine._contexts[0]
        context._memory = {int(memory): memory for memory in cuda.memory}
        for name in ("y", "z"):
            context._memory[context._addresses[name]].values = np.zeros_like(runner.host[name])
        milliseconds = runner.run_all(images, str(tmp_path), said.append)
    assert (milliseconds, said) == ([1.0] * 3, [2, 4, 5])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0.npy", "1.npy"]
    first, second = np.load(tmp_path / "0.npy"), np.load(tmp_path / "1.npy")
    assert (first.dtype, second.dtype) == (np.float32, np.float16)
    assert np.array_equal(first, images * 2)
    assert np.array_equal(second, (images[:, 0] + 1).astype(np.float16))


def test_a_time_is_between_two_events(cuda: Cuda, engine: ICudaEngine) -> None:
    with runner_of(engine) as runner:

        def work() -> None:
            cuda.now += 41.5

        assert runner.once(work) == 42.5
