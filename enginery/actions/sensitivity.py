"""sensitivity: which layers INT8 costs most, and the fewest that must stay in float. No stage of
the pipeline: it is asked for.

The ranking is kept beside the INT8 graph until the graph, the calibration or the images change.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import onnx

from enginery.calibration import cache
from enginery.errors import EngineryError
from enginery.evaluation.gate import failures
from enginery.evaluation.validation import validate_graph
from enginery.graphs.inspect import read_graph
from enginery.graphs.precision import half, write_typed
from enginery.project.engine_name import INT8
from enginery.project.params import Spec
from enginery.project.paths import CACHE, model_folder
from enginery.quantization.placement import Placement, place
from enginery.quantization.qdq import insert
from enginery.quantization.rules import patterns
from enginery.quantization.sensitivity import rank, smallest_prefix
from enginery.registry.task_metadata import read_task_metadata
from enginery.report.events import log, progress
from enginery.system.files import dumps, read_json, sha256, temporary_folder, write_json
from enginery.vision.feeds import feeds
from enginery.vision.images import list_images

IMAGES = 8


def ranking(spec: Spec, name: str) -> list[dict[str, Any]]:
    """Every layer that could be quantized, the costliest first: layer, cost, whether it is kept in
    float already.

    Raises:
        EngineryError: the model is not calibrated here, or brings its own quantization.
    """
    model, thresholds = _calibrated(spec, name)
    settings = spec.int8[name]
    kept = place(model.graph, patterns(settings.rule, settings.exclude))
    folder = Path(settings.calibration)
    wanted = spec.models[name]
    paths = list_images(folder if folder.is_dir() else Path(wanted.validation), wanted.task)
    images = list(feeds(_graph(name), paths[:IMAGES], wanted.task, wanted.size))
    found = model_folder(name, INT8) / "sensitivity.json"
    key = _key(name, [feed.tobytes() for image in images for feed in image.values()])
    if found.is_file() and (known := read_json(found))["key"] == key:
        costs = known["layers"]
    else:
        ranked = rank(
            model,
            _known(model, kept, thresholds),
            thresholds,
            images,
            lambda done, total: progress("layers", done, total),
        )
        costs = [asdict(layer) for layer in ranked]
        write_json(found, {"key": key, "layers": costs})
    return [
        {**layer, "in_float": layer["layer"] not in {*kept.nodes, *kept.shortcuts}}
        for layer in costs
    ]


def propose(spec: Spec, name: str, ranked: Sequence[dict[str, Any]]) -> list[str] | None:
    """Patterns for `exclude` that keep the fewest of the costliest layers in float with which the
    gate passes; None if none do.
    """
    candidates = [layer["layer"] for layer in ranked if not layer["in_float"]]
    chosen = smallest_prefix(candidates, _gate(spec, name))
    return None if chosen is None else [_exactly(layer) for layer in chosen]


def _gate(spec: Spec, name: str) -> Callable[[Sequence[str]], bool]:
    original, thresholds = _calibrated(spec, name)
    settings, wanted = spec.int8[name], spec.models[name]
    export = model_folder(name, "export")
    head = read_task_metadata(name)
    tolerance = spec.validation.of(head.task, INT8)

    def passes(excluded: Sequence[str]) -> bool:
        model = onnx.ModelProto()
        model.CopyFrom(original)
        insert(
            model,
            place(
                model.graph, patterns(settings.rule, [*settings.exclude, *map(_exactly, excluded)])
            ),
            thresholds,
        )
        with temporary_folder() as folder:
            write_typed(half(model, name), folder / "model.onnx")
            report = validate_graph(
                export / "model.onnx",
                folder / "model.onnx",
                Path(wanted.validation),
                head,
                lambda done, total: progress(f"{len(excluded)} layers in float", done, total),
                wanted.size,
            ).to_dict()
        failed = failures(report, tolerance)
        log(f"{len(excluded)} more layers in float: {'; '.join(failed) or 'passes'}")
        return not failed

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


def _known(model: onnx.ModelProto, kept: Placement, thresholds: dict[str, float]) -> Placement:
    """All layers; of an imported cache that lacks some of those in float, only the others."""
    every = place(model.graph)
    return every if all(name in thresholds for name in every.activations(model.graph)) else kept


def _key(name: str, images: Sequence[bytes]) -> str:
    files = [_graph(name), model_folder(name, "calibration") / CACHE]
    parts = [*map(sha256, files), *(hashlib.sha256(image).hexdigest() for image in images)]
    return hashlib.sha256(dumps(parts).encode()).hexdigest()


def _graph(name: str) -> Path:
    return model_folder(name, "simplify") / "model.onnx"


def _exactly(layer: str) -> str:
    return f"^{re.escape(layer)}$"
