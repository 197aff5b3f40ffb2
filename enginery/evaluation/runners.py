"""What gives raw outputs for an image: a graph on the CPU, or the outputs of an engine that ran
elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Executor
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from enginery.errors import ModelError
from enginery.graphs.session import WORKERS, open_session, threads_beside
from enginery.vision.feeds import Feeder, Input, Row
from enginery.vision.preprocess import Feeding

Outputs = list[NDArray[np.float32]]
Given = NDArray[Any] | Row


class Runner(Protocol):
    """What takes samples one after another and gives raw outputs; images are of `size` (height,
    width). A sample is the image alone, without a batch, or every input by its name.
    """

    size: tuple[int, int]

    @property
    def outputs(self) -> Sequence[str]:
        """The names of the outputs, where they are known."""

    def begin(self, sample: Given, pool: Executor) -> Callable[[], Outputs]:
        """Begin with a sample; what is returned waits, and gives every output, (1, ...)."""


class GraphRunner:
    """A graph on the CPU, fed one sample at a time; a fixed batch is filled with copies and its
    first row is used. Unless `feeding` says otherwise, its first input takes images.
    """

    def __init__(self, onnx: Path, size: tuple[int, int], feeding: Feeding | None = None) -> None:
        self._session = open_session(onnx, threads_beside(WORKERS))
        inputs = [Input.of(each.name, each.type, each.shape) for each in self._session.get_inputs()]
        first = inputs[0]
        if feeding is None and len(first.shape) != 4:
            what = (
                f"{onnx}: its input {first.name} has the shape {list(first.shape)}, not batch, 3, "
                "height, width"
            )
            raise ModelError(what, "Use an image model")
        self.feeder = Feeder(inputs, feeding or Feeding("detect", size, image=first.name))
        self.input = self.feeder.image or first.name
        self.size = self.feeder.size

    @property
    def outputs(self) -> tuple[str, ...]:
        """The names of the outputs, in the graph's order."""
        return tuple(output.name for output in self._session.get_outputs())

    def run(self, sample: Given) -> Outputs:
        """Every output's first row."""
        row = sample if isinstance(sample, Mapping) else {self.input: sample}
        return [output[:1] for output in self._session.run(None, self.feeder.stack([row]))]

    def begin(self, sample: Given, pool: Executor) -> Callable[[], Outputs]:
        """As `Runner`: other samples may be on their way."""
        return pool.submit(self.run, sample).result


class RecordedRunner:
    """What ran elsewhere: each output (images, ...), in the order of the images' names; the outputs
    in the order of the graph's.
    """

    def __init__(
        self, outputs: Sequence[Iterable[NDArray[np.float32]]], size: tuple[int, int]
    ) -> None:
        self._rows = zip(*outputs, strict=True)
        self.size = size
        self.outputs: Sequence[str] = ()

    def run(self, sample: Given) -> Outputs:
        """The next image's outputs."""
        return [np.asarray(row, np.float32)[None] for row in next(self._rows)]

    def begin(self, sample: Given, pool: Executor) -> Callable[[], Outputs]:
        """As `Runner`: there is nothing to wait for."""
        outputs = self.run(sample)
        return lambda: outputs
