"""Every task through every step: outputs, metrics as Ultralytics gives them, pictures, calibration,
engines.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import yaml

from enginery.actions import engine_session
from enginery.actions import predict as predicting
from enginery.actions import validate as validate_engine
from enginery.demo.dataset import write_dataset
from enginery.demo.scenes import CLASSES, scene
from enginery.errors import DataError, ModelError
from enginery.evaluation.runners import GraphRunner, RecordedRunner
from enginery.evaluation.validation import GraphReport, compare, validate_graph
from enginery.graphs.inspect import graph_info, read_graph
from enginery.pipeline.step import load_step
from enginery.project.load import load_spec
from enginery.project.params import PARAMS_FILE
from enginery.project.paths import engine_folder, model_folder
from enginery.project.stage import Stage
from enginery.quantization.placement import place
from enginery.quantization.rules import RULES
from enginery.registry.store import find
from enginery.registry.task_metadata import read_task_metadata
from enginery.sources.export import ExportSettings, export
from enginery.sources.ultralytics_compat import silence
from enginery.system.files import read_json
from enginery.toolchain.requests import Measurement, MeasureRequest, PointResult
from enginery.toolchain.selection import Choice, Toolchains
from enginery.vision.dataset import open_validation_set
from enginery.vision.images import list_images, preprocess
from enginery.vision.results import describe, draw, to_results
from enginery.vision.tasks import ULTRALYTICS_TASKS as TASKS
from enginery.vision.tasks import Judging, TaskMetadata, metric_of
from tests.registered import timing
from tests.stages import fingerprinted
from tests.tiny import KEYPOINTS, NAMES, SIDE, write_data, write_model

ROOT = Path(__file__).resolve().parents[1]
DEMO = ROOT / "data/demo/yolov8n-shapes.pt"
LARGEST = {
    "fp32": 1e-5,
    "fp16": 0.02,
    "int8": 0.3,
}  # random weights make more of an error than trained ones


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """TASK.pt, TASK.onnx and the data set TASK/ of each task."""
    folder = tmp_path_factory.mktemp("tasks ü")
    for task in TASKS:
        write_data(task, write_model(task, folder / f"{task}.pt"), folder / task)
        export(folder / f"{task}.pt", settings(task), folder / f"{task}.onnx")
    return folder


def settings(task: str) -> ExportSettings:
    return ExportSettings(task, (SIDE, SIDE), 1, False, 17)


def head(task: str) -> TaskMetadata:
    return TaskMetadata(task, NAMES, KEYPOINTS if task == "pose" else None)


def quiet(done: int, total: int) -> None: ...


def measured(onnx: Path, data: Path, what: TaskMetadata) -> GraphReport:
    return validate_graph(onnx, onnx, data, what, quiet)


def theirs(onnx: Path, data: Path, what: TaskMetadata, size: int, out: Path) -> Mapping[str, float]:
    """What Ultralytics' own command says of a graph."""
    from ultralytics import YOLO

    if what.task == "classify":
        for split in ("train", "val"):
            (out / split).symlink_to(data)
        given = out
    else:
        given = out / "data.yaml"
        copy = shutil.copytree(data, out / "copy")  # it writes a cache beside the labels
        points = {"kpt_shape": list(what.kpt_shape)} if what.kpt_shape else {}
        splits = {"path": str(copy), "train": "images", "val": "images"}
        given.write_text(yaml.safe_dump({**splits, "names": dict(what.names), **points}))
    with silence():
        found = YOLO(onnx, task=what.task).val(
            data=str(given),
            imgsz=size,
            batch=1,
            workers=0,
            plots=False,
            rect=False,
            device="cpu",
            project=str(out / "runs"),
        )
    return dict(found.results_dict)


@pytest.mark.parametrize(
    ("task", "shapes"),
    [
        ("detect", [(1, 7, 189)]),
        ("segment", [(1, 39, 189), (1, 32, 24, 24)]),
        ("pose", [(1, 22, 189)]),
        ("obb", [(1, 8, 189)]),
        ("classify", [(1, 3)]),
    ],
)
def test_exported_outputs(folder: Path, task: str, shapes: list[tuple[int, ...]]) -> None:
    assert [output.shape for output in graph_info(folder / f"{task}.onnx").outputs] == shapes
    assert not head(task).end2end(shapes)
    metadata = {
        entry.key: entry.value for entry in read_graph(folder / f"{task}.onnx").metadata_props
    }
    assert metadata.pop("task") == task
    assert metadata.get("kpt_shape") == ("[5, 3]" if task == "pose" else None)


