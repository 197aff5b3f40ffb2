"""export: trained weights, or the user's own ONNX, to a checked ONNX graph. Two exports of the same
source are the same bytes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from enginery import sources
from enginery.datasets.class_names import read_names
from enginery.errors import ModelError
from enginery.pipeline.project import Project
from enginery.pipeline.step import Job, step
from enginery.pipeline.workplace import read_workplace
from enginery.project.model import Model
from enginery.project.paths import RECORDS, model_folder
from enginery.project.stage import Stage
from enginery.project.values import extent
from enginery.report.events import log
from enginery.system.files import atomic_folder, sha256, write_json
from enginery.vision.tasks import Task

if TYPE_CHECKING:
    from enginery.sources.export import ExportSettings


@dataclass(frozen=True)
class Sizes:
    """What weights become: an ONNX of this opset, with these sizes, or open ones."""

    opset: int
    dynamic: bool
    batch: int
    height: int
    width: int


@dataclass(frozen=True)
class Parameters:
    """What is exported, and how. An ONNX has sizes of its own.

    `names` are those of its classes, from the file that params.yaml names. `data` are the digests
    of the files beside an ONNX that hold its weights. `sha256` is here only where the source has
    another: then the export runs, and refuses it.
    """

    source: str
    task: Task
    sha256: str | None = None
    sizes: Sizes | None = None
    data: Mapping[str, str] | None = None
    names: tuple[str, ...] | None = None
    architecture: str | None = None


def parameters(project: Project, stage: Stage) -> Parameters:
    """The model's source, and what an export of weights needs beside it."""
    model = project.model(stage)
    source = sources.find(model.source)
    wrong = model.sha256 if _has_other_digest(model) else None
    # DVC knows the source's own file alone. What has another digest is read by nothing.
    data = {} if wrong else source.data(Path(model.source))
    names = read_names(Path(model.names)) if model.names else None
    if source.has_own_sizes:
        return Parameters(model.source, model.task, wrong, data=data or None, names=names)
    batch = extent(model.batch)[1]
    sizes = Sizes(model.opset, model.dynamic, batch, *model.size)
    return Parameters(
        model.source, model.task, wrong, sizes, names=names, architecture=model.architecture
    )


def _has_other_digest(model: Model) -> bool:
    source = Path(model.source)
    return model.sha256 is not None and source.is_file() and sha256(source) != model.sha256


def tools(project: Project, stage: Stage) -> Sequence[str]:
    """Those of the kind of source: torch has no part in the export of an ONNX."""
    return sources.find(project.model(stage).source).tools


@step(
    "export",
    version=2,
    of=("model",),
    tools=tools,
    parameters=parameters,
    record=RECORDS["export"],
)
def export_model(job: Job[Parameters]) -> None:
    """Write the model's FP32 graph, the reference of everything that follows."""
    from enginery.sources.export import export

    parameters, source = job.parameters, Path(job.parameters.source)
    with atomic_folder(model_folder(job.stage.model, "export")) as folder:
        results = export(source, _settings(job), folder / "model.onnx")
        if results.get("source_data", {}) != (parameters.data or {}):
            # DVC would hold the new graph for the old files'.
            raise ModelError(
                f"the data files of {source} changed since this run began", "Run again"
            )
        write_json(folder / "record.json", job.record(**results))
    log(f"exported {source}: {results['nodes']} nodes, opset {results['opset']}")


def _settings(job: Job[Parameters]) -> ExportSettings:
    from enginery.sources.export import ExportSettings

    trust = read_workplace().source_trust(job.stage.model)
    task, sizes = job.parameters.task, job.parameters.sizes
    settings = ExportSettings(
        task,
        trusted=trust.trusted,
        sha256=trust.sha256,
        names=job.parameters.names,
        architecture=job.parameters.architecture,
    )
    if sizes is None:  # an ONNX
        return settings
    return replace(
        settings,
        imgsz=(sizes.height, sizes.width),
        batch=sizes.batch,
        dynamic=sizes.dynamic,
        opset=sizes.opset,
    )


if __name__ == "__main__":
    export_model.main()
