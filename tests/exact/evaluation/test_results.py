"""Outputs of a graph as Ultralytics' results."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from enginery.errors import ModelError
from enginery.vision import results
from enginery.vision import tasks as head
from enginery.vision.tasks import TaskMetadata
from tests.exact.evaluation.common import THREE


def detections(*rows: Sequence[float], anchors: int = 8) -> NDArray[np.float32]:
    """A raw output (1, 4 + 3 classes, anchors) of these (x, y, w, h, scores ...)."""
    found = np.zeros((1, 7, anchors), np.float32)
    for index, row in enumerate(rows):
        found[0, :, index] = row
    return found


def test_what_was_found_in_each_image() -> None:
    """The second image is twice as large as the graph's: its box is, too.

    The third row overlaps the first: NMS drops it.
    """
    sure, again = (8, 8, 8, 4, 0.9, 0.1, 0.0), (8, 8.5, 8, 4, 0.8, 0.1, 0.0)
    unsure = (4, 12, 2, 2, 0.0, 0.0, 0.3)
    outputs = np.concatenate(
        [detections(sure, unsure, again), detections((4, 12, 2, 2, 0.0, 0.0, 0.6))]
    )
    batch = np.zeros((2, 3, 16, 16), np.float32)
    pixels = [np.zeros((16, 16, 3), np.uint8), np.zeros((32, 32, 3), np.uint8)]
    paths = [Path("a.png"), Path("b.png")]
    first, second = results.to_results(
        TaskMetadata("detect", THREE), [outputs], batch, pixels, paths, 0.5, 0.5
    )
    assert (first.path, second.path) == ("a.png", "b.png")
    assert (first.names, first.orig_img.shape, second.orig_img.shape) == (
        THREE,
        (16, 16, 3),
        (32, 32, 3),
    )
    assert first.boxes.xyxy.tolist() == [[4, 6, 12, 10]]
    assert [round(value, 4) for value in first.boxes.conf.tolist()] == [0.9]
    assert second.boxes.xyxy.tolist() == [[6, 22, 10, 26]]
    assert (results.describe(first), results.describe(second)) == ("1 ant", "1 cat")
    [less, _] = results.to_results(
        TaskMetadata("detect", THREE), [outputs], batch, pixels, paths, 0.25, 0.99
    )
    assert len(less.boxes) == 3
    drawn = results.draw(second)
    assert (drawn.shape, drawn.dtype) == ((32, 32, 3), np.uint8)
    assert drawn.max() > 0
    with pytest.raises(ValueError, match="zip"):
        results.to_results(
            TaskMetadata("detect", THREE), [outputs], batch, pixels, paths[:1], 0.5, 0.5
        )
    with pytest.raises(ModelError, match="not those of a detect model with 2 classes"):
        results.to_results(
            TaskMetadata("detect", {0: "a", 1: "b"}), [outputs], batch, pixels, paths, 0.5, 0.5
        )


def test_final_detections_are_taken_as_they_are() -> None:
    """An end-to-end head has no NMS left: overlapping boxes stay."""
    rows = np.array(
        [[[4, 6, 12, 10, 0.9, 1], [4, 6, 12, 10, 0.8, 1], [0, 0, 1, 1, 0.1, 0]]], np.float32
    )
    pixels = [np.zeros((16, 16, 3), np.uint8)]
    batch = np.zeros((1, 3, 16, 16), np.float32)
    [found] = results.to_results(
        TaskMetadata("detect", THREE), [rows], batch, pixels, [Path("a.png")], 0.5, 0.5
    )
    assert found.boxes.xyxy.tolist() == [[4, 6, 12, 10]] * 2
    assert results.describe(found) == "2 bees"


def test_keypoints_have_the_models_shape() -> None:
    raw = np.zeros((1, 7 + 6, 8), np.float32)
    raw[0, :, 0] = (8, 8, 8, 4, 0.9, 0.1, 0.0, 5, 6, 0.9, 7, 8, 0.9)
    batch = np.zeros((1, 3, 16, 16), np.float32)
    pixels = [np.zeros((16, 16, 3), np.uint8)]
    [found] = results.to_results(
        TaskMetadata("pose", THREE, (2, 3)), [raw], batch, pixels, [Path("a.png")], 0.5, 0.5
    )
    assert found.keypoints.data.shape == (1, 2, 3)
    assert found.keypoints.xy.tolist() == [[[5, 6], [7, 8]]]


def test_a_class_and_a_mask() -> None:
    batch = np.zeros((1, 3, 16, 16), np.float32)
    pixels = [np.zeros((16, 16, 3), np.uint8)]
    probabilities = np.array([[0.1, 0.7, 0.2]], np.float32)
    [found] = results.to_results(
        TaskMetadata("classify", THREE), [probabilities], batch, pixels, [Path("a.png")], 0.5, 0.5
    )
    assert (found.probs.top1, results.describe(found)) == (1, "bee 0.70, cat 0.20, ant 0.10")
    raw = np.zeros((1, 7 + 2, 8), np.float32)
    raw[0, :, 0] = (8, 8, 8, 4, 0.9, 0.1, 0.0, 1, 0)
    masks = np.stack([np.ones((4, 4)), np.zeros((4, 4))])[None].astype(np.float32)
    [found] = results.to_results(
        TaskMetadata("segment", THREE), [raw, masks], batch, pixels, [Path("a.png")], 0.5, 0.5
    )
    assert found.masks.data.shape == (1, 16, 16)
    assert int(found.masks.data.sum()) == 8 * 4


def test_predictors_do_not_save_or_talk() -> None:
    for task in head.ULTRALYTICS_TASKS:
        predictor = results._predictor(task)
        given = predictor.args
        assert (given.task, given.mode, given.save, given.verbose, given.device) == (
            task,
            "predict",
            False,
            False,
            "cpu",
        )
        assert (
            type(predictor).__name__.lower()
            == f"{ {'classify': 'classification', 'detect': 'detection', 'segment': 'segmentation'}.get(task, task) }predictor"
        )


def test_the_box_around_a_polygon() -> None:
    from enginery.vision.labels import _box

    assert _box([0.25, 0.5, 0.75, 0.5, 0.5, 1.0]) == [0.5, 0.75, 0.5, 0.5]
