"""export: trained weights, or the user's own ONNX, to a checked ONNX graph. Two exports of the same
source are the same bytes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from enginery.errors import ModelError
from enginery.graphs.external import data_digests
from enginery.pipeline.project import Project
from enginery.pipeline.step import Job, step
from enginery.project.params import Model, extent
from enginery.project.paths import RECORDS, model_folder
from enginery.project.stage import Stage
from enginery.report.events import log
from enginery.sources.export import ExportSettings, export
from enginery.system.files import replacing_folder, sha256, write_json
from enginery.vision.tasks import Task


@dataclass(frozen=True)
class Parameters:
    """What is exported, and how. Sizes and opset are not those of an ONNX: it has its own.

    `data` are the digests of the files beside an ONNX that hold its weights.
    """

    source: str
    task: Task
    sha256: str | None = None
    trusted: bool = False
    opset: int | None = None
    dynamic: bool | None = None
    batch: int | None = None
    height: int | None = None
    width: int | None = None
    data: Mapping[str, str] = field(default_factory=dict)


def parameters(project: Project, stage: Stage) -> Parameters:
    """The model's source, and what an export of weights needs beside it."""
    model = project.model(stage)
    if model.is_onnx:
        # DVC knows the graph's own file alone. What has another digest is read by nothing.
        data = {} if _has_other_digest(model) else data_digests(Path(model.source))
        return Parameters(model.source, model.task, model.sha256, data=data)
    return Parameters(
        source=model.source,
        task=model.task,
        sha256=model.sha256,
        trusted=model.trusted,
        opset=model.opset,
        dynamic=model.dynamic,
        batch=extent(model.batch)[1],
        height=model.size[0],
        width=model.size[1],
    )


def _has_other_digest(model: Model) -> bool:
    source = Path(model.source)
    return model.sha256 is not None and source.is_file() and sha256(source) != model.sha256


def tools(project: Project, stage: Stage) -> Sequence[str]:
    """torch and Ultralytics have no part in the export of an ONNX."""
    return ("onnx",) if project.model(stage).is_onnx else ("ultralytics", "torch", "onnx")


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
    parameters, source = job.parameters, Path(job.parameters.source)
    with replacing_folder(model_folder(job.stage.model, "export")) as folder:
        results = export(source, _settings(parameters), folder / "model.onnx")
        if results.get("source_data", {}) != parameters.data:
            # DVC would hold the new graph for the old files'.
            raise ModelError(
                f"the data files of {source} changed since this run began", "Run again"
            )
        write_json(folder / "record.json", job.record(**results))
    log(f"exported {source}: {results['nodes']} nodes, opset {results['opset']}")


def _settings(parameters: Parameters) -> ExportSettings:
    trust = {"trusted": parameters.trusted, "sha256": parameters.sha256}
    if parameters.opset is None:  # an ONNX
        return ExportSettings(parameters.task, **trust)
    return ExportSettings(
        task=parameters.task,
        imgsz=(parameters.height, parameters.width),
        batch=parameters.batch,
        dynamic=parameters.dynamic,
        opset=parameters.opset,
        **trust,
    )


if __name__ == "__main__":
    export_model.main()
