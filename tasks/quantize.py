"""quantize: the typed graph that strongly typed runtimes want: FP32 as it is, FP16 cast, INT8 with
Q/DQ nodes and the rest in FP16.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from enginery.calibration import cache
from enginery.errors import ConfigError
from enginery.pipeline.project import Project
from enginery.pipeline.step import Job, step
from enginery.project.engine_name import INT8
from enginery.project.paths import CACHE, RECORDS, model_folder
from enginery.project.stage import Stage
from enginery.quantization.rules import patterns
from enginery.report.events import log
from enginery.system.files import atomic_folder, read_json, sha256, write_json


@dataclass(frozen=True)
class Parameters:
    """Which layers stay in FP16, of INT8 alone; which stay in FP32."""

    rule: str | None = None
    exclude: tuple[str, ...] = ()
    fp32_layers: tuple[str, ...] = ()


def parameters(project: Project, stage: Stage) -> Parameters:
    """As params.yaml says under `int8`, and of the model."""
    in_fp32 = project.model(stage).fp32_layers if stage.precision != "fp32" else ()
    if stage.precision != INT8:
        return Parameters(fp32_layers=in_fp32)
    settings = project.int8(stage)
    return Parameters(settings.rule, settings.exclude, in_fp32)


@step(
    "quantize",
    version=2,
    of=("model", "precision"),
    tools=("onnx", "onnxconverter-common"),
    parameters=parameters,
    record=RECORDS["quantize"],
)
def quantize(job: Job[Parameters]) -> None:
    """Write the typed graph; for INT8, the range of every activation beside it."""
    model, precision = job.stage.model, job.stage.precision
    source = model_folder(model, "simplify") / "model.onnx"
    with atomic_folder(model_folder(model, precision) / "graph") as folder:
        out = folder / "model.onnx"
        make = _to_int8 if precision == INT8 else _to_float
        results = make(job, source, out)
        digest = sha256(out)
        write_json(folder / "record.json", job.record(sha256=digest, **results))
    log(f"{precision} graph {digest[:12]}")


def _to_float(job: Job[Parameters], source: Path, out: Path) -> dict[str, Any]:
    from enginery.graphs.inspect import read_graph
    from enginery.graphs.precision import write_fp16, write_fp32
    from enginery.quantization.placement import name_of

    if job.stage.precision == "fp32":
        return write_fp32(source, out)
    if not job.parameters.fp32_layers:
        return write_fp16(source, out)
    kept = _in_fp32(job, [name_of(node) for node in read_graph(source).graph.node])
    return {**write_fp16(source, out, kept), "fp32_layers": kept}


def _in_fp32(job: Job[Parameters], names: Sequence[str]) -> list[str]:
    """The names of the layers that stay in FP32.

    Raises:
        ConfigError: a pattern finds none.
    """
    patterns_given = job.parameters.fp32_layers
    if not patterns_given:
        return []
    idle = [each for each in patterns_given if not any(re.search(each, name) for name in names)]
    if idle:
        where = f"models.{job.stage.model}.fp32_layers"
        raise ConfigError("params.yaml", [f"{where}: {each!r}: finds no layer" for each in idle])
    kept = [name for name in names if any(re.search(each, name) for each in patterns_given)]
    log(f"{len(kept)} layers kept in fp32")
    return kept


def _to_int8(job: Job[Parameters], source: Path, out: Path) -> dict[str, Any]:
    from enginery.calibration.propagate import complete
    from enginery.graphs.inspect import read_graph
    from enginery.graphs.precision import to_fp16, write_fp32, write_typed
    from enginery.quantization.placement import name_of, place
    from enginery.quantization.qdq import insert

    folder = model_folder(job.stage.model, "calibration")
    calibration = read_json(folder / "record.json")
    if calibration["own_quantization"]:
        log("the graph brings its own Q/DQ nodes: it passes through untouched")
        typed = write_fp32(source, out)
        return {**typed, "calibration": calibration, "excluded": [], "quantized": []}
    rule, exclude = job.parameters.rule or "none", job.parameters.exclude
    model = read_graph(source)
    _check_patterns(job, [name_of(node) for node in model.graph.node])
    kept = patterns(rule, (*exclude, *job.parameters.fp32_layers))  # FP32 is no INT8 either
    placement = place(model.graph, kept)
    ranges = cache.read(folder / CACHE)
    cache.check_tensors(ranges, placement.activations(model.graph), (folder / CACHE).as_posix())
    whole = complete(model.graph, ranges.thresholds())  # what a weakly typed TensorRT asks for
    cache.write(cache.from_thresholds(whole), out.with_name(CACHE))
    in_fp32 = _in_fp32(job, [name_of(node) for node in model.graph.node])
    insert(model, placement, ranges.thresholds())
    write_typed(to_fp16(model, source.as_posix(), in_fp32), out)
    excluded = f"{len(placement.excluded)} kept in fp16 by {rule} and `exclude`"
    log(f"{len(placement.nodes)} layers in int8, {excluded}")
    return {
        "calibration": calibration,
        "excluded": list(placement.excluded),
        "quantized": list(placement.nodes),
    }


def _check_patterns(job: Job[Parameters], nodes: Sequence[str]) -> None:
    def idle(searched: Sequence[str]) -> list[str]:
        return [each for each in searched if not any(re.search(each, name) for name in nodes)]

    rule, exclude = job.parameters.rule or "none", job.parameters.exclude
    key = f"int8.{job.stage.model}.exclude"
    mistakes = [
        f"{key}: {pattern!r}: finds no layer; `enginery sensitivity` lists them"
        for pattern in idle(exclude)
    ]
    if mistakes:
        raise ConfigError("params.yaml", mistakes)
    if idle(patterns(rule, ())):
        what = f"rule {rule} finds not all that it names in this graph"
        log(f"{what}: is it for another model family?", "warning")


if __name__ == "__main__":
    quantize.main()
