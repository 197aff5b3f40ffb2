"""Refitting: the registered plan of this very build with new weights, where only they changed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from enginery.calibration import cache
from enginery.errors import ToolchainError
from enginery.project.paths import engine_folder
from enginery.project.stage import Stage
from enginery.registry.store import Engine, damage, engine_in
from enginery.report.events import emit, log
from enginery.system.files import read_json
from enginery.toolchain.client import refit
from enginery.toolchain.requests import WEIGHT_PREFIX, BuildRequest, RefitRequest

# What a refit leaves as the build made it.
_KEPT = (
    "refittable_weights",
    "structure_sha256",
    "skipped_tactics",
    "dla_fallback",
    "precisions",
    "fp32_fallback",
)


def structure(request: BuildRequest, weights: Sequence[str]) -> str:
    """What must be the same for a refit: the graph but for these weights, and the layers kept in
    float.
    """
    from enginery.graphs.inspect import read_graph
    from enginery.graphs.structure import structure_digest

    return structure_digest(read_graph(request.onnx), set(weights), "\n".join(request.fp16_layers))


def base(stage: Stage, request: BuildRequest) -> Engine | None:
    """The registered engine that differs from what is wanted in weights alone, if there is one."""
    engine = engine_in(engine_folder(stage.model, stage.target, stage.precision))
    if not engine or damage(engine):
        return None
    built = engine.manifest.steps.build
    if built.recipe.to_json() != read_json(stage.recipe) or not built.refittable_weights:
        return None
    if built.structure_sha256 == structure(request, built.refittable_weights):
        return engine
    log("more than the weights that the registered plan can replace has changed: it is built")
    return None


def refitted(
    stage: Stage, request: BuildRequest, python: Path, time_limit: float
) -> tuple[dict[str, Any], dict[str, Any]] | None:
    """Write the plan; what the build's record says of it, and what was measured. None where it must
    be built.
    """
    from enginery.graphs.inspect import read_graph
    from enginery.graphs.structure import save_weights

    engine = base(stage, request)
    if (
        not engine or request.native_images
    ):  # other weights have other ranges, and TensorRT's own are measured by a build
        return None
    weights = request.plan.with_name("weights.npz")
    save_weights(
        read_graph(request.onnx),
        set(engine.manifest.steps.build.refittable_weights),
        weights,
        WEIGHT_PREFIX,
    )
    refit_request = RefitRequest(
        request.runtime,
        engine.plan,
        engine.manifest.plan.sha256,
        request.gpu,
        request.version_compatible,
        request.dla_core,
        weights=weights,
        out=request.plan,
        ranges=cache.read(request.cache).thresholds() if request.cache else {},
    )
    try:
        result = refit(python, refit_request, emit, time_limit)
    except ToolchainError as error:  # a build goes on where this did not
        log(f"{error.what}: it is built", "warning")
        return None
    finally:
        weights.unlink()
    log(f"refitted the registered plan with new weights in {result.seconds:.1f} s")
    built = engine.manifest.steps.build.to_json()
    record: dict[str, Any] = {
        "plan_sha256": result.plan_sha256,
        "plan_bytes": result.plan_bytes,
        "weights_sha256": None,
        "runtime_version": result.runtime_version,
        "messages": [],
        "refitted_from": engine.manifest.plan.sha256,
        **{key: built[key] for key in _KEPT if key in built},
    }
    return record, {"seconds": round(result.seconds, 3)}
