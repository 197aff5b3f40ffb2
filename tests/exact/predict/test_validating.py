"""Validation on the GPU: an engine against its original."""

from __future__ import annotations

import json
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import enginery.actions.validate
from enginery.actions.engine_session import EngineSession, forward_progress
from enginery.errors import EngineError
from enginery.evaluation.compare import OutputError
from enginery.evaluation.engine_report import EngineReport, OperatingPoint
from enginery.project.paths import engine_report, model_folder
from enginery.registry.records import parse
from enginery.registry.store import Engine
from enginery.system.files import read_json, write_json
from enginery.toolchain.requests import Measurement, PointResult
from enginery.vision.tasks import TaskMetadata
from tests.exact.engines.common import GPU, choice
from tests.exact.predict.common import SPEC
from tests.registered import compared, report, times, timing


def test_the_main_point_is_where_the_first_profile_is_fastest() -> None:
    kinds = ((0, "opt"), (0, "max"), (1, "opt"))
    points = [OperatingPoint(profile, which, (1, 3, 8, 16)) for profile, which in kinds]
    assert [point.main for point in points] == [True, False, False]


def test_an_engine_is_judged_against_its_original(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The original's outputs are b (once the image) and a (twice)."""
    asked: list[Any] = []

    def compare(reference: Any, runner: Any, data: Path, head: Any, told: Any, pair: Any) -> Any:
        image = np.load(tmp_path / "0/images.npy")[0]
        told(3, 4)
        outputs = [
            [round(float(each.max()), 3) for each in one.run(image)] for one in (reference, runner)
        ]
        asked.append((outputs, data, head, reference.size, runner.size))
        return SimpleNamespace(closeness=OutputError(9.0, 0.9, 0, 0))

    monkeypatch.setattr(enginery.actions.validate, "compare", compare)
    monkeypatch.setattr(enginery.actions.validate, "progress", lambda *given: asked.append(given))
    for index, size in enumerate([(8, 16), (8, 16)]):
        folder = tmp_path / str(index)
        folder.mkdir()
        images = np.full((2, 3, *size), index + 1, np.float32)
        np.save(folder / "images.npy", images)
        np.save(folder / "0.npy", images * 2.25)
        np.save(folder / "1.npy", images * 1.5)
    places = [OperatingPoint(0, "opt", (1, 3, 8, 16)), OperatingPoint(1, "max", (2, 3, 8, 16))]
    measured = Measurement(
        (PointResult(("a", "b"), (), {"gpu": 1}), PointResult(("a", "b"), (), None)), {}
    )
    original = model_folder("m", "export") / "model.onnx"
    head = TaskMetadata("detect", {0: "disc"}, None)
    data = enginery.actions.validate._Data(original, head, Path("set"))
    found, errors = enginery.actions.validate._compare(data, places, measured, tmp_path)
    assert asked == [
        ("images", 3, 4),
        ([[1.0, 2.0], [1.5, 2.25]], Path("set"), head, (8, 16), (8, 16)),
    ]
    assert found.closeness == OutputError(9.0, 0.9, 0, 0)
    assert errors == [OutputError(9.0, 0.9, 0, 0), OutputError(1.0, 0.25, 0, 0)]
    fewer = Measurement(measured.points[:1], {})
    with pytest.raises(ValueError, match="zip"):
        enginery.actions.validate._compare(data, places, fewer, tmp_path)


@pytest.fixture
def validated(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> Any:
    """What the GPU gave, and what was asked of it."""
    found = SimpleNamespace(asked=[], report=compared(), timing=timing(), gpu=GPU)
    folders = []

    @contextmanager
    def open_engine(*given: Any) -> Any:
        found.asked.append(given)
        yield EngineSession(engine, replace(choice(), gpu=found.gpu), 77)
        found.asked.append("given back")

    def measure(*given: Any) -> Measurement:
        clocks = given[4]
        found.asked.append((*given[:3], clocks.gpu))
        folders.append(given[3])
        assert given[3].is_dir()
        clocks.seen.append({"sm": 1980, "memory": None, "celsius": 40, "watts": 120.0})
        card = report(engine)["gpu"]
        card.pop("driver")
        return Measurement((PointResult((), (), found.timing),), card)

    def compare(*given: Any) -> Any:
        found.asked.append(given[:3])
        assert given[3] == folders[-1]
        whole = SimpleNamespace(to_dict=lambda: found.report)
        return whole, [OutputError(**found.report["closeness"])]

    write_json(model_folder("m", "export") / "record.json", engine.manifest.steps.export.to_json())
    monkeypatch.setattr(enginery.actions.validate, "open_engine", open_engine)
    monkeypatch.setattr(enginery.actions.validate, "_measure", measure)
    monkeypatch.setattr(enginery.actions.validate, "_compare", compare)
    return found


PATH = engine_report("m", "server", "fp16")


def test_what_a_validation_writes(engine: Engine, validated: Any) -> None:
    found = enginery.actions.validate.validate_engine(SPEC, engine)
    expected = report(engine)
    expected["gpu"]["driver"] = GPU.driver
    assert json.loads(json.dumps(found.to_json())) == read_json(PATH) == expected
    places = [OperatingPoint(0, "opt", (1, 3, 160, 160))]
    asked = validated.asked
    assert asked[0] == (SPEC, engine)
    session, data, points, gpu = asked[1]
    assert (session, points, gpu) == (EngineSession(engine, choice(), 77), places, GPU)
    original = model_folder("m", "export") / "model.onnx"
    assert data == enginery.actions.validate._Data(
        original, TaskMetadata("detect", {0: "disc"}, None), Path("set")
    )
    assert asked[2] == "given back"
    given, points, measured = asked[3]
    assert (given, points) == (data, places)
    assert measured.points == (PointResult((), (), validated.timing),)
    assert list(Path("artifacts").glob("*.part*")) == []


def test_a_validation_without_a_driver_says_nothing_of_it(engine: Engine, validated: Any) -> None:
    validated.gpu = None
    found = enginery.actions.validate.validate_engine(SPEC, engine)
    assert "driver" not in {key for key, value in found.to_json()["gpu"].items() if value}


def test_the_clocks_are_those_of_the_engines_gpu(
    engine: Engine, validated: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Any] = []
    clocks = enginery.actions.validate.Clocks
    monkeypatch.setattr(
        enginery.actions.validate, "Clocks", lambda *given: made.append(given) or clocks(*given)
    )
    enginery.actions.validate.validate_engine(SPEC, engine)
    assert made == [(GPU, forward_progress)]


def test_a_failed_validation_is_written_with_why(engine: Engine, validated: Any) -> None:
    validated.report = compared(0.3)
    found = enginery.actions.validate.validate_engine(SPEC, engine)
    [failure] = found.failures
    assert failure.startswith("mAP50-95 0.3000 against 0.5000")
    assert read_json(PATH)["failures"] == [failure]


def noisy() -> Any:
    return {**timing(), "gpu": times(1.0, 1.5)}


def test_noise_alone_takes_nothing_from_a_validated_engine(engine: Engine, validated: Any) -> None:
    enginery.actions.validate.validate_engine(SPEC, engine)
    good = PATH.read_bytes()
    assert engine.state == "validated"
    validated.timing = noisy()
    found = enginery.actions.validate.validate_engine(SPEC, engine)
    assert len(found.failures) == 1
    assert "p90" in found.failures[0]
    assert PATH.read_bytes() == good
    validated.report = compared(0.3)  # that is more than noise
    found = enginery.actions.validate.validate_engine(SPEC, engine)
    assert len(found.failures) == 2
    assert read_json(PATH)["failures"] == list(found.failures)


def test_noise_is_written_of_an_engine_that_was_not_validated(
    engine: Engine, validated: Any
) -> None:
    validated.timing = noisy()
    found = enginery.actions.validate.validate_engine(SPEC, engine)
    assert read_json(PATH)["failures"] == list(found.failures) != []


def test_every_reason_is_among_the_failures(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []
    measured = report(engine, (0, "opt", 1), (0, "max", 2))
    monkeypatch.setattr(
        enginery.actions.validate, "refusals", lambda *given: asked.append(given) or ["refused"]
    )
    monkeypatch.setattr(
        enginery.actions.validate, "far_points", lambda *given: asked.append(given) or ["far"]
    )
    monkeypatch.setattr(
        enginery.actions.validate, "slower", lambda *given: asked.append(given) or ["slow"]
    )
    plain = parse(json.dumps(measured).encode(), EngineReport)
    assert enginery.actions.validate._failures(engine, plain) == ["refused", "far", "slow"]
    assert asked == [
        (plain.report, plain.tolerance),
        (plain.points[1:], plain.tolerance),
        (engine, plain),
    ]
    assert len(plain.points[1:]) == 1


def test_what_is_no_measure_is_said_of_the_engine(engine: Engine) -> None:
    measured = Measurement((PointResult((), (), None),), report(engine)["gpu"])
    whole: Any = SimpleNamespace(to_dict=lambda: compared())
    errors = [OutputError(**compared()["closeness"])]
    clocks: Any = SimpleNamespace(gpu=None, seen=[])
    with pytest.raises(EngineError) as error:
        enginery.actions.validate._report(engine, whole, errors, measured, clocks)
    assert error.value.what.startswith("m/server/fp16: what was measured on its GPU ")
    assert "timing" in error.value.what
    assert error.value.cure == "Run `enginery validate` again"
