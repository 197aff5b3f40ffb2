"""validate: the graph that is given to the builder against the FP32 original, on every validation
image. It is made once and shared by all targets.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from enginery.pipeline.project import Project
from enginery.pipeline.step import Job, step
from enginery.project.paths import RECORDS, images_file, model_folder
from enginery.project.stage import Stage
from enginery.registry.task_metadata import read_task_metadata
from enginery.report.events import log, progress
from enginery.system.files import read_json, write_json
from enginery.vision.tasks import Judging, Task

LOOKED_AT = 2  # samples, for the layer that overflows
SHOWN = 3  # samples, in the report
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
    version=4,
    of=("model", "precision"),
    tools=tools,
    parameters=parameters,
    record=RECORDS["validate"],
)
def validate(job: Job[Parameters]) -> None:
    """Measure; the register step judges, so that a new tolerance measures nothing again."""
    from enginery.evaluation.metrics import write_metrics
    from enginery.evaluation.samples import SampleFile, samples_file
    from enginery.evaluation.validation import validate_graph

    parameters, model = job.parameters, job.stage.model
    precision = model_folder(model, job.stage.precision)
    report = validate_graph(
        model_folder(model, "export") / "model.onnx",
        precision / "graph" / "model.onnx",
        Path(parameters.validation),
        read_task_metadata(model, parameters.judging),
        lambda done, total: progress("images", done, total),
        (parameters.height, parameters.width),
        SHOWN,
    )
    images, content = read_json(images_file(model)), report.to_dict()
    if job.stage.precision != "fp32":
        content["closeness"] |= _first_overflow(job)
    record = job.record(
        report=content,
        images_sha256=images["tree_sha256"],
        images=len(images["images"]),
    )
    write_json(precision / "validation.json", record)
    write_json(samples_file(precision), SampleFile(samples=report.samples).to_json())
    write_metrics(report, precision)
    metric = report.candidate.metric.title
    metric += "" if report.truth == "labels" else " (agreement, there are no labels)"
    log(f"{metric} {report.candidate.value:.4f}, FP32 original {report.reference.value:.4f}")


def _first_overflow(job: Job[Parameters]) -> dict[str, str]:
    """Which layer of a graph first gives values that FP16 cannot hold, on a few samples."""
    from enginery.graphs.overflow import first_overflow
    from enginery.vision.feeds import feeds
    from enginery.vision.images import list_images

    parameters, model = job.parameters, job.stage.model
    head = read_task_metadata(model, parameters.judging)
    graph = model_folder(model, job.stage.precision) / "graph" / "model.onnx"
    size = (parameters.height, parameters.width)
    data, own = Path(parameters.validation), head.judging
    samples = list_images(data, head.task, "validation", head.has_labels)[:LOOKED_AT]
    given = list(feeds(graph, samples, head.task, size, own.preprocess, own.image))
    overflow = first_overflow(graph, model_folder(model, "simplify") / "model.onnx", given)
    if overflow:
        log(f"FP16 overflows, first in {overflow}", "warning")
        return {"first_overflow": str(overflow)}
    return {}


if __name__ == "__main__":
    validate.main()
