"""validate-engine: an engine itself, on its GPU: outputs and the task's metric against the FP32 original on every validation image, outputs
at min and max of every profile, and its speed.

No stage of the pipeline: it needs the GPU that the engine was built for. Its report makes the engine `validated`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from enginery.evaluation.compare import Accumulator, Closeness
from enginery.evaluation.dataset import open_validation_set
from enginery.evaluation.gate import distance, failures
from enginery.evaluation.images import save_batch
from enginery.evaluation.runners import GraphRunner, RecordedRunner
from enginery.evaluation.validation import GraphReport, compare
from enginery.files import read_json, scratch, write_json
from enginery.gpu import Clocks
from enginery.layout import ARTIFACTS, INT8, engine_report, model_folder
from enginery.registry import Engine, engine_in
from enginery.report.events import progress
from enginery.spec import Model, Spec
from enginery.toolchain.choice import Choice
from enginery.toolchain.client import measure
from enginery.toolchain.requests import MeasureRequest, Point
from tasks.command import model_head
from tasks.on_gpu import important, on_gpu, outputs_of, plan_of

SLOWER = 1.02  # INT8 may take this much of its fp16 sibling's time
NOISY = 1.25  # p90 / p50 from which a run's times tell more of the machine than of the engine
FEW = 16  # images at a point other than the profile's own


@dataclass(frozen=True)
class Corner:
    """A point of an engine's profiles at which it is run: an input shape (batch, 3, height, width)."""

    profile: int
    which: str
    shape: tuple[int, ...]

    @property
    def main(self) -> bool:
        """Where all images are run and the metric is taken."""
        return self.profile == 0 and self.which == "opt"


def validate_engine(spec: Spec, engine: Engine) -> dict[str, Any]:
    """Run, compare, time; write the report and return it. A plan whose bytes changed is not loaded.

    Raises:
        EngineryError: it cannot be run here.
    """
    places = corners(engine.built.get("profiles") or [engine.built["profile"]])
    with scratch(ARTIFACTS) as folder:  # not for a /tmp in memory
        with on_gpu(spec, engine) as choice:
            clocks = Clocks(choice.gpu, important)
            measured = _measure(spec, engine, choice, places, folder, clocks)
        model = spec.models[engine.model]
        compared, points = _judge(model, engine.model, places, measured["points"], folder)
    facts, timing = compared.to_dict(), measured["points"][0]["timing"]
    tolerance = spec.validation.of(model.task, engine.precision)
    driver = {"driver": choice.gpu.driver} if choice.gpu else {}
    noisy = noise(timing["gpu"])
    report = {
        "plan_sha256": engine.manifest["plan"]["sha256"], "report": facts, "timing": timing, "points": points,
        "gpu": {**measured["gpu"], **driver}, "clocks": clocks.seen, "tolerance": tolerance,
        "failures": [
            *failures(facts, tolerance), *_far(points[1:], tolerance), *(noisy or slower(engine, timing, measured["gpu"])),
        ],
    }
    only_noise = noisy and report["failures"] == noisy
    if not only_noise or engine.state != "validated":
        write_json(engine_report(engine.model, engine.target, engine.precision), report)  # noise says nothing of the engine
    return report


def corners(profiles: Sequence[Mapping[str, Sequence[int]]]) -> list[Corner]:
    """Opt of the first profile, then every other input shape at min, opt and max of the profiles, each once."""
    found: dict[tuple[int, tuple[int, ...]], Corner] = {}
    for index, shapes in enumerate(profiles):
        for which in ("opt", "min", "max"):
            corner = Corner(index, which, tuple(shapes[which]))
            found.setdefault((index, corner.shape), corner)
    return list(found.values())


def noise(times: Mapping[str, float]) -> list[str]:
    """Why a run's times cannot be trusted; empty if they can."""
    ratio = times["p90"] / times["p50"]
    return [f"p90 is {ratio:.1f} times p50: something else uses the GPU, measure again"] if ratio > NOISY else []


def slower(engine: Engine, timing: Mapping[str, Any], gpu: Mapping[str, Any]) -> list[str]:
    """Why an INT8 engine is not worth its loss: its fp16 sibling, if these very bytes passed on this GPU, is as fast.

    Kernel by kernel, a small engine is as fast as the processor launches, whatever else that does: as a CUDA graph it may gain still.
    """
    sibling = engine_in(engine.folder.with_name("fp16"))
    if engine.precision != INT8 or not sibling or sibling.state != "validated":
        return []
    report = read_json(engine_report(engine.model, engine.target, "fp16"))
    if report["gpu"].get("uuid") != gpu.get("uuid"):
        return []
    ways = [way for way in ("gpu", "cuda_graph") if timing[way] and report["timing"][way]]
    (mine, other), *graphs = [(timing[way]["p50"], report["timing"][way]["p50"]) for way in ways]
    if any(own <= siblings * SLOWER for own, siblings in [(mine, other), *graphs]):
        return []
    return [f"p50 is {mine:.2f} ms, its fp16 sibling's {other:.2f} ms: INT8 gains nothing on this GPU"]


def _far(points: list[dict[str, Any]], tolerance: Mapping[str, float]) -> list[str]:
    """At which other points the outputs are too far from the original's."""
    found: list[str] = []
    for point in points:
        where = f"profile {point['profile']} at {point['which']} {tuple(point['shape'])}"
        found += [f"{where}: {failure}" for failure in distance(point["closeness"], tolerance)]
    return found


def _measure(spec: Spec, engine: Engine, choice: Choice, places: list[Corner], folder: Path, clocks: Clocks) -> dict[str, Any]:
    points = [_point(spec.models[engine.model], engine.model, corner, folder / str(index)) for index, corner in enumerate(places)]
    request = MeasureRequest(**plan_of(engine, choice), points=tuple(points), noisy=NOISY)
    return measure(choice.python, request, clocks.follow, spec.targets[engine.target].time_limit_s)


def _point(model: Model, name: str, corner: Corner, folder: Path) -> Point:
    folder.mkdir()
    size = (corner.shape[2], corner.shape[3])
    with open_validation_set(Path(model.validation), model_head(name), size, None if corner.main else FEW) as images:
        save_batch((image for image, _ in images), len(images), size, folder / "images.npy")
    return Point(corner.shape, folder / "images.npy", folder, corner.profile, timed=corner.which == "opt")


def _judge(
    model: Model, name: str, places: list[Corner], measured: list[dict[str, Any]], folder: Path,
) -> tuple[GraphReport, list[dict[str, Any]]]:
    """The whole comparison at the main point, and the closeness at every one."""
    original, points = model_folder(name, "export") / "model.onnx", []
    for index, (corner, facts) in enumerate(zip(places, measured, strict=True)):
        reference = GraphRunner(original, (corner.shape[2], corner.shape[3]))
        engine = RecordedRunner(outputs_of(facts, folder / str(index), reference.outputs), reference.size)
        if corner.main:
            data, head = Path(model.validation), model_head(name)
            report = compare(reference, engine, data, head, lambda done, total: progress("images", done, total))
            close = report.closeness
        else:
            close = _closeness(reference, engine, np.load(folder / str(index) / "images.npy", mmap_mode="r"))
        points.append({**asdict(corner), "closeness": asdict(close), "timing": facts.get("timing")})
    return report, points


def _closeness(reference: GraphRunner, engine: RecordedRunner, images: NDArray[np.float32]) -> Closeness:
    found = Accumulator()
    for image in images:
        found.add(reference.run(image), engine.run(image))
    return found.closeness()
