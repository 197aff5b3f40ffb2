"""calibrate: the ranges of a model's activations, as a TensorRT calibration cache, from images or
from a cache made elsewhere.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import onnx

from enginery.calibration import cache, state
from enginery.calibration.collect import Work, collect
from enginery.calibration.thresholds import thresholds_of
from enginery.graphs.inspect import has_own_quantization, read_graph
from enginery.project.paths import (
    CACHE,
    HISTOGRAMS,
    Step,
    calibration_images_file,
    kept_histograms,
    model_folder,
)
from enginery.quantization.placement import place, tensors_to_calibrate
from enginery.quantization.rules import patterns
from enginery.report.events import log, progress
from enginery.system.files import dumps, read_json, replacing_folder, sha256, write_json
from enginery.vision.images import image_folder
from tasks.command import recipe, record, run_step


def calibrate(step: Step) -> None:
    """Write the cache, and the histograms that it was made from; a graph that brings its own Q/DQ
    needs neither.
    """
    graph = model_folder(step.model, "simplify") / "model.onnx"
    model, images = read_graph(graph), read_json(calibration_images_file(step.model))
    with replacing_folder(model_folder(step.model, "calibration")) as folder:
        facts: dict[str, Any] = {
            "own_quantization": has_own_quantization(model.graph),
            "graph_sha256": sha256(graph),
        }
        if not facts["own_quantization"]:
            facts |= _calibrate(step, model, images, folder)
        write_json(
            folder / "record.json",
            record(step, images=len(images["images"]), images_sha256=_digest(images), **facts),
        )


def _calibrate(
    step: Step, model: onnx.ModelProto, images: Mapping[str, Any], folder: Path
) -> dict[str, Any]:
    wanted = recipe(step)
    tensors = tensors_to_calibrate(model.graph)
    source = Path(wanted["calibration"])
    if source.suffix == cache.SUFFIX:
        found = cache.read(source)
        tensors = place(model.graph, patterns(wanted["rule"], wanted["exclude"])).activations(
            model.graph
        )
        cache.check_tensors(found, tensors, source.as_posix())
        log(f"{source}: ranges of {len(tensors)} tensors, taken as they are")
    else:
        histograms = _count(step, model, tensors, images)
        state.save(folder / HISTOGRAMS, "", len(images["images"]), histograms)
        found = cache.from_thresholds(
            thresholds_of(histograms, wanted["algorithm"], wanted["percentile"])
        )
        log(
            f"{wanted['algorithm']} ranges of {len(tensors)} tensors from {len(images['images'])} images"
        )
    cache.write(cache.Cache(cache.CANONICAL, found.scales), folder / CACHE)
    return {"tensors": len(tensors), "cache_sha256": sha256(folder / CACHE)}


def _count(
    step: Step, model: onnx.ModelProto, tensors: tuple[str, ...], images: Mapping[str, Any]
) -> dict[str, Any]:
    wanted = recipe(step)
    folder = image_folder(Path(wanted["calibration"]))
    paths = [folder / name for name in images["images"]]
    graph = sha256(model_folder(step.model, "simplify") / "model.onnx")
    key = _digest({"images": images, "recipe": read_json(step.recipe), "graph": graph})
    work = Work(model, tensors, paths, (wanted["height"], wanted["width"]), wanted["task"], key)
    kept = kept_histograms(step.model)
    if done := state.images_done(kept, key):
        log(f"goes on after {done} of {len(paths)} images, where the last run was stopped")
    return collect(work, kept, lambda number, total: progress("images", number, total))


def _digest(value: Any) -> str:
    return hashlib.sha256(dumps(value).encode()).hexdigest()


if __name__ == "__main__":
    run_step("calibrate", calibrate, "model", "precision")
