"""validate-engine: an engine itself, on its GPU: outputs and the task's metric against the FP32
original on every validation image, outputs at min and max of every profile, and its speed.

No stage of the pipeline: it needs the GPU that the engine was built for. Its report makes the
engine `validated`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from enginery.actions.engine_session import forward_progress, on_gpu, outputs_of, plan_of
from enginery.errors import EngineError
from enginery.evaluation.compare import Accumulator, OutputError
from enginery.evaluation.engine_report import (
    NOISY,
    EngineReport,
    OperatingPoint,
    far_points,
    noise,
    operating_points,
)
from enginery.evaluation.reports import refusals
from enginery.evaluation.runners import GraphRunner, RecordedRunner
from enginery.evaluation.validation import GraphReport, compare
from enginery.gpu.inventory import Clocks
from enginery.project.engine_name import INT8
from enginery.project.params import Model, Spec
from enginery.project.paths import ARTIFACTS, engine_report, model_folder
from enginery.registry.records import parse
from enginery.registry.store import Engine, engine_in
from enginery.registry.task_metadata import read_task_metadata
from enginery.report.events import progress
from enginery.system.files import dumps, scratch, write_json
from enginery.toolchain.client import measure
from enginery.toolchain.requests import MeasureRequest, PointRequest
from enginery.toolchain.selection import Choice
from enginery.vision.dataset import open_validation_set
from enginery.vision.images import save_batch

SLOWER = 1.02  # INT8 may take this much of its fp16 sibling's time
FEW = 16  # images at a point other than the profile's own


def validate_engine(spec: Spec, engine: Engine) -> EngineReport:
    """Run, compare, time; write the report and return it. A plan whose bytes changed is not loaded.

    Raises:
        EngineryError: it cannot be run here.
    """
    places = operating_points(engine.built.shapes)
    with scratch(ARTIFACTS) as folder:  # not for a /tmp in memory
        with on_gpu(spec, engine) as choice:
            clocks = Clocks(choice.gpu, forward_progress)
            measured = _measure(spec, engine, choice, places, folder, clocks)
        model = spec.models[engine.model]
        compared, points = _judge(model, engine.model, places, measured["points"], folder)
    driver = {"driver": choice.gpu.driver} if choice.gpu else {}
    report = _judged(
        engine,
        {
            "plan_sha256": engine.manifest.plan.sha256,
            "report": compared.to_dict(),
            "points": points,
            "timing": measured["points"][0]["timing"],
            "gpu": {**measured["gpu"], **driver},
            "clocks": clocks.seen,
            "tolerance": engine.manifest.tolerance.to_json(),
            "failures": [],
        },
    )
    only_noise = report.failures and list(report.failures) == noise(report.timing.gpu)
    if not only_noise or engine.state != "validated":
        path = engine_report(engine.model, engine.target, engine.precision)
        write_json(path, report.to_json())  # noise says nothing of the engine
    return report


def _judged(engine: Engine, measured: Mapping[str, Any]) -> EngineReport:
    """The report with its failures."""
    try:
        report = parse(dumps(measured).encode(), EngineReport)
    except ValueError as error:
        what = f"{engine.name}: what was measured on its GPU {error}"
        raise EngineError(what, "Run `enginery validate` again") from None
    failures = [
        *refusals(report.report, report.tolerance),
        *far_points(report.points[1:], report.tolerance),
        *(noise(report.timing.gpu) or slower(engine, report)),
    ]
    return report.model_copy(update={"failures": tuple(failures)})


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


def _measure(
    spec: Spec,
    engine: Engine,
    choice: Choice,
    places: list[OperatingPoint],
    folder: Path,
    clocks: Clocks,
) -> dict[str, Any]:
    model = spec.models[engine.model]
    points = [
        _point(model, engine.model, place, folder / str(index))
        for index, place in enumerate(places)
    ]
    request = MeasureRequest(**plan_of(engine, choice), points=tuple(points), noisy=NOISY)
    return measure(choice.python, request, clocks.follow, spec.targets[engine.target].time_limit_s)


def _point(model: Model, name: str, point: OperatingPoint, folder: Path) -> PointRequest:
    folder.mkdir()
    size = (point.shape[2], point.shape[3])
    with open_validation_set(
        Path(model.validation), read_task_metadata(name), size, None if point.main else FEW
    ) as images:
        save_batch((image for image, _ in images), len(images), size, folder / "images.npy")
    return PointRequest(
        point.shape, folder / "images.npy", folder, point.profile, timed=point.which == "opt"
    )


def _judge(
    model: Model,
    name: str,
    places: list[OperatingPoint],
    measured: list[dict[str, Any]],
    folder: Path,
) -> tuple[GraphReport, list[dict[str, Any]]]:
    """The whole comparison at the main point, and the closeness at every one."""
    original, points = model_folder(name, "export") / "model.onnx", []
    for index, (point, facts) in enumerate(zip(places, measured, strict=True)):
        reference = GraphRunner(original, (point.shape[2], point.shape[3]))
        engine = RecordedRunner(
            outputs_of(facts, folder / str(index), reference.outputs), reference.size
        )
        if point.main:
            data, head = Path(model.validation), read_task_metadata(name)
            report = compare(
                reference, engine, data, head, lambda done, total: progress("images", done, total)
            )
            close = report.closeness
        else:
            close = _closeness(
                reference, engine, np.load(folder / str(index) / "images.npy", mmap_mode="r")
            )
        points.append({**asdict(point), "closeness": asdict(close), "timing": facts.get("timing")})
    return report, points


def _closeness(
    reference: GraphRunner, engine: RecordedRunner, images: NDArray[np.float32]
) -> OutputError:
    found = Accumulator()
    for image in images:
        found.add(reference.run(image), engine.run(image))
    return found.closeness()
