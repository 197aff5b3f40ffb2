"""From a histogram of magnitudes to the threshold that INT8's largest level stands for."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from enginery.calibration.histogram import BINS, Histogram
from enginery.errors import DataError

LEVELS = 128  # magnitudes 0 to 127
MOST_CLIPPED = 0.1
_CANDIDATES = 128  # thresholds that `mse` tries


def minmax(histogram: Histogram) -> float:
    """The largest magnitude: nothing is clipped."""
    return histogram.amax


def percentile(histogram: Histogram, percent: float) -> float:
    """The magnitude that `percent` of all values stay below, interpolated within its bin.

    Source: H. Wu et al., Integer Quantization for Deep Learning Inference, arXiv:2004.09602 (2020),
    section 3.
    """
    counts, total = histogram.counts, histogram.counts.sum()
    target = total * percent / 100
    cumulated = np.cumsum(counts)
    index = int(np.searchsorted(cumulated, target))
    below = cumulated[index] - counts[index]
    inside = (target - below) / max(int(counts[index]), 1)
    return min((index + float(inside)) * histogram.width, histogram.amax)


def mse(histogram: Histogram) -> float:
    """The threshold with the least mean squared error between the values and their INT8 levels,
    clipping and rounding together.

    Source: Y. Choukroun et al., Low-bit Quantization of Neural Networks for Efficient Inference,
    arXiv:1902.06822 (2019), section 3. Candidates are the 128 equal parts of the range; a bin's
    values count as its middle.
    """
    middles: NDArray[np.float64] = (np.arange(BINS, dtype=np.float64) + 0.5) * histogram.width
    used = histogram.counts > 0
    values, counts = middles[used], histogram.counts[used].astype(np.float64)
    candidates = histogram.amax * np.arange(1, _CANDIDATES + 1) / _CANDIDATES
    errors = [
        float(np.dot(counts, np.square(_rounded(values, threshold) - values)))
        for threshold in candidates
    ]
    return float(candidates[int(np.argmin(errors))])


def _rounded(values: NDArray[np.float64], threshold: float) -> NDArray[np.float64]:
    scale = threshold / (LEVELS - 1)
    rounded: NDArray[np.float64] = np.minimum(np.rint(values / scale), LEVELS - 1) * scale
    return rounded


def entropy(histogram: Histogram) -> float:
    """The threshold whose 128 levels lose the least information (Kullback-Leibler divergence).

    Source: S. Migacz, 8-bit Inference with TensorRT, GTC 2017, which EntropyCalibration2 follows.
    Every bin edge from 128 bins up is a candidate T. P is the histogram below T with all that lies
    beyond added to its last bin; Q is P's part below T, averaged over 128 levels among the bins
    that are not empty. Two guards, because plain KL can collapse to a few percent of the range:
    candidates that clip more than a tenth of the values are left out, as are those where Q is zero
    and P is not; and of equal minima the widest counts.
    """
    counts = histogram.counts.astype(np.float64)
    used = int(np.flatnonzero(counts)[-1]) + 1
    if used <= LEVELS:
        return histogram.amax
    candidates = np.arange(LEVELS, used + 1)
    divergence = _divergence(counts, candidates)
    best = int(candidates[len(divergence) - 1 - int(np.argmin(divergence[::-1]))])
    return min(best * histogram.width, histogram.amax)


def _divergence(counts: NDArray[np.float64], ends: NDArray[np.int64]) -> NDArray[np.float64]:
    """KL(P || Q) of each candidate, from prefix sums: a candidate costs 128
    steps, not one per bin.
    """
    mass = np.concatenate([[0.0], np.cumsum(counts)])
    filled = np.concatenate([[0], np.cumsum(counts > 0)])
    own_entropy = np.concatenate([[0.0], np.cumsum(_xlogx(counts))])
    total, kept = mass[-1], mass[ends]
    outliers = total - kept
    last = counts[ends - 1]
    edges = ends[:, None] * np.arange(LEVELS + 1) // LEVELS
    level_mass, level_filled = np.diff(mass[edges], axis=1), np.diff(filled[edges], axis=1)
    level_log = np.log(
        np.maximum(level_mass, 1.0) / np.maximum(level_filled, 1)
    )  # log of Q's counts; empty levels weigh nothing
    of_p = own_entropy[ends] - _xlogx(last) + _xlogx(last + outliers)
    of_q = (level_mass * level_log).sum(axis=1) + outliers * level_log[:, -1]
    divergence = (of_p - of_q) / total - np.log(total / kept)
    impossible = (outliers > MOST_CLIPPED * total) | ((last == 0) & (outliers > 0))
    return np.where(impossible, np.inf, divergence)


def _xlogx(values: NDArray[np.float64]) -> NDArray[np.float64]:
    result: NDArray[np.float64] = values * np.log(np.maximum(values, 1.0))
    return result


def finder(algorithm: str, percent: float) -> Callable[[Histogram], float]:
    """The function of an algorithm's name; `percent` is for percentile."""
    known: dict[str, Callable[[Histogram], float]] = {
        "entropy": entropy,
        "minmax": minmax,
        "mse": mse,
    }
    return known.get(algorithm) or (lambda histogram: percentile(histogram, percent))


def thresholds_of(
    histograms: Mapping[str, Histogram], algorithm: str, percent: float = 100.0
) -> dict[str, float]:
    """A threshold for each tensor.

    Raises:
        DataError: a tensor was zero on every image: it has no range.
    """
    dead = [name for name, histogram in histograms.items() if histogram.amax == 0]
    if dead:
        what = (
            f"{len(dead)} of {len(histograms)} tensors are zero on every calibration image, "
            f"{dead[0]} first"
        )
        raise DataError(what, "Give images that the model reacts to, or repair the model")
    find = finder(algorithm, percent)
    return {name: find(histogram) for name, histogram in histograms.items()}


def clipped(histogram: Histogram, threshold: float) -> float:
    """The share of values beyond a threshold, to the bin."""
    counts = histogram.counts
    first = int(np.ceil(threshold / histogram.width))
    return float(counts[first:].sum() / max(int(counts.sum()), 1))
