"""`tensorrt` targets as far as a machine without a GPU goes: ranges for every activation, what is
refused and how it is said.

Builds and runs with TensorRT 8.6 on a GPU: benchmarks/gpu.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from enginery.calibration import cache
from enginery.calibration.propagate import complete
from enginery.errors import IntegrityError, ToolchainError
from enginery.project.paths import engine_folder
from enginery.registry.store import engines
from enginery.toolchain.client import measure, probe
from enginery.toolchain.requests import MeasureRequest
from tests.conftest import Checkout
from tests.registered import change_manifest
from tests.test_flow import build, refused

MODEL = "yolov8n-shapes"


def silu_block() -> onnx.GraphProto:
    """x -> Conv a -> SiLU b -> Split c, d -> Concat e -> Conv y."""
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["a"]),
        helper.make_node("Sigmoid", ["a"], ["s"]),
        helper.make_node("Mul", ["a", "s"], ["b"]),
        helper.make_node("Split", ["b"], ["c", "d"], axis=1),
        helper.make_node("Add", ["c", "d"], ["f"]),
        helper.make_node("Concat", ["f", "d"], ["e"], axis=1),
        helper.make_node("Conv", ["e", "w"], ["y"]),
    ]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 4, 8, 8]) for name in "xy"]
    import numpy as np

    return helper.make_graph(
        nodes,
        "g",
        ends[:1],
        ends[1:],
        [numpy_helper.from_array(np.ones((4, 4, 1, 1), np.float32), "w")],
    )


def test_ranges_are_derived_from_neighbours() -> None:
    found = complete(silu_block(), {"x": 1.0, "e": 3.0})
    assert found == {"x": 1.0, "e": 3.0, "s": 1.0, "f": 3.0, "d": 3.0, "c": 3.0, "b": 3.0, "a": 3.0}


def test_what_was_measured_stays() -> None:
    found = complete(silu_block(), {"x": 1.0, "b": 2.0, "d": 1.5, "e": 3.0})
    assert (found["b"], found["d"], found["a"], found["s"]) == (2.0, 1.5, 2.0, 1.0)


def test_a_toolchain_without_tensorrt_says_so() -> None:
    with pytest.raises(
        ToolchainError,
        match=r"cannot import tensorrt.*Install tensorrt there, or name another toolchain",
    ):
        probe(Path(sys.executable), "tensorrt")


def test_a_tensorrt_target_on_a_machine_without_it_is_one_line(built: Checkout) -> None:
    built.change(lambda params: params["targets"].update(server={"runtime": "tensorrt"}))
    built.change(lambda params: params["matrix"]["targets"].append("server"))
    refused(built, "cannot import tensorrt")
    states = build(built, "--target", "rtx-ada")  # another target needs nothing of it
    assert not {name for name in states if "server" in name}


def test_a_weakly_typed_target_has_ranges_for_the_fp32_graph(built: Checkout) -> None:
    folder = built.root / "artifacts/models" / MODEL
    graph = onnx.load(folder / "fp32/graph/model.onnx")
    ranges = cache.read(folder / "int8/graph/calibration.cache")
    convolutions = [node for node in graph.graph.node if node.op_type == "Conv"]
    lacking = [
        node.name
        for node in convolutions
        if not {node.input[0], node.output[0]} <= ranges.scales.keys()
    ]
    excluded = json.loads((folder / "int8/graph/record.json").read_text())["excluded"]
    assert sorted(lacking) == sorted(excluded)


def test_validating_without_a_gpu(built: Checkout) -> None:
    result = built.run("enginery", "validate", "rtx-ada/int8")
    assert result.returncode == 1
    assert (
        "is for compute capability 8.9, and this machine shows its toolchain no GPU"
        in result.stderr
    )
    result = built.run("enginery", "validate")
    assert (result.returncode, "no engine of runtime tensorrt is registered" in result.stderr) == (
        1,
        True,
    )


def test_an_altered_plan_is_refused_before_it_is_loaded(built: Checkout, tmp_path: Path) -> None:
    [engine] = [
        found
        for found in engines(built.root / "artifacts/engines")
        if found.name.endswith("rtx-ada/fp16")
    ]
    request = MeasureRequest("tensorrt_rtx", engine.plan, "0" * 64, points=())
    with pytest.raises(
        IntegrityError, match="its digest is not the one recorded; it was not loaded"
    ):
        measure(Path(sys.executable), request, lambda event: None, 60)


def test_an_engine_for_ultralytics_has_the_header_that_its_own_reader_reads(
    built: Checkout,
) -> None:
    from ultralytics.nn.backends.base import BaseBackend

    refused = built.run("enginery", "export", "ultralytics", "rtx-ada/fp16", "--out", "ü.engine")
    assert "rtx-ada/fp16 is of TensorRT-RTX, and YOLO() loads engines of TensorRT" in refused.stderr
    change_manifest(built.root / engine_folder(MODEL, "rtx-ada", "fp16"), runtime="tensorrt")
    result = built.run("enginery", "export", "ultralytics", "rtx-ada/fp16", "--out", "ü.engine")
    assert result.returncode == 0, result.stderr
    start, found = BaseBackend.engine_header(built.root / "ü.engine")
    assert (found["task"], found["stride"], found["imgsz"], found["batch"]) == (
        "detect",
        32,
        [160, 160],
        1,
    )
    assert found["names"]["3"] == "star"
    plan = built.root / "artifacts/engines" / MODEL / "rtx-ada/fp16/model.plan"
    assert (built.root / "ü.engine").read_bytes()[start:] == plan.read_bytes()
    plan.write_bytes(plan.read_bytes()[:-1])
    damaged = built.run(
        "enginery", "export", "ultralytics", "rtx-ada/fp16", "--out", "other.engine"
    )
    assert (damaged.returncode, (built.root / "other.engine").exists()) == (1, False)
