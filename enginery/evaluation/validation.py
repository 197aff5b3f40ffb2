"""A graph or an engine against its FP32 original: raw outputs, and the task's metric on real images
with labels.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from enginery.errors import ModelError
from enginery.evaluation.compare import Accumulator, FarthestApart, OutputError
from enginery.evaluation.drawing import can_draw, draw_sample
from enginery.evaluation.judges import open_judge
from enginery.evaluation.judges.interface import Judge
from enginery.evaluation.judges.tensors import TensorScore
from enginery.evaluation.runners import GraphRunner, Outputs, Runner
from enginery.evaluation.samples import Sample
from enginery.graphs.session import WORKERS
from enginery.vision.score import Metrics
from enginery.vision.tasks import TaskMetadata, Truth

Item = TypeVar("Item")
Pair = Callable[[Outputs, Outputs], tuple[Outputs, Outputs]]


def pair_outputs(reference: Outputs, candidate: Outputs) -> tuple[Outputs, Outputs]:
    """Every number beside its own."""
    return reference, candidate


@dataclass(frozen=True)
class GraphReport:
    """A graph against its reference."""

    closeness: OutputError
    reference: Metrics
    candidate: Metrics
    truth: Truth = "labels"
    outputs: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    samples: tuple[Sample, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """As plain values, for JSON; a truth that is no labels is said. `outputs` are those of a
        model that is judged by them; `samples` are kept apart.
        """
        return {
            **({} if self.truth == "labels" else {"truth": self.truth}),
            **({"outputs": self.outputs} if self.outputs else {}),
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
    kept: int = 0,
) -> GraphReport:
    """Run every sample of a data set through both graphs; `size` (height, width) is for graphs
    whose own is open. Of so many samples that differ most, the report has what both find in them.

    Raises:
        DataError: images or labels cannot be used. ModelError: a graph cannot be run, or is none of
        this task with these classes.
    """
    if head.needs_names and not head.names:
        raise ModelError(
            f"{reference} has no class names in its metadata",
            "Give a file with them as `names` of the model in params.yaml",
        )
    feeding = head.feeding(size)
    original = GraphRunner(reference, size, feeding)
    return compare(original, GraphRunner(candidate, size, feeding), folder, head, progress, kept)


def compare(
    reference: Runner,
    candidate: Runner,
    folder: Path,
    head: TaskMetadata,
    progress: Callable[[int, int], None],
    kept: int = 0,
    pair: Pair = pair_outputs,
) -> GraphReport:
    """Give every sample of a data set to both, in the order of their names; what is compared need
    not be a graph. `pair` gives what of both outputs can be compared number by number.

    Raises:
        DataError: images or labels cannot be used.
        ModelError: labels or outputs are not those of this task with these classes, or the
        reference's are no numbers.
    """
    with (
        open_judge(folder, head, reference) as judge,
        ThreadPoolExecutor(WORKERS) as pool,
    ):
        scores = [judge.score() for _ in range(2)]
        closeness, farthest = Accumulator(), FarthestApart(kept if can_draw(head) else 0)
        begun = (
            ([runner.begin(sample, pool) for runner in (reference, candidate)], truth)
            for sample, truth in judge
        )
        for done, (waiting, given) in enumerate(_ahead(begun, WORKERS), 1):
            outputs = [wait() for wait in waiting]
            _check_finite(outputs[0], judge.name(done - 1))
            truth = judge.truth(given, outputs[0])
            for score, output in zip(scores, outputs, strict=True):
                score.add(output, truth)
            difference = closeness.add(*pair(outputs[0], outputs[1]))
            farthest.add(done - 1, difference, outputs[0], outputs[1])
            progress(done, len(judge))
        judge.check()
        metrics = scores[0].metrics(), scores[1].metrics()
        by_output = scores[1].closeness() if isinstance(scores[1], TensorScore) else {}
        drawn = tuple(_drawn(farthest, judge, head, reference.size))
        return GraphReport(closeness.closeness(), *metrics, head.judging.truth, by_output, drawn)


def _drawn(
    farthest: FarthestApart, judge: Judge, head: TaskMetadata, size: tuple[int, int]
) -> Iterator[Sample]:
    for index, original, candidate in farthest:
        if sample := draw_sample(head, judge.name(index), size, original, candidate):
            yield sample


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
