"""Semantic segmentation: a class for every pixel; mIoU over all classes that labels or outputs
have.

The truth of images/NAME.jpg is masks/NAME.png: a grey or palette picture whose values are classes,
255 where there is none. Without labels it is what the FP32 original says.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from enginery.errors import DataError, ModelError
from enginery.evaluation.judges.interface import Outputs, Samples
from enginery.evaluation.runners import Runner
from enginery.vision.feeds import Row
from enginery.vision.folders import mask_file
from enginery.vision.preprocess import Preprocess
from enginery.vision.score import Metrics
from enginery.vision.tasks import MIOU, TaskMetadata

NOTHING = 255  # the value of a pixel that does not count
Classes = NDArray[np.intp]


@contextmanager
def open_judge(folder: Path, head: TaskMetadata, reference: Runner) -> Iterator[PixelJudge]:
    """See `enginery.evaluation.judges.open_judge`."""
    yield PixelJudge(folder, head, reference)


class PixelJudge(Samples):
    """See `enginery.evaluation.judges.interface.Judge`; the truth is a class for each pixel."""

    def __init__(self, folder: Path, head: TaskMetadata, reference: Runner) -> None:
        super().__init__(folder, head, reference)
        if head.has_labels:
            check_masks(self.files, len(head.names))

    def __iter__(self) -> Iterator[tuple[Row, NDArray[np.uint8] | None]]:
        how = self.head.judging.preprocess or Preprocess()
        for path in self.files:
            mask = read_mask(mask_file(path)) if self.head.has_labels else None
            fitted = None if mask is None else how.fit_mask(mask, *self.reference.size)
            yield self.reference.feeder.row(path), fitted

    def truth(self, truth: Any, original: Outputs) -> Any:
        """The mask, or what the original says."""
        if truth is not None:
            return truth
        return classes_of(original, self.head, self.reference.size)

    def score(self) -> PixelScore:
        """A fresh one."""
        return PixelScore(self.head, self.reference.size)


class PixelScore:
    """Counts how often each class was taken for each."""

    def __init__(self, head: TaskMetadata, size: tuple[int, int]) -> None:
        self._head, self._size = head, size
        self._counts = np.zeros((len(head.names), len(head.names)), np.int64)

    def add(self, outputs: Outputs, truth: NDArray[Any]) -> None:
        """Scores (1, classes, rows, columns), or classes (1, rows, columns)."""
        seen, total = classes_of(outputs, self._head, self._size), len(self._counts)
        counted = truth != NOTHING
        pairs = truth[counted].astype(np.int64) * total + seen[counted]
        self._counts += np.bincount(pairs, minlength=total * total).reshape(total, total)

    def metrics(self) -> Metrics:
        """mIoU, and the share of right pixels; of each class its IoU."""
        right = np.diag(self._counts)
        union = self._counts.sum(axis=0) + self._counts.sum(axis=1) - right
        per_class = {
            self._head.names[index]: float(right[index] / union[index])
            for index in np.flatnonzero(union).tolist()
        }
        mean = float(np.mean([*per_class.values()])) if per_class else 0.0
        accuracy = float(right.sum() / max(int(self._counts.sum()), 1))
        return Metrics(MIOU, mean, accuracy, per_class)


def classes_of(outputs: Outputs, head: TaskMetadata, size: tuple[int, int]) -> Classes:
    """The class of each pixel of the input (height, width), from the first output.

    Raises:
        ModelError: it is not that of a model that segments into these classes.
    """
    first, count = np.asarray(outputs[0])[0], len(head.names)
    if first.ndim == 3 and first.shape[0] == count:
        first = np.argmax(np.nan_to_num(first), axis=0)
    if first.ndim == 3 and first.shape[0] == 1:
        first = first[0]
    if first.ndim != 2 or first.max(initial=0) >= count or first.min(initial=0) < 0:
        shape = tuple(outputs[0].shape)
        what = (
            f"an output of the shape {shape} is not that of a semantic model with {count} classes"
        )
        raise ModelError(
            f"{what}: (1, {count}, rows, columns) or (1, rows, columns)",
            "Correct the model's task or its `names` in params.yaml; `tensors` takes any outputs",
        )
    scaled = cv2.resize(
        first.astype(np.float32), (size[1], size[0]), interpolation=cv2.INTER_NEAREST
    )
    return np.asarray(scaled).astype(np.intp)


def check_masks(images: tuple[Path, ...], classes: int) -> None:
    """Read every mask.

    Raises:
        DataError: one is missing, is no mask, or has a class that the model has not.
    """
    for image in images:
        file = mask_file(image)
        mask = read_mask(file)
        highest = int(mask[mask != NOTHING].max(initial=0))
        if highest >= classes:
            what = f"{file} has class {highest}, and the model has {classes} classes"
            raise DataError(what, "Use the model's own data set; 255 is for pixels without a class")


def read_mask(path: Path) -> NDArray[np.uint8]:
    """A class for each pixel, (height, width).

    Raises:
        DataError: it is missing, or no picture with one value a pixel.
    """
    from PIL import Image

    if not path.is_file():
        raise DataError(f"{path} is missing: it has the classes of its image's pixels", "Add it")
    try:
        with Image.open(path) as picture:
            values = np.asarray(picture)
    except (OSError, ImportError) as error:  # Ultralytics lets Pillow look for further plugins
        raise DataError(f"{path} cannot be read as a mask: {error}", "Replace it") from None
    if values.ndim != 2 or (values.dtype != np.uint8 and values.max(initial=0) > NOTHING):
        what = f"{path} has {values.dtype} values of the shape {values.shape}"
        raise DataError(what, "Save it as a grey or palette picture whose values are classes")
    return np.asarray(values, np.uint8)
