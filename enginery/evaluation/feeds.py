"""Real images as a graph's input, ready to run."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from enginery.evaluation.images import list_images, preprocess, read_image
from enginery.graphs.inspect import graph_info

DEFAULT_SIDE = 640


def feeds(onnx: Path, folder: Path, count: int) -> Iterator[dict[str, NDArray[np.float32]]]:
    """The first `count` images of a folder, each as {input name: (batch, 3, height, width)}; a static batch repeats the image."""
    tensor = graph_info(onnx).inputs[0]
    batch, _, height, width = (_size(value, index) for index, value in enumerate(tensor.shape))
    for path in list_images(folder)[:count]:
        image, _ = preprocess(read_image(path), height, width)
        yield {tensor.name: np.repeat(image[None], batch, axis=0)}


def _size(value: Any, index: int) -> int:
    return value if isinstance(value, int) else (1, 3, DEFAULT_SIDE, DEFAULT_SIDE)[index]
