"""validate-engine: an engine itself, on its GPU: outputs and the task's metric against the FP32 original on every validation image, outputs
at min and max of every profile, and its speed.

No stage of the pipeline: it needs the GPU that the engine was built for. Its report makes the engine `validated`.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from enginery.evaluation.compare import Accumulator, Closeness
from enginery.evaluation.detection import GraphReport, GraphRunner, RecordedRunner, compare
from enginery.evaluation.gate import Tolerance, failures
from enginery.evaluation.images import list_images, preprocess, read_image, save_batch
from enginery.files import read_json, write_json
from enginery.gpu import Gpu, state
from enginery.layout import INT8, engine_report, model_folder
from enginery.registry import Engine
from enginery.report.events import progress
from enginery.spec import Model, Spec
from enginery.toolchain.choice import Choice
from enginery.toolchain.client import measure
from enginery.toolchain.requests import MeasureRequest, Point
from tasks.command import class_names
from tasks.on_gpu import important, on_gpu, plan_of

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


@dataclass
class Clocks:
    """What the GPU's clocks were while it was timed."""

    gpu: Gpu | None
    seen: list[dict[str, Any]] = field(default_factory=list)

    def follow(self, event: Mapping[str, Any]) -> None:
        """Look at the clocks whenever a timing begins or ends."""
        if self.gpu and str(event.get("phase", "")).startswith("timing"):
            now = state(self.gpu)
            self.seen.append({"sm": now.sm_clock, "memory": now.memory_clock, "celsius": now.temperature, "watts": now.power})
        important(event)


def validate_engine(spec: Spec, engine: Engine) -> dict[str, Any]:
    """Run, compare, time; write the report and return it. A plan whose bytes changed is not loaded.

    Raises:
        EngineryError: it cannot be run here.
    """
    allowed = spec.validation.rms_relative.get(engine.precision, 1.0)  # type: ignore[call-overload]
    tolerance = Tolerance(spec.validation.map50_95_drop, allowed)
    with tempfile.TemporaryDirectory() as folder, on_gpu(spec, engine) as choice:
        clocks = Clocks(choice.gpu)
        places = corners(spec.models[engine.model])
        measured = _measure(spec, engine, choice, places, Path(folder), clocks)
        compared, points = _judge(spec.models[engine.model], engine.model, places, measured["points"], Path(folder))
    facts, timing = compared.to_dict(), measured["points"][0]["timing"]
    driver = {"driver": choice.gpu.driver} if choice.gpu else {}
    report = {
        "plan_sha256": engine.manifest["plan"]["sha256"], "report": facts, "timing": timing, "points": points,
        "gpu": {**measured["gpu"], **driver}, "clocks": clocks.seen, "tolerance": asdict(tolerance),
        "failures": failures(facts, tolerance) + _far(points[1:], tolerance) + noise(timing["gpu"]) + slower(engine, timing["gpu"]),
    }
    write_json(engine_report(engine.model, engine.target, engine.precision), report)
    return report


def corners(model: Model) -> list[Corner]:
    """Opt of the model's own profile, then every other input shape at min, opt and max of its profiles, each once."""
    found: dict[tuple[int, tuple[int, ...]], Corner] = {}
    for index, shapes in enumerate(model.all_profiles()):
        for which in ("opt", "min", "max"):
            corner = Corner(index, which, tuple(shapes[which]))
            found.setdefault((index, corner.shape), corner)
    return list(found.values())


def noise(times: Mapping[str, float]) -> list[str]:
    """Why a run's times cannot be trusted; empty if they can."""
    ratio = times["p90"] / times["p50"]
    return [f"p90 is {ratio:.1f} times p50: something else uses the GPU, measure again"] if ratio > NOISY else []


def slower(engine: Engine, times: Mapping[str, float]) -> list[str]:
    """Why an INT8 engine is not worth its loss: its fp16 sibling, if it was run here, is as fast."""
    sibling = engine_report(engine.model, engine.target, "fp16")
    if engine.precision != INT8 or not sibling.is_file():
        return []
    mine, other = times["p50"], read_json(sibling)["timing"]["gpu"]["p50"]
    return [f"p50 is {mine:.2f} ms, its fp16 sibling's {other:.2f} ms: INT8 gains nothing on this GPU"] if mine > other * SLOWER else []


def _far(points: list[dict[str, Any]], tolerance: Tolerance) -> list[str]:
    """At which other points the outputs are too far from the original's."""
    found = []
    for point in points:
        close = point["closeness"]
        bad = close["nan_count"] + close["inf_count"]
        if bad or not close["rms_relative"] <= tolerance.rms_relative:
            where = f"profile {point['profile']} at {point['which']} {tuple(point['shape'])}"
            found.append(f"{where}: raw outputs differ by {close['rms_relative']:.2g}, {bad} values are NaN or Inf")
    return found


def _measure(spec: Spec, engine: Engine, choice: Choice, places: list[Corner], folder: Path, clocks: Clocks) -> dict[str, Any]:
    images = list_images(Path(spec.models[engine.model].validation))
    points = [_point(corner, images, folder / str(index)) for index, corner in enumerate(places)]
    request = MeasureRequest(**plan_of(engine, choice), points=tuple(points), noisy=NOISY)
    return measure(choice.python, request, clocks.follow, spec.targets[engine.target].time_limit_s)


def _point(corner: Corner, images: tuple[Path, ...], folder: Path) -> Point:
    folder.mkdir()
    wanted = images if corner.main else images[:FEW]
    _, _, height, width = corner.shape
    save_batch(wanted, (height, width), folder / "images.npy", lambda done, total: None)
    return Point(corner.shape, folder / "images.npy", folder, corner.profile, timed=corner.which == "opt")


def _judge(
    model: Model, name: str, places: list[Corner], measured: list[dict[str, Any]], folder: Path,
) -> tuple[GraphReport, list[dict[str, Any]]]:
    """The whole comparison at the main point, and the closeness at every one."""
    data, original = Path(model.validation), model_folder(name, "export") / "model.onnx"
    images, points = list_images(data), []
    for index, (corner, facts) in enumerate(zip(places, measured, strict=True)):
        outputs = [np.load(folder / str(index) / f"{number}.npy", mmap_mode="r") for number in range(len(facts["outputs"]))]
        reference = GraphRunner(original, (corner.shape[2], corner.shape[3]))
        if corner.main:
            engine = RecordedRunner(outputs, reference.size)
            report = compare(reference, engine, data, class_names(name), lambda done, total: progress("images", done, total))
            close = report.closeness
        else:
            close = _closeness(reference, images[:FEW], outputs)
        points.append({**asdict(corner), "closeness": asdict(close), "timing": facts.get("timing")})
    return report, points


def _closeness(reference: GraphRunner, images: tuple[Path, ...], outputs: list[NDArray[np.float32]]) -> Closeness:
    found = Accumulator()
    for row, path in enumerate(images):
        fitted, _ = preprocess(read_image(path), *reference.size)
        found.add(reference.run(fitted), [output[row : row + 1] for output in outputs])
    return found.closeness()
