"""Predictions: which images, what is asked for, and what is drawn."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest

import enginery.actions.engine_session
import enginery.actions.predict
from enginery.actions.engine_session import EngineSession, forward_progress
from enginery.errors import DataError
from enginery.evaluation.engine_report import NOISY
from enginery.registry.store import Engine
from enginery.toolchain.requests import Measurement, MeasureRequest, PointRequest, PointResult
from enginery.vision.tasks import TaskMetadata
from tests.exact.engines.common import PYTHON, choice
from tests.exact.predict.common import SPEC


def wanted(*images: Path) -> enginery.actions.predict.PredictionRequest:
    return enginery.actions.predict.PredictionRequest(images, Path("out"), 0.25, 0.7)


def picture(path: Path, value: int) -> Path:
    path.parent.mkdir(exist_ok=True)
    cv2.imwrite(str(path), np.full((8, 16, 3), value, np.uint8))
    return path


def test_a_run_asks_for_the_outputs_in_the_graphs_order(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []

    def measure(python: Path, request: MeasureRequest, told: Any, limit: float) -> Measurement:
        asked.append((python, request, told, limit))
        [point] = request.points
        tensors = np.load(point.images)
        for number, factor in enumerate((5, 7)):
            np.save(point.outputs / f"{number}.npy", tensors * factor)
        return Measurement((PointResult(("a", "b"), (1.0, 2.0, 6.0), None),), {})

    monkeypatch.setattr(enginery.actions.engine_session, "measure", measure)
    session = EngineSession(engine, choice(), 77)
    tensors = np.arange(4, dtype=np.float32).reshape(4, 1)
    outputs, milliseconds = enginery.actions.predict._run(session, tensors)
    assert [output.tolist() for output in outputs] == [
        (tensors * 7).tolist(),
        (tensors * 5).tolist(),
    ]
    assert not any(isinstance(output, np.memmap) for output in outputs)
    assert milliseconds == 2.25
    [(python, request, told, limit)] = asked
    assert (python, told, limit) == (PYTHON, forward_progress, 77)
    folder = request.points[0].outputs
    assert folder.parent == Path("artifacts")
    assert not folder.exists()
    point = PointRequest((1, 3, 160, 160), folder / "images.npy", folder)
    assert request == MeasureRequest(**vars(session.plan), points=(point,), runs=0, noisy=NOISY)


def test_images_are_predicted_and_drawn(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([1.0, 1.5, 10.0, 10.25, 20.0, 20.125])
    asked: list[Any] = []
    head = TaskMetadata("detect", {0: "disc"}, None)
    pixels = {"x": 10, "y": 20}
    paths = {picture(Path(f"in/{name}.png"), value): name for name, value in pixels.items()}

    def run(*given: Any) -> Any:
        asked.append(given)
        return [given[1][:, :1] * 2, given[1][:, :2] * 3], 4.25

    def results(*given: Any) -> Any:
        asked.append(given)
        return [f"result of {given[4][0].stem}", "no other"]

    monkeypatch.setattr(
        enginery.actions.predict, "time", SimpleNamespace(perf_counter=lambda: next(clock))
    )
    monkeypatch.setattr(
        enginery.actions.predict, "read_task_metadata", lambda model, judging: {"m": head}[model]
    )
    monkeypatch.setattr(enginery.actions.predict, "_run", run)
    monkeypatch.setattr(enginery.actions.predict, "to_results", results)
    monkeypatch.setattr(
        enginery.actions.predict, "describe", {"result of x": "1 disc", "result of y": ""}.get
    )
    monkeypatch.setattr(
        enginery.actions.predict,
        "draw",
        lambda result: np.full((2, 2, 3), pixels[result[-1]], np.uint8),
    )
    session = EngineSession(engine, choice(), 77)
    found = enginery.actions.predict._predict(session, wanted(), paths)
    lines = [str(prediction) for prediction in found]
    shared = "preprocess 250.0 ms, inference 4.2 ms, postprocess"
    assert lines == [
        f"x.png: 1 disc; {shared} 250.0 ms; out/x.png",
        f"y.png: nothing found; {shared} 125.0 ms; out/y.png",
    ]
    for name, value in pixels.items():
        assert np.array_equal(cv2.imread(f"out/{name}.png"), np.full((2, 2, 3), value, np.uint8))
    used_session, tensors = asked[0]
    assert used_session is session
    assert tensors.shape == (2, 3, 160, 160)
    assert [float(tensor[0, 80, 80]) for tensor in tensors] == pytest.approx([10 / 255, 20 / 255])
    assert len(asked) == 4
    for row, given in zip((0, 0, 1), asked[1:], strict=True):
        path = list(paths)[row]
        used, outputs, batch, images, files, confidence, iou = given
        assert (used, files, confidence, iou) == (head, [path], 0.25, 0.7)
        assert [output.shape for output in outputs] == [(1, 1, 160, 160), (1, 2, 160, 160)]
        assert np.array_equal(outputs[0], tensors[row : row + 1, :1] * 2)
        assert np.array_equal(batch, tensors[row : row + 1])
        assert [image.tolist() for image in images] == [cv2.imread(str(path)).tolist()]


def test_some_images_at_a_time(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []
    paths = [picture(Path(f"in/{number}.png"), number) for number in range(5)]
    monkeypatch.setattr(enginery.actions.predict, "AT_ONCE", 2)
    monkeypatch.setattr(
        enginery.actions.predict,
        "open_engine",
        lambda *given: asked.append(given) or nullcontext("session"),
    )
    monkeypatch.setattr(
        enginery.actions.predict,
        "_predict",
        lambda *given: asked.append(given) or [f"{len(given[2])} images"],
    )
    asks = wanted(Path("in"))
    assert list(enginery.actions.predict.predict(SPEC, engine, asks)) == [
        "2 images",
        "2 images",
        "1 images",
    ]
    assert asked[0] == (SPEC, engine)
    shares = [{path: path.stem for path in paths[start : start + 2]} for start in (0, 2, 4)]
    assert asked[1:] == [("session", asks, share) for share in shares]


def test_which_files_are_predicted() -> None:
    picture(Path("in/b.png"), 1)
    picture(Path("in/a.png"), 1).rename("in/a.JPG")
    Path("in/notes.txt").touch()
    Path("notes.txt").touch()
    assert enginery.actions.predict._files((Path("notes.txt"), Path("in"))) == [
        Path("notes.txt"),
        Path("in/a.JPG"),
        Path("in/b.png"),
    ]
    Path("empty").mkdir()
    with pytest.raises(DataError) as error:
        enginery.actions.predict._files((Path("empty"),))
    assert error.value.what == "empty holds no images"
    assert error.value.cure.startswith("Name .")
    assert error.value.cure.endswith(" files")
    assert ", ." in error.value.cure
    assert enginery.actions.predict.AT_ONCE == 64
