"""mAP of detection graphs, with Ultralytics' own NMS, matching and average precision."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from enginery.errors import ModelError
from enginery.evaluation.compare import Accumulator, Closeness
from enginery.evaluation.images import LetterBox, list_images, preprocess, read_image, read_labels
from enginery.evaluation.session import open_session

os.environ.setdefault("YOLO_AUTOINSTALL", "false")
os.environ.setdefault("YOLO_VERBOSE", "false")

CONFIDENCE, NMS_IOU, MAX_DETECTIONS = 0.001, 0.7, 300
_NO_LIMIT_S = 1e9  # a slow machine must not lose detections


@dataclass(frozen=True)
class DetectionMetrics:
    """Mean average precision, 0 to 1: over IoU 0.5 to 0.95, at 0.5, and of each class."""

    map50_95: float
    map50: float
    per_class: Mapping[str, float]


@dataclass(frozen=True)
class GraphReport:
    """A graph against its reference."""

    closeness: Closeness
    reference: DetectionMetrics
    candidate: DetectionMetrics

    def to_dict(self) -> dict[str, Any]:
        """As plain values, for JSON."""
        return asdict(self)


class DetectionScore:
    """Collects detections and labels image by image."""

    def __init__(self, names: Mapping[int, str]) -> None:
        import torch

        self.names = names
        self._ious = torch.linspace(0.5, 0.95, 10)
        self._found: list[tuple[Any, Any, Any]] = []
        self._labels: list[NDArray[np.float32]] = []

    def add(self, output: NDArray[np.float32], labels: NDArray[np.float32], size: tuple[int, int], fit: LetterBox) -> None:
        """One image: raw output (1, 4 + classes, anchors), labels (n, 5), the image's (height, width) and how it was fitted."""
        import torch
        from ultralytics.engine.validator import BaseValidator
        from ultralytics.utils.metrics import box_iou
        from ultralytics.utils.nms import non_max_suppression

        logging.getLogger("ultralytics").setLevel(logging.CRITICAL)
        raw = torch.from_numpy(np.nan_to_num(np.asarray(output, np.float32)))
        [found] = non_max_suppression(
            raw, CONFIDENCE, NMS_IOU, multi_label=True, max_det=MAX_DETECTIONS, nc=len(self.names), max_time_img=_NO_LIMIT_S
        )
        truth = torch.from_numpy(_fitted_boxes(labels, size, fit))
        classes = torch.from_numpy(labels[:, 0])
        overlaps = box_iou(truth, found[:, :4])
        correct = BaseValidator.match_predictions(SimpleNamespace(iouv=self._ious), found[:, 5], classes, overlaps)
        self._found.append((correct.numpy(), found[:, 4].numpy(), found[:, 5].numpy()))
        self._labels.append(labels[:, 0])

    def metrics(self) -> DetectionMetrics:
        """The metrics over all images so far."""
        from ultralytics.utils.metrics import ap_per_class

        correct, confidence, classes = (np.concatenate(parts) for parts in zip(*self._found, strict=True))
        truth = np.concatenate(self._labels)
        if not len(correct):
            return DetectionMetrics(0.0, 0.0, {self.names[int(label)]: 0.0 for label in np.unique(truth)})
        *_, precision, labels, _, _, _, _, _ = ap_per_class(correct, confidence, classes, truth, names=dict(self.names))
        per_class = {self.names[int(label)]: float(row.mean()) for label, row in zip(labels, precision, strict=True)}
        return DetectionMetrics(float(precision.mean()), float(precision[:, 0].mean()), per_class)


def _fitted_boxes(labels: NDArray[np.float32], size: tuple[int, int], fit: LetterBox) -> NDArray[np.float32]:
    """Labels as (n, 4) x1 y1 x2 y2 in the fitted image's pixels."""
    rows, columns = size
    centre = labels[:, 1:3] * (columns * fit.scale, rows * fit.scale) + (fit.left, fit.top)
    half = labels[:, 3:5] * (columns * fit.scale, rows * fit.scale) / 2
    return np.concatenate([centre - half, centre + half], axis=1).astype(np.float32)


