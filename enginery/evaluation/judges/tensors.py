"""Any outputs, judged by how close they are to the FP32 original's: cosine, RMS and the largest
difference of each.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from enginery.evaluation.compare import Accumulator
from enginery.evaluation.judges.interface import Outputs, Samples
from enginery.evaluation.runners import Runner
from enginery.vision.feeds import Row
from enginery.vision.score import Metrics
from enginery.vision.tasks import COSINE, TaskMetadata


@contextmanager
def open_judge(folder: Path, head: TaskMetadata, reference: Runner) -> Iterator[TensorJudge]:
    """See `enginery.evaluation.judges.open_judge`."""
    yield TensorJudge(folder, head, reference)


class TensorJudge(Samples):
    """See `enginery.evaluation.judges.interface.Judge`; the truth is the original's outputs."""

    def __iter__(self) -> Iterator[tuple[Row, None]]:
        for path in self.files:
            yield self.reference.feeder.row(path), None

    def truth(self, truth: Any, original: Outputs) -> Outputs:
        """What the original gives."""
        return original

    def score(self) -> TensorScore:
        """A fresh one."""
        return TensorScore(self.reference.outputs)


class TensorScore:
    """The cosine similarity of each output, averaged over the samples; the lowest output counts."""

    def __init__(self, names: Sequence[str]) -> None:
        self._names = names
        self._cosines: list[list[float]] = []
        self._differences = [Accumulator() for _ in names]

    def add(self, outputs: Outputs, truth: Outputs) -> None:
        """A sample's outputs, and the original's."""
        pairs = list(zip(truth, outputs, strict=True))
        self._cosines.append([_cosine(expected, given) for expected, given in pairs])
        for difference, (expected, given) in zip(self._differences, pairs, strict=True):
            difference.add([expected], [given])

    def metrics(self) -> Metrics:
        """The lowest output's mean, the lowest of any sample, and of each output its mean."""
        cosines = np.array(self._cosines)
        means = [float(value) for value in cosines.mean(axis=0)]
        per_output = dict(zip(self._names, means, strict=True))
        return Metrics(COSINE, min(means), float(cosines.min()), per_output)

    def closeness(self) -> Mapping[str, Mapping[str, float]]:
        """Of each output its RMS difference, relative to it, and its largest."""
        errors = [difference.closeness() for difference in self._differences]
        return {
            name: {"rms_relative": error.rms_relative, "max_abs": error.max_abs}
            for name, error in zip(self._names, errors, strict=True)
        }


def _cosine(expected: Any, given: Any) -> float:
    """0 to 1; NaN and infinite values are as far as can be."""
    one, other = (np.asarray(each, np.float64).reshape(-1) for each in (expected, given))
    if not np.isfinite(other).all():
        return 0.0
    length = float(np.linalg.norm(one) * np.linalg.norm(other))
    if length == 0:
        return float(not one.any() and not other.any())
    return min(max(float(one @ other) / length, 0.0), 1.0)
