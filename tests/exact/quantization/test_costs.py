"""Explicit quantization to the last bit: where Q/DQ pairs go, each scale and level, and what each
layer costs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from enginery.errors import ModelError
from enginery.quantization import placement, qdq, rules, sensitivity
from enginery.quantization.placement import Placement, Weights, name_of, place, tensors_to_calibrate

SHAPES = {
    "w": (4, 3, 1, 1),
    "w2": (4, 4, 1, 1),
    "t": (4, 2, 1, 1),
    "g": (5, 4),
    "b": (4,),
    "m": (4, 6),
    "m3": (1, 4, 6),
}


def node(kind: str, inputs: str, outputs: str, name: str = "", **attributes: int) -> onnx.NodeProto:
    return helper.make_node(kind, inputs.split(), outputs.split(), name or None, **attributes)


def graph(*nodes: onnx.NodeProto, outputs: str = "y", **shapes: tuple[int, ...]) -> onnx.GraphProto:
    weights = [
        numpy_helper.from_array(np.zeros(shape, np.float32), name)
        for name, shape in {**SHAPES, **shapes}.items()
    ]
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, None)
        for name in ["x", *outputs.split()]
    ]
    return helper.make_graph(list(nodes), "g", ends[:1], ends[1:], weights)


def test_constants() -> None:
    assert (qdq.LARGEST, qdq._SMALLEST_SCALE) == (127, 2.0**-24)
    assert placement._ACTIVATIONS == ("Relu", "LeakyRelu", "Sigmoid", "Mul", "HardSwish", "Clip")
    last = r"\.2/Conv$|/dfl/|/cv4_kpts\.\d/Conv$|/proto/cv3/conv/Conv$|/linear/Gemm$"
    assert dict(rules.RULES) == {
        "none": (),
        "yolo-head-1": (r"\.2/Conv$", "/dfl/"),
        "yolo-head-2": (last,),
    }
    assert rules.patterns("yolo-head-1", ["a", "b"]) == (r"\.2/Conv$", "/dfl/", "a", "b")
    assert rules.patterns("none", []) == ()


# Placement


@pytest.mark.parametrize(
    ("made", "axis"),
    [
        (node("Conv", "x w", "y", "n"), 0),
        (node("ConvTranspose", "x t", "y", "n"), 1),
        (node("ConvTranspose", "x t", "y", "n", group=1), 1),
        (node("ConvTranspose", "x t", "y", "n", group=2), None),
        (node("Gemm", "x g b", "y", "n", transB=1), 0),
        (node("Gemm", "x g b", "y", "n", transB=0), 1),
        (node("Gemm", "x g b", "y", "n", transA=1), 1),
        (node("MatMul", "x m", "y", "n"), 1),
    ],
)
def test_the_axis_of_each_kind_of_weights(made: onnx.NodeProto, axis: int | None) -> None:
    found = place(graph(made))
    assert found == Placement({"n": Weights(made.input[1], axis)}, {}, ())
    assert found.activations(graph(made)) == ("x",)


@pytest.mark.parametrize(
    "made",
    [
        node("Conv", "x z", "y"),
        node("Conv", "w w2", "y"),
        node("MatMul", "x m3", "y"),
        node("Add", "x b", "y"),
        node("Relu", "x", "y"),
        node("MatMul", "x x", "y"),
        node("Gather", "x m", "y"),
    ],
)
def test_what_has_no_constant_weights_is_left_alone(made: onnx.NodeProto) -> None:
    assert place(graph(made)) == Placement({}, {}, ())
    with pytest.raises(ModelError) as error:
        tensors_to_calibrate(graph(made))
    assert str(error.value) == (
        "the graph has no convolution and no matrix product with constant weights: INT8 has nothing to quantize. "
        "Take this model out of `int8` in params.yaml"
    )


def test_a_node_without_a_name_is_called_by_its_output() -> None:
    assert name_of(node("Conv", "x w", "y")) == "y"
    assert name_of(node("Conv", "x w", "y", "n")) == "n"


def test_patterns_are_searched_in_names_and_exclude_in_order() -> None:
    three = [
        node("Conv", "x w", "a", "/head/1"),
        node("Conv", "a w2", "c", "/head/2"),
        node("Conv", "c w2", "y", "/neck"),
    ]
    found = place(graph(*three), ["head", "nothing"])
    assert found == Placement({"/neck": Weights("w2", 0)}, {}, ("/head/1", "/head/2"))
    assert found.activations(graph(*three)) == ("c",)
    assert place(graph(*three), ["2$"]).excluded == ("/head/2",)
    assert tensors_to_calibrate(graph(*three)) == ("x", "a", "c")


def residual(*between: onnx.NodeProto, turned: bool = False, join: str = "Add") -> onnx.GraphProto:
    """y = [between of] conv(relu(x)) + relu(x)."""
    last = between[-1].output[0] if between else "c"
    ends = f"{last} r" if turned else f"r {last}"
    return graph(
        node("Relu", "x", "r", "relu"),
        node("Conv", "r w2", "c", "conv"),
        *between,
        node(join, ends, "y", "add"),
    )


def test_the_shortcut_of_an_add_is_its_other_input() -> None:
    assert place(residual()).shortcuts == {"add": 0}
    assert place(residual(turned=True)).shortcuts == {"add": 1}
    assert place(residual()).activations(residual()) == ("r",)
    assert tensors_to_calibrate(residual()) == ("r",)
    assert place(residual(join="Sub")).shortcuts == {}


@pytest.mark.parametrize("kind", ["Relu", "LeakyRelu", "Sigmoid", "HardSwish", "Clip"])
def test_an_activation_may_follow_the_convolution(kind: str) -> None:
    assert place(residual(node(kind, "c", "d"))).shortcuts == {"add": 0}
    assert place(residual(node(kind, "c", "d"), node("Relu", "d", "e"))).shortcuts == {"add": 0}


@pytest.mark.parametrize(
    "between", [[node("Softmax", "c", "d")], [node("Relu", "c", "d"), node("MaxPool", "d", "e")]]
)
def test_anything_else_may_not(between: Sequence[onnx.NodeProto]) -> None:
    assert place(residual(*between)).shortcuts == {}


def test_an_add_that_cannot_be_fused() -> None:
    # The convolution's output has another reader.
    seen = graph(
        node("Relu", "x", "r"),
        node("Conv", "r w2", "c", "conv"),
        node("Add", "r c", "z", "add"),
        node("Relu", "c", "y"),
    )
    assert place(seen).shortcuts == {}
    # One input is the graph's own: nobody produces it; or a constant is added.
    assert (
        place(graph(node("Conv", "x w2", "c", "conv"), node("Add", "x c", "y", "add"))).shortcuts
        == {}
    )
    assert (
        place(graph(node("Conv", "x w2", "c", "conv"), node("Add", "c b", "y", "add"))).shortcuts
        == {}
    )
    # The convolution itself stays in float.
    assert place(residual(), ["conv"]).shortcuts == {}
    # The add does, by its own name; it is no candidate that counts as excluded.
    assert place(residual(), ["^add$"]) == Placement({"conv": Weights("w2", 0)}, {}, ())


def both() -> onnx.GraphProto:
    return graph(
        node("Relu", "x", "r", "relu"),
        node("Conv", "r w2", "a", "one"),
        node("Conv", "r w2", "d", "two"),
        node("Add", "a d", "s", "add"),
        node("Relu", "s", "y", "end"),
    )


def test_where_both_inputs_can_be_the_shortcut_the_first_is() -> None:
    assert place(both()).shortcuts == {"add": 0}
    assert place(both()).activations(both()) == ("r", "a")
    assert place(both(), ["one"]).shortcuts == {"add": 0}
    assert place(both(), ["two"]).shortcuts == {"add": 1}
    assert tensors_to_calibrate(both()) == ("r", "a", "d")  # an exclusion turns them around


# Scales and levels


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


def by_hand(
    weights: NDArray[np.float32], axis: int | None
) -> tuple[NDArray[np.float32], NDArray[np.int8]]:
    """Scale and levels, channel by channel and value by value."""
    channels = (
        [weights]
        if axis is None
        else [np.take(weights, index, axis) for index in range(weights.shape[axis])]
    )
    scales = []
    for channel in channels:
        scale = max(float(np.abs(channel).max()) / 127, 2.0**-24)
        near = np.float16(scale)
        scales.append(
            float(near if float(near) >= scale else np.nextafter(near, np.float16(np.inf)))
        )
    levels = np.zeros(weights.shape, np.int8)
    for index in np.ndindex(*weights.shape):
        scale = scales[0 if axis is None else index[axis]]
        levels[index] = max(-127, min(127, round(float(weights[index]) / scale)))
    return np.float32(scales[0] if axis is None else scales), levels


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


# What a layer costs


def small() -> onnx.ModelProto:
    """Two 1x1 convolutions of a 1x1 image and a residual add; by hand below."""
    one = numpy_helper.from_array(
        np.array([[0.3, -1.0], [0.5, 0.7]], np.float32).reshape(2, 2, 1, 1), "one"
    )
    two = numpy_helper.from_array(
        np.array([[1.0, 0.11], [-0.6, 0.37]], np.float32).reshape(2, 2, 1, 1), "two"
    )
    nodes = [
        node("Relu", "x", "r", "relu"),
        node("Conv", "r one", "a", "first"),
        node("Conv", "a two", "b", "second"),
        node("Add", "r b", "y", "add"),
    ]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 2, 1, 1]) for name in "xy"]
    made = helper.make_graph(nodes, "g", ends[:1], ends[1:], [one, two])
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


IMAGES = [np.array([0.9, 0.4], np.float32), np.array([0.2, 1.0], np.float32)]
THRESHOLDS = {"r": 1.0, "a": 1.3}


def run_by_hand(image: NDArray[np.float32], layer: str) -> NDArray[np.float64]:
    def rounded(values: NDArray[np.float64], threshold: float) -> NDArray[np.float64]:
        scale = float(qdq.float16_scale(np.array(threshold / 127)))
        return np.clip(np.rint(values / scale), -128, 127) * scale

    def matrix(rows: Sequence[Sequence[float]], quantized: bool) -> NDArray[np.float64]:
        values = np.array(rows, np.float32)
        if not quantized:
            return values.astype(np.float64)
        scale, levels = by_hand(values, 0)
        return levels * scale.astype(np.float64)[:, None]

    r = image.astype(np.float64)
    a = matrix([[0.3, -1.0], [0.5, 0.7]], layer == "first") @ (
        rounded(r, 1.0) if layer == "first" else r
    )
    b = matrix([[1.0, 0.11], [-0.6, 0.37]], layer == "second") @ (
        rounded(a, 1.3) if layer == "second" else a
    )
    return b + (rounded(r, 1.0) if layer == "add" else r)


def cost_by_hand(layer: str) -> float:
    shares = []
    for channel in range(2):
        before = [run_by_hand(image, "")[channel] for image in IMAGES]
        after = [run_by_hand(image, layer)[channel] for image in IMAGES]
        error = sum((a - b) ** 2 for a, b in zip(after, before, strict=True))
        shares.append(math.sqrt(error / sum(b**2 for b in before)))
    return sum(shares) / 2


def test_each_layer_is_quantized_alone_and_the_costliest_comes_first() -> None:
    model = small()
    before = model.SerializeToString()
    said: list[tuple[int, int]] = []
    feeds = [{"x": image.reshape(1, 2, 1, 1)} for image in IMAGES]
    found = sensitivity.rank(
        model,
        place(model.graph),
        THRESHOLDS,
        feeds,
        lambda done, all_of: said.append((done, all_of)),
    )
    expected = {layer: cost_by_hand(layer) for layer in ("first", "second", "add")}
    assert {cost.layer: cost.cost for cost in found} == pytest.approx(expected, rel=1e-4)
    assert min(expected.values()) > 1e-4
    assert [cost.layer for cost in found] == sorted(expected, key=lambda layer: -expected[layer])
    assert said == [(1, 3), (2, 3), (3, 3)]
    assert model.SerializeToString() == before


def test_layers_of_the_same_cost_are_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sensitivity, "_distance", lambda expected, found: 1.0)
    model = small()
    found = sensitivity.rank(
        model,
        place(model.graph),
        THRESHOLDS,
        [{"x": IMAGES[0].reshape(1, 2, 1, 1)}],
        lambda *_: None,
    )
    assert [cost.layer for cost in found] == ["add", "first", "second"]


def test_the_distance_is_by_channel_and_a_channel_of_zeros_does_not_count() -> None:
    """Two images, two outputs: (1, 3, 2) by channels, of which the last is 0, and (1, 2) as one
    channel.
    """
    expected = [
        [np.array([[[3, 4], [1, 1], [0, 0]]], np.float32), np.array([[6, 8]], np.float32)],
        [np.array([[[0, 0], [1, 1], [0, 0]]], np.float32), np.array([[0, 0]], np.float32)],
    ]
    found = [
        [np.array([[[3, 4.5], [1, 2], [9, 9]]], np.float32), np.array([[6, 8]], np.float32)],
        [np.array([[[0, 0], [1, 1], [0, 0]]], np.float32), np.array([[1, 0]], np.float32)],
    ]
    shares = [math.sqrt(0.25 / 25), math.sqrt(1 / 4), math.sqrt(1 / 100)]
    assert sensitivity._distance(expected, found) == pytest.approx(sum(shares) / 3, rel=1e-12)
    assert sensitivity._distance(expected, expected) == 0.0


def test_channels_of_a_batch() -> None:
    output = np.arange(12, dtype=np.float32).reshape(2, 3, 2)
    assert sensitivity._channels(output).tolist() == [[0, 1, 6, 7], [2, 3, 8, 9], [4, 5, 10, 11]]
    assert sensitivity._channels(output).dtype == np.float64
    assert sensitivity._channels(output.reshape(2, 6)).tolist() == [list(range(12))]


@pytest.mark.parametrize("size", range(9))
def test_the_shortest_prefix_that_passes_is_found(size: int) -> None:
    ranked = [f"layer {number}" for number in range(size)]
    for needed in range(size + 2):
        asked: list[int] = []

        def passes(names: Sequence[str], needed: int = needed, asked: list[int] = asked) -> bool:
            assert list(names) == ranked[: len(names)]
            asked.append(len(names))
            return len(names) >= needed

        found = sensitivity.smallest_prefix(ranked, passes)
        assert found == (None if needed > size else ranked[:needed])
        assert len(set(asked)) == len(asked)  # each costs a build: none twice


def test_it_doubles_then_bisects() -> None:
    asked: list[int] = []

    def passes(names: Sequence[str]) -> bool:
        asked.append(len(names))
        return len(names) >= 11

    sensitivity.smallest_prefix([str(number) for number in range(100)], passes)
    assert asked == [0, 1, 2, 4, 8, 16, 12, 10, 11]


def test_a_channel_of_small_values_counts() -> None:
    """Its size is below 1, and it is the only one."""
    expected = [[np.full((1, 1, 4), 0.25, np.float32)]]
    found = [[np.full((1, 1, 4), 0.5, np.float32)]]
    assert sensitivity._distance(expected, found) == 1.0


def test_layers_are_judged_one_by_one() -> None:
    placement = Placement({"a": (1,), "b": ()}, {"s": 0}, ("x",))  # type: ignore[dict-item]
    assert list(sensitivity._one_by_one(placement)) == [
        ("a", Placement({"a": (1,)}, {}, ())),  # type: ignore[dict-item]
        ("b", Placement({"b": ()}, {}, ())),  # type: ignore[dict-item]
        ("s", Placement({}, {"s": 0}, ())),
    ]


def test_a_graph_that_cannot_be_opened_is_the_graph(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []
    monkeypatch.setattr(sensitivity, "open_model", lambda *given: asked.append(given[1]))
    sensitivity._run(onnx.ModelProto(), [])
    assert asked == ["the graph"]


def test_even_the_first_layer_is_found_by_bisection() -> None:
    asked: list[int] = []
    found = sensitivity.smallest_prefix("abcd", lambda names: asked.append(len(names)) or True)
    assert (found, asked) == ([], [0])
