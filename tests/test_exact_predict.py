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

import enginery.actions.predict
import enginery.actions.validate
import tasks.demo_data
import tasks.quantize
from enginery.actions.engine_session import forward_progress, plan_of
from enginery.errors import DataError, EngineError
from enginery.evaluation.compare import OutputError
from enginery.evaluation.engine_report import EngineReport, OperatingPoint
from enginery.project.paths import engine_report, model_folder
from enginery.project.stage import Stage
from enginery.registry.records import parse
from enginery.registry.store import Engine
from enginery.system.files import read_json, write_json
from enginery.toolchain.requests import MeasureRequest, PointRequest
from enginery.vision.tasks import TaskMetadata
from tests.registered import compared, register, report, times, timing
from tests.test_exact_engines import GPU, PYTHON, choice


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A checkout of this test's own; what the steps say."""
    monkeypatch.chdir(tmp_path)
    said: list[str] = []
    for module in (tasks.demo_data, tasks.quantize):
        monkeypatch.setattr(module, "log", said.append)
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
    models={"m": SimpleNamespace(validation="set")},
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

    def measure(python: Path, request: MeasureRequest, told: Any, limit: int) -> Any:
        asked.append((python, request, told, limit))
        [point] = request.points
        tensors = np.load(point.images)
        for number, factor in enumerate((5, 7)):
            np.save(point.outputs / f"{number}.npy", tensors * factor)
        return {"points": [{"outputs": ["a", "b"], "milliseconds": [1.0, 2.0, 6.0]}]}

    monkeypatch.setattr(enginery.actions.predict, "measure", measure)
    tensors = np.arange(4, dtype=np.float32).reshape(4, 1)
    outputs, milliseconds = enginery.actions.predict._run(SPEC, engine, choice(), tensors)
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
    assert request == MeasureRequest(**plan_of(engine, choice()), points=(point,), runs=0)


def test_images_are_predicted_and_drawn(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([1.0, 1.5, 10.0, 10.25, 20.0, 20.125])
    asked: list[Any] = []
    head = TaskMetadata("detect", {0: "disc"}, None)
    pixels = {"x": 10, "y": 20}
    paths = {picture(Path(f"in/{name}.png"), value): name for name, value in pixels.items()}

    def run(*given: Any) -> Any:
        asked.append(given)
        return [given[3][:, :1] * 2, given[3][:, :2] * 3], 4.25

    def results(*given: Any) -> Any:
        asked.append(given)
        return [f"result of {given[4][0].stem}", "no other"]

    monkeypatch.setattr(
        enginery.actions.predict, "time", SimpleNamespace(perf_counter=lambda: next(clock))
    )
    monkeypatch.setattr(enginery.actions.predict, "model_head", {"m": head}.__getitem__)
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
    lines = list(enginery.actions.predict._predict(SPEC, engine, choice(), wanted(), paths))
    shared = "preprocess 250.0 ms, inference 4.2 ms, postprocess"
    assert lines == [
        f"x.png: 1 disc; {shared} 250.0 ms; out/x.png",
        f"y.png: nothing found; {shared} 125.0 ms; out/y.png",
    ]
    for name, value in pixels.items():
        assert np.array_equal(cv2.imread(f"out/{name}.png"), np.full((2, 2, 3), value, np.uint8))
    spec, given_engine, given_choice, tensors = asked[0]
    assert (spec, given_engine, given_choice) == (SPEC, engine, choice())
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
        "on_gpu",
        lambda *given: asked.append(given) or nullcontext("choice"),
    )
    monkeypatch.setattr(
        enginery.actions.predict,
        "_predict",
        lambda *given: asked.append(given) or [f"{len(given[4])} images"],
    )
    asks = wanted(Path("in"))
    assert list(enginery.actions.predict.predict(SPEC, engine, asks)) == [
        "2 images",
        "2 images",
        "1 images",
    ]
    assert asked[0] == (SPEC, engine)
    shares = [{path: path.stem for path in paths[start : start + 2]} for start in (0, 2, 4)]
    assert asked[1:] == [(SPEC, engine, "choice", asks, share) for share in shares]


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
    monkeypatch.setattr(enginery.actions.validate, "model_head", {"m": "head of m"}.__getitem__)
    for index, size in enumerate([(8, 16), (8, 16)]):
        folder = tmp_path / str(index)
        folder.mkdir()
        images = np.full((2, 3, *size), index + 1, np.float32)
        np.save(folder / "images.npy", images)
        np.save(folder / "0.npy", images * 2.25)
        np.save(folder / "1.npy", images * 1.5)
    places = [OperatingPoint(0, "opt", (1, 3, 8, 16)), OperatingPoint(1, "max", (2, 3, 8, 16))]
    measured = [{"outputs": ["a", "b"], "timing": {"gpu": 1}}, {"outputs": ["a", "b"]}]
    found, points = enginery.actions.validate._judge(
        SPEC.models["m"], "m", places, measured, tmp_path
    )
    assert asked == [
        ("images", 3, 4),
        ([[1.0, 2.0], [1.5, 2.25]], Path("set"), "head of m", (8, 16), (8, 16)),
    ]
    assert found.closeness == OutputError(9.0, 0.9, 0, 0)  # type: ignore[comparison-overlap]
    main, other = points
    assert main == {
        "profile": 0,
        "which": "opt",
        "shape": (1, 3, 8, 16),
        "closeness": {"max_abs": 9.0, "rms_relative": 0.9, "nan_count": 0, "inf_count": 0},
        "timing": {"gpu": 1},
    }
    assert (other["profile"], other["which"], other["shape"]) == (1, "max", (2, 3, 8, 16))
    assert (other["closeness"]["max_abs"], other["timing"]) == (1.0, None)
    assert other["closeness"]["rms_relative"] == 0.25
    with pytest.raises(ValueError, match="zip"):
        enginery.actions.validate._judge(SPEC.models["m"], "m", places, measured[:1], tmp_path)


