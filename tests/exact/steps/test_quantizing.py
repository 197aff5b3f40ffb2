"""The step that writes a graph in its precision: FP32, FP16 or INT8."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

import tasks.quantize
from enginery.calibration import cache
from enginery.errors import ConfigError, DataError
from enginery.project.stage import Stage
from enginery.system.files import sha256, write_json
from tests.exact.steps.common import FOLDER, HEAD, MODEL, read, simplified, write_recipe


def quantize(precision: str = "int8", **parameters: Any) -> Any:
    step = Stage("quantize", MODEL, precision=precision)
    made = write_recipe(
        step, **({"rule": "none", "exclude": [], **parameters} if precision == "int8" else {})
    )
    tasks.quantize.quantize(step)
    found = read(f"artifacts/models/{MODEL}/{precision}/graph/record.json")
    assert found["recipe"] == made
    assert found["sha256"] == sha256(Path(f"artifacts/models/{MODEL}/{precision}/graph/model.onnx"))
    return found


def calibrated(own: bool = False, **scales: float) -> None:
    folder = Path(FOLDER)
    write_json(folder / "record.json", {"own_quantization": own, "images_sha256": "i"})
    cache.write(
        cache.from_thresholds(scales or {"images": 1.27, "r": 2.54}), folder / "calibration.cache"
    )


def kinds(precision: str = "int8") -> dict[str, list[str]]:
    """Each convolution with what its inputs come from."""
    graph = onnx.load(f"artifacts/models/{MODEL}/{precision}/graph/model.onnx").graph
    made = {output: node.op_type for node in graph.node for output in node.output}
    return {
        node.name: [made.get(name, "-") for name in node.input]
        for node in graph.node
        if node.op_type == "Conv"
    }


def test_layers_become_int8_but_for_those_that_are_excluded(said: list[Any]) -> None:
    simplified()
    calibrated()
    pair = ["DequantizeLinear", "DequantizeLinear"]
    found = quantize()
    assert kinds() == {"/model.0/conv/Conv": pair, HEAD: pair}
    assert (found["excluded"], found["quantized"]) == ([], ["/model.0/conv/Conv", HEAD])
    assert found["calibration"] == {"own_quantization": False, "images_sha256": "i"}
    assert said[0] == ("2 layers in int8, 0 kept in fp16 by none and `exclude`", "info")
    assert said[1] == (f"int8 graph {found['sha256'][:12]}", "info")
    for parameters in (
        {"rule": "yolo-head-1"},
        {"rule": "yolo-head-2"},
        {"exclude": [r"model\.22"]},
    ):
        found = quantize(**parameters)
        assert kinds()["/model.0/conv/Conv"] == pair
        assert "DequantizeLinear" not in kinds()[HEAD]
        assert (found["excluded"], found["quantized"]) == ([HEAD], ["/model.0/conv/Conv"])
    rule = "rule yolo-head-1 finds not all that it names in this graph: is it for another model family?"
    assert (rule, "warning") in said
    assert not [line for line in said if "yolo-head-2 finds not all" in line[0]]


def test_the_ranges_of_all_activations_lie_beside_the_graph() -> None:
    simplified()
    calibrated()
    quantize()
    found = cache.read(Path(f"artifacts/models/{MODEL}/int8/graph/calibration.cache"))
    assert found.version == 8600
    assert found.thresholds() == pytest.approx({"images": 1.27, "r": 2.54, "c": 2.54}, rel=1e-6)
    graph = onnx.load(f"artifacts/models/{MODEL}/int8/graph/model.onnx").graph
    scales = {
        tensor.name: float(numpy_helper.to_array(tensor))
        for tensor in graph.initializer
        if tensor.name in ("images_scale", "r_scale")
    }
    assert scales == {"images_scale": float(np.float16(0.01)), "r_scale": float(np.float16(0.02))}


def test_what_int8_refuses() -> None:
    simplified()
    calibrated(images=1.0)
    with pytest.raises(
        DataError, match=r"calibration\.cache has no range for 1 of the graph's 2 tensors, r first"
    ):
        quantize()
    calibrated(images=1.0, r=0.0)
    with pytest.raises(DataError, match="the range of r is 0"):
        quantize()
    quantize(exclude=[HEAD])
    with pytest.raises(ConfigError) as error:
        quantize(exclude=["nothing", "conv", "none"])
    assert error.value.mistakes == (
        "int8.yolov8n-shapes.exclude: 'nothing': finds no layer; `enginery sensitivity` lists them",
        "int8.yolov8n-shapes.exclude: 'none': finds no layer; `enginery sensitivity` lists them",
    )


def test_a_graph_with_its_own_pairs_passes_through(said: list[Any]) -> None:
    simplified(own=True)
    calibrated(own=True)
    found = quantize()
    assert (found["excluded"], found["quantized"], found["casts"]) == ([], [], 0)
    assert found["calibration"]["own_quantization"] is True
    assert said[0] == ("the graph brings its own Q/DQ nodes: it passes through untouched", "info")
    assert not Path(f"artifacts/models/{MODEL}/int8/graph/calibration.cache").exists()


def test_float_graphs() -> None:
    simplified()
    assert quantize("fp32")["casts"] == 0
    assert quantize("fp16")["casts"] == 2
    assert kinds("fp32") == {"/model.0/conv/Conv": ["-", "-"], HEAD: ["Relu", "-"]}
