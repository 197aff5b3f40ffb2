"""quantize: the typed graph that strongly typed runtimes want: fp32 as it is, fp16 cast, int8 with
Q/DQ nodes and the rest fp16.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from enginery.calibration import cache
from enginery.calibration.propagate import complete
from enginery.errors import ConfigError
from enginery.graphs.inspect import read_graph
from enginery.graphs.precision import half, to_fp16, to_fp32, write_typed
from enginery.project.paths import CACHE, INT8, Step, model_folder
from enginery.quantization.placement import name_of, place
from enginery.quantization.qdq import insert
from enginery.quantization.rules import patterns
from enginery.report.events import log
from enginery.system.files import read_json, replacing_folder, sha256, write_json
from tasks.command import recipe, record, run_step


def quantize(step: Step) -> None:
    """Write the typed graph that strongly typed targets build from; for INT8, the range of every
    activation beside it.
    """
    if recipe(step).get("needed") is False:
        _write_none(step)
        return
    source = model_folder(step.model, "simplify") / "model.onnx"
    with replacing_folder(model_folder(step.model, step.precision) / "graph") as folder:
        out = folder / "model.onnx"
        facts = (
            _to_int8(step, source, out)
            if step.precision == INT8
            else {"fp32": to_fp32, "fp16": to_fp16}[step.precision](source, out)
        )
        digest = sha256(out)
        write_json(folder / "record.json", record(step, sha256=digest, **facts))
    log(f"{step.precision} graph {digest[:12]}")


def _write_none(step: Step) -> None:
    """DVC's stage is there and needs an output: a record that says why there is no graph."""
    why = f"no {step.precision} graph is made: matrix.precisions has no {step.precision}"
    with replacing_folder(model_folder(step.model, step.precision) / "graph") as folder:
        write_json(folder / "record.json", record(step, why=why))
    log(why)


def _to_int8(step: Step, source: Path, out: Path) -> dict[str, Any]:
    folder = model_folder(step.model, "calibration")
    calibration = read_json(folder / "record.json")
    if calibration["own_quantization"]:
        log("the graph brings its own Q/DQ nodes: it passes through untouched")
        return {**to_fp32(source, out), "calibration": calibration, "excluded": [], "quantized": []}
    wanted = recipe(step)
    model = read_graph(source)
    _check_patterns(step, wanted, [name_of(node) for node in model.graph.node])
    placement = place(model.graph, patterns(wanted["rule"], wanted["exclude"]))
    ranges = cache.read(folder / CACHE)
    cache.check_tensors(ranges, placement.activations(model.graph), (folder / CACHE).as_posix())
    cache.write(
        cache.from_thresholds(complete(model.graph, ranges.thresholds())), out.with_name(CACHE)
    )  # for a weakly typed TensorRT
    insert(model, placement, ranges.thresholds())
    write_typed(half(model, source.as_posix()), out)
    log(
        f"{len(placement.nodes)} layers in int8, {len(placement.excluded)} kept in fp16 by {wanted['rule']} and `exclude`"
    )
    return {
        "calibration": calibration,
        "excluded": list(placement.excluded),
        "quantized": list(placement.nodes),
    }


def _check_patterns(step: Step, wanted: Mapping[str, Any], nodes: Sequence[str]) -> None:
    def lost(found: Sequence[str]) -> list[str]:
        return [pattern for pattern in found if not any(re.search(pattern, name) for name in nodes)]

    key = f"int8.{step.model}.exclude"
    mistakes = [
        f"{key}: {pattern!r}: finds no layer; `enginery sensitivity` lists them"
        for pattern in lost(wanted["exclude"])
    ]
    if mistakes:
        raise ConfigError("params.yaml", mistakes)
    if lost(patterns(wanted["rule"], ())):
        log(
            f"rule {wanted['rule']} finds not all that it names in this graph: is it for another model family?",
            "warning",
        )


if __name__ == "__main__":
    run_step("quantize", quantize, "model", "precision")
