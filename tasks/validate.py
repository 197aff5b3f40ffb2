"""validate: the graph that is given to the builder against the FP32 original, on every validation
image.

Made once and shared by all targets.
"""

from __future__ import annotations

from pathlib import Path

from enginery.evaluation.validation import validate_graph
from enginery.project.paths import Step, images_file, model_folder
from enginery.registry.task_metadata import read_task_metadata
from enginery.report.events import log, progress
from enginery.system.files import read_json, write_json
from tasks.command import recipe, record, run_step


def validate(step: Step) -> None:
    """Measure; the register step judges, so that a new tolerance measures nothing again."""
    export = model_folder(step.model, "export")
    precision = model_folder(step.model, step.precision)
    wanted = recipe(step)
    report = validate_graph(
        export / "model.onnx",
        precision / "graph" / "model.onnx",
        Path(wanted["validation"]),
        read_task_metadata(step.model),
        lambda done, total: progress("images", done, total),
        (wanted["height"], wanted["width"]),
    )
    images = read_json(images_file(step.model))
    facts = record(
        step,
        report=report.to_dict(),
        images_sha256=images["tree_sha256"],
        images=len(images["images"]),
    )
    write_json(precision / "validation.json", facts)
    log(
        f"{report.candidate.metric.title} {report.candidate.value:.4f}, FP32 original {report.reference.value:.4f}"
    )


if __name__ == "__main__":
    run_step("validate", validate, "model", "precision")
