"""How close a graph's raw outputs are to the reference's, accumulated image by image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


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
