"""A model's calibration as a table, apart from a run's: runs do without NumPy and OpenCV, which
take a while to import.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from enginery.calibration.histogram import Histogram
from enginery.calibration.thresholds import clipped


def calibration_rows(
    thresholds: Mapping[str, float], histograms: Mapping[str, Histogram]
) -> list[dict[str, Any]]:
    """One row for each tensor; what only a histogram knows is blank for an imported cache."""
    rows = []
    for name, threshold in thresholds.items():
        histogram = histograms.get(name)
        rows.append(
            {
                "tensor": name,
                "amax": f"{histogram.amax:.4g}" if histogram else "-",
                "threshold": f"{threshold:.4g}",
                "clipped": f"{clipped(histogram, threshold):.3%}" if histogram else "-",
            }
        )
    return rows
