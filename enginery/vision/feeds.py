"""Real images as a graph's input, ready to run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from enginery.graphs.inspect import graph_info
from enginery.vision.images import preprocess, read_image


def feeds(
    onnx: Path, images: Sequence[Path], task: str, size: tuple[int, int]
) -> Iterator[dict[str, NDArray[np.float32]]]:
    """Each image as {input name: (batch, 3, height, width)}; a static batch repeats it, `size` is
    for open sizes.
    """
    tensor = graph_info(onnx).inputs[0]
    batch, height, width = extents(tensor.shape, size)
    for path in images:
        image = preprocess(read_image(path), height, width, task)
        yield {tensor.name: np.repeat(image[None], batch, axis=0)}


def extents(shape: Sequence[Any], size: tuple[int, int]) -> tuple[int, int, int]:
    """Batch, height and width with which a graph is fed: its input's own where they are fixed, else
    1 and `size` (height, width).
    """
    batch, height, width = (
        own if isinstance(own, int) else open_
        for own, open_ in zip((shape[0], *shape[2:]), (1, *size), strict=True)
    )
    return batch, height, width
