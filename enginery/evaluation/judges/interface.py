"""What Enginery asks of a way to judge outputs, and what most ways share."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from enginery.evaluation.runners import Given, GraphRunner, Runner
from enginery.vision.images import check_images, list_images
from enginery.vision.score import Metrics
from enginery.vision.tasks import TaskMetadata

Outputs = Sequence[NDArray[Any]]


class Score(Protocol):
    """Adds up one runner's outputs, sample by sample."""

    def add(self, outputs: Outputs, truth: Any) -> None:
        """The raw outputs, (1, ...), for a sample.

        Raises:
            ModelError: their shapes are not those of the task.
        """

    def metrics(self) -> Metrics:
        """The metrics over all samples so far."""


class Judge(Protocol):
    """A data set's samples, and how outputs for them are judged.

    Iterating gives every sample as a runner takes it, and its truth, in the order of their names.
    """

    def __len__(self) -> int: ...

    def name(self, index: int) -> Path:
        """The file of a sample, counted from 0."""

    def __iter__(self) -> Iterator[tuple[Given, Any]]: ...

    def truth(self, truth: Any, original: Outputs) -> Any:
        """A sample's truth, once the original's outputs are known: where there are no labels, they
        are.
        """

    def score(self) -> Score:
        """A fresh one."""

    def check(self) -> None:
        """After the last sample: whether anything could be judged.

        Raises:
            DataError: nothing could.
        """


class Samples:
    """A data set's files in the order of their names, as a graph takes them."""

    def __init__(self, folder: Path, head: TaskMetadata, reference: Runner) -> None:
        assert isinstance(reference, GraphRunner), "the FP32 original is a graph"
        self.folder, self.head, self.reference = folder, head, reference
        labelled = head.has_labels and head.task == "classify"
        self.files = list_images(folder, head.task, labelled=labelled)
        check_images(self.files)

    def __len__(self) -> int:
        return len(self.files)

    def name(self, index: int) -> Path:
        """The file of a sample, counted from 0."""
        return self.files[index]

    def truth(self, truth: Any, original: Outputs) -> Any:
        """Labels, as they are."""
        return truth

    def check(self) -> None:
        """There is always something."""


def name_outputs(names: Sequence[str], outputs: Outputs) -> Mapping[str, NDArray[Any]]:
    """Outputs by their names, without the batch."""
    return {name: np.asarray(output)[0] for name, output in zip(names, outputs, strict=True)}