def test_an_own_graph_keeps_its_metadata_and_must_be_of_the_task(
    folder: Path, tmp_path: Path
) -> None:
    facts = export(folder / "pose.onnx", settings("pose"), tmp_path / "own.onnx")
    assert (facts["kpt_shape"], facts["names"]) == ([5, 3], {"0": "ant", "1": "bee", "2": "cat"})
    assert (tmp_path / "own.onnx").read_bytes() == (folder / "pose.onnx").read_bytes()
    for source in ("pose.onnx", "pose.pt"):
        with pytest.raises(ModelError, match="is a pose model, not segment"):
            export(folder / source, settings("segment"), tmp_path / "own.onnx")


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("names", "{0: 'a', 2: 'b'}", "is not as Ultralytics writes it"),
        ("names", "a, b", "is not as Ultralytics writes it"),
        ("kpt_shape", "[5, 7]", "is not as Ultralytics writes it"),
        ("kpt_shape", None, "has no `kpt_shape`"),
    ],
)
def test_bad_metadata_of_an_own_graph(
    folder: Path, tmp_path: Path, key: str, value: str | None, words: str
) -> None:
    model = read_graph(folder / "pose.onnx")
    [entry] = [entry for entry in model.metadata_props if entry.key == key]
    model.metadata_props.remove(entry)
    if value:
        model.metadata_props.add(key=key, value=value)
    (tmp_path / "own.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(ModelError, match=words):
        export(tmp_path / "own.onnx", settings("pose"), tmp_path / "out.onnx")


METRICS = {
    "detect": ("mAP50-95(B)", "mAP50(B)"),
    "segment": ("mAP50-95(M)", "mAP50(M)"),
    "pose": ("mAP50-95(P)", "mAP50(P)"),
    "obb": ("mAP50-95(B)", "mAP50(B)"),
    "classify": ("accuracy_top1", "accuracy_top5"),
}


@pytest.mark.parametrize("task", TASKS)
def test_the_metric_is_what_ultralytics_says(folder: Path, tmp_path: Path, task: str) -> None:
    ours = measured(folder / f"{task}.onnx", folder / task, head(task)).candidate
    expected = theirs(folder / f"{task}.onnx", folder / task, head(task), SIDE, tmp_path)
    primary, secondary = METRICS[task]
    assert 0.01 < ours.value < 1
    assert ours.value == pytest.approx(expected[f"metrics/{primary}"], abs=5e-5)
    assert ours.secondary == pytest.approx(expected[f"metrics/{secondary}"], abs=5e-5)
    assert set(ours.per_class) <= set(NAMES.values())
    assert not list((folder / task).rglob("*.cache"))


@pytest.mark.parametrize("task", TASKS)
def test_without_labels_a_graph_agrees_with_its_original(
    folder: Path, tmp_path: Path, task: str
) -> None:
    (tmp_path / "images").mkdir()
    for image in (folder / task).rglob("*.png"):
        shutil.copy(image, tmp_path / "images")
    onnx = folder / f"{task}.onnx"
    report = measured(onnx, tmp_path, replace(head(task), judging=Judging("original")))
    assert report.to_dict()["truth"] == "original"
    assert (
        report.candidate.value == report.reference.value > 0.9
    )  # masks without a pixel agree with none
    other = tmp_path / "other.onnx"
    export(write_model(task, tmp_path / f"{task}.pt", seed=2), settings(task), other)
    disagrees = validate_graph(
        onnx, other, tmp_path, replace(head(task), judging=Judging("original")), quiet
    ).candidate
    assert disagrees.value < 0.6


def test_an_original_that_finds_nothing_cannot_be_agreed_with(folder: Path) -> None:
    nothing = np.zeros((6, 7, 189), np.float32)
    runners = [RecordedRunner([nothing], (SIDE, SIDE)) for _ in range(2)]
    with pytest.raises(DataError, match=r"original finds nothing in the 6 images of .* no labels"):
        compare(
            *runners, folder / "detect", replace(head("detect"), judging=Judging("original")), quiet
        )


@pytest.mark.parametrize("task", TASKS)
def test_a_few_images_of_a_set_are_those_of_the_whole(
    folder: Path, tmp_path: Path, task: str
) -> None:
    """From all over it, and whether or not they have labels."""
    data = Path(shutil.copytree(folder / task, tmp_path / "data"))
    for number in (0, 3):
        (data / f"labels/{number}.txt").unlink(missing_ok=True)
    with open_validation_set(data, head(task), (SIDE, 2 * SIDE)) as images:
        everything = [image for image, _ in images]
        assert np.array_equal(
            everything, [image for image, _ in images]
        )  # in the same order each time
    with open_validation_set(data, head(task), (SIDE, 2 * SIDE), few=2) as images:
        few = [image for image, _ in images]
        assert len(images) == len(few) == 2
    places = sorted(
        number
        for number, image in enumerate(everything)
        for one in few
        if np.array_equal(image, one)
    )
    assert places == [0, len(everything) // 2]


def test_the_demo_models_metric_is_what_ultralytics_says(tmp_path: Path) -> None:
    write_dataset(tmp_path / "data", range(1, 9), 320)
    export(DEMO, ExportSettings("detect", (320, 320), 1, False, 17), tmp_path / "demo.onnx")
    what = TaskMetadata("detect", dict(enumerate(CLASSES)))
    ours = measured(tmp_path / "demo.onnx", tmp_path / "data", what).candidate
    assert ours.value > 0.5
    expected = theirs(tmp_path / "demo.onnx", tmp_path / "data", what, 320, tmp_path)
    assert ours.value == pytest.approx(expected["metrics/mAP50-95(B)"], abs=5e-5)


def test_the_metric_is_the_same_in_another_process(folder: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from tests.test_tasks import head, measured\n"
        "for task in ('segment', 'obb'): print(measured(*(Path(sys.argv[1]) / name for name in (f'{task}.onnx', task)), head(task)))"
    )
    run = subprocess.run(
        [sys.executable, "-c", code, str(folder)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert run.stdout.splitlines() == [
        str(measured(folder / f"{task}.onnx", folder / task, head(task)))
        for task in ("segment", "obb")
    ]


@pytest.mark.parametrize("task", TASKS)
def test_results_are_those_of_ultralytics(folder: Path, task: str) -> None:
    """The same image through the graph and through YOLO("model.pt").predict."""
    from ultralytics import YOLO

    image = scene(3, 150)[0][:110]
    demo = task == "detect"
    confidence, what = (
        (0.25, TaskMetadata(task, dict(enumerate(CLASSES)))) if demo else (0.02, head(task))
    )
    onnx = folder / f"{task}.onnx"
    if demo:
        export(DEMO, settings(task), onnx := folder / "demo.onnx")
    tensor = preprocess(image, SIDE, SIDE, task)
    [ours] = to_results(
        what,
        GraphRunner(onnx, (SIDE, SIDE)).run(tensor),
        tensor[None],
        [image],
        [Path("a.png")],
        confidence,
        0.7,
    )
    with silence():
        [expected] = YOLO(DEMO if demo else folder / f"{task}.pt").predict(
            image, imgsz=SIDE, rect=False, conf=confidence, verbose=False
        )
    assert describe(ours) == expected.verbose().rstrip(", ")
    found, wanted = parts(ours), parts(expected)
    assert found.keys() == wanted.keys()
    order = in_order_of(wanted["corners"], found["corners"]) if "corners" in wanted else slice(None)
    for name, values in wanted.items():
        assert np.abs(found[name][order] - values).max() < (
            0.002 if name in ("scores", "area") else 0.5
        ), name
    picture = draw(ours)
    assert picture.shape == image.shape
    assert (picture != image).any()


def in_order_of(wanted: np.ndarray, found: np.ndarray) -> np.ndarray:
    """Where each of the wanted boxes is among those found: equal scores may change places."""
    distance = (
        np.abs(wanted[:, None] - found[None]).reshape(len(wanted), len(found), -1).max(axis=2)
    )
    assert sorted(distance.argmin(axis=1)) == list(range(len(wanted)))
    return distance.argmin(axis=1)


def parts(result: Any) -> dict[str, np.ndarray]:
    """What a result holds: pixels, except for the scores."""
    if result.probs is not None:
        return {"scores": result.probs.data.numpy()}
    boxes = result.obb if result.obb is not None else result.boxes
    assert len(boxes)
    found = {
        "corners": (boxes.xyxyxyxy if result.obb is not None else boxes.xyxy).numpy(),
        "scores": boxes.conf.numpy(),
    }
    if result.masks is not None:
        found["area"] = result.masks.data.numpy().mean(axis=(1, 2))
    if result.keypoints is not None:
        found["keypoints"] = result.keypoints.xy.numpy()
    return found


def test_a_batch_of_results_is_one_an_image(folder: Path) -> None:
    images = [scene(seed, 96)[0] for seed in (1, 2)]
    batch = np.stack([preprocess(image, SIDE, SIDE, "segment") for image in images])
    runner = GraphRunner(folder / "segment.onnx", (SIDE, SIDE))
    outputs = [np.concatenate(rows) for rows in zip(*map(runner.run, batch), strict=True)]
    both = to_results(
        head("segment"), outputs, batch, images, [Path("1.png"), Path("2.png")], 0.05, 0.7
    )
    alone = to_results(
        head("segment"),
        [output[1:] for output in outputs],
        batch[1:],
        images[1:],
        [Path("2.png")],
        0.05,
        0.7,
    )
    assert np.array_equal(both[1].boxes.data.numpy(), alone[0].boxes.data.numpy())
    assert [Path(found.path).name for found in both] == ["1.png", "2.png"]
    nothing = to_results(head("segment"), outputs, batch, images, [Path("1.png")] * 2, 1.0, 0.7)
    assert describe(nothing[0]) == "(no detections)"


@pytest.mark.parametrize(
    ("task", "kept"), [("detect", 7), ("segment", 11), ("pose", 10), ("obb", 10), ("classify", 1)]
)
def test_the_rule_for_heads_finds_the_last_layers_of_every_task(
    folder: Path, task: str, kept: int
) -> None:
    assert (
        len(place(read_graph(folder / f"{task}.onnx").graph, RULES["yolo-head-2"]).excluded) == kept
    )


@pytest.mark.parametrize("task", TASKS)
def test_from_weights_to_registered_engines(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, task: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".venv").symlink_to(Path(sys.prefix))
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    model = {
        "source": str(folder / f"{task}.pt"),
        "task": task,
        "height": SIDE,
        "width": SIDE,
        "validation": str(folder / task),
    }
    drawn = tmp_path / "calibration" / ("ant" if task == "classify" else "images")
    write_dataset(tmp_path / "drawn", range(10, 14), 120)
    drawn.parent.mkdir()
    (tmp_path / "drawn/images").rename(drawn)
    params["models"] = {"tiny": model}
    params["int8"] = {
        "tiny": {"calibration": "calibration", "minimum_images": 4, "rule": "yolo-head-2"}
    }
    params["matrix"].update(models=["tiny"], targets=["rtx-ampere"])
    params["validation"] = {"map50_95_drop": 1.0, "top1_drop": 1.0, "rms_relative": LARGEST}
    PARAMS_FILE.write_text(yaml.safe_dump(params))
    assert fingerprinted() == {}
    for of_model in ("export", "images", "simplify", "calibration-images", "calibrate"):
        load_step(of_model)(Stage(of_model, "tiny"))
    assert read_task_metadata("tiny") == head(task)
    assert len(list_images(tmp_path / "calibration", task)) == 4
    for precision in ("fp32", "fp16", "int8"):
        for of_graph in ("quantize", "validate"):
            load_step(of_graph)(Stage(of_graph, "tiny", precision=precision))
        for of_engine in ("build", "register"):
            load_step(of_engine)(Stage(of_engine, "tiny", "rtx-ampere", precision))
        manifest = read_json(engine_folder("tiny", "rtx-ampere", precision) / "manifest.json")
        metric = metric_of(task)
        assert manifest["metrics"].keys() == {
            metric.key,
            metric.secondary,
            f"reference_{metric.key}",
            "rms_relative",
        }
        assert manifest["metrics"][f"reference_{metric.key}"] > 0.01
        assert manifest["steps"]["export"].get("kpt_shape") == ([5, 3] if task == "pose" else None)
    check_engine_validation(monkeypatch)


def check_engine_validation(
    monkeypatch: pytest.MonkeyPatch, size: tuple[int, int] = (SIDE, SIDE)
) -> None:
    """An engine's outputs come back as one file each, in its own order: here the original's own
    stand in for those of a GPU.
    """

    def measure(
        python: Path, request: MeasureRequest, on_event: Any, time_limit: float
    ) -> Measurement:
        [point] = request.points
        runner = GraphRunner(model_folder("tiny", "export") / "model.onnx", size)
        rows = [runner.run(image) for image in np.load(point.images)]
        for number, values in enumerate(reversed([*zip(*rows, strict=True)])):
            np.save(point.outputs / f"{number}.npy", np.concatenate(values))
        result = PointResult((*reversed(runner.outputs),), (1.0,), timing())
        return Measurement((result,), card)

    found, card = (
        find("fp32").manifest,
        {"gpu": "none", "uuid": "GPU-0", "compute_capability": "8.6"},
    )
    info = SimpleNamespace(
        gpus=[card], no_gpu="", version=found.runtime_version, platform=found.platform
    )
    monkeypatch.setattr(
        Toolchains, "choose", lambda self, name: Choice("this", Path(sys.executable), info, None)
    )  # type: ignore[arg-type]
    monkeypatch.setattr(engine_session, "measure", measure)
    report = validate_engine.validate_engine(load_spec(), find("fp32"))
    assert report.failures == ()
    assert report.report.closeness.max_abs == 0
    assert report.report.candidate == report.report.reference
    assert find("fp32").state == "validated"
    some = tuple(sorted(Path(load_spec().models["tiny"].validation).rglob("*.png"))[:2])
    wanted = predicting.PredictionRequest(some, Path("seen"), 0.25, 0.7)
    lines = list(predicting.predict(load_spec(), find("fp32"), wanted))
    assert [str(line).partition(":")[0] for line in lines] == [path.name for path in some]
    assert all("inference 0.5 ms" in str(line) for line in lines)
    assert sorted(path.name for path in Path("seen").iterdir()) == [path.name for path in some]
