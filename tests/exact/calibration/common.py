"""Histograms by hand, and a node."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import helper

from enginery.calibration.histogram import Histogram


def counted(*values: float) -> Histogram:
    histogram = Histogram()
    histogram.add(np.array(values, np.float32))
    return histogram


def filled(histogram: Histogram) -> dict[int, int]:
    return {index: int(count) for index, count in enumerate(histogram.counts) if count}


def made(counts: dict[int, int], exponent: int, amax: float) -> Histogram:
    bins = np.zeros(4096, np.int64)
    for index, count in counts.items():
        bins[index] = count
    return Histogram(bins, exponent, amax)


def node(kind: str, inputs: str, outputs: str) -> onnx.NodeProto:
    return helper.make_node(kind, inputs.split(), outputs.split())
