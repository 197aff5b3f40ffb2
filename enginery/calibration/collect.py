"""Run images through a graph on the CPU (or a GPU that ONNX Runtime knows) and count the magnitudes
of its activations.

Memory is that of one batch and a histogram per tensor. What was counted is kept every few seconds,
so that a killed run goes on.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

import numpy as np
import onnx
from numpy.typing import NDArray

from enginery.calibration import state
from enginery.calibration.histogram import Histogram
from enginery.errors import DataError
from enginery.graphs.session import WORKERS as _WORKERS
from enginery.graphs.session import open_model, threads_beside
from enginery.vision.feeds import Feeder, Input
from enginery.vision.preprocess import Feeding, Preprocess

_SAVE_EVERY_S = 10.0
_BATCHES = 8  # a worker counts so many before all wait


@dataclass(frozen=True)
class CalibrationJob:
    """What to measure: tensors of a graph (float32), on images fitted as `task` wants them, or as
    `how` says, to (height, width) where the graph is open. `image` names the input that takes them.
    """

    model: onnx.ModelProto
    tensors: Sequence[str]
    images: Sequence[Path]
    size: tuple[int, int]
    task: str
    key: str
    how: Preprocess | None = None
    image: str | None = None


def collect(
    work: CalibrationJob, kept: Path, progress: Callable[[int, int], None]
) -> dict[str, Histogram]:
    """A histogram per tensor, over every image. `kept` holds what was counted so far by a run with
    the same `work.key`.

    Images are counted side by side; counts add up to the same in any order.

    Raises:
        DataError: an image cannot be read, or an activation is NaN or infinite; tensor and image
        are named.
        ModelError: the graph cannot be run.
    """
    done, histograms = state.load(kept, work.key) or (
        0,
        {name: Histogram() for name in work.tensors},
    )
    counter = _Counter(work, histograms)
    saved = time.monotonic()
    with ThreadPoolExecutor(_WORKERS) as pool:
        while done < len(work.images):
            # What is kept must be whole images from the first on: the workers wait for each other
            # before it is saved.
            together = work.images[done : done + counter.batch * _WORKERS * _BATCHES]
            parts = [
                together[start : start + counter.batch]
                for start in range(0, len(together), counter.batch)
            ]
            for part in pool.map(counter.count, parts):
                done += len(part)
                progress(done, len(work.images))
            if time.monotonic() - saved > _SAVE_EVERY_S:
                state.save(kept, work.key, done, histograms)
                saved = time.monotonic()
    kept.unlink(missing_ok=True)
    return histograms


class _Counter:
    """A graph with the wanted tensors as its only outputs, and their histograms.

    Its methods may run side by side.
    """

    def __init__(self, work: CalibrationJob, histograms: Mapping[str, Histogram]) -> None:
        inputs = {value.name for value in work.model.graph.input}
        self._outputs = [name for name in work.tensors if name not in inputs]
        self._histograms = histograms
        self._locks = {name: Lock() for name in histograms}
        self._session = open_model(
            _with_outputs(work.model, self._outputs),
            "the graph to calibrate",
            threads_beside(_WORKERS),
        )
        graph_inputs = [
            Input.of(each.name, each.type, each.shape) for each in self._session.get_inputs()
        ]
        self._feeder = Feeder(graph_inputs, Feeding(work.task, work.size, work.how, work.image))
        self._inputs = [name for name in work.tensors if name in inputs]
        self.batch = self._feeder.batch

    def count(self, paths: Sequence[Path]) -> Sequence[Path]:
        """Count up to a batch of images; one that is not full is filled with copies, whose rows do
        not count.
        """
        feed = self._feeder.stack([self._feeder.row(path) for path in paths])
        for name in self._inputs:
            self._add(name, feed[name], paths)
        activations = self._session.run(self._outputs, feed) if self._outputs else []
        for name, values in zip(self._outputs, activations, strict=True):
            self._add(name, values, paths)
        return paths

    def _add(self, name: str, values: NDArray[np.float32], paths: Sequence[Path]) -> None:
        rows = values[: len(paths)] if self.batch > 1 else values
        try:
            with self._locks[name]:
                self._histograms[name].add(rows)
        except ValueError:
            finite = np.isfinite(rows.reshape(len(paths), -1)).all(axis=1)
            what = f"{name} is NaN or infinite on {paths[int(np.argmin(finite))]}"
            raise DataError(what, "Remove the image, or repair the model") from None


def _with_outputs(model: onnx.ModelProto, names: Sequence[str]) -> onnx.ModelProto:
    """The same graph with other outputs: ONNX Runtime then leaves out what only the old ones
    needed.
    """
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    del changed.graph.output[:]
    changed.graph.output.extend(
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in names
    )
    return changed
