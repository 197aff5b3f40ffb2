"""Validation on the GPU: the points that are measured."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import enginery.actions.engine_session
import enginery.actions.validate
from enginery.actions.engine_session import EngineSession
from enginery.evaluation.compare import OutputError
from enginery.evaluation.engine_report import OperatingPoint
from enginery.project.paths import model_folder
from enginery.registry.store import Engine
from enginery.registry.task_metadata import read_task_metadata
from enginery.toolchain.requests import MeasureRequest, PointRequest
from enginery.vision.tasks import TaskMetadata
from tests.exact.engines.common import PYTHON, choice
from tests.registered import profile


def test_each_point_is_measured(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked: list[Any] = []
    session = EngineSession(engine, choice(), 77)
    data = enginery.actions.validate._Data(Path("graph"), TaskMetadata("detect", {}), Path("set"))
    points = [OperatingPoint(0, "opt", (1, 3, 8, 16)), OperatingPoint(1, "max", (4, 3, 32, 16))]

    def open_set(*given: Any) -> Any:
        asked.append(given)
        images = [(np.full((3, *given[2]), number, np.float32), {}) for number in range(3)]
        return nullcontext(images)

    monkeypatch.setattr(enginery.actions.validate, "open_validation_set", open_set)
    monkeypatch.setattr(
        enginery.actions.engine_session, "measure", lambda *given: asked.append(given) or "measured"
    )
    clocks = SimpleNamespace(follow=print)
    measured = enginery.actions.validate._measure(session, data, points, tmp_path, clocks)  # type: ignore[arg-type]
    assert measured == "measured"
    assert asked[:2] == [
        (Path("set"), TaskMetadata("detect", {}), (8, 16), None),
        (Path("set"), TaskMetadata("detect", {}), (32, 16), 16),
    ]
    python, request, told, limit = asked[2]
    assert (python, told, limit) == (PYTHON, print, 77)
    assert request == MeasureRequest(
        **vars(session.plan),
        noisy=1.25,
        points=(
            PointRequest((1, 3, 8, 16), tmp_path / "0/images.npy", tmp_path / "0", 0, timed=True),
            PointRequest((4, 3, 32, 16), tmp_path / "1/images.npy", tmp_path / "1", 1, timed=False),
        ),
    )
    assert np.load(tmp_path / "0/images.npy")[:, 0, 0, 0].tolist() == [0, 1, 2]
    assert (enginery.actions.validate.SLOWER, enginery.actions.validate.FEW) == (1.02, 16)


def test_the_images_and_the_task_of_an_engine(engine: Engine) -> None:
    known: Any = SimpleNamespace(
        models={"m": SimpleNamespace(validation="set", judging=lambda: None)}
    )
    data = enginery.actions.validate._data(known, engine)
    assert (data.original, data.images) == (model_folder("m", "export") / "model.onnx", Path("set"))
    assert data.head == read_task_metadata("m")


def test_the_closeness_of_some_images(tmp_path: Path) -> None:
    reference = SimpleNamespace(run=lambda image: [image * 2])
    engine = SimpleNamespace(run=lambda image: [image * 3])
    np.save(tmp_path / "images.npy", np.array([[1.0], [2.0]], np.float32))
    found = enginery.actions.validate._output_error(reference, engine, tmp_path)  # type: ignore[arg-type]
    assert found == OutputError(2.0, 0.5, 0, 0)


def test_the_size_of_profiles_is_a_places() -> None:
    assert profile(1, 2, 4)["opt"] == [2, 3, 160, 160]
