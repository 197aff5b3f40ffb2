"""simplify: onnxsim in a child process; its outputs are compared on real images; on failure the
unsimplified graph goes on.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from enginery.graphs.simplify import simplify
from enginery.pipeline.project import Project
from enginery.pipeline.step import Job, step
from enginery.project.paths import RECORDS, model_folder
from enginery.project.stage import Stage
from enginery.report.events import log
from enginery.system.files import replacing_folder, write_json
from enginery.vision.feeds import feeds
from enginery.vision.images import list_images
from enginery.vision.tasks import Task

COMPARED_IMAGES = 4
TIME_LIMIT_S = 600


@dataclass(frozen=True)
class Parameters:
    """The images on which the two graphs are compared, and their size."""

    validation: str
    task: Task
    height: int
    width: int


def parameters(project: Project, stage: Stage) -> Parameters:
    """As the model says."""
    model = project.model(stage)
    return Parameters(model.validation, model.task, *model.size)


@step(
    "simplify",
    version=1,
    of=("model",),
    tools=("onnx", "onnxsim", "onnxruntime"),
    parameters=parameters,
    record=RECORDS["simplify"],
)
def simplify_model(job: Job[Parameters]) -> None:
    """Write the simplified graph, or the same graph with the reason why not."""
    parameters, model = job.parameters, job.stage.model
    source = model_folder(model, "export") / "model.onnx"
    paths = list_images(Path(parameters.validation), parameters.task)[:COMPARED_IMAGES]
    images = feeds(source, paths, parameters.task, (parameters.height, parameters.width))
    with replacing_folder(model_folder(model, "simplify")) as folder:
        results = simplify(source, folder / "model.onnx", images, TIME_LIMIT_S)
        write_json(folder / "record.json", job.record(**results))
    if results["simplified"]:
        nodes = f"{results['nodes_before']} -> {results['nodes_after']} nodes"
        log(f"simplified: {nodes}, outputs equal on {COMPARED_IMAGES} images")
    else:
        log(f"not simplified, the exported graph goes on: {results['reason']}", "warning")


if __name__ == "__main__":
    simplify_model.main()
