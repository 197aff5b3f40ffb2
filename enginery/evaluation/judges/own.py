"""A team's own metric: a function, or a class, that params.yaml names as `metrics/mine.py:score`.

A function takes an output's arrays by name, without the batch, and the path of the sample, and
returns a number: more is better, and their mean counts. A class is made once for each graph; it has
`add`, which takes the same, and `result`, which returns the number.
"""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from enginery.errors import ModelError
from enginery.evaluation.judges.interface import Outputs, Samples, name_outputs
from enginery.evaluation.runners import Runner
from enginery.vision.feeds import Row
from enginery.vision.score import Metrics
from enginery.vision.tasks import SCORE, TaskMetadata


@contextmanager
def open_judge(folder: Path, head: TaskMetadata, reference: Runner) -> Iterator[OwnJudge]:
    """See `enginery.evaluation.judges.open_judge`."""
    yield OwnJudge(folder, head, reference)


class OwnJudge(Samples):
    """See `enginery.evaluation.judges.interface.Judge`; the truth is the sample's path."""

    def __init__(self, folder: Path, head: TaskMetadata, reference: Runner) -> None:
        super().__init__(folder, head, reference)
        self._place = str(head.judging.metric)
        self._metric = load_metric(self._place)

    def __iter__(self) -> Iterator[tuple[Row, Path]]:
        for path in self.files:
            yield self.reference.feeder.row(path), path

    def score(self) -> OwnScore:
        """A fresh one."""
        return OwnScore(self._place, self._metric, self.reference.outputs)


class OwnScore:
    """The team's number over all samples."""

    def __init__(self, place: str, metric: Any, names: Sequence[str]) -> None:
        self._place, self._names = place, names
        self._values: list[float] = []
        made = self._call(metric) if isinstance(metric, type) else None
        self._add: Callable[..., Any] = made.add if made else metric
        self._result: Callable[[], Any] | None = made.result if made else None

    def add(self, outputs: Outputs, truth: Path) -> None:
        """A sample's outputs, and where it lies."""
        value = self._call(self._add, name_outputs(self._names, outputs), truth)
        if self._result is None:
            self._values.append(self._number(value, f" for {truth}"))

    def metrics(self) -> Metrics:
        """The mean and the lowest value of a function; of a class its result."""
        if self._result:
            value = self._number(self._call(self._result), "")
            return Metrics(SCORE, value, value, {})
        mean = math.fsum(self._values) / len(self._values)
        return Metrics(SCORE, mean, min(self._values), {})

    def _call(self, function: Callable[..., Any], *given: Any) -> Any:
        try:
            return function(*given)
        except Exception as error:  # a team's code raises anything
            sample = f" for {given[-1]}" if given else ""
            reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
            what = f"the metric {self._place} failed{sample}: {reason}"
            raise ModelError(what, "Correct the function") from None

    def _number(self, value: Any, sample: str) -> float:
        try:
            number = float(value)
        except (TypeError, ValueError):
            number = math.nan
        if not math.isfinite(number):
            what = f"the metric {self._place} returned {value!r}{sample}"
            raise ModelError(what, "Return a finite number, of which more is better")
        return number


def load_metric(place: str) -> Any:
    """The function or class that `metrics/mine.py:score` names.

    Raises:
        ModelError: there is no such file or name, or the file cannot be run.
    """
    file, _, name = place.partition(":")
    if not Path(file).is_file():
        raise ModelError(f"the metric {place}: {file} is not there", "Correct it in params.yaml")
    metric = getattr(_module(Path(file), place), name, None)
    if not callable(metric):
        raise ModelError(f"the metric {place}: {file} has no {name}", "Correct it in params.yaml")
    if isinstance(metric, type) and not all(hasattr(metric, each) for each in ("add", "result")):
        raise ModelError(
            f"the metric {place}: a class needs `add(outputs, sample)` and `result()`", "Add them"
        )
    return metric


def _module(file: Path, place: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"enginery_metric_{file.stem}", file)
    if spec is None or spec.loader is None:
        raise ModelError(f"the metric {place}: {file} is no Python file", "Name a .py file")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise ModelError(f"the metric {place} cannot be loaded: {reason}", "Correct it") from None
    return module
