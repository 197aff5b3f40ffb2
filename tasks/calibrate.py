"""calibrate: the ranges of a model's activations, as a TensorRT calibration cache, from images or
from a cache made elsewhere.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from enginery.calibration import cache
from enginery.graphs.provider import CPU, fastest_provider
from enginery.pipeline.project import Project
from enginery.pipeline.step import Job, step
from enginery.project.paths import (
    CACHE,
    HISTOGRAMS,
    RECORDS,
    calibration_images_file,
    kept_histograms,
    model_folder,
)
from enginery.project.stage import Stage
from enginery.quantization.rules import patterns
from enginery.report.events import log, progress
from enginery.system.files import atomic_folder, dumps, read_json, sha256, write_json
from enginery.vision.folders import image_folder
from enginery.vision.preprocess import Preprocess

if TYPE_CHECKING:
    import onnx

    from enginery.calibration.histogram import Histogram

TOOLS = ("numpy", "onnx", "onnxruntime", "opencv-python")
CLASSIFIERS_TOOLS = ("pillow", "torchvision", "ultralytics")  # they feed what classifies


@dataclass(frozen=True)
class Counting:
    """How images become ranges: the algorithm, the size in which they are seen, and what runs the
    graph if that is no CPU.
    """

    algorithm: str
    height: int
    width: int
    task: str
    percentile: float = 100.0  # of the algorithm of that name
    provider: str | None = None
    preprocess: Preprocess | None = None
    image: str | None = None  # the input that takes images, if the graph has others


@dataclass(frozen=True)
class Parameters:
    """A folder of images, or a cache. Of a cache, which layers stay in FP16: the others need a
    range in it.
    """

    calibration: str
    counting: Counting | None = None
    rule: str | None = None
    exclude: tuple[str, ...] = ()


def parameters(project: Project, stage: Stage) -> Parameters:
    """As params.yaml says under `int8`."""
    settings, model = project.int8(stage), project.model(stage)
    if Path(settings.calibration).suffix == cache.SUFFIX:
        return Parameters(settings.calibration, rule=settings.rule, exclude=settings.exclude)
    provider, judging = fastest_provider(), model.judging()
    counting = Counting(
        algorithm=settings.algorithm,
        height=model.size[0],
        width=model.size[1],
        task=model.task,
        percentile=settings.percentile if settings.algorithm == "percentile" else 100.0,
        provider=provider if provider != CPU else None,
        preprocess=model.preprocess,
        image=judging.image if judging else None,
    )
    return Parameters(settings.calibration, counting)


def tools(project: Project, stage: Stage) -> Sequence[str]:
    """What classifies is fed by other packages than the rest."""
    model = project.model(stage)
    if model.preprocess:
        return (*TOOLS, "pillow")
    return (*TOOLS, *(CLASSIFIERS_TOOLS if model.task == "classify" else ()))


@step(
    "calibrate",
    version=1,
    of=("model",),
    tools=tools,
    parameters=parameters,
    record=RECORDS["calibrate"],
)
def calibrate(job: Job[Parameters]) -> None:
    """Write the cache, and the histograms that it was made from; a graph that brings its own Q/DQ
    needs neither.
    """
    from enginery.graphs.inspect import has_own_quantization, read_graph

    name = job.stage.model
    graph = model_folder(name, "simplify") / "model.onnx"
    model, images = read_graph(graph), read_json(calibration_images_file(name))
    own = has_own_quantization(model.graph)
    with atomic_folder(model_folder(name, "calibration")) as folder:
        made = {} if own else _calibrate(job, model, images, folder)
        record = job.record(
            images=len(images["images"]),
            images_sha256=_digest(images),
            own_quantization=own,
            graph_sha256=sha256(graph),
            **made,
        )
        write_json(folder / "record.json", record)


def _calibrate(
    job: Job[Parameters], model: onnx.ModelProto, images: Mapping[str, Any], folder: Path
) -> dict[str, Any]:
    """Write the cache; how many tensors it has, and its digest."""
    source = Path(job.parameters.calibration)
    counting = job.parameters.counting
    if counting:
        ranges, tensors = _from_images(job, counting, model, images, folder)
    else:
        ranges, tensors = _from_cache(job, model, source)
    cache.write(cache.Cache(cache.CANONICAL, ranges.scales), folder / CACHE)
    return {"tensors": len(tensors), "cache_sha256": sha256(folder / CACHE)}


def _from_cache(
    job: Job[Parameters], model: onnx.ModelProto, source: Path
) -> tuple[cache.Cache, Sequence[str]]:
    from enginery.quantization.placement import place

    ranges = cache.read(source)
    kept = patterns(job.parameters.rule or "none", job.parameters.exclude)
    tensors = place(model.graph, kept).activations(model.graph)
    cache.check_tensors(ranges, tensors, source.as_posix())
    log(f"{source}: ranges of {len(tensors)} tensors, taken as they are")
    return ranges, tensors


def _from_images(
    job: Job[Parameters],
    counting: Counting,
    model: onnx.ModelProto,
    images: Mapping[str, Any],
    folder: Path,
) -> tuple[cache.Cache, Sequence[str]]:
    from enginery.calibration import state
    from enginery.calibration.thresholds import thresholds_of
    from enginery.quantization.placement import tensors_to_calibrate

    tensors = tensors_to_calibrate(model.graph)
    histograms = _count(job, counting, model, tensors, images)
    state.save(folder / HISTOGRAMS, "", len(images["images"]), histograms)
    thresholds = thresholds_of(histograms, counting.algorithm, counting.percentile)
    count = len(images["images"])
    log(f"{counting.algorithm} ranges of {len(tensors)} tensors from {count} images")
    return cache.from_thresholds(thresholds), tensors


def _count(
    job: Job[Parameters],
    counting: Counting,
    model: onnx.ModelProto,
    tensors: tuple[str, ...],
    images: Mapping[str, Any],
) -> dict[str, Histogram]:
    from enginery.calibration import state
    from enginery.calibration.collect import CalibrationJob, collect

    name = job.stage.model
    folder = image_folder(Path(job.parameters.calibration))
    paths = [folder / image for image in images["images"]]
    graph = sha256(model_folder(name, "simplify") / "model.onnx")
    key = _digest({"images": images, "recipe": read_json(job.stage.recipe), "graph": graph})
    size = (counting.height, counting.width)
    how = counting.preprocess, counting.image
    work = CalibrationJob(model, tensors, paths, size, counting.task, key, *how)
    kept = kept_histograms(name)
    if done := state.images_done(kept, key):
        log(f"goes on after {done} of {len(paths)} images, where the last run was stopped")
    return collect(work, kept, lambda number, total: progress("images", number, total))


def _digest(value: Any) -> str:
    return hashlib.sha256(dumps(value).encode()).hexdigest()


if __name__ == "__main__":
    calibrate.main()
