"""Boxes, masks, keypoints, oriented boxes and classes, by Ultralytics' own validators; without
labels, against what the FP32 original finds.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from enginery.errors import DataError
from enginery.evaluation.judges.interface import Outputs
from enginery.evaluation.runners import Runner
from enginery.vision.dataset import ValidationSet, open_validation_set
from enginery.vision.preprocess import Preprocess
from enginery.vision.score import Score
from enginery.vision.tasks import TaskMetadata


@contextmanager
def open_judge(folder: Path, head: TaskMetadata, reference: Runner) -> Iterator[LabelJudge]:
    """See `enginery.evaluation.judges.open_judge`."""
    with open_validation_set(folder, head, reference.size) as images:
        yield LabelJudge(folder, head, images)


class LabelJudge:
    """See `enginery.evaluation.judges.interface.Judge`."""

    def __init__(self, folder: Path, head: TaskMetadata, images: ValidationSet) -> None:
        self._folder, self._head, self._images = folder, head, images
        self._original = None if head.has_labels else self.score()
        self._objects = 0

    def __len__(self) -> int:
        return len(self._images)

    def name(self, index: int) -> Path:
        """The file of an image."""
        return self._images.name(index)

    def __iter__(self) -> Iterator[tuple[NDArray[Any], Any]]:
        how = self._head.judging.preprocess
        for image, batch in self._images:
            yield finish(image, how) if how else image, batch

    def truth(self, truth: Any, original: Outputs) -> Any:
        """The labels, or what the original finds."""
        if self._original is None:
            return truth
        truth, count = self._original.with_truth(original, truth)
        self._objects += count
        return truth

    def score(self) -> Score:
        """By a fresh validator."""
        return Score(self._head, self._images.validator())

    def check(self) -> None:
        """Whether the original finds anything, where there are no labels."""
        if self._head.has_labels or self._objects:
            return
        count = f"the {len(self)} images of {self._folder}, which have no labels"
        what = f"the FP32 original finds nothing in {count}: there is nothing to agree with"
        raise DataError(what, "Give images like those it was trained with")


def finish(image: NDArray[np.float32], how: Preprocess) -> NDArray[Any]:
    """An image (3, height, width) RGB, 0 to 1, as the graph takes it."""
    pixels = np.rint(image * 255).astype(np.uint8)
    return how.finish(np.ascontiguousarray(pixels[::-1].transpose(1, 2, 0)))
