"""sensitivity: which layers INT8 costs most, and the fewest that must stay in FP16.

The ranking is kept beside the INT8 graph until the graph, the calibration or the images change.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import onnx

from enginery.calibration import cache
from enginery.errors import EngineryError
from enginery.evaluation.gate import failures
from enginery.evaluation.validation import validate_graph
from enginery.graphs.inspect import read_graph
from enginery.graphs.precision import to_fp16, write_typed
from enginery.project.engine_name import INT8
from enginery.project.params import Spec
from enginery.project.paths import CACHE, model_folder
from enginery.quantization import kept_ranking
from enginery.quantization.kept_ranking import KeptLayer, KeptRanking
from enginery.quantization.placement import Placement, name_of, place
from enginery.quantization.qdq import insert
from enginery.quantization.rules import patterns
from enginery.quantization.sensitivity import Feed, LayerCost, rank, smallest_prefix
from enginery.registry.task_metadata import read_task_metadata
from enginery.report.events import log, progress
from enginery.system.files import dumps, sha256, temporary_folder
from enginery.vision.feeds import feeds
from enginery.vision.images import list_images

IMAGES = 8


@dataclass(frozen=True)
class RankedLayer:
    """A layer, the error that INT8 in it costs, and whether params.yaml keeps it in FP16."""

    layer: str
    cost: float
    kept_in_fp16: bool


def ranking(spec: Spec, name: str) -> list[RankedLayer]:
    """Every layer that could be quantized, the costliest first.

    Raises:
        EngineryError: the model is not calibrated here, or brings its own quantization.
    """
    model, thresholds = _calibrated(spec, name)
    settings = spec.int8[name]
    own = [*settings.exclude, *spec.models[name].fp32_layers]
    quantized = place(model.graph, patterns(settings.rule, own))
    images = _images(spec, name)
    key = _key(name, [feed.tobytes() for image in images for feed in image.values()])
    kept = kept_ranking.kept(name)
    if not kept or kept.key != key:
        candidates = _candidates(model, quantized, thresholds)
        kept = _keep(name, key, rank(model, candidates, thresholds, images, _show_layers))
    layers = {*quantized.nodes, *quantized.shortcuts}
    return [RankedLayer(cost.layer, cost.cost, cost.layer not in layers) for cost in kept.layers]


def propose(spec: Spec, name: str, ranked: Sequence[RankedLayer]) -> list[str] | None:
    """Patterns for `exclude` that keep the fewest of the costliest layers in FP16 with which the
    gate passes; None if none do.
    """
    candidates = [layer.layer for layer in ranked if not layer.kept_in_fp16]
    chosen = smallest_prefix(candidates, _gate(spec, name))
    return None if chosen is None else [_exactly(layer) for layer in chosen]


def _images(spec: Spec, name: str) -> list[Feed]:
    """Some calibration images, or validation images where the calibration was imported."""
    model, calibration = spec.models[name], Path(spec.int8[name].calibration)
    if calibration.is_dir():
        paths = list_images(calibration, model.task, "calibration", model.has_labels)
    else:
        paths = list_images(Path(model.validation), model.task, "validation", model.has_labels)
    paths = paths[:IMAGES]
    given = feeds(_graph(name), paths, model.task, model.size, model.preprocess, model.input)
    return list(given)


def _keep(name: str, key: str, costs: Sequence[LayerCost]) -> KeptRanking:
    digest = sha256(model_folder(name, "calibration") / CACHE)
    layers = tuple(KeptLayer(layer=cost.layer, cost=cost.cost) for cost in costs)
    ranking = KeptRanking(key=key, cache_sha256=digest, layers=layers)
    kept_ranking.keep(name, ranking)
    return ranking


def _show_layers(done: int, total: int) -> None:
    progress("layers", done, total)


def _gate(spec: Spec, name: str) -> Callable[[Sequence[str]], bool]:
    original, thresholds = _calibrated(spec, name)
    settings, model = spec.int8[name], spec.models[name]
    reference = model_folder(name, "export") / "model.onnx"
    head = read_task_metadata(name, model.judging())
    tolerance = spec.tolerance(name, INT8)

    names = [name_of(node) for node in original.graph.node]
    in_fp32 = [name for name in names if any(re.search(each, name) for each in model.fp32_layers)]

    def quantized(excluded: Sequence[str]) -> onnx.ModelProto:
        copy = onnx.ModelProto()
        copy.CopyFrom(original)
        own = [*settings.exclude, *model.fp32_layers, *map(_exactly, excluded)]
        rules = patterns(settings.rule, own)
        insert(copy, place(copy.graph, rules), thresholds)
        return copy

    def passes(excluded: Sequence[str]) -> bool:
        def show(done: int, total: int) -> None:
            progress(f"{len(excluded)} layers in FP16", done, total)

        with temporary_folder() as folder:
            graph, images = folder / "model.onnx", Path(model.validation)
            write_typed(to_fp16(quantized(excluded), name, in_fp32), graph)
            report = validate_graph(reference, graph, images, head, show, model.size)
        reasons = failures(report.to_dict(), tolerance)
        log(f"{len(excluded)} more layers in FP16: {'; '.join(reasons) or 'passes'}")
        return not reasons

    return passes


def _calibrated(spec: Spec, name: str) -> tuple[onnx.ModelProto, dict[str, float]]:
    if name not in spec.int8:
        raise EngineryError(
            f"{name} has no calibration in params.yaml",
            f"int8 has {', '.join(spec.int8) or 'no model'}",
        )
    folder = model_folder(name, "calibration")
    if not (folder / "record.json").is_file():
        raise EngineryError(
            f"{name} is not calibrated yet", "Run `enginery build --precision int8` first"
        )
    if not (folder / CACHE).is_file():
        raise EngineryError(
            f"{name} brings its own Q/DQ nodes", "Its training decided what is quantized"
        )
    return read_graph(_graph(name)), cache.read(folder / CACHE).thresholds()


def _candidates(
    model: onnx.ModelProto, quantized: Placement, thresholds: Mapping[str, float]
) -> Placement:
    """All layers; of an imported cache without ranges for those in FP16, only the others."""
    every = place(model.graph)
    complete = all(name in thresholds for name in every.activations(model.graph))
    return every if complete else quantized


def _key(name: str, images: Sequence[bytes]) -> str:
    files = [_graph(name), model_folder(name, "calibration") / CACHE]
    parts = [*map(sha256, files), *(hashlib.sha256(image).hexdigest() for image in images)]
    return hashlib.sha256(dumps(parts).encode()).hexdigest()


def _graph(name: str) -> Path:
    return model_folder(name, "simplify") / "model.onnx"


def _exactly(layer: str) -> str:
    return f"^{re.escape(layer)}$"
