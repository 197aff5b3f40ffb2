"""validate: an engine itself, on its GPU: outputs and the task's metric against the FP32
original on every validation image, outputs at min and max of every profile, and its speed.

No stage of the pipeline: it needs the GPU that the engine was built for. Its report makes the
engine `validated`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from enginery.actions.engine_session import (
    EngineSession,
    forward_progress,
    open_engine,
    read_outputs,
)
from enginery.errors import EngineError
from enginery.evaluation.compare import Accumulator, OutputError
from enginery.evaluation.ends import DetectingRunner, pair_detections, save_pixels
from enginery.evaluation.engine_report import (
    EngineReport,
    OperatingPoint,
    far_points,
    noise,
    operating_points,
)
from enginery.evaluation.reports import refusals
from enginery.evaluation.runners import GraphRunner, RecordedRunner
from enginery.evaluation.validation import GraphReport, Pair, compare, pair_outputs
from enginery.gpu.inventory import Clocks
from enginery.graphs.detections import OUTPUTS
from enginery.project.engine_name import INT8
from enginery.project.params import Spec
from enginery.project.paths import ARTIFACTS, engine_report, model_folder
from enginery.registry.records import parse
from enginery.registry.store import Engine, engine_in
from enginery.registry.task_metadata import read_task_metadata
from enginery.report.events import progress
from enginery.system.files import dumps, scratch, write_json
from enginery.toolchain.requests import Measurement, PointRequest, PointResult
from enginery.vision.dataset import open_validation_set
from enginery.vision.detections import engine_rows
from enginery.vision.feeds import Feeder
from enginery.vision.images import list_images, save_batch
from enginery.vision.nms import Nms
from enginery.vision.tasks import TaskMetadata

SLOWER = 1.02  # INT8 may take this much of its fp16 sibling's time
FEW = 16  # images at a point other than the profile's own


@dataclass(frozen=True)
class _Data:
    """What an engine is compared by: the FP32 original, its task, the validation images."""

    original: Path
    head: TaskMetadata
    images: Path
    pixels: Mapping[str, Any] | None = None
    nms: Nms | None = None

    @property
    def pair(self) -> Pair:
        """What of both outputs is compared number by number."""
        return pair_detections if self.nms else pair_outputs


def validate_engine(spec: Spec, engine: Engine) -> EngineReport:
    """Run, compare, time; write the report and return it. A plan whose bytes changed is not loaded.

    Raises:
        EngineryError: it cannot be run here.
    """
    _ = engine.built.image_profile  # the one input is fed with images
    points = operating_points(engine.built.shapes)
    with scratch(ARTIFACTS) as folder:  # not for a /tmp in memory
        with open_engine(spec, engine) as session:
            data = _data(spec, engine)
            clocks = Clocks(session.choice.gpu, forward_progress)
            measured = _measure(session, data, points, folder, clocks)
        compared, errors = _compare(data, points, measured, folder)
    report = _report(engine, compared, errors, measured, clocks)
    only_noise = report.failures and list(report.failures) == noise(report.timing.gpu)
    if not only_noise or engine.state != "validated":
        path = engine_report(engine.model, engine.target, engine.precision)
        write_json(path, report.to_json())  # noise says nothing of the engine
    return report


def slower(engine: Engine, report: EngineReport) -> list[str]:
    """Why an INT8 engine is not worth its loss: its fp16 sibling, if these very bytes passed on
    this GPU, is as fast.

    Kernel by kernel, a small engine is as fast as the processor launches, whatever else that does:
    as a CUDA graph it may gain still.
    """
    sibling = engine_in(engine.folder.with_name("fp16"))
    if engine.precision != INT8 or not sibling:
        return []
    other = sibling.gpu_check.report
    if not other or other.gpu.uuid != report.gpu.uuid:
        return []
    pairs = [(report.timing.gpu, other.timing.gpu)]
    if report.timing.cuda_graph and other.timing.cuda_graph:
        pairs.append((report.timing.cuda_graph, other.timing.cuda_graph))
    if any(own.p50 <= siblings.p50 * SLOWER for own, siblings in pairs):
        return []
    mine, its = report.timing.gpu.p50, other.timing.gpu.p50
    return [
        f"p50 is {mine:.2f} ms, its fp16 sibling's {its:.2f} ms: INT8 gains nothing on this GPU"
    ]


def _data(spec: Spec, engine: Engine) -> _Data:
    original = model_folder(engine.model, "export") / "model.onnx"
    model = spec.models[engine.model]
    head = read_task_metadata(engine.model, model.judging())
    built = engine.built
    return _Data(original, head, Path(model.validation), built.pixels, built.detections)


def _measure(
    session: EngineSession,
    data: _Data,
    points: Sequence[OperatingPoint],
    folder: Path,
    clocks: Clocks,
) -> Measurement:
    requests = [_request(data, point, folder / str(index)) for index, point in enumerate(points)]
    return session.measure(requests, clocks.follow)


def _request(data: _Data, point: OperatingPoint, folder: Path) -> PointRequest:
    """The images for a point, in a folder that takes its outputs, too."""
    folder.mkdir()
    size, few = _size(data, point), None if point.main else FEW
    feeding, out = data.head.feeding(size), folder / "images.npy"
    if feeding is None:
        with open_validation_set(data.images, data.head, size, few) as images:
            save_batch((image for image, _ in images), len(images), size, out)
    else:
        _save_rows(GraphRunner(data.original, size, feeding).feeder, data, few, out)
    if data.pixels is not None:
        out = folder / "pixels.npy"
        save_pixels(folder / "images.npy", data.pixels, out)
    return PointRequest(point.shape, out, folder, point.profile, timed=point.which == "opt")


def _size(data: _Data, point: OperatingPoint) -> tuple[int, int]:
    """Height and width at a point."""
    how = data.head.judging.preprocess
    return how.size_of(point.shape) if how else point.size


def _save_rows(feeder: Feeder, data: _Data, few: int | None, out: Path) -> None:
    """The images as they are prepared for a model of another kind than Ultralytics'."""
    labelled = data.head.has_labels
    files = list_images(data.images, data.head.task, "validation", labelled)
    files = files[:: max(len(files) // few, 1)][:few] if few else files
    first = feeder.row(files[0])
    if len(first) > 1:
        what = f"the engine takes {', '.join(first)}, and only one input is fed on its GPU here"
        raise EngineError(what, "Compare it with your own code: its graph was checked on the CPU")
    [shape], [name] = (row.shape for row in first.values()), first
    dtype = first[name].dtype
    rows = np.lib.format.open_memmap(out, mode="w+", dtype=dtype, shape=(len(files), *shape))
    for index, file in enumerate(files):
        rows[index] = feeder.row(file)[name]
    rows.flush()


def _compare(
    data: _Data, points: Sequence[OperatingPoint], measured: Measurement, folder: Path
) -> tuple[GraphReport, list[OutputError]]:
    """All of the engine against its original at the main point, the first; its raw outputs at every
    point.
    """
    main, *others = [
        (point, result, folder / str(index))
        for index, (point, result) in enumerate(zip(points, measured.points, strict=True))
    ]
    report = compare(*_runners(data, *main), data.images, data.head, _show_images, pair=data.pair)
    errors = [_output_error(*_runners(data, *other), other[2], data.pair) for other in others]
    return report, [report.closeness, *errors]


def _runners(
    data: _Data, point: OperatingPoint, result: PointResult, folder: Path
) -> tuple[GraphRunner | DetectingRunner, RecordedRunner]:
    """The original, and what the engine gave, at one point."""
    size = _size(data, point)
    reference = GraphRunner(data.original, size, data.head.feeding(size))
    if data.nms is None:
        outputs = read_outputs(result, folder, reference.outputs)
        return reference, RecordedRunner(outputs, reference.size)
    rows = engine_rows(dict(zip(OUTPUTS, read_outputs(result, folder, OUTPUTS), strict=True)))
    return DetectingRunner(reference, data.nms), RecordedRunner([rows], reference.size)


def _show_images(done: int, total: int) -> None:
    progress("images", done, total)


def _output_error(
    reference: GraphRunner | DetectingRunner,
    engine: RecordedRunner,
    folder: Path,
    pair: Pair = pair_outputs,
) -> OutputError:
    differences = Accumulator()
    for image in np.load(folder / "images.npy", mmap_mode="r"):
        differences.add(*pair(reference.run(image), engine.run(image)))
    return differences.closeness()


def _report(
    engine: Engine,
    compared: GraphReport,
    errors: Sequence[OutputError],
    measured: Measurement,
    clocks: Clocks,
) -> EngineReport:
    """The report with its failures."""
    driver = {"driver": clocks.gpu.driver} if clocks.gpu else {}
    points = operating_points(engine.built.shapes)
    content = {
        "plan_sha256": engine.manifest.plan.sha256,
        "report": compared.to_dict(),
        "points": [
            {**asdict(point), "closeness": asdict(error), "timing": result.timing}
            for point, error, result in zip(points, errors, measured.points, strict=True)
        ],
        "timing": measured.points[0].timing,
        "gpu": {**measured.gpu, **driver},
        "clocks": clocks.seen,
        "tolerance": engine.manifest.tolerance.to_json(),
        "failures": [],
    }
    try:
        report = parse(dumps(content).encode(), EngineReport)
    except ValueError as error:
        what = f"{engine.name}: what was measured on its GPU {error}"
        raise EngineError(what, "Run `enginery validate` again") from None
    return report.model_copy(update={"failures": tuple(_failures(engine, report))})


def _failures(engine: Engine, report: EngineReport) -> list[str]:
    return [
        *refusals(report.report, report.tolerance),
        *far_points(report.points[1:], report.tolerance),
        *(noise(report.timing.gpu) or slower(engine, report)),
    ]
