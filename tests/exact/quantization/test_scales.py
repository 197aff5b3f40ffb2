"""Scales and levels of weights."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from enginery.quantization import qdq
from enginery.quantization.placement import Placement, Weights, place
from tests.exact.quantization.common import both, by_hand, graph, node, residual


@pytest.mark.parametrize(
    ("scale", "expected"),
    [
        (1.0, 1.0),
        (1 / 127, 0.00788116455078125),
        (0.1, 0.10003662109375),
        (0.0, 2.0**-24),
        (1e-12, 2.0**-24),
        (2.0**-24, 2.0**-24),
        (3.1e-8, 2.0**-24),
        (6e-8, 2.0**-23),
        (2049.0, 2050.0),
        (0.333251953125, 0.333251953125),
    ],
)
def test_scales_are_the_next_float16_above(scale: float, expected: float) -> None:
    found = qdq.float16_scale(np.array(scale))
    assert (float(found), found.dtype, found.shape) == (expected, np.float32, ())


@pytest.mark.parametrize(
    ("kind", "shape", "axis", "attributes"),
    [
        ("Conv", (3, 2, 2, 1), 0, {}),
        ("ConvTranspose", (2, 3, 2, 1), 1, {}),
        ("ConvTranspose", (2, 3, 2, 1), None, {"group": 2}),
        ("MatMul", (4, 5), 1, {}),
        ("Gemm", (4, 5), 0, {"transB": 1}),
    ],
)
def test_weights_become_levels(
    kind: str, shape: tuple[int, ...], axis: int | None, attributes: dict[str, int]
) -> None:
    random = np.random.default_rng(7)
    values = random.standard_normal(shape).astype(np.float32) * np.float32(0.3)
    values[(0,) * len(shape)] = -5
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in "xy"]
    made = helper.make_graph(
        [node(kind, "x w", "y", "n", **attributes)],
        "g",
        ends[:1],
        ends[1:],
        [numpy_helper.from_array(values, "w")],
    )
    model = helper.make_model(made)
    qdq.insert(model, place(model.graph), {"x": 12.7})
    scale, levels = by_hand(values, axis)
    found = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    assert list(found) == ["x_scale", "x_zero", "w_quantized", "w_scale", "w_zero"]
    assert np.array_equal(found["w_quantized"], levels)
    assert found["w_quantized"].dtype == np.int8
    assert np.array_equal(found["w_scale"], scale)
    assert (found["w_scale"].dtype, found["w_scale"].shape) == (
        np.float32,
        () if axis is None else (shape[axis],),
    )
    assert np.array_equal(found["w_zero"], np.zeros(found["w_scale"].shape))
    assert found["w_zero"].dtype == np.int8
    assert (float(found["x_scale"]), found["x_scale"].shape, found["x_scale"].dtype) == (
        0.10003662109375,
        (),
        np.float32,
    )
    assert (int(found["x_zero"]), found["x_zero"].shape, found["x_zero"].dtype) == (0, (), np.int8)
    quantize, dequantize, weights, last = model.graph.node
    assert (quantize.op_type, list(quantize.input), list(quantize.output), quantize.name) == (
        "QuantizeLinear",
        ["x", "x_scale", "x_zero"],
        ["x_quantized"],
        "x_quantize",
    )
    assert (
        dequantize.op_type,
        list(dequantize.input),
        list(dequantize.output),
        dequantize.name,
    ) == (
        "DequantizeLinear",
        ["x_quantized", "x_scale", "x_zero"],
        ["x_dequantized"],
        "x_dequantize",
    )
    assert (weights.op_type, list(weights.input), list(weights.output), weights.name) == (
        "DequantizeLinear",
        ["w_quantized", "w_scale", "w_zero"],
        ["w_dequantized"],
        "w_dequantize",
    )
    assert [(attribute.name, attribute.i) for attribute in weights.attribute] == (
        [] if axis is None else [("axis", axis)]
    )
    assert list(last.input) == ["x_dequantized", "w_dequantized"]


def test_a_tensor_with_two_readers_gets_one_pair() -> None:
    made = both()
    model = helper.make_model(made)
    qdq.insert(model, place(made), {"r": 1.0, "a": 127.0})
    kinds = [(each.op_type, each.output[0]) for each in model.graph.node]
    assert kinds == [
        ("Relu", "r"),
        ("QuantizeLinear", "r_quantized"),
        ("DequantizeLinear", "r_dequantized"),
        ("DequantizeLinear", "w2_dequantized"),
        ("Conv", "a"),
        ("Conv", "d"),
        ("QuantizeLinear", "a_quantized"),
        ("DequantizeLinear", "a_dequantized"),
        ("Add", "s"),
        ("Relu", "y"),
    ]
    assert list(model.graph.node[8].input) == ["a_dequantized", "d"]
    assert [tensor.name for tensor in model.graph.initializer] == [
        "r_scale",
        "r_zero",
        "w2_quantized",
        "w2_scale",
        "w2_zero",
        "a_scale",
        "a_zero",
    ]
    scales = {
        tensor.name: numpy_helper.to_array(tensor).tolist()
        for tensor in model.graph.initializer
        if "scale" in tensor.name
    }
    assert scales == {"r_scale": 0.00788116455078125, "a_scale": 1.0, "w2_scale": [2.0**-24] * 4}


def test_a_first_shortcut_is_quantized_too_and_float_weights_that_are_read_stay() -> None:
    made = residual(node("Conv", "c w2", "d", "float"), node("Relu", "d", "e"))
    model = helper.make_model(made)
    qdq.insert(model, Placement({"conv": Weights("w2", 0)}, {"add": 0}, ("float",)), {"r": 1.0})
    ends = {
        each.name: list(each.input)
        for each in model.graph.node
        if each.name in ("conv", "float", "add")
    }
    assert ends == {
        "conv": ["r_dequantized", "w2_dequantized"],
        "float": ["c", "w2"],
        "add": ["r_dequantized", "e"],
    }
    assert next(tensor.name for tensor in model.graph.initializer) == "w2"


def test_an_initializer_that_is_an_output_stays() -> None:
    made = graph(node("Conv", "x w", "y", "n"), outputs="y b")
    model = helper.make_model(made)
    qdq.insert(model, place(made), {"x": 1.0})
    assert {tensor.name for tensor in model.graph.initializer} == {
        "b",
        "x_scale",
        "x_zero",
        "w_quantized",
        "w_scale",
        "w_zero",
    }
