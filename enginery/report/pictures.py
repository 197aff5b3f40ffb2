"""Pictures for people who would rather look than read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from enginery.calibration.histogram import BINS, Histogram
from enginery.calibration.thresholds import clipped
from enginery.system.files import atomic_write

_BARS = 256


def draw_histogram(name: str, histogram: Histogram, threshold: float, out: Path) -> None:
    """A tensor's magnitudes (logarithmic counts), with its threshold and what lies beyond, as a
    PNG.
    """
    counts = histogram.counts.reshape(_BARS, -1).sum(axis=1)
    edges = np.arange(_BARS + 1) * histogram.width * (BINS // _BARS)
    figure = Figure(figsize=(8, 4), layout="constrained")
    axes = figure.subplots()
    axes.stairs(counts, edges, fill=True, color="#4c78a8")
    axes.axvline(
        threshold,
        color="#e45756",
        label=f"threshold {threshold:.4g}: {clipped(histogram, threshold):.3%} clipped",
    )
    axes.axvline(
        histogram.amax,
        color="#777777",
        linestyle=":",
        label=f"largest magnitude {histogram.amax:.4g}",
    )
    axes.set(
        title=name,
        xlabel="magnitude",
        ylabel="values",
        yscale="log",
        xlim=(0, histogram.amax * 1.05),
    )
    axes.legend(loc="upper right")
    with atomic_write(out) as partial:
        figure.savefig(partial, format="png", dpi=120)
