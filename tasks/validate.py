"""validate: the graph that is given to the builder against the FP32 original, on every validation
image. It is made once and shared by all targets.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from enginery.evaluation.validation import validate_graph
from enginery.pipeline.project import Project
from enginery.pipeline.step import Job, step
from enginery.project.paths import RECORDS, images_file, model_folder
from enginery.project.stage import Stage
from enginery.registry.task_metadata import read_task_metadata
from enginery.report.events import log, progress
from enginery.system.files import read_json, write_json
from enginery.vision.tasks import Judging, Task

TOOLS = ("ultralytics", "torch", "onnxruntime", "opencv-python")
CLASSIFIERS_TOOLS = ("pillow", "torchvision")


@dataclass(frozen=True)
class Parameters:
    """The labelled images, and the size in which they are seen."""

    validation: str
    task: Task
    height: int
    width: int
    judging: Judging | None = None


def parameters(project: Project, stage: Stage) -> Parameters:
    """As the model says."""
    model = project.model(stage)
    return Parameters(model.validation, model.task, *model.size, model.judging())


def tools(project: Project, stage: Stage) -> Sequence[str]:
    """What classifies is fed by other packages than the rest."""
    return (*TOOLS, *(CLASSIFIERS_TOOLS if project.model(stage).task == "classify" else ()))


@step(
    "validate",
    version=3,
    of=("model", "precision"),
    tools=tools,
    parameters=parameters,
    record=RECORDS["validate"],
)
def validate(job: Job[Parameters]) -> None:
    """Measure; the register step judges, so that a new tolerance measures nothing again."""
    parameters, model = job.parameters, job.stage.model
    precision = model_folder(model, job.stage.precision)
    report = validate_graph(
        model_folder(model, "export") / "model.onnx",
        precision / "graph" / "model.onnx",
        Path(parameters.validation),
        read_task_metadata(model, parameters.judging),
        lambda done, total: progress("images", done, total),
        (parameters.height, parameters.width),
    )
    images = read_json(images_file(model))
    record = job.record(
        report=report.to_dict(),
        images_sha256=images["tree_sha256"],
        images=len(images["images"]),
    )
    write_json(precision / "validation.json", record)
    metric = report.candidate.metric.title
    metric += "" if report.truth == "labels" else " (agreement, there are no labels)"
    log(f"{metric} {report.candidate.value:.4f}, FP32 original {report.reference.value:.4f}")


if __name__ == "__main__":
    validate.main()
