"""Images through an engine and its validation on a GPU, with a recorder in the child program's
place.
"""

from __future__ import annotations

import json
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import enginery.actions.engine_session
import enginery.actions.predict
import enginery.actions.validate
import tasks.demo_data
from enginery.actions.engine_session import EngineSession, forward_progress
from enginery.errors import DataError, EngineError
from enginery.evaluation.compare import OutputError
from enginery.evaluation.engine_report import NOISY, EngineReport, OperatingPoint
from enginery.project.paths import engine_report, model_folder
from enginery.project.stage import Stage
from enginery.registry.records import parse
from enginery.registry.store import Engine
from enginery.system.files import read_json, write_json
from enginery.toolchain.requests import Measurement, MeasureRequest, PointRequest, PointResult
from enginery.vision.tasks import TaskMetadata
from tests.registered import compared, register, report, times, timing
from tests.test_exact_engines import GPU, PYTHON, choice


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A checkout of this test's own; what the steps say."""
    monkeypatch.chdir(tmp_path)
    said: list[str] = []
    monkeypatch.setattr(tasks.demo_data, "log", said.append)
    return said


@pytest.fixture
def engine() -> Engine:
    found = register("m/server/fp16")
    graph("images", "b", "a")
    return found


def graph(name: str, *outputs: str) -> None:
    """The model's FP32 original: each output is its input, the second doubled."""
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 3, "h", "w"])]
    ends += [
        helper.make_tensor_value_info(each, TensorProto.FLOAT, [1, 3, "h", "w"]) for each in outputs
    ]
    nodes = [
        helper.make_node("Identity", [name], [outputs[0]]),
        helper.make_node("Add", [name, name], [outputs[1]]),
    ]
    body = helper.make_graph(nodes, "g", ends[:1], ends[1:])
    path = model_folder("m", "export") / "model.onnx"
    path.parent.mkdir(parents=True, exist_ok=True)
    made = helper.make_model(body, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(made, path)


SPEC: Any = SimpleNamespace(
    models={"m": SimpleNamespace(validation="set", judging=lambda: None)},
    targets={"server": SimpleNamespace(time_limit_s=77)},
)


# Predictions


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


# Validation on the GPU


def test_the_main_point_is_where_the_first_profile_is_fastest() -> None:
    kinds = ((0, "opt"), (0, "max"), (1, "opt"))
    points = [OperatingPoint(profile, which, (1, 3, 8, 16)) for profile, which in kinds]
    assert [point.main for point in points] == [True, False, False]


def test_an_engine_is_judged_against_its_original(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The original's outputs are b (once the image) and a (twice)."""
    asked: list[Any] = []

    def compare(reference: Any, runner: Any, data: Path, head: Any, told: Any) -> Any:
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


# Other steps


def test_the_demos_images_are_drawn(here: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[Any] = []

    def write(folder: Path, seeds: range) -> int:
        drawn.append(seeds)
        (folder / "x").touch()
        return len(seeds) + 1

    step = Stage("demo-data")
    parameters = {"validation_images": 3, "calibration_images": 5}
    write_json(step.recipe, {"parameters": parameters})
    monkeypatch.setattr(tasks.demo_data, "write_dataset", write)
    tasks.demo_data.demo_data(step)
    assert drawn == [range(1, 4), range(500_001, 500_006)]
    assert here == ["drew 4 validation images", "drew 6 calibration images"]
    files = {path.as_posix() for path in Path("data").rglob("x")}
    assert files == {"data/demo/validation/x", "data/demo/calibration/x"}
