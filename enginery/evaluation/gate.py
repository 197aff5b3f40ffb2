"""The gate: is a graph close enough to its FP32 original? A small pure function over the validation's report."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Tolerance:
    """mAP50-95 may drop by this much (0..1); the raw outputs may differ by this RMS, relative to the original's."""

    map50_95_drop: float
    rms_relative: float


def failures(report: Mapping[str, Any], tolerance: Tolerance) -> list[str]:
    """Why the graph must not be used; empty if it passed. `report` is GraphReport.to_dict()."""
    return list(_failures(report["closeness"], report["reference"]["map50_95"], report["candidate"]["map50_95"], tolerance))


def _failures(closeness: Mapping[str, Any], before: float, after: float, tolerance: Tolerance) -> Iterator[str]:
    bad = closeness["nan_count"] + closeness["inf_count"]
    if bad:
        yield f"{bad} NaN or Inf values in the outputs"
    # A comparison with NaN is false: ask for what must hold, not for what must not.
    elif not closeness["rms_relative"] <= tolerance.rms_relative:
        yield f"raw outputs differ by {closeness['rms_relative']:.2g} (RMS, relative), {tolerance.rms_relative:.2g} is allowed"
    if not before - after <= tolerance.map50_95_drop:
        yield f"mAP50-95 {after:.4f} against {before:.4f} of the FP32 original, a drop of {tolerance.map50_95_drop:g} is allowed"
