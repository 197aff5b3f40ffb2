"""register: the gate. An engine whose graph passed and whose plan is what was recorded enters the
registry, with its manifest.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from enginery.errors import GateError
from enginery.evaluation.gate import failures
from enginery.pipeline.project import Project
from enginery.pipeline.recipes import recipe
from enginery.pipeline.step import Job, load_step, step
from enginery.project.engine_name import EngineName
from enginery.project.paths import RECORDS, build_folder, engine_folder, engine_metrics
from enginery.project.stage import Stage, record_file
from enginery.registry.manifest import compose
from enginery.registry.store import publish
from enginery.report.events import log
from enginery.system.files import read_json, write_json
from enginery.toolchain.plan import check_built


@dataclass(frozen=True)
class Parameters:
    """How far a graph may be from the original: the share of a metric that may be lost, and of the
    raw outputs.

    `records` are those of the project's own steps that the engine was made by, each with the
    recipe: a new one makes a new manifest, even where the step's output stays.
    """

    rms_relative: float
    map50_95_drop: float | None = None
    top1_drop: float | None = None
    miou_drop: float | None = None
    cosine_drop: float | None = None
    score_drop: float | None = None
    outputs: Mapping[str, Mapping[str, float]] | None = None
    fp32_fallback: Literal["warn", "refuse"] = "warn"
    records: Mapping[str, Mapping[str, Any]] | None = None


def parameters(project: Project, stage: Stage) -> Parameters:
    """As params.yaml says under `validation`."""
    tolerance = project.spec.tolerance(stage.model, stage.precision)
    own, fallback = _own_recipes(project, stage) or None, project.target(stage).fp32_fallback
    return Parameters(**tolerance, fp32_fallback=fallback, records=own)


def _own_recipes(project: Project, stage: Stage) -> dict[str, dict[str, Any]]:
    own = [each for each in project.before(stage) if each.step and each.step not in RECORDS]
    steps = [(load_step(each.step), each) for each in own]
    return {
        path.as_posix(): recipe(declared, project, each)
        for declared, each in steps
        if (path := declared.record(each))
    }


@step(
    "register",
    version=3,
    of=("model", "target", "precision"),
    parameters=parameters,
    record=RECORDS["register"],
)
def register(job: Job[Parameters]) -> None:
    """Judge, check the plan's digest and header, then publish; a failing engine leaves the registry
    as it was.
    """
    stage = job.stage
    name = EngineName(stage.model, stage.target, stage.precision)
    records = {**_records(stage), "register": job.record()}
    tolerance = {key: value for key, value in asdict(job.parameters).items() if value is not None}
    failed = failures(records["validate"]["report"], tolerance)
    if failed:
        raise _refusal(name, failed, bool(records["quantize"].get("quantized")))
    _check_precision(name, records["build"], job.parameters)
    plan = build_folder(stage.model, stage.target, stage.precision) / "model.plan"
    built, digest = records["build"]["recipe"]["parameters"], records["build"]["plan_sha256"]
    check_built(plan, digest, built["runtime"], built["compute_capability"])
    own = [read_json(Path(path)) for path in job.parameters.records or ()]
    records |= {record["recipe"]["step"]: record for record in own}
    publish(plan, compose(name, records), engine_folder(name.model, name.target, name.precision))
    size = {"megabytes": round(records["build"]["plan_bytes"] / 1e6, 1)}
    write_json(engine_metrics(name.model, name.target, name.precision), size)
    log(f"registered {name.model} {name.precision} for {name.target} as candidate")
    if "native_cache" in records["build"]:
        what = "its metrics are those of Enginery's ranges"
        log(f"{what}; what TensorRT's own cost, only `enginery validate` tells", "warning")


def _check_precision(name: EngineName, built: Mapping[str, Any], asked: Parameters) -> None:
    layers = built.get("fp32_fallback", [])
    if layers and asked.fp32_fallback == "refuse":
        some = f"{len(layers)} layers run in fp32: {', '.join(layers[:5])}"
        what = f"{name.model} {name.precision} for {name.target} is not registered: {some}"
        cure = f"Raise optimization_level or workspace_mib of {name.target}, or let it `warn`"
        raise GateError(what, cure)


def _records(stage: Stage) -> dict[str, dict[str, Any]]:
    model, precision = stage.model, stage.precision
    stages = (
        Stage("export", model),
        Stage("simplify", model),
        Stage("quantize", model, precision=precision),
        Stage("validate", model, precision=precision),
        Stage("build", model, stage.target, precision),
    )
    return {each.step: read_json(record_file(each)) for each in stages}


def _refusal(name: EngineName, failed: list[str], quantized: bool) -> GateError:
    what = f"{name.model} {name.precision} for {name.target} is not registered: {'; '.join(failed)}"
    if quantized:
        cure = (
            f"`enginery sensitivity {name.model} --propose` finds the fewest layers to keep in "
            "float with which it passes"
        )
        return GateError(what, cure)
    cure = (
        "Look at the graph's validation, or loosen `validation` in params.yaml "
        "if this loss is acceptable"
    )
    return GateError(what, cure)


if __name__ == "__main__":
    register.main()