@pytest.fixture
def validated(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> Any:
    """What the GPU gave, and what was asked of it."""
    found = SimpleNamespace(asked=[], report=compared(), timing=timing(), gpu=GPU)
    folders = []

    @contextmanager
    def on_gpu(*given: Any) -> Any:
        found.asked.append(given)
        yield replace(choice(), gpu=found.gpu)
        found.asked.append("given back")

    def measure(*given: Any) -> Any:
        clocks = given[5]
        found.asked.append((*given[:4], clocks.gpu if hasattr(clocks, "gpu") else None))
        folders.append(given[4])
        assert given[4].is_dir()
        clocks.seen.append({"sm": 1980, "memory": None, "celsius": 40, "watts": 120.0})
        point = report(engine)["gpu"]
        point.pop("driver")
        return {"points": [{"timing": found.timing}], "gpu": point}

    def judge(*given: Any) -> Any:
        found.asked.append(given[:4])
        assert given[4] == folders[-1]
        whole = report(engine, report=found.report, timing=found.timing)
        return SimpleNamespace(to_dict=lambda: found.report), whole["points"]

    monkeypatch.setattr(enginery.actions.validate, "on_gpu", on_gpu)
    monkeypatch.setattr(enginery.actions.validate, "_measure", measure)
    monkeypatch.setattr(enginery.actions.validate, "_judge", judge)
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
    assert asked[1][:4] == (SPEC, engine, choice(), places)
    assert asked[2] == "given back"
    assert asked[3] == (SPEC.models["m"], "m", places, [{"timing": validated.timing}])
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
    found = enginery.actions.validate._judged(engine, measured)
    assert found.failures == ("refused", "far", "slow")
    plain = parse(json.dumps(measured).encode(), EngineReport)
    assert asked == [
        (plain.report, plain.tolerance),
        (plain.points[1:], plain.tolerance),
        (engine, plain),
    ]
    assert len(plain.points[1:]) == 1


def test_what_is_no_measure_is_said_of_the_engine(engine: Engine) -> None:
    measured = report(engine)
    del measured["timing"]
    with pytest.raises(EngineError) as error:
        enginery.actions.validate._judged(engine, measured)
    assert error.value.what.startswith("m/server/fp16: what was measured on its GPU ")
    assert "timing" in error.value.what
    assert error.value.cure == "Run `enginery validate` again"


# Other steps


def test_without_a_precision_there_is_no_graph_and_a_reason(here: list[str]) -> None:
    step = Stage("quantize", "m", precision="int8")
    written = {"parameters": {"made": False}, "step": "quantize"}
    write_json(step.recipe, written)
    tasks.quantize._write_none(step)
    why = "no int8 graph is made: matrix.precisions has no int8"
    assert here == [why]
    [path] = (model_folder("m", "int8") / "graph").iterdir()
    assert (path.name, read_json(path)) == ("record.json", {"recipe": written, "why": why})


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
