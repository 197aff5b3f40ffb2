"""Engines with ends of their own beside originals that have none: the same pixels for both, and
detections of both.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from enginery.evaluation.runners import Given, GraphRunner, Outputs
from enginery.vision.detections import pair_rows, suppress
from enginery.vision.nms import Nms

_LARGEST = 255


class DetectingRunner:
    """A graph with Ultralytics' NMS behind it: what an engine with NMS in it is compared with."""

    outputs: Sequence[str] = ("detections",)

    def __init__(self, graph: GraphRunner, nms: Nms) -> None:
        self._graph, self._nms, self.size = graph, nms, graph.size

    def run(self, sample: Given) -> Outputs:
        """The detections, (1, most, 6)."""
        return [suppress(self._graph.run(sample)[0], self._nms)]

    def begin(self, sample: Given, pool: Executor) -> Callable[[], Outputs]:
        """As `enginery.evaluation.runners.Runner`."""
        return pool.submit(self.run, sample).result


def pair_detections(reference: Outputs, candidate: Outputs) -> tuple[Outputs, Outputs]:
    """What can be compared number by number."""
    first, second = pair_rows(reference[0], candidate[0])
    return [first], [second]


def save_pixels(images: Path, scaling: Mapping[str, Any], out: Path) -> None:
    """Prepared images, a .npy (n, channels, height, width), as the pixels that they were made of.

    They have the same shape, in which the bytes lie as (n, height, width, channels).
    """
    rows = np.load(images, mmap_mode="r")
    pixels = np.lib.format.open_memmap(out, mode="w+", dtype=np.uint8, shape=rows.shape)
    for index, row in enumerate(rows):
        pixels[index] = to_pixels(row, scaling)
    pixels.flush()


def to_pixels(row: NDArray[Any], scaling: Mapping[str, Any]) -> NDArray[np.uint8]:
    """A prepared image, (channels, height, width), undone: the bytes of (height, width, channels)
    in the same shape.
    """
    mean, std = (
        np.array(scaling.get(key, [usual]), np.float32).reshape(-1, 1, 1)
        for key, usual in (("mean", 0.0), ("std", 1.0))
    )
    values = np.rint((np.asarray(row, np.float32) * std + mean) * _LARGEST)
    last = np.clip(values, 0, _LARGEST).astype(np.uint8).transpose(1, 2, 0)
    return np.ascontiguousarray(last).reshape(row.shape)
