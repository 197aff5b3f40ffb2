"""A streaming histogram of magnitudes whose counts do not depend on the order in which values come.

Its range is a power of two, so that widening it merges bins exactly, and a bin's edges are exact in
binary.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.typing import NDArray

BINS = 4096
_NARROWEST = -40  # 2**-40: where every histogram starts
_CHUNK = 1 << 23  # OpenCV counts in float32, exact up to 2**24


@dataclass
class Histogram:
    """`counts[i]` magnitudes lie in [i, i + 1) * 2**exponent / BINS (of negative values: in (i, i +
    1]); `amax` is the largest.
    """

    counts: NDArray[np.int64] = field(default_factory=lambda: np.zeros(BINS, np.int64))
    exponent: int = _NARROWEST
    amax: float = 0.0

    @property
    def width(self) -> float:
        """A bin's width."""
        return math.ldexp(1.0, self.exponent) / BINS

    def add(self, values: NDArray[np.float32]) -> None:
        """Count the magnitudes of an array of any shape.

        Raises:
            ValueError: some are NaN or infinite; nothing was counted.
        """
        flat = np.ascontiguousarray(values, np.float32).reshape(-1, 1)
        amax = (
            max(float(flat.max()), -float(flat.min())) if flat.size else 0.0
        )  # NaN wins in NumPy's max and min
        if not math.isfinite(amax):
            raise ValueError("NaN or infinite")
        exponent = max(self.exponent, math.frexp(amax)[1] if amax else _NARROWEST)
        self._widen(exponent)
        for start in range(0, len(flat), _CHUNK):
            self.counts += _count(flat[start : start + _CHUNK], exponent)
        self.amax = max(self.amax, amax)

    def _widen(self, exponent: int) -> None:
        merged = min(1 << min(exponent - self.exponent, 62), BINS)
        if merged > 1:
            fewer = self.counts.reshape(-1, merged).sum(axis=1)
            self.counts = np.concatenate([fewer, np.zeros(BINS - len(fewer), np.int64)])
        self.exponent = exponent


def _count(flat: NDArray[np.float32], exponent: int) -> NDArray[np.int64]:
    """Counts of |x| below 2**exponent: a signed histogram, folded, since taking |x| first would
    cost another pass.
    """
    side = math.ldexp(1.0, exponent)
    signed = cv2.calcHist([flat], [0], None, [2 * BINS], [-side, side]).reshape(-1)
    folded: NDArray[np.int64] = (signed[BINS:] + signed[:BINS][::-1]).astype(np.int64)
    return folded
