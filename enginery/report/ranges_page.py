"""A model's INT8 ranges for the report: each tensor with its histogram as a small picture."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from enginery.calibration import cache, state
from enginery.calibration.histogram import BINS, Histogram
from enginery.project.paths import CACHE, HISTOGRAMS
from enginery.report.calibration import calibration_rows
from enginery.report.document import Cell, Html, table

_BARS, _WIDTH, _HEIGHT = 64, 160, 26  # pixels


def ranges_table(model: str, folder: Path) -> Html:
    """The calibration in a folder, as a table."""
    thresholds = cache.read(folder / CACHE).thresholds()
    histograms = state.finished(folder / HISTOGRAMS) if (folder / HISTOGRAMS).is_file() else {}
    rows = [
        {**row, "magnitudes": _picture(histograms.get(row["tensor"]), thresholds[row["tensor"]])}
        for row in calibration_rows(thresholds, histograms)
    ]
    caption = f"INT8 ranges of {model}: counts are logarithmic, the line is the threshold"
    return table(caption, rows, numbers=("amax", "threshold", "clipped"))


def _picture(histogram: Histogram | None, threshold: float) -> Cell:
    if histogram is None or not histogram.amax:
        return "-"
    counts = histogram.counts.reshape(_BARS * 8, BINS // (_BARS * 8)).sum(axis=1)
    used = max(1, int(np.flatnonzero(counts)[-1]) + 1)
    heights = np.log1p(counts[:used].astype(float))
    across = histogram.width * BINS / (_BARS * 8) * used  # the magnitude at the right edge
    x = min(threshold / across, 1) * _WIDTH
    path = "".join(_bars(heights / heights.max()))
    return Html(
        f'<svg width="{_WIDTH}" height="{_HEIGHT}" viewBox="0 0 {_WIDTH} {_HEIGHT}" '
        f'aria-hidden="true"><path class="bars" d="M0 {_HEIGHT}{path}V{_HEIGHT}Z"/>'
        f'<path class="mark" d="M{x:.1f} 0V{_HEIGHT}"/></svg>'
    )


def _bars(heights: np.ndarray[tuple[int], np.dtype[np.float64]]) -> Iterator[str]:
    """The outline, in at most so many steps."""
    groups = np.array_split(heights, min(_BARS, len(heights)))
    for number, group in enumerate(groups, 1):
        y = _HEIGHT * (1 - float(group.max()))
        yield f"V{y:.0f}H{_WIDTH * number / len(groups):.0f}"
