"""What gives raw outputs for an image: a graph on the CPU, or the outputs of an engine that ran
elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Executor
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from enginery.errors import ModelError
from enginery.graphs.session import WORKERS, open_session, threads_beside
from enginery.vision.feeds import extents

Outputs = list[NDArray[np.float32]]


class Runner(Protocol):
    """What takes images of `size` (height, width) one after another and gives raw outputs."""

    size: tuple[int, int]

    def run(self, image: NDArray[np.float32]) -> Outputs:
        """Every output, (1, ...), for an image (3, height, width)."""

    def begin(self, image: NDArray[np.float32], pool: Executor) -> Callable[[], Outputs]:
        """Begin with an image; what is returned waits, and gives what `run` does."""


class GraphRunner:
    """A graph on the CPU, fed one image at a time; a fixed batch is filled with copies and its
    first row is used.
    """

    def __init__(self, onnx: Path, size: tuple[int, int]) -> None:
        self._session = open_session(onnx, threads_beside(WORKERS))
        tensor = self._session.get_inputs()[0]
        if len(tensor.shape) != 4:
            what = (
                f"{onnx}: its input {tensor.name} has the shape {tensor.shape}, not batch, 3, "
                "height, width"
            )
            raise ModelError(what, "Use an image model")
        self.input = tensor.name
        self._batch, height, width = extents(tensor.shape, size)
        self.size = (height, width)

    @property
    def outputs(self) -> tuple[str, ...]:
        """The names of the outputs, in the graph's order."""
        return tuple(output.name for output in self._session.get_outputs())

    def run(self, image: NDArray[np.float32]) -> Outputs:
        """Every output's first row, for an image (3, height, width)."""
        batch = np.repeat(image[None], self._batch, axis=0)
        return [output[:1] for output in self._session.run(None, {self.input: batch})]

    def begin(self, image: NDArray[np.float32], pool: Executor) -> Callable[[], Outputs]:
        """As `Runner`: other images may be on their way."""
        return pool.submit(self.run, image).result


class RecordedRunner:
    """What ran elsewhere: each output (images, ...), in the order of the images' names; the outputs
    in the order of the graph's.
    """

    def __init__(
        self, outputs: Sequence[Iterable[NDArray[np.float32]]], size: tuple[int, int]
    ) -> None:
        self._rows = zip(*outputs, strict=True)
        self.size = size

    def run(self, image: NDArray[np.float32]) -> Outputs:
        """The next image's outputs."""
        return [np.asarray(row, np.float32)[None] for row in next(self._rows)]

    def begin(self, image: NDArray[np.float32], pool: Executor) -> Callable[[], Outputs]:
        """As `Runner`: there is nothing to wait for."""
        outputs = self.run(image)
        return lambda: outputs
