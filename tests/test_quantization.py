"""Explicit quantization: where Q/DQ nodes go, that their arithmetic is right, and that TensorRT
builds the graphs.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from enginery.calibration.collect import CalibrationJob, collect
from enginery.calibration.thresholds import thresholds_of
from enginery.demo.dataset import write_dataset
from enginery.errors import ModelError
from enginery.evaluation.compare import Accumulator
from enginery.graphs.precision import to_fp16, write_fp16, write_typed
from enginery.graphs.session import open_model, open_session
from enginery.quantization.placement import place, tensors_to_calibrate
from enginery.quantization.qdq import float16_scale, insert
from enginery.quantization.rules import RULES
from enginery.sources.export import ExportSettings, export
from enginery.system.files import sha256
from enginery.toolchain.client import build
from enginery.toolchain.requests import BuildRequest
from enginery.vision.images import list_images

WEIGHTS = Path(__file__).resolve().parents[1] / "data/demo/yolov8n-shapes.pt"
HEAD = RULES["yolo-head-1"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("quantization")
    export(WEIGHTS, ExportSettings("detect", (96, 96), 1, False, 17), folder / "model.onnx")
    write_dataset(folder / "images", range(4), 96)
    return folder


@pytest.fixture(scope="module")
def thresholds(folder: Path) -> dict[str, float]:
    model = onnx.load(folder / "model.onnx")
    work = CalibrationJob(
        model,
        tensors_to_calibrate(model.graph),
        list_images(folder / "images", "detect"),
        (96, 96),
        "detect",
        "",
    )
    return thresholds_of(collect(work, folder / "kept", lambda done, total: None), "mse", 100)


def quantized(folder: Path, thresholds: dict[str, float], out: Path) -> onnx.ModelProto:
    model = onnx.load(folder / "model.onnx")
    insert(model, place(model.graph, HEAD), thresholds)
    write_typed(to_fp16(model, "it"), out)
    return onnx.load(out)


def readers(graph: onnx.GraphProto, name: str) -> list[onnx.NodeProto]:
    return [node for node in graph.node if name in node.input]


def test_every_convolution_but_the_excluded_takes_int8_on_both_sides(
    folder: Path, thresholds: dict[str, float], tmp_path: Path
) -> None:
    graph = quantized(folder, thresholds, tmp_path / "q.onnx").graph
    made = {output: node for node in graph.node for output in node.output}
    in_float = []
    for node in graph.node:
        if node.op_type == "Conv":
            sources = [made[name].op_type if name in made else "" for name in node.input[:2]]
            if sources != ["DequantizeLinear", "DequantizeLinear"]:
                in_float.append(node.name)
    assert len(in_float) == 7
    assert all(any(re.search(pattern, name) for pattern in HEAD) for name in in_float)
    assert in_float == list(place(onnx.load(folder / "model.onnx").graph, HEAD).excluded)


def test_weights_are_int8_with_a_scale_a_channel(
    folder: Path, thresholds: dict[str, float], tmp_path: Path
) -> None:
    graph = quantized(folder, thresholds, tmp_path / "q.onnx").graph
    values = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    weights = [
        node
        for node in graph.node
        if node.op_type == "DequantizeLinear" and node.input[0] in values
    ]
    assert len(weights) == 57
    for node in weights:
        levels, scale = values[node.input[0]], values[node.input[1]]
        assert (levels.dtype, scale.dtype, scale.shape) == (np.int8, np.float16, levels.shape[:1])
        assert np.abs(levels).reshape(len(levels), -1).max(axis=1).min() in (126, 127)
    for node in graph.node:
        if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            assert not values[node.input[2]].any()


def test_residual_adds_read_an_int8_shortcut(
    folder: Path, thresholds: dict[str, float], tmp_path: Path
) -> None:
    graph = quantized(folder, thresholds, tmp_path / "q.onnx").graph
    made = {output: node for node in graph.node for output in node.output}
    adds = [
        node
        for node in graph.node
        if node.op_type == "Add" and re.search(r"/m\.\d/Add$", node.name)
    ]
    assert len(adds) == 6
    for node in adds:
        kinds = sorted(made[name].op_type for name in node.input)
        assert kinds == ["DequantizeLinear", "Mul"]


def test_outputs_stay_close_and_a_wrong_range_does_not(
    folder: Path, thresholds: dict[str, float], tmp_path: Path
) -> None:
    from enginery.vision.feeds import feeds

    original = open_session(folder / "model.onnx")

    def distance(ranges: dict[str, float]) -> float:
        quantized(folder, ranges, tmp_path / "q.onnx")
        session, added = open_session(tmp_path / "q.onnx"), Accumulator()
        for feed in feeds(
            folder / "model.onnx", list_images(folder / "images", "detect"), "detect", (96, 96)
        ):
            added.add(original.run(None, feed), session.run(None, feed))
        return added.closeness().rms_relative

    close = distance(thresholds)
    assert 0 < close < 0.03
    assert distance({name: value / 8 for name, value in thresholds.items()}) > 2 * close


def test_the_same_bytes_twice_and_cast_scales_are_exact(
    folder: Path, thresholds: dict[str, float], tmp_path: Path
) -> None:
    quantized(folder, thresholds, tmp_path / "a.onnx")
    quantized(folder, dict(reversed(thresholds.items())), tmp_path / "b.onnx")
    assert sha256(tmp_path / "a.onnx") == sha256(tmp_path / "b.onnx")
    scales = np.abs(np.random.default_rng(0).standard_normal(1000)) + 1e-9
    rounded = float16_scale(scales)
    assert np.array_equal(rounded, rounded.astype(np.float16).astype(np.float32))
    assert (rounded.astype(np.float64) >= scales).all()
    assert (rounded[scales > 1e-4] <= scales[scales > 1e-4] * 1.001).all()


@pytest.mark.parametrize("capability", ["8.6", "8.9", "12.0"])
def test_tensorrt_builds_it(
    folder: Path, thresholds: dict[str, float], tmp_path: Path, capability: str
) -> None:
    quantized(folder, thresholds, tmp_path / "q.onnx")
    shape = [1, 3, 96, 96]
    request = BuildRequest(
        runtime="tensorrt_rtx",
        onnx=tmp_path / "q.onnx",
        plan=tmp_path / "model.plan",
        name="m",
        compute_capability=capability,
        profiles=({"images": {"min": shape, "opt": shape, "max": shape}},),
        workspace_mib=None,
        optimization_level=None,
    )
    result = build(Path(sys.executable), request, lambda event: None, 120)
    assert result.plan_bytes == (tmp_path / "model.plan").stat().st_size > 1_000_000


def small_model(
    nodes: list[onnx.NodeProto], weights: list[onnx.TensorProto], shape: list[int]
) -> onnx.ModelProto:
    open_shape = ["a", "b", "c", "d"][: len(shape)]
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, sizes)
        for name, sizes in (("x", shape), ("y", open_shape))
    ]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.mark.parametrize(
    ("node", "shape", "weights"),
    [
        (helper.make_node("MatMul", ["x", "w"], ["y"]), [4, 8], (8, 5)),
        (helper.make_node("Gemm", ["x", "w"], ["y"], transB=1), [4, 8], (5, 8)),
        (helper.make_node("Gemm", ["x", "w"], ["y"]), [4, 8], (8, 5)),
        (
            helper.make_node("ConvTranspose", ["x", "w"], ["y"], strides=[2, 2]),
            [1, 4, 6, 6],
            (4, 5, 2, 2),
        ),
        (helper.make_node("ConvTranspose", ["x", "w"], ["y"], group=2), [1, 4, 6, 6], (4, 3, 2, 2)),
        (helper.make_node("Conv", ["x", "w"], ["y"], group=4), [1, 4, 6, 6], (4, 1, 3, 3)),
    ],
)
def test_other_operators_keep_their_result(
    node: onnx.NodeProto, shape: list[int], weights: tuple[int, ...]
) -> None:
    random = np.random.default_rng(1)
    values = random.standard_normal(weights).astype(np.float32) * np.linspace(
        0.1, 10, weights[-1], dtype=np.float32
    )
    model = small_model([node], [numpy_helper.from_array(values, "w")], shape)
    feed = {"x": random.standard_normal(shape).astype(np.float32)}
    [before] = open_model(model, "it").run(None, feed)
    insert(model, place(model.graph), {"x": float(np.abs(feed["x"]).max())})
    onnx.checker.check_model(onnx.shape_inference.infer_shapes(model))
    [after] = open_model(model, "it").run(None, feed)
    assert np.sqrt(np.square(after - before).mean() / np.square(before).mean()) < 0.02
    [cast] = open_model(to_fp16(model, "it"), "it").run(None, feed)
    assert np.sqrt(np.square(cast - before).mean() / np.square(before).mean()) < 0.02


def test_nothing_to_quantize() -> None:
    model = small_model([helper.make_node("Relu", ["x"], ["y"])], [], [1, 3, 8, 8])
    with pytest.raises(
        ModelError,
        match=r"no convolution and no matrix product with constant weights.*Take this model out",
    ):
        tensors_to_calibrate(model.graph)


def test_an_exclusion_that_turns_a_shortcut_around_has_a_range() -> None:
    weights = [numpy_helper.from_array(np.ones((3, 3, 1, 1), np.float32), name) for name in "ab"]
    nodes = [
        helper.make_node("Conv", ["x", "a"], ["p"], name="first"),
        helper.make_node("Conv", ["x", "b"], ["q"], name="second"),
        helper.make_node("Add", ["p", "q"], ["y"], name="add"),
    ]
    graph = small_model(nodes, weights, [1, 3, 8, 8]).graph
    assert set(tensors_to_calibrate(graph)) == {"x", "p", "q"}
    assert dict(place(graph).shortcuts) == {"add": 0}
    assert dict(place(graph, ["second"]).shortcuts) == {"add": 1}


def test_a_graph_with_own_quantization_keeps_it_in_fp16_too(
    folder: Path, thresholds: dict[str, float], tmp_path: Path
) -> None:
    model = onnx.load(folder / "model.onnx")
    insert(model, place(model.graph, HEAD), thresholds)
    onnx.save(model, tmp_path / "qat.onnx")
    assert place(model.graph, HEAD).activations(model.graph) == ()
    write_fp16(tmp_path / "qat.onnx", tmp_path / "half.onnx")
    graph = onnx.load(tmp_path / "half.onnx").graph
    assert sum(node.op_type == "DequantizeLinear" for node in graph.node) == sum(
        n.op_type == "DequantizeLinear" for n in model.graph.node
    )
    assert open_session(tmp_path / "half.onnx")
