"""A graph or an engine against its FP32 original: raw outputs, and the task's metric on real images
with labels.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from enginery.errors import DataError, ModelError
from enginery.evaluation.compare import Accumulator, OutputError
from enginery.evaluation.runners import GraphRunner, Runner
from enginery.graphs.session import WORKERS
from enginery.vision.dataset import open_validation_set
from enginery.vision.score import Metrics, Score
from enginery.vision.tasks import TaskMetadata, Truth

Item = TypeVar("Item")


@dataclass(frozen=True)
class GraphReport:
    """A graph against its reference."""

    closeness: OutputError
    reference: Metrics
    candidate: Metrics
    truth: Truth = "labels"

    def to_dict(self) -> dict[str, Any]:
        """As plain values, for JSON; a truth that is no labels is said."""
        return {
            **({} if self.truth == "labels" else {"truth": self.truth}),
            "closeness": asdict(self.closeness),
            "reference": self.reference.to_dict(),
            "candidate": self.candidate.to_dict(),
        }


def validate_graph(
    reference: Path,
    candidate: Path,
    folder: Path,
    head: TaskMetadata,
    progress: Callable[[int, int], None],
    size: tuple[int, int] = (640, 640),
) -> GraphReport:
    """Run every image of a data set through both graphs; `size` (height, width) is for graphs whose
    own is open.

    Raises:
        DataError: images or labels cannot be used. ModelError: a graph cannot be run, or is none of
        this task with these classes.
    """
    if not head.names:
        raise ModelError(
            f"{reference} has no class names in its metadata",
            "Add `names` as Ultralytics writes it",
        )
    return compare(
        GraphRunner(reference, size), GraphRunner(candidate, size), folder, head, progress
    )


def compare(
    reference: Runner,
    candidate: Runner,
    folder: Path,
    head: TaskMetadata,
    progress: Callable[[int, int], None],
) -> GraphReport:
    """Give every image of a data set to both, in the order of their names; what is compared need
    not be a graph.

    Raises:
        DataError: images or labels cannot be used.
        ModelError: labels or outputs are not those of this task with these classes, or the
        reference's are no numbers.
    """
    with (
        open_validation_set(folder, head, reference.size) as images,
        ThreadPoolExecutor(WORKERS) as pool,
    ):
        scores = [Score(head, images.validator()) for _ in range(2)]
        closeness, objects = Accumulator(), 0
        begun = (
            ([runner.begin(image, pool) for runner in (reference, candidate)], batch)
            for image, batch in images
        )
        for done, (waiting, batch) in enumerate(_ahead(begun, WORKERS), 1):
            outputs = [wait() for wait in waiting]
            _check_finite(outputs[0], images.name(done - 1))
            if not head.has_labels:
                batch, count = scores[0].with_truth(outputs[0], batch)
                objects += count
            for score, output in zip(scores, outputs, strict=True):
                score.add(output, batch)
            closeness.add(*outputs)
            progress(done, len(images))
        if not (head.has_labels or objects):
            raise _nothing_found(folder, len(images))
        expected, measured = (score.metrics() for score in scores)
        return GraphReport(closeness.closeness(), expected, measured, head.truth)


def _nothing_found(folder: Path, count: int) -> DataError:
    what = (
        f"the FP32 original finds nothing in the {count} images of {folder}, which have no labels"
    )
    return DataError(
        f"{what}: there is nothing to agree with", "Give images like those it was trained with"
    )


def _check_finite(outputs: Sequence[NDArray[np.float32]], image: Path) -> None:
    if not all(np.isfinite(output).all() for output in outputs):
        what = (
            f"the original itself gives NaN or infinite values for {image}: nothing can be "
            "compared with it"
        )
        raise ModelError(
            what, "Look for weights that are NaN or infinite: its training may have failed"
        )


def _ahead(items: Iterable[Item], count: int) -> Iterator[Item]:
    """The same items in their order; `count` more are drawn than given, so that what they begin
    goes on meanwhile.
    """
    drawn: deque[Item] = deque()
    for item in items:
        drawn.append(item)
        if len(drawn) > count:
            yield drawn.popleft()
    yield from drawn
