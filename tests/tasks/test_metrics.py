"""Metadata and metrics of every task: those of Ultralytics."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml

from enginery.demo.dataset import write_dataset
from enginery.demo.scenes import CLASSES
from enginery.errors import DataError, ModelError
from enginery.evaluation.runners import RecordedRunner
from enginery.evaluation.validation import compare, validate_graph
from enginery.graphs.inspect import graph_info, read_graph
from enginery.sources.export import ExportSettings, export
from enginery.sources.ultralytics_compat import silence
from enginery.vision.dataset import open_validation_set
from enginery.vision.tasks import ULTRALYTICS_TASKS as TASKS
from enginery.vision.tasks import Judging, TaskMetadata
from tests.conftest import ROOT
from tests.tasks.common import DEMO, head, measured, quiet, settings
from tests.tiny import NAMES, SIDE, write_model


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
        "import sys; from pathlib import Path; from tests.tasks.common import head, measured\n"
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
