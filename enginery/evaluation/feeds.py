"""Real images as a graph's input, ready to run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from enginery.evaluation.images import preprocess, read_image
from enginery.graphs.inspect import graph_info

DEFAULT_SIDE = 640


def feeds(onnx: Path, images: Sequence[Path], task: str) -> Iterator[dict[str, NDArray[np.float32]]]:
    """Each image as {input name: (batch, 3, height, width)}; a static batch repeats it."""
    tensor = graph_info(onnx).inputs[0]
    batch, _, height, width = (_size(value, index) for index, value in enumerate(tensor.shape))
    for path in images:
        image = preprocess(read_image(path), height, width, task)
        yield {tensor.name: np.repeat(image[None], batch, axis=0)}


def _size(value: Any, index: int) -> int:
    return value if isinstance(value, int) else (1, 3, DEFAULT_SIDE, DEFAULT_SIDE)[index]
