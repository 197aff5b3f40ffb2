"""Run images through a graph on the CPU (or a GPU that ONNX Runtime knows) and count the magnitudes of its activations.

Memory is that of one batch and a histogram per tensor. What was counted is kept every few seconds, so that a killed run goes on.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray

from enginery.calibration import state
from enginery.calibration.histogram import Histogram
from enginery.errors import DataError
from enginery.evaluation.images import preprocess, read_image
from enginery.evaluation.session import open_model

_SAVE_EVERY_S = 10.0
_THREADS = 2


@dataclass(frozen=True)
class Work:
    """What to measure: tensors of a graph (float32), on images fitted to (height, width) where the graph leaves its size open."""

    model: onnx.ModelProto
    tensors: Sequence[str]
    images: Sequence[Path]
    size: tuple[int, int]
    key: str


def collect(work: Work, kept: Path, progress: Callable[[int, int], None]) -> dict[str, Histogram]:
    """A histogram per tensor, over every image. `kept` holds what was counted so far by a run with the same `work.key`.

    Raises:
        DataError: an image cannot be read, or an activation is NaN or infinite; tensor and image are named.
        ModelError: the graph cannot be run.
    """
    done, histograms = state.load(kept, work.key) or (0, {name: Histogram() for name in work.tensors})
    feeder = _Feeder(work)
    saved = time.monotonic()
    with ThreadPoolExecutor(_THREADS) as pool:
        while done < len(work.images):
            paths = work.images[done : done + feeder.batch]
            _count(pool, histograms, feeder.run(paths), paths)
            done += len(paths)
            progress(done, len(work.images))
            if time.monotonic() - saved > _SAVE_EVERY_S:
                state.save(kept, work.key, done, histograms)
                saved = time.monotonic()
    kept.unlink(missing_ok=True)
    return histograms


def _count(
    pool: ThreadPoolExecutor, histograms: Mapping[str, Histogram], found: Mapping[str, NDArray[np.float32]], paths: Sequence[Path]
) -> None:
    def add(name: str) -> str:
        try:
            histograms[name].add(found[name])
        except ValueError:
            return name
        return ""

    largest_first = sorted(found, key=lambda name: -found[name].size)
    for name in filter(None, pool.map(add, largest_first)):
        rows = found[name].reshape(len(paths), -1)
        first = int(np.flatnonzero(~np.isfinite(rows).all(axis=1))[0])
        raise DataError(f"{name} is NaN or infinite on {paths[first]}", "Remove the image, or repair the model")


class _Feeder:
    """A graph with the wanted tensors as its only outputs, and its input's batch and size."""

    def __init__(self, work: Work) -> None:
        self._names = [*work.tensors]
        inputs = {value.name: value for value in work.model.graph.input}
        wanted = [name for name in self._names if name not in inputs]
        self._session = open_model(_with_outputs(work.model, wanted), "the graph to calibrate")
        tensor = self._session.get_inputs()[0]
        batch, _, height, width = tensor.shape
        self._input = tensor.name
        self.batch = batch if isinstance(batch, int) else 1
        self._size = (height if isinstance(height, int) else work.size[0], width if isinstance(width, int) else work.size[1])

    def run(self, paths: Sequence[Path]) -> dict[str, NDArray[np.float32]]:
        """The wanted tensors for up to a batch of images; a batch that is not full is filled with copies, whose rows are dropped."""
        rows = [preprocess(read_image(path), *self._size)[0] for path in paths]
        images = np.stack(rows + rows[-1:] * (self.batch - len(rows)))
        names = [name for name in self._names if name != self._input]
        found = dict(zip(names, self._session.run(names, {self._input: images}), strict=True))
        if self._input in self._names:
            found[self._input] = images
        return {name: values[: len(paths)] if self.batch > 1 else values for name, values in found.items()}


def _with_outputs(model: onnx.ModelProto, names: Sequence[str]) -> onnx.ModelProto:
    """The same graph with other outputs: ONNX Runtime then leaves out what only the old ones needed."""
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    del changed.graph.output[:]
    changed.graph.output.extend(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in names)
    return changed
