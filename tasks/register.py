"""register: the gate. An engine whose graph passed and whose plan is what was recorded enters the
registry, with its manifest.
"""

from __future__ import annotations

from enginery.errors import GateError
from enginery.evaluation.gate import failures
from enginery.project.paths import Step, build_folder, engine_folder, model_folder
from enginery.registry.manifest import compose
from enginery.registry.store import publish
from enginery.report.events import log
from enginery.system.files import read_json
from enginery.toolchain.plan import check_built
from tasks.command import recipe, run_step


def register(step: Step) -> None:
    """Judge, check the plan's digest and header, then publish; a failing engine leaves the registry
    as it was.
    """
    build, precision = (
        build_folder(step.model, step.target, step.precision),
        model_folder(step.model, step.precision),
    )
    records = {
        "export": read_json(model_folder(step.model, "export") / "record.json"),
        "simplify": read_json(model_folder(step.model, "simplify") / "record.json"),
        "quantize": read_json(precision / "graph" / "record.json"),
        "validate": read_json(precision / "validation.json"),
        "build": read_json(build / "record.json"),
        "register": {"recipe": read_json(step.recipe)},
    }
    failed = failures(records["validate"]["report"], recipe(step))
    if failed:
        raise _refusal(step, failed, bool(records["quantize"].get("quantized")))
    plan = build / "model.plan"
    built, digest = records["build"]["recipe"]["parameters"], records["build"]["plan_sha256"]
    check_built(plan, digest, built["runtime"], built["compute_capability"])
    publish(plan, compose(step, records), engine_folder(step.model, step.target, step.precision))
    log(f"registered {step.model} {step.precision} for {step.target} as candidate")
    if "native_cache" in records["build"]:
        log(
            "its metrics are those of Enginery's ranges; what TensorRT's own cost, only `enginery validate` tells",
            "warning",
        )


def _refusal(step: Step, failed: list[str], quantized: bool) -> GateError:
    what = f"{step.model} {step.precision} for {step.target} is not registered: {'; '.join(failed)}"
    if quantized:
        cure = (
            f"`enginery sensitivity {step.model} --propose` finds the fewest layers to keep in float "
            "with which it passes"
        )
        return GateError(what, cure)
    cure = (
        "Look at the graph's validation, or loosen `validation` in params.yaml "
        "if this loss is acceptable"
    )
    return GateError(what, cure)


if __name__ == "__main__":
    run_step("register", register, "model", "target", "precision")
