"""simplify: onnxsim in a child process; its outputs are compared on real images; on failure the
unsimplified graph goes on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from enginery import sources
from enginery.pipeline.project import Project
from enginery.pipeline.step import Job, step
from enginery.project.paths import RECORDS, model_folder
from enginery.project.stage import Stage
from enginery.registry.task_metadata import read_task_metadata
from enginery.report.events import log
from enginery.system.files import atomic_folder, write_json
from enginery.vision.tasks import Judging, Task

COMPARED_IMAGES = 4
TIME_LIMIT_S = 600


@dataclass(frozen=True)
class Parameters:
    """The images on which the two graphs are compared, and their size.

    `profiles` and `input` are what params.yaml asks of a graph that brings its own sizes.
    """

    validation: str
    task: Task
    height: int
    width: int
    profiles: tuple[Mapping[str, list[int]], ...] = ()
    input: str | None = None
    judging: Judging | None = None
    arrays: Mapping[str, Mapping[str, list[int]]] | None = None


def parameters(project: Project, stage: Stage) -> Parameters:
    """As the model says."""
    model = project.model(stage)
    data, judging = (model.validation, model.task, *model.size), model.judging()
    if not sources.find(model.source).has_own_sizes:
        return Parameters(*data, judging=judging)
    profiles = tuple(model.all_profiles()) if model.takes_images else ()
    return Parameters(*data, profiles, model.input, judging, model.array_profiles() or None)


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
    from enginery.graphs.simplify import simplify
    from enginery.vision.feeds import feeds
    from enginery.vision.images import list_images

    parameters, model = job.parameters, job.stage.model
    source = model_folder(model, "export") / "model.onnx"
    judging = parameters.judging or Judging()
    data, labelled = Path(parameters.validation), judging.truth == "labels"
    paths = list_images(data, parameters.task, "validation", labelled)
    _check(job, source, paths)
    size, how = (parameters.height, parameters.width), (judging.preprocess, judging.image)
    images = feeds(source, paths[:COMPARED_IMAGES], parameters.task, size, *how)
    with atomic_folder(model_folder(model, "simplify")) as folder:
        results = simplify(source, folder / "model.onnx", images, TIME_LIMIT_S)
        write_json(folder / "record.json", job.record(**results))
    if results["simplified"]:
        nodes = f"{results['nodes_before']} -> {results['nodes_after']} nodes"
        log(f"simplified: {nodes}, outputs equal on {COMPARED_IMAGES} images")
    else:
        log(f"not simplified, the exported graph goes on: {results['reason']}", "warning")


def _check(job: Job[Parameters], graph: Path, images: Sequence[Path]) -> None:
    """What this step is the first to know: whether a graph has the sizes of params.yaml, and labels
    the model's classes.
    """
    from enginery.graphs.inspect import fit_profiles, graph_info
    from enginery.vision.labels import check_labels

    parameters = job.parameters
    if parameters.profiles or parameters.arrays:
        sizes = parameters.profiles, parameters.input, graph.as_posix(), parameters.arrays
        fit_profiles(graph_info(graph), *sizes)
    metadata = read_task_metadata(job.stage.model, parameters.judging)
    if metadata.names and metadata.has_text_labels:  # without names, the validation says so
        check_labels(images, metadata)


if __name__ == "__main__":
    simplify_model.main()
