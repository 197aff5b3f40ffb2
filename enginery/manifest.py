"""The manifest beside a plan: all that made the engine and how it was checked.

Sorted JSON with a schema version; no times and no paths of a machine.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from enginery.evaluation.head import metric_in
from enginery.layout import Step

SCHEMA = 1


def compose(step: Step, records: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The manifest of an engine from its steps' records (export, simplify, quantize, validate, build, register)."""
    build = records["build"]
    target = build["recipe"]["parameters"]
    return {
        "schema": SCHEMA,
        "model": step.model,
        "target": step.target,
        "precision": step.precision,
        "runtime": target["runtime"],
        "runtime_version": target["runtime_version"],
        "compute_capability": target["compute_capability"],
        "gpu": target.get("gpu"),
        "platform": target["platform"],
        "plan": {"sha256": build["plan_sha256"], "bytes": build["plan_bytes"], "weights_sha256": build["weights_sha256"]},
        "metrics": _metrics(records["validate"]["report"]),
        "digests": {
            **_calibration(records["quantize"], build),
            "source": records["export"]["source_sha256"],
            "graph": build["graph_sha256"],
            "validation_images": records["validate"]["images_sha256"],
        },
        "steps": records,
    }


def _metrics(report: Mapping[str, Any]) -> dict[str, float]:
    """map50_95, map50 and reference_map50_95, or the same of top1 and top5; and rms_relative."""
    metric, found = metric_in(report["reference"]), report["candidate"]
    return {
        metric.key: found[metric.key],
        metric.secondary: found[metric.secondary],
        f"reference_{metric.key}": report["reference"][metric.key],
        "rms_relative": report["closeness"]["rms_relative"],
    }


def _calibration(quantize: Mapping[str, Any], build: Mapping[str, Any]) -> dict[str, str]:
    found = quantize.get("calibration", {})
    if "native_cache" in build:  # TensorRT's own ranges made the plan, not ours
        own = hashlib.sha256(build["native_cache"].encode()).hexdigest()
        return {"calibration_images": found["images_sha256"], "calibration_cache": own}
    digests = {"calibration_images": found.get("images_sha256"), "calibration_cache": found.get("cache_sha256")}
    return {name: digest for name, digest in digests.items() if digest}
