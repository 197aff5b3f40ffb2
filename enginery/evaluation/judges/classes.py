"""Classes of whole images, for models that prepare images in another way than Ultralytics': top-1
and top-5.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from enginery.evaluation.judges.interface import Outputs, Samples
from enginery.evaluation.runners import Runner
from enginery.vision.feeds import Row
from enginery.vision.labels import check_labels, class_indexes
from enginery.vision.score import Metrics
from enginery.vision.tasks import TOP1, TaskMetadata


@contextmanager
def open_judge(folder: Path, head: TaskMetadata, reference: Runner) -> Iterator[ClassJudge]:
    """See `enginery.evaluation.judges.open_judge`."""
    yield ClassJudge(folder, head, reference)


class ClassJudge(Samples):
    """See `enginery.evaluation.judges.interface.Judge`; the truth is a class's number."""

    def __init__(self, folder: Path, head: TaskMetadata, reference: Runner) -> None:
        super().__init__(folder, head, reference)
        self._numbers: list[int] = [0] * len(self.files)
        if head.has_labels:
            check_labels(self.files, head)
            self._numbers = class_indexes(self.files, head.names)

    def __iter__(self) -> Iterator[tuple[Row, int]]:
        for path, number in zip(self.files, self._numbers, strict=True):
            yield self.reference.feeder.row(path), number

    def truth(self, truth: int, original: Outputs) -> int:
        """The folder's class, or the original's first guess."""
        return truth if self.head.has_labels else int(np.argmax(original[0][0]))

    def score(self) -> ClassScore:
        """A fresh one."""
        return ClassScore(self.head)


class ClassScore:
    """The share of images whose class is the first guess, or among the first five."""

    def __init__(self, head: TaskMetadata) -> None:
        self._head = head
        self._places: list[tuple[int, int]] = []  # each image's class, and its place among guesses

    def add(self, outputs: Outputs, truth: int) -> None:
        """The scores of every class, (1, classes)."""
        self._head.end2end([output.shape for output in outputs])
        order = np.argsort(-np.nan_to_num(outputs[0][0]), kind="stable")
        self._places.append((truth, int(np.flatnonzero(order == truth)[0])))

    def metrics(self) -> Metrics:
        """Over all images, and of each class that images have."""
        labels, places = np.array(self._places).T
        per_class = {
            self._head.names[int(label)]: float((places[labels == label] == 0).mean())
            for label in np.unique(labels)
        }
        return Metrics(TOP1, float((places == 0).mean()), float((places < 5).mean()), per_class)
