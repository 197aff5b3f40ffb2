"""The gate: is a graph close enough to its FP32 original?

A small pure function over the validation's report.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from enginery.vision.tasks import metric_in


def failures(report: Mapping[str, Any], tolerance: Mapping[str, Any]) -> list[str]:
    """Why the graph must not be used; empty if it passed.

    `report` is GraphReport.to_dict(). `tolerance` has `rms_relative`, how far the raw outputs may
    be from the original's, relative to them, and `map50_95_drop` or that of another metric, how
    much it may drop; `outputs` may have `rms`, `max` and `cosine` for single ones.
    """
    return list(_failures(report, tolerance))


def overflow(closeness: Mapping[str, Any]) -> Iterator[str]:
    """Why FP16 cannot hold a graph's values."""
    if closeness.get("first_overflow"):
        yield (
            f"FP16 overflows, first in {closeness['first_overflow']}: name it in `fp32_layers` of "
            "the model"
        )


def distance(closeness: Mapping[str, Any], tolerance: Mapping[str, float]) -> Iterator[str]:
    """Why raw outputs are too far from the original's: NaN, Inf, or their RMS difference."""
    bad = closeness["nan_count"] + closeness["inf_count"]
    if bad:
        yield f"{bad} NaN or Inf values in the outputs"
    # A comparison with NaN is false: ask for what must hold, not for what must not.
    elif not closeness["rms_relative"] <= tolerance["rms_relative"]:
        yield (
            f"raw outputs differ by {closeness['rms_relative']:.2g} (RMS, relative), "
            f"{tolerance['rms_relative']:.2g} is allowed"
        )


def _far_outputs(report: Mapping[str, Any], tolerance: Mapping[str, Any]) -> Iterator[str]:
    measured = report.get("outputs", {})
    for name, limits in tolerance.get("outputs", {}).items():
        if name not in measured:
            has = ", ".join(measured) or "none that is judged alone"
            yield f"`outputs` names {name}, and the model has {has}"
            continue
        for key, what in (("rms", "rms_relative"), ("max", "max_abs")):
            if key in limits and not measured[name][what] <= limits[key]:
                allowed = f"{limits[key]:.2g} is allowed"
                yield f"output {name}: {key} {measured[name][what]:.2g}, {allowed}"
        cosine, least = report["candidate"]["per_class"][name], limits.get("cosine", 0)
        if not cosine >= least:
            yield f"output {name}: cosine {cosine:.4f}, {least:g} is asked for"


def _failures(report: Mapping[str, Any], tolerance: Mapping[str, Any]) -> Iterator[str]:
    metric = metric_in(report["reference"])
    before, after, drop = (
        report["reference"][metric.key],
        report["candidate"][metric.key],
        tolerance[f"{metric.key}_drop"],
    )
    yield from overflow(report["closeness"])
    yield from distance(report["closeness"], tolerance)
    yield from _far_outputs(report, tolerance)
    if before == 0:
        yield (
            f"{metric.title} of the FP32 original is 0: there is nothing to compare with; do the "
            "labels fit the model's classes?"
        )
    if not before - after <= drop:
        agreement = " (agreement)" if "truth" in report else ""
        yield (
            f"{metric.title}{agreement} {after:.4f} against {before:.4f} of the FP32 original, "
            f"a drop of {drop:g} is allowed"
        )
