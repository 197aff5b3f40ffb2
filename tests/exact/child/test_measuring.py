"""Times of an engine: statistics, warm-up, noise, throughput and points."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from tests.child import Out, tensorrt
from tests.exact.child.common import base, engines, on_gpu, running
from tests.recorder.cuda import Cuda
from tests.recorder.engines import ICudaEngine


def test_statistics() -> None:
    found = running.statistics(np.array([4.0, 1.0, 2.0, 3.0, 10.0]))
    assert found == {
        "mean": 4.0,
        "min": 1.0,
        "max": 10.0,
        "p50": 3.0,
        "p90": pytest.approx(7.6),
        "p99": pytest.approx(9.76),
        "runs": 5,
    }
    assert {type(value) for name, value in found.items() if name != "runs"} == {float}


def timed_runner(cuda: Cuda, times: Any) -> Any:
    """A runner of batches of four whose runs take these milliseconds."""
    work: list[Any] = []

    def once(of: Any) -> float:
        of()
        work.append(of)
        return next(times)

    return SimpleNamespace(
        once=once,
        enqueue=lambda transfers=False: cuda.calls.append(transfers),
        input_shape=(4, 3, 2, 2),
        work=work,
    )


def test_a_repeat_warms_up_for_a_second(cuda: Cuda, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([10.0, 10.5, 10.9, 11.0])
    monkeypatch.setattr(running, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    runner = timed_runner(cuda, iter([9.0, 9.0, 1.0, 2.0, 3.0]))
    found = running.repeat(runner, 3, runner.enqueue)
    assert found.tolist() == [1.0, 2.0, 3.0]


def test_throughput_counts_images(cuda: Cuda) -> None:
    runner = timed_runner(cuda, iter([50.0]))
    assert running.throughput(runner, 10) == 10 * 4 * 1000 / 50
    assert cuda.calls == [False] * 10


@pytest.fixture
def captured(monkeypatch: pytest.MonkeyPatch) -> Any:
    graph = SimpleNamespace(ready=True, launch="launch", open=0)

    class Captured:
        def __init__(self, runner: Any) -> None:
            graph.runner = runner

        def __enter__(self) -> Any:
            graph.open += 1
            return graph

        def __exit__(self, *_: object) -> None:
            graph.open -= 1

    monkeypatch.setattr(running, "CapturedGraph", Captured)
    return graph


def test_timings_of_each_kind(
    cuda: Cuda, out: Out, captured: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    runner = timed_runner(cuda, iter([]))
    asked: list[Any] = []

    def repeat(given: Any, runs: int, once: Any) -> Any:
        assert captured.open == 1
        if once != "launch":
            once()
        asked.append((given, runs, once if once == "launch" else cuda.calls.pop()))
        return np.ones(runs)

    monkeypatch.setattr(running, "repeat", repeat)
    monkeypatch.setattr(running, "throughput", lambda *given: given)
    found = running.timings(runner, 5, 1.25, out)
    assert asked == [(runner, 5, False), (runner, 5, True), (runner, 5, "launch")]
    assert list(found) == ["gpu", "with_transfers", "cuda_graph", "images_per_second"]
    assert found["images_per_second"] == (runner, 5)
    assert (
        found["gpu"]
        == found["with_transfers"]
        == found["cuda_graph"]
        == running.statistics(np.ones(5))
    )
    assert out.sent == [
        {"event": "progress", "phase": f"timing {kind}", "step": step, "steps": 3}
        for kind in ("gpu", "with transfers", "cuda graph")
        for step in (0, 1)
    ]
    assert (captured.open, captured.runner) == (0, runner)
    captured.ready = False
    assert running.timings(runner, 5, 1.25, out)["cuda_graph"] is None


@pytest.mark.parametrize(("p90s", "tries"), [([1.25], 1), ([1.26, 1.0], 2), ([9, 8, 7], 3)])
def test_a_noisy_timing_is_tried_again(
    cuda: Cuda,
    out: Out,
    captured: Any,
    monkeypatch: pytest.MonkeyPatch,
    p90s: list[float],
    tries: int,
) -> None:
    captured.ready = False
    times = iter([*p90s, 1.0])
    monkeypatch.setattr(running, "repeat", lambda *_: next(times))
    monkeypatch.setattr(running, "statistics", lambda p90: {"p50": 1.0, "p90": p90})
    monkeypatch.setattr(running, "throughput", lambda *_: 1.0)
    found = running.timings(timed_runner(cuda, iter([])), 5, 1.25, out)
    assert found["gpu"]["p90"] == p90s[-1]
    steps = [event["step"] for event in out.sent if event["phase"] == "timing gpu"]
    assert steps == [step for done in range(tries) for step in (done, done + 1)]


def test_a_measurement_of_points(
    cuda: Cuda, out: Out, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        running,
        "timings",
        lambda runner, runs, noisy, stream: [runner.input_shape, runs, noisy, stream is out],
    )
    monkeypatch.setattr(running, "describe", lambda device, index: [device.index, index])
    images = np.zeros((5, 3, 4, 4), np.float32)
    np.save(tmp_path / "i.npy", images)
    points = [
        {
            "shape": [2, 3, 4, 4],
            "profile": 0,
            "images": str(tmp_path / "i.npy"),
            "outputs": str(tmp_path / "a"),
            "timed": True,
        },
        {
            "shape": [4, 3, 4, 4],
            "profile": 1,
            "images": str(tmp_path / "i.npy"),
            "outputs": str(tmp_path / "b"),
            "timed": False,
        },
    ]
    for name in "ab":
        (tmp_path / name).mkdir()
    loaded: list[Any] = []

    class Engine(ICudaEngine):
        def create_execution_context(self) -> Any:
            context = super().create_execution_context()
            loaded.append(context)
            return context

    monkeypatch.setattr("tests.child.ICudaEngine", Engine)
    monkeypatch.setattr(engines.Runner, "run_all", run_all)
    trt = tensorrt()
    running.measure(trt, base.make_logger(trt, out), on_gpu(points=points, runs=7, noisy=1.5), out)
    result = out.sent[-1]
    assert result == {
        "event": "result",
        "gpu": [0, 0],
        "device_memory": 5 << 20,
        "points": [
            {
                "outputs": ["y", "z"],
                "milliseconds": [5, str(tmp_path / "a")],
                "timing": [(2, 3, 4, 4), 7, 1.5, True],
            },
            {"outputs": ["y", "z"], "milliseconds": [5, str(tmp_path / "b")]},
        ],
    }
    assert out.sent[:-1] == [{"event": "progress", "phase": "images", "step": 3, "steps": 5}] * 2
    assert [(context._runs, context._profile) for context in loaded] == [(1, None), (1, (1, 78))]
    running.measure(
        trt, base.make_logger(trt, out), on_gpu(points=points[:1], runs=0, noisy=1.5), out
    )
    assert "timing" not in out.sent[-1]["points"][0]


def run_all(self: Any, images: Any, folder: str, told: Any) -> Any:
    """What a runner would do; the engine has already run once, to load its kernels."""
    assert self.context._runs == 1
    assert isinstance(images, np.memmap)
    told(3)
    return [len(images), folder]
