"""The samples of a validation: which they are, and what is recorded of each task's outputs."""

from __future__ import annotations

import base64
from pathlib import Path

import cv2
import numpy as np
import pytest

from enginery.demo.scenes import CLASSES, scene
from enginery.evaluation import drawing
from enginery.evaluation.compare import Accumulator, FarthestApart
from enginery.evaluation.drawing import can_draw, draw_sample
from enginery.evaluation.runners import GraphRunner
from enginery.evaluation.samples import SampleFile
from enginery.evaluation.validation import validate_graph
from enginery.registry.records import parse
from enginery.sources.export import ExportSettings, export
from enginery.system.files import dumps
from enginery.vision.images import preprocess
from enginery.vision.preprocess import Preprocess
from enginery.vision.tasks import ULTRALYTICS_TASKS as TASKS
from enginery.vision.tasks import Judging, TaskMetadata
from tests.tasks.common import DEMO, head, quiet
from tests.tiny import SIDE


@pytest.mark.parametrize("task", TASKS)
def test_each_task_has_samples(folder: Path, task: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drawing, "CONFIDENCE", 0.02)  # random weights are sure of nothing
    graph, size = folder / f"{task}.onnx", (SIDE, SIDE)
    report = validate_graph(graph, graph, folder / task, head(task), quiet, size, 2)
    written = SampleFile(samples=report.samples)
    assert parse(dumps(written.to_json()).encode(), SampleFile) == written
    assert len(report.samples) == 2
    for sample in report.samples:
        assert sample.original == sample.candidate != ()
        assert all(each.name in head(task).names.values() for each in sample.original)
        shown = cv2.imdecode(np.frombuffer(base64.b64decode(sample.jpeg), np.uint8), 1)
        assert shown.shape == (sample.height, sample.width, 3) == (SIDE, SIDE, 3)
    first = report.samples[0].original[0]
    assert bool(first.outline) == (task != "classify")
    assert bool(first.keypoints) == (task == "pose")
    assert "samples" not in report.to_dict()


def test_a_box_lies_where_its_object_is(tmp_path: Path) -> None:
    """The image is wider than high: shares are of the square that the network sees."""
    export(DEMO, ExportSettings("detect", (320, 320), 1, False, 17), onnx := tmp_path / "demo.onnx")
    whole, boxes = scene(3, 320)
    image, top = whole[:240], (320 - 240) / 2
    cv2.imwrite(str(tmp_path / "a.png"), image)
    outputs = GraphRunner(onnx, (320, 320)).run(preprocess(image, 320, 320, "detect"))
    what = TaskMetadata("detect", dict(enumerate(CLASSES)))
    sample = draw_sample(what, tmp_path / "a.png", (320, 320), outputs, outputs)
    assert sample and sample.original
    places = [(CLASSES[box.label], np.add(box.xyxy, [0, top, 0, top])) for box in boxes]
    for found in sample.original:
        corners = np.array([*found.outline[0], *found.outline[2]]) * 320
        distances = [np.abs(corners - xyxy).max() for name, xyxy in places if name == found.name]
        assert min(distances) < 8, found


def test_those_are_kept_that_differ_most_and_of_equals_the_first() -> None:
    def kept(count: int, *values: float) -> list[int]:
        closeness, farthest = Accumulator(), FarthestApart(count)
        original = [np.ones((1, 4), np.float32), np.ones((1, 2), np.float32)]
        for index, value in enumerate(values):
            given = [np.full((1, 4), value, np.float32), original[1]]
            farthest.add(index, closeness.add(original, given), original, given)
        return [index for index, _, _ in farthest]

    assert kept(3, 1.0, 1.5, 1.2, 1.0, float("nan"), 1.5) == [4, 1, 5]
    assert kept(2, 1.0, 1.0, 1.0, 1.0) == [0, 1]
    assert kept(0, 1.0, 2.0) == []


def test_a_class_has_a_confidence_whether_or_not_its_scores_are_shares(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), scene(1, 64)[0])
    what = TaskMetadata("classify", {0: "a", 1: "b"}, judging=Judging(preprocess=Preprocess()))
    shares, scores = (np.array([each], np.float32) for each in ([0.2, 0.8], [-1.0, 3.0]))
    sample = draw_sample(what, tmp_path / "a.png", (32, 32), [shares], [scores])
    assert sample
    found = [(each.name, each.confidence) for each in (*sample.original, *sample.candidate)]
    assert found == [("b", 0.8), ("b", 0.982)]


def test_regions_of_classes_have_outlines(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), scene(1, 64)[0])
    classes = np.zeros((1, 8, 8), np.float32)
    classes[0, 2:6, 4:] = 1
    what = TaskMetadata("semantic", {0: "road", 1: "tree"})
    sample = draw_sample(what, tmp_path / "a.png", (64, 64), [classes], [classes * 0])
    assert sample
    road, tree = sample.original
    assert (road.name, tree.name) == ("road", "tree")
    assert np.allclose(np.min(tree.outline, axis=0), [0.5, 0.25], atol=0.02)
    assert [(each.name, each.confidence) for each in sample.candidate] == [("road", None)]


def test_what_cannot_be_drawn_is_left_out(tmp_path: Path) -> None:
    assert not can_draw(TaskMetadata("tensors", {}))
    own = Judging(metric="metrics/mine.py:score", metric_sha256="0" * 64)
    assert not can_draw(TaskMetadata("detect", {0: "a"}, judging=own))
    array = tmp_path / "a.npz"
    assert draw_sample(TaskMetadata("semantic", {0: "a"}), array, (64, 64), [], []) is None
