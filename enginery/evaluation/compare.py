"""How close a graph's raw outputs are to the reference's, accumulated image by image; and on which
images they differ most.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Outputs = Sequence[NDArray[Any]]


@dataclass(frozen=True)
class OutputError:
    """Over all outputs and images: largest difference, RMS of the difference relative to the
    reference's RMS, NaN and Inf counted.
    """

    max_abs: float
    rms_relative: float
    nan_count: int
    inf_count: int


class Accumulator:
    """Adds up differences; memory does not grow."""

    def __init__(self) -> None:
        self._worst = self._squares = self._reference = 0.0
        self._nan = self._inf = 0

    def add(self, reference: Outputs, candidate: Outputs) -> float:
        """Compare the outputs for one image, position by position; their RMS difference relative to
        the reference, where NaN and infinite values are as far as can be.
        """
        squares = size = 0.0
        counted = self._nan + self._inf
        for expected, found in zip(reference, candidate, strict=True):
            self._nan += int(np.isnan(found).sum())
            self._inf += int(np.isinf(found).sum())
            difference = _wide(found) - expected
            finite = difference[np.isfinite(difference)]
            self._worst = max(self._worst, float(np.abs(finite).max(initial=0.0)))
            own = float(np.square(finite).sum()), float(np.square(_wide(expected)).sum())
            self._squares, self._reference = self._squares + own[0], self._reference + own[1]
            squares, size = squares + own[0], size + own[1]
        return math.inf if self._nan + self._inf > counted else _relative(squares, size)

    def closeness(self) -> OutputError:
        """What was found so far."""
        relative = _relative(self._squares, self._reference)
        return OutputError(self._worst, relative, self._nan, self._inf)


class FarthestApart:
    """Keeps the samples whose outputs differ most from the original's; memory does not grow."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._kept: list[tuple[float, int, Outputs, Outputs]] = []

    def add(self, index: int, difference: float, original: Outputs, candidate: Outputs) -> None:
        """A sample's outputs; of two that differ alike, the earlier one stays."""
        if not self._count:
            return
        entry = (difference, -index, original, candidate)
        heapq.heappush(self._kept, entry)
        if len(self._kept) > self._count:
            heapq.heappop(self._kept)

    def __iter__(self) -> Iterator[tuple[int, Outputs, Outputs]]:
        for _, index, original, candidate in sorted(self._kept, key=lambda kept: kept[:2])[::-1]:
            yield -index, original, candidate


def _relative(squares: float, reference: float) -> float:
    """RMS relative to the reference's."""
    return math.sqrt(squares / reference) if reference else float(squares > 0)


def _wide(values: NDArray[Any]) -> NDArray[np.float64]:
    return np.asarray(values, np.float64)
