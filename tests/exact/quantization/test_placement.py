"""Where Q/DQ pairs are placed."""

from __future__ import annotations

from collections.abc import Sequence

import onnx
import pytest

from enginery.errors import ModelError
from enginery.quantization import placement, qdq, rules
from enginery.quantization.placement import Placement, Weights, name_of, place, tensors_to_calibrate
from tests.exact.quantization.common import both, graph, node, residual


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


def test_where_both_inputs_can_be_the_shortcut_the_first_is() -> None:
    assert place(both()).shortcuts == {"add": 0}
    assert place(both()).activations(both()) == ("r", "a")
    assert place(both(), ["one"]).shortcuts == {"add": 0}
    assert place(both(), ["two"]).shortcuts == {"add": 1}
    assert tensors_to_calibrate(both()) == ("r", "a", "d")  # an exclusion turns them around
