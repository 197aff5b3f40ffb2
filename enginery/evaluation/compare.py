"""How close a graph's raw outputs are to the reference's, accumulated image by image; and on which
images they differ most.
"""

from __future__ import annotations

import heapq
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

    def add(self, reference: Sequence[NDArray[Any]], candidate: Sequence[NDArray[Any]]) -> None:
        """Compare the outputs for one image, position by position."""
        for expected, found in zip(reference, candidate, strict=True):
            self._nan += int(np.isnan(found).sum())
            self._inf += int(np.isinf(found).sum())
            difference = np.asarray(found, np.float64) - expected
            finite = difference[np.isfinite(difference)]
            self._worst = max(self._worst, float(np.abs(finite).max(initial=0.0)))
            self._squares += float(np.square(finite).sum())
            self._reference += float(np.square(np.asarray(expected, np.float64)).sum())

    def closeness(self) -> OutputError:
        """What was found so far."""
        relative = (
            float(np.sqrt(self._squares / self._reference))
            if self._reference
            else float(self._squares > 0)
        )
        return OutputError(self._worst, relative, self._nan, self._inf)


class FarthestApart:
    """Keeps the samples whose outputs differ most from the original's; memory does not grow."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._kept: list[tuple[float, int, Outputs, Outputs]] = []

    def add(self, index: int, original: Outputs, candidate: Outputs) -> None:
        """A sample's outputs; of two that differ alike, the earlier one stays."""
        if not self._count:
            return
        entry = (_difference(original, candidate), -index, original, candidate)
        heapq.heappush(self._kept, entry)
        if len(self._kept) > self._count:
            heapq.heappop(self._kept)

    def __iter__(self) -> Iterator[tuple[int, Outputs, Outputs]]:
        for _, index, original, candidate in sorted(self._kept, key=lambda kept: kept[:2])[::-1]:
            yield -index, original, candidate


def _difference(original: Outputs, candidate: Outputs) -> float:
    """RMS relative to the original's; NaN and infinite values are as far as can be."""
    expected, given = (
        np.concatenate([np.asarray(output, np.float64).reshape(-1) for output in outputs])
        for outputs in (original, candidate)
    )
    if not np.isfinite(given).all():
        return float("inf")
    return float(np.linalg.norm(given - expected) / (np.linalg.norm(expected) or 1.0))