def validate_graph(
    reference: Path, candidate: Path, folder: Path, names: Mapping[int, str], progress: Callable[[int, int], None],
    size: tuple[int, int] = (640, 640),
) -> GraphReport:
    """Run every image of a data set through both graphs; `size` (height, width) is for graphs whose own is open.

    Raises:
        DataError: images or labels cannot be used. ModelError: a graph cannot be run, or is no detector with these classes.
    """
    if not names:
        raise ModelError(f"{reference} has no class names in its metadata", "Add `names` as Ultralytics writes it")
    return compare(GraphRunner(reference, size), GraphRunner(candidate, size), folder, names, progress)


def compare(
    reference: Runner, candidate: Runner, folder: Path, names: Mapping[int, str], progress: Callable[[int, int], None],
) -> GraphReport:
    """Give every image of a data set to both, in the order of their names; what is compared need not be a graph.

    Raises:
        DataError: images or labels cannot be used. ModelError: labels have classes that `names` has not.
    """
    images = list_images(folder)
    labels = read_labels(folder, images)
    runners = [reference, candidate]
    scores = [DetectionScore(names), DetectionScore(names)]
    closeness = Accumulator()
    for done, (path, truth) in enumerate(zip(images, labels, strict=True), 1):
        _check_labels(truth, names, path)
        image = read_image(path)
        fitted, fit = preprocess(image, *runners[0].size)
        outputs = [runner.run(fitted) for runner in runners]
        closeness.add(*outputs)
        for score, output in zip(scores, outputs, strict=True):
            score.add(output[0], truth, (image.shape[0], image.shape[1]), fit)
        progress(done, len(images))
    return GraphReport(closeness.closeness(), scores[0].metrics(), scores[1].metrics())


def _check_labels(labels: NDArray[np.float32], names: Mapping[int, str], path: Path) -> None:
    unknown = sorted({int(label) for label in labels[:, 0]} - set(names))
    if unknown:
        raise ModelError(f"{path}: its labels have class {unknown[0]}, the model has {len(names)} classes", "Use the model's own data set")


class Runner(Protocol):
    """What takes an image of `size` (height, width) and gives raw outputs."""

    size: tuple[int, int]

    def run(self, image: NDArray[np.float32]) -> list[NDArray[np.float32]]:
        """Every output, (1, ...), for an image (3, height, width)."""


class GraphRunner:
    """A graph on the CPU, fed one image at a time; a fixed batch is filled with copies and its first row is used."""

    def __init__(self, onnx: Path, size: tuple[int, int]) -> None:
        self._session = open_session(onnx)
        tensor = self._session.get_inputs()[0]
        if len(tensor.shape) != 4:
            what = f"{onnx}: its input {tensor.name} has the shape {tensor.shape}, not batch, 3, height, width"
            raise ModelError(what, "Use an image model")
        batch, _, height, width = tensor.shape
        self._name = tensor.name
        self._batch = batch if isinstance(batch, int) else 1
        self.size = (height if isinstance(height, int) else size[0], width if isinstance(width, int) else size[1])

    def run(self, image: NDArray[np.float32]) -> list[NDArray[np.float32]]:
        """Every output's first row, for an image (3, height, width)."""
        batch = np.repeat(image[None], self._batch, axis=0)
        return [output[:1] for output in self._session.run(None, {self._name: batch})]


class RecordedRunner:
    """What ran elsewhere: every output (images, ...), in the order of the images' names."""

    def __init__(self, outputs: Sequence[NDArray[np.float32]], size: tuple[int, int]) -> None:
        self._rows = zip(*outputs, strict=True)
        self.size = size

    def run(self, image: NDArray[np.float32]) -> list[NDArray[np.float32]]:
        """The next image's outputs."""
        return [np.asarray(row, np.float32)[None] for row in next(self._rows)]
